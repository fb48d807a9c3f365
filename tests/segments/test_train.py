"""Training from video tags: schedules, targets, batches, pseudo labels, resume, and several processes."""

import math
import shutil
from dataclasses import replace

import feature_sets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pyws.distributed import Group
from pyws.errors import DataError, TrainingError
from pyws.ops.segments.linpro import Status
from pyws.report.run import write_report
from pyws.segments.backbones import BACKBONES, build_backbone
from pyws.segments.config import PRESETS
from pyws.segments.detection.inference import Maps, detect
from pyws.segments.detection.postprocess import PostprocessConfig
from pyws.segments.pseudo_labels import PseudoLabels, label_columns, pseudo_label_round
from pyws.segments.training import batches, train
from pyws.segments.training.batches import Videos, by_length, noise_seeds, steps
from pyws.segments.training.distribution_loss import distribution_loss, targets
from pyws.segments.training.schedule import SCHEDULES, Schedule, Target

QUICK = replace(PRESETS["pyws"], epochs=6, lr=1e-2, batch=6, evaluate_every=3, trust=None)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return feature_sets.draw()


@pytest.fixture(scope="module")
def held_out():
    return feature_sets.draw(7, "test", seed=1)


def state(run):
    return {name: tensor.clone() for name, tensor in run.backbone.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The released variant by epoch: what is trained on, and the weight of its loss and the factor of the learning rate.
RELEASED = {
    0: (None, 0.0, 5e-5), 79: (None, 0.0, 5e-5), 80: (None, 0.0, 4e-5), 199: (None, 0.0, 4e-5),
    200: (None, 0.0, 2.05e-5), 201: ((1.0, False), 10.35, 2.05e-5), 229: ((1.0, False), 10 * 1.035**29, 2.05e-5),
    230: ((1.0, False), 28.068, 2.05e-5), 244: ((1.0, False), 45.433, 2.05e-5), 245: ((1.0, False), 47.024, 5.12e-7),
    247: ((1.0, False), 50.0, 5.12e-7), 250: ((1.0, False), 50.0, 5.12e-7), 251: ((2.0, True), 50.0, 5.12e-7),
    259: ((2.0, True), 50.0, 5.12e-7), 260: ((2.0, True), 50.0, 2.56e-7), 300: ((2.0, True), 50.0, 2.56e-7),
    301: ((2.15, True), 50.0, 2.56e-7), 349: ((2.15, True), 50.0, 2.56e-7),
}  # fmt: skip


def test_schedule_of_the_released_code():
    schedule = SCHEDULES["released"]
    assert schedule.epochs == 350
    heats = {200: 0.02, 230: 0.02, 245: 0.02, 260: 0.002, 275: 0.002, 300: 0.0016}
    assert {epoch: heat for epoch in range(350) if (heat := schedule.temperature(epoch)) is not None} == heats
    for epoch, (goal, weight, lr) in RELEASED.items():
        target = schedule.target(epoch)
        assert (target and (target.scale, target.delta)) == goal, epoch
        assert schedule.loss_weight(epoch) == pytest.approx(weight, rel=1e-4), epoch
        assert 5e-5 * schedule.rate(epoch) == pytest.approx(lr), epoch


def test_consistency_of_the_released_code():
    model = build_backbone("rskp", 4, ("a",), PRESETS["released"].backbones["rskp"]).model
    assert [model.consistency_weight(epoch) for epoch in (0, 100, 101, 200, 201, 349)] == [1, 1, 0.5, 0.5, 1, 1]
    assert (model.mix, model.memory_class_bug) == (0.85, True)
    ours = build_backbone("rskp", 4, ("a",), PRESETS["pyws"].backbones["rskp"]).model
    assert {ours.consistency_weight(epoch) for epoch in (0, 101, 201, 349)} == {0.1}
    assert (ours.mix, ours.memory_class_bug) == (0.85, False)


def test_schedule_of_the_paper():
    schedule = SCHEDULES["paper"]
    assert schedule.rounds == (200, 215, 230, 245, 270, 290)
    assert set(schedule.temperatures) == {0.1}
    assert {schedule.rate(epoch) for epoch in range(350)} == {1.0}


@pytest.mark.parametrize("epochs", [1, 2, 7, 35, 349, 351, 1225])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stretch(name, epochs):
    schedule = SCHEDULES[name].stretched(epochs)
    assert schedule.epochs == epochs
    assert schedule.loss_weight(epochs - 1) <= schedule.cap
    if schedule.rounds and epochs >= 35:
        assert schedule.rounds[0] == pytest.approx(epochs * 200 / 350, abs=0.51)
        assert len(schedule.rounds) == 6
        assert schedule.backbone_epochs == schedule.rounds[0]


def test_host_clock_and_memory(data):
    full = train.begin("rskp", PRESETS["released"], data, CPU)
    assert full.config.schedule.epochs == 350
    assert [full.backbone_epoch(epoch) for epoch in (0, 100, 349)] == [0, 100, 349]
    assert [epoch for epoch in range(350) if full.fills_memory(epoch)] == [100]
    quick = train.begin("rskp", replace(PRESETS["baseline"], epochs=20), data, CPU)
    assert [epoch for epoch in range(20) if quick.fills_memory(epoch)] == [10]
    assert train.begin("facnet", PRESETS["paper"], data, CPU).config.schedule.rounds[0] == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"rounds": (3, 2), "temperatures": (1, 1)}, "rounds must begin at rising epochs"),
        ({"rounds": (3,)}, "temperatures must be one for each round, got 0 for 1"),
        ({"epochs": 3, "rounds": (3,), "temperatures": (1,)}, "rounds must be below 3 epochs"),
    ],
)
def test_bad_schedules(changes, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**changes)


def test_batches_hold_every_video_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 2000, 200)
    found = by_length(range(200), lengths, 16384)
    assert sorted(video for batch in found for video in batch) == list(range(200))
    for batch in found:
        longest = lengths[batch].max()
        assert len(batch) == 1 or len(batch) * longest <= 16384
        assert len(batch) * longest <= 4096 or 2 * lengths[batch].min() >= longest


def test_steps_are_a_function_of_seed_and_epoch():
    order = np.concatenate(steps(3, 5, 23, 10))
    assert sorted(order) == list(range(23))
    assert [len(step) for step in steps(3, 5, 23, 10)] == [10, 10, 3]
    assert order.tolist() == np.concatenate(steps(3, 5, 23, 4)).tolist()
    assert order.tolist() != np.concatenate(steps(3, 6, 23, 10)).tolist()


def test_noise_seeds_differ():
    seeds = torch.stack([noise_seeds(seed, epoch, range(50)) for seed in range(5) for epoch in (-3, 0, 1, 2)])
    assert len(seeds.unique()) == seeds.numel()
    assert (seeds >= 0).all()


def test_distribution_loss_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    logits = [(0.8, torch.randn(2, 4, 3, generator=generator)), (0.2, torch.randn(2, 4, 3, generator=generator))]
    goals = torch.randn(2, 4, 3, generator=generator)
    goals[1, 2:] = 0  # padding
    found = distribution_loss(logits, goals, torch.tensor([4, 2]))
    for video, length in enumerate((4, 2)):
        total = 0.0
        for t in range(length):
            for c in range(3):
                log = sum(w * math.log(columns[video, t].softmax(0)[c]) for w, columns in logits)
                total -= float(goals[video, t, c]) * log / length
        assert found[video].item() == pytest.approx(total, rel=1e-5)


def test_gradient_of_the_distribution_loss():
    """Gradient with respect to a logit: P_c * sum of the goals - goal_c (eq. 7 and 9 are the case of one goal)."""
    logits = torch.randn(1, 1, 4, dtype=torch.float64, requires_grad=True)
    goals = torch.tensor([[[0.5, -1.0, 0.0, 0.25]]], dtype=torch.float64)
    distribution_loss([(1.0, logits)], goals, torch.tensor([1])).backward()
    expected = logits.detach().softmax(2) * goals.sum() - goals
    torch.testing.assert_close(logits.grad, expected)


def test_floor_stops_negative_goals_only():
    logits = torch.tensor([[[0.0, -30.0]]], requires_grad=True)
    for goal, moves in ((-1.0, False), (1.0, True)):
        loss = distribution_loss([(1.0, logits)], torch.tensor([[[0.0, goal]]]), torch.tensor([1]), log_floor=-10.0)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert bool(gradient.any()) == moves
        assert abs(loss.item()) == pytest.approx(30.0 if moves else 10.0)


def test_targets_without_a_previous_round_are_the_labels():
    latest = PseudoLabels.of({(1, 0): [1.0, 2.0]})
    goals = targets(Target(0, 2.15, delta=True), latest, None, [0, 1], (3, 2))
    assert goals.tolist() == [[[0, 0]] * 3, [[pytest.approx(2.15), 0], [pytest.approx(4.3), 0], [0, 0]]]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_padded_batches_give_the_gradients_of_single_videos(backbone, data):
    labels = PseudoLabels.of({(video, video % 3): torch.rand(int(n)) for video, n in enumerate(data.lengths)})
    gradients = []
    for size in (10**6, 1):
        run = train.begin(backbone, replace(QUICK, batch_snippets=size), data, CPU)
        run.backbone.model.double().train()
        run.latest = labels
        videos = Videos(data, CPU)
        for batch in by_length(range(len(videos)), data.lengths, size):
            features, mask = videos.batch(batch)
            videos_double = _Fixed(videos, features.double(), mask)
            _, own, distribution = train.batch_losses(run, videos_double, batch, 5, run.latest, run.previous)
            assert distribution.ne(0).any()
            (own.sum() + distribution.sum()).backward()
        gradients.append({name: weight.grad for name, weight in run.backbone.model.named_parameters()})
    batched, single = gradients
    for name in single:
        torch.testing.assert_close(batched[name], single[name], rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(("backbone", "clip"), [("rskp", None), ("stpn", None), ("rskp", 0.5)])
def test_gradient_of_a_step_is_the_sum_the_mean_or_clipped(backbone, clip, data):
    run = train.begin(backbone, replace(QUICK, clip_norm=clip), data, CPU)
    weights = list(run.backbone.model.parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    train.join_gradients(run, 4, Group())
    norm = math.sqrt(sum(weight.numel() for weight in weights))
    expected = 0.25 if run.backbone.optim.average else 1.0 if clip is None else clip / norm
    assert run.backbone.optim.average == (backbone == "stpn")
    for weight in weights:
        torch.testing.assert_close(weight.grad, torch.full_like(weight, expected))


class _Fixed:
    """Videos whose next batch is given."""

    def __init__(self, videos, features, mask):
        self.tags, self.device, self.answer = videos.tags, videos.device, (features, mask)

    def batch(self, videos):
        return self.answer


class Alone(Group):
    """One process of several that only sees what it did itself."""

    def gather(self, items):
        return items


@pytest.mark.parametrize("rules", ["pyws", "released"])
def test_pseudo_labels_are_the_same_bytes_for_any_number_of_processes(rules, data):
    built = build_backbone("rskp", data.width, data.classes, PRESETS[rules].backbones["rskp"])
    videos, columns, proposals = Videos(data, CPU), {}, replace(built.proposals, class_threshold=0.0)
    for world in (1, 2, 3):
        found = columns[world] = {}
        for rank in range(world):
            group = Alone(rank, world)
            made = pseudo_label_round(
                built.model, proposals, videos, PRESETS[rules].pseudo_labels, 0.1, 150, group, (0, 1)
            )
            assert made.statuses()["optimal"] + made.statuses()["relaxed"] == len(made.video)
            for video in range(len(videos)):
                found.update({(video, c): values.numpy().tobytes() for c, values in made.columns(video)})
    assert len(columns[1]) >= len(videos)
    assert columns[1] == columns[2] == columns[3]


def test_detections_are_the_same_bits_for_any_number_of_processes(held_out):
    built = build_backbone("rskp", held_out.width, held_out.classes)
    proposals, videos = replace(built.proposals, class_threshold=0.0), Videos(held_out, CPU)
    found = {}
    for world in (1, 2, 3):
        shares = [
            detect(built.model, proposals, videos, PostprocessConfig(), 150, Alone(rank, world))
            for rank in range(world)
        ]
        columns = ("video", "label", "start", "end", "score")
        rows = [list(zip(*(getattr(share, name).tolist() for name in columns), strict=True)) for share in shares]
        assert all(rows)
        found[world] = sorted((row for share in rows for row in share), key=lambda row: row[:2])
    assert {row[0] for row in found[1]} == set(range(7))
    assert found[1] == found[2] == found[3]


def test_segments_of_rescaled_features_are_in_seconds_of_their_video(held_out):
    built = build_backbone("rskp", held_out.width, held_out.classes)
    stretch = np.arange(1, len(held_out) + 1)
    durations = stretch * held_out.lengths / held_out.snippets_per_second
    proposals = replace(built.proposals, class_threshold=0.0)
    plain, rescaled = (
        detect(built.model, proposals, Videos(data, CPU), PostprocessConfig(temperature=0.03), 150)
        for data in (held_out, replace(held_out, durations=durations))
    )
    assert len(plain) == len(rescaled) > 0
    assert rescaled.start == pytest.approx(plain.start * stretch[plain.video])
    assert rescaled.end == pytest.approx(plain.end * stretch[plain.video])


def test_pseudo_labels_keep_the_tags(data):
    built = build_backbone("stpn", data.width, data.classes)
    made = pseudo_label_round(built.model, built.proposals, Videos(data, CPU), QUICK.pseudo_labels, 0.1)
    assert len(made.video)
    assert torch.from_numpy(data.tags)[made.video, made.label].all()
    sizes = torch.from_numpy(data.lengths)[made.video]
    assert torch.equal(made.offsets.diff(), sizes)
    assert set(made.status.tolist()) <= {Status.OPTIMAL, Status.RELAXED}


def test_released_labels_include_background_where_the_video_scores_it(data):
    built = build_backbone("rskp", data.width, data.classes, PRESETS["released"].backbones["rskp"])
    proposals, videos, background = replace(built.proposals, class_threshold=0.0), Videos(data, CPU), len(data.classes)
    for rules, expected in (("released", True), ("paper", False)):
        made = pseudo_label_round(built.model, proposals, videos, PRESETS[rules].pseudo_labels, 0.1)
        assert bool((made.label == background).any()) == expected
        goals = targets(Target(0), made, None, [0], (int(data.lengths[0]), background + 1))
        assert bool(goals[..., -1].any()) == expected
    nowhere = pseudo_label_round(built.model, built.proposals, videos, PRESETS["released"].pseudo_labels, 0.1)
    scores = [built.model.eval()(*videos.batch([video])).background.item() for video in range(len(videos))]
    assert set(nowhere.video[nowhere.label == background].tolist()) <= {v for v, s in enumerate(scores) if s >= 0.16}


def test_labels_of_mean_rows_have_the_height_of_the_score():
    tcam = torch.zeros(10, 2)
    tcam[2:6, 1] = 0.5
    proposals = replace(build_backbone("stpn", 2, ("a", "b")).proposals, thresholds=(0.1,))
    maps = Maps([0], torch.tensor([10]), tcam, torch.tensor([[0.0, 0.9]]), torch.empty(0))
    for rules, height in ((PRESETS["pyws"].pseudo_labels, 0.5), (PRESETS["paper"].pseudo_labels, 0.125)):
        [column] = label_columns(maps, proposals, rules, torch.tensor([[False, True]]))
        assert (column.video, column.label, column.segments) == (0, 1, 1)
        torch.testing.assert_close(column.values, height * (tcam[:, 1] > 0))


@pytest.mark.parametrize(("backbone", "background"), [("rskp", 0.0), ("stpn", 1.0)])
def test_what_a_backbone_is_trained_by(backbone, background, data):
    """The weight of the distribution loss, and background where no label is, are overrides of the backbone."""
    run = train.begin(backbone, QUICK, data, CPU)
    run.backbone.model.eval()
    overrides, videos = run.backbone.overrides, Videos(data, CPU)
    assert overrides.background == background
    values = torch.zeros(int(data.lengths[2]))
    values[:4] = 0.5
    run.latest = PseudoLabels.of({(2, 0): values})
    activations, _, loss = train.batch_losses(run, videos, [2], 5, run.latest, run.previous)
    goals = targets(Target(0), run.latest, None, [2], tuple(activations.logits[0][1].shape[1:]), background)
    assert goals[0, 4:, -1].tolist() == [0.5 * background] * (len(values) - 4)
    plain = distribution_loss(activations.logits, goals, torch.tensor([len(values)]))
    torch.testing.assert_close(loss, overrides.loss_weight * run.config.schedule.loss_weight(5) * plain)


def test_the_loss_of_an_epoch_is_summed_in_double(data, monkeypatch):
    """2^24 and ones, which single precision would lose."""
    run = train.begin("bm", replace(QUICK, batch=1), data, CPU)
    usual, given = train.batch_losses, iter([2.0**24, *[1.0] * (len(data) - 1)])

    def losses(run, videos, batch, *rest):
        activations, own, distribution = usual(run, videos, batch, *rest)
        return activations, own * 0 + next(given), distribution

    monkeypatch.setattr(train, "batch_losses", losses)
    record = train.train_epoch(run, Videos(data, CPU), 0, Group())
    assert record["loss"] == (2**24 + len(data) - 1) / len(data)


def test_training_lowers_the_loss_and_finds_segments(data, held_out):
    run = train.train("rskp", replace(QUICK, epochs=10), data, held_out)
    losses = [record["loss"] for record in run.history]
    assert losses[-1] < 0.7 * losses[0]
    first = train.evaluate(train.begin("rskp", QUICK, data, CPU), Videos(held_out, CPU), Group())
    assert run.best > 2 * first
    assert [record["epoch"] for record in run.history if "mAP" in record] == [2, 5, 8, 9]
    renewed = [record for record in run.history if "labels" in record]
    assert [record["epoch"] for record in renewed] == list(run.config.schedule.rounds)
    assert all(record["labels"]["optimal"] >= len(data) // 2 for record in renewed)


@pytest.fixture(scope="module")
def whole(data, held_out, tmp_path_factory):
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return train.train("rskp", QUICK, data, held_out, folder), folder


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", ["between epochs", "inside an epoch"])
def test_resume_goes_on_bit_for_bit(moment, whole, data, held_out, tmp_path, monkeypatch):
    run, folder = whole
    where = {"between epochs": "label_round", "inside an epoch": "batch_losses"}[moment]
    calls, kill_at = iter(range(1000)), {"label_round": 2, "batch_losses": 11}[where]
    usual = getattr(train, where)

    def killed(*arguments):
        if next(calls) == kill_at:
            raise Killed
        return usual(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, where, killed)
        train.train("rskp", QUICK, data, held_out, tmp_path)
    went_on = train.train("rskp", QUICK, data, held_out, tmp_path)
    assert same(state(run), state(went_on))
    for name in ("best", "last"):
        one, other = (load_file(root / f"{name}.safetensors") for root in (folder, tmp_path))
        assert same(one, other)
    labels = sorted(path.name for path in (folder / "labels").iterdir())
    assert labels == sorted(path.name for path in (tmp_path / "labels").iterdir())
    for name in labels:
        if name.endswith(".safetensors"):
            assert (folder / "labels" / name).read_bytes() == (tmp_path / "labels" / name).read_bytes()

    def measured(records):
        return [{name: value for name, value in record.items() if name != "seconds"} for record in records]

    assert measured(went_on.history) == measured(run.history)


def test_a_finished_run_is_left_alone(whole, data, held_out, tmp_path):
    _, folder = whole
    before = (folder / "last.safetensors").read_bytes()
    again = train.train("rskp", QUICK, data, held_out, folder)
    assert (again.epoch, len(again.history)) == (6, 6)
    assert (folder / "last.safetensors").read_bytes() == before


def test_files_that_a_run_lost_are_made_again(data, held_out, tmp_path):
    train.train("rskp", QUICK, data, held_out, tmp_path)
    rounds = sorted(path.name for path in (tmp_path / "labels").glob("*.json"))[-2:]
    lost = [tmp_path / "labels" / name for name in rounds] + [tmp_path / "labels" / rounds[-1].removesuffix(".json")]
    lost += [tmp_path / "timelines" / f"{what}.json.gz" for what in ("trained", "evaluated")]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    train.train("rskp", QUICK, data, held_out, tmp_path)
    assert [path.read_bytes() for path in lost] == before
    for path in (tmp_path / "labels").iterdir():  # all but the last two cannot be made again
        if path.name.removesuffix(".json") not in [name.removesuffix(".json") for name in rounds]:
            path.unlink()
    assert write_report(tmp_path).is_file()


@pytest.mark.parametrize("left", [None, 4])
def test_a_lost_history_says_what_to_do(whole, data, held_out, tmp_path, left):
    folder = shutil.copytree(whole[1], tmp_path / "run")
    lines = (folder / "history.jsonl").read_text().splitlines()
    (folder / "history.jsonl").unlink()
    if left:
        (folder / "history.jsonl").write_text("".join(f"{line}\n" for line in lines[:left]))
    with pytest.raises(DataError, match=r"history.jsonl: .* remove last.safetensors and last.previous.safetensors to"):
        train.train("rskp", QUICK, data, held_out, folder)
    for name in ("last.safetensors", "last.previous.safetensors"):
        (folder / name).unlink()
    assert train.train("rskp", QUICK, data, held_out, folder).epoch == len(lines)


def test_another_run_in_the_folder_is_an_error(whole, data, held_out):
    _, folder = whole
    with pytest.raises(DataError, match=r"holds a run with config\.lr 0\.01, not 0\.02; choose another folder"):
        train.train("rskp", replace(QUICK, lr=0.02), data, held_out, folder)
    with pytest.raises(DataError, match="holds a run with backbone 'rskp', not 'stpn'"):
        train.train("stpn", QUICK, data, held_out, folder)
    with pytest.raises(DataError, match="holds a run with data '"):
        train.train("rskp", QUICK, feature_sets.draw(11), held_out, folder)


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path, monkeypatch, wrong):
    with pytest.raises(TrainingError, match="training stpn: loss must be finite, got nan .* in epoch 0"):
        train.train("stpn", replace(QUICK, lr=1e30, epochs=3), data, None, tmp_path)
    assert not (tmp_path / "last.safetensors").exists()
    usual = train.batch_losses
    monkeypatch.setattr(train, "batch_losses", lambda *given: (*(one := usual(*given))[:1], wrong * one[1], one[2]))
    with pytest.raises(TrainingError, match=f"loss must be finite, got {wrong} "):
        train.train("stpn", replace(QUICK, batch=99), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"batch": 0}, "batch must be >= 1, got 0"),
        ({"evaluate_every": 0}, "evaluate_every must be >= 1, got 0"),
        ({"batch_snippets": -1}, "batch_snippets must be >= 1, got -1"),
        ({"lr": -1.0}, r"lr must be > 0, got -1.0"),
        ({"lr": math.nan}, r"lr must be > 0, got nan"),
        ({"clip_norm": 0.0}, r"clip_norm must be > 0, got 0.0"),
        ({"tious": (0.5, 1.5)}, r"tious must be one or more numbers in \(0, 1\], got \[0.5, 1.5\]"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **changes)


def test_unknown_postprocessing():
    with pytest.raises(ValueError, match="method must be one of none, nms, soft-nms, gaussian, .*, got 'wbf'"):
        PostprocessConfig("wbf")
    with pytest.raises(ValueError, match="weigh_by must be one of score, inner, got 'outer'"):
        PostprocessConfig(weigh_by="outer")


def test_a_video_without_tags_is_named(data):
    untagged = replace(data, tags=data.tags & (np.arange(len(data)) != 4)[:, None])
    with pytest.raises(DataError, match="every video must have a tag, got none for 'training_04'"):
        train.train("stpn", QUICK, untagged)


def test_evaluation_needs_segments(data, held_out):
    with pytest.raises(DataError, match="videos such as 'test_00' must have annotated segments, got none"):
        train.train("stpn", QUICK, data, replace(held_out, truth=None))


def test_scalars_for_tensorboard(data, tmp_path):
    pytest.importorskip("tensorboard")
    train.train("stpn", replace(QUICK, epochs=1), data, out=tmp_path, tensorboard=True)
    [events] = (tmp_path / "tensorboard").iterdir()
    assert all(name in events.read_bytes() for name in (b"loss", b"distribution_loss", b"lr"))


def test_cache_holds_what_fits(data, monkeypatch):
    videos = Videos(data, CPU, cache_mib=data.features(0).nbytes / 2**20)
    videos.batch([0])
    monkeypatch.setattr(batches.FeatureSet, "features", lambda self, index: pytest.fail("read twice"))
    videos.batch([0])
