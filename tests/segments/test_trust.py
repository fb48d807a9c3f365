"""Trust in pseudo labels: what is measured, that a stopped run is one without labels, no trace of measuring."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import feature_sets
import numpy as np
import pytest
import torch

from pyws.errors import DataError
from pyws.progress import Pace
from pyws.report.run import write_report
from pyws.segments.ablation import Variant
from pyws.segments.backbones import BACKBONES, load_backbone
from pyws.segments.config import PRESETS, OptimConfig, ProposalConfig, TrainConfig, TrustConfig
from pyws.segments.detection.inference import Maps, activation_maps, candidates, detect
from pyws.segments.pseudo_labels import PseudoLabels
from pyws.segments.training import train
from pyws.segments.training.batches import Videos
from pyws.segments.training.fitting import fitted, sentence
from pyws.segments.training.run_folder import RunFolder, open_checkpoint
from pyws.segments.trust import Share, Trust, agreement, moments, reach, tag_auc

ANY, NONE, USUAL = (
    TrustConfig(agreement=-1, conflict=1, likeness=-1, reach=1, joined=100, forgotten=1),
    TrustConfig(agreement=1),
    TrustConfig(),
)
QUICK = replace(PRESETS["pyws"], epochs=6, lr=1e-2, batch=6, trust=ANY)
TAGS = np.array([[True, True], [True, False]])


@pytest.fixture(scope="module")
def data():
    return feature_sets.draw()


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.backbone.model.parameters()])


def found(labels, others, config=USUAL):
    return Trust.of(PseudoLabels.of(labels), PseudoLabels.of(others), TAGS, [4, 3], ("a", "b"), config)


def test_labels_that_others_find_too_are_adopted_and_those_elsewhere_are_not():
    labels = {(0, 0): [0.0, 0.5, 0.0, 0.0], (0, 1): [0.0, 0.0, 0.0, 0.5], (1, 0): [1.0, 0.0, 0.0]}
    same = found(labels, labels)
    assert (same.agreement, same.conflict, same.adopted) == (pytest.approx(1), 0, True)
    elsewhere = found(labels, {(0, 0): [0.5, 0.0, 0.0, 0.0], (1, 0): [0.0, 1.0, 0.0]})
    assert elsewhere.classes["a"] < 0
    assert elsewhere.classes["b"] == 0
    assert not elsewhere.adopted


def test_a_video_with_more_of_a_class_is_no_agreement():
    # Constant in time in each video: only the sums of the videos agree.
    flat = {(0, 0): [1.0] * 4, (1, 0): [0.1] * 3}
    assert found(flat, flat).classes["a"] == 0


def test_labels_that_contradict_each_other_are_not_adopted():
    both = {(0, 0): [0.0, 0.5, 0.0, 0.0], (0, 1): [0.0, 0.5, 0.0, 0.0], (1, 0): [0.5, 0.0, 0.0]}
    crossed = found(both, both)
    assert (crossed.conflict, crossed.adopted) == (pytest.approx(1 / 3), True)
    assert not found(both, both, TrustConfig(conflict=0.3)).adopted


def test_measuring_changes_nothing_and_is_resumed(data, tmp_path):
    whole = train.train("rskp", QUICK, data, out=tmp_path / "run")
    plain = train.train("rskp", replace(QUICK, trust=None), data)
    assert torch.equal(weights(whole), weights(plain))
    (record,) = [record for record in whole.history if "trust" in record]
    assert record["epoch"] == whole.config.schedule.rounds[0]
    page = write_report(tmp_path / "run").read_text()
    assert "adopted" in page
    assert "agreement with unseen halves" in page
    assert "at least -1.00 wanted" in page
    again = train.train("rskp", QUICK, data, out=tmp_path / "run")
    assert again.trust == whole.trust
    assert again.trust.adopted


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_stopped_run_is_one_without_labels(data, backbone):
    stopped = train.train(backbone, replace(QUICK, trust=NONE), data)
    without = train.train(backbone, Variant().of(QUICK, 6), data)
    (asked,) = [record for record in stopped.history if "trust" in record]
    assert (asked["trust"]["adopted"], asked["trust_bounds"]["agreement"]) == (False, 1)
    assert torch.equal(weights(stopped), weights(without))
    assert len([record for record in stopped.history if "labels" in record]) == 1
    assert all(record["distribution_loss"] == 0 for record in stopped.history)


@pytest.mark.parametrize("backbone", ["rskp", "wum"])
def test_the_network_is_the_mean_of_without_and_with(data, backbone):
    run = train.train(backbone, QUICK, data)
    without = train.train(backbone, Variant().of(QUICK, 6), data)
    taught = train.train(backbone, replace(QUICK, trust=None), data)
    parts = [each.backbone.model.eval() for each in (without, taught)]
    for member, part in zip(run.network.members, parts, strict=True):
        assert all(torch.equal(tensor, part.state_dict()[name]) for name, tensor in member.state_dict().items())
    features, mask = Videos(data, torch.device("cpu")).batch([0, 1])
    found, (plain, ours), share = run.network(features, mask), [part(features, mask) for part in parts], run.aside.share
    torch.testing.assert_close(found.tcam, (1 - share) * plain.tcam + share * ours.tcam)
    assert run.aside.raised == share
    higher = torch.maximum(plain.scores, ours.scores)
    assert (higher > plain.scores).any()
    torch.testing.assert_close(found.scores, (1 - share) * plain.scores + share * higher)
    alone = train.train(backbone, replace(QUICK, trust=replace(ANY, shares=None)), data)
    assert alone.network is alone.backbone.model
    assert torch.equal(weights(alone), weights(taught))


def test_the_share_is_the_larger_one_where_unseen_halves_agree_more_with_labels(data):
    """Correlations of whole maps, by NumPy, of the networks as they are at the end."""
    run = train.train("rskp", replace(QUICK, trust=replace(ANY, margin=-2)), data)
    videos, agreed = Videos(data, torch.device("cpu")), []
    learners = (run.backbone.model, run.aside.without.backbone.model)
    for network in learners:
        columns = {label: ([], []) for label in range(len(data.classes))}
        for half, (_, unseen) in zip(run.aside.halves, train.halves_of(data, run.config.seed), strict=True):
            for video in unseen.tolist():
                maps = [one(*videos.batch([video])).tcam[0].detach().double().numpy() for one in (network, half)]
                for label in np.flatnonzero(data.tags[video]):
                    for kept, one in zip(columns[label], maps, strict=True):
                        kept.append(one[:, label] - one[:, label].mean())
        pairs = [(np.concatenate(one), np.concatenate(other)) for one, other in columns.values() if one]
        agreed.append(np.mean([one @ other / np.sqrt(one @ one * (other @ other)) for one, other in pairs]))
    share = run.history[-1]["share"]
    assert (share["with_labels"], share["without_labels"]) == pytest.approx(agreed, abs=1e-5)
    assert share["value"] == run.aside.share == run.config.trust.shares[2]
    assert ["share" in record for record in run.history] == [
        epoch in run.config.schedule.rounds or epoch == 5 for epoch in range(6)
    ]
    for sure in (1, -1):  # more agreement than there is, or less
        rules = replace(ANY, margin=2, sure=sure)
        less = train.weigh(replace(run, config=replace(run.config, trust=rules)), videos, train.Group())
        assert less.value == ANY.shares[sure == -1]


@pytest.mark.parametrize(
    ("gain", "agreement", "share"), [(0.09, 0.49, 0.1), (0.09, 0.51, 0.2), (0.11, 0.49, 0.6), (0.11, 0.51, 0.6)]
)
def test_what_tells_between_shares(gain, agreement, share):
    found = Share.of(correlations(1.0, 1.0 - gain, 0.5), np.array([[True]]), agreement, USUAL)
    assert (found.with_labels, found.without_labels, found.value) == (1, pytest.approx(1 - gain), share)


def correlations(*values):
    """Moments of one video and one class that correlate so."""
    return np.array([[1.0, value, 1.0] for value in values])[None, :, :, None]


@pytest.mark.parametrize(("likeness", "share"), [(0.32, 0.0), (0.34, 0.6)])
def test_labels_that_lead_elsewhere_have_no_share(likeness, share):
    found = Share.of(correlations(0.8, 0.1, likeness), np.array([[True]]), 0.9, USUAL)
    assert (found.likeness, found.value) == (pytest.approx(likeness), share)


@pytest.mark.parametrize(("reaches", "share"), [((0.9, 0.5), 0.0), ((0.9, 0.6), 0.6), ((0.1, 0.9), 0.6)])
def test_labels_that_level_the_maps_have_no_share(reaches, share):
    found = Share.of(correlations(0.8, 0.1, 0.5), np.array([[True]]), 0.9, USUAL, reaches)
    assert (found.reach, found.reach_without, found.value) == (*reaches, share)


def test_a_measure_that_is_just_enough_is_enough():
    """Numbers without rounding, each bound at the very value that is measured."""
    labels = {(0, 0): [0.5, 0.0, 0.0, 0.0], (0, 1): [0.5, 0.0, 0.0, 0.0], (1, 0): [1.0, 0.0, 0.0]}
    same = found(labels, labels, TrustConfig(agreement=1, conflict=0.25))
    assert (same.agreement, same.conflict, same.adopted) == (1, 0.25, True)
    assert not found(labels, labels, TrustConfig(agreement=1, conflict=0.2499)).adopted

    def share(agreement=0.75, **bounds):
        rules = replace(USUAL, **{"margin": 0.5, "likeness": 0.5, "reach": 0.25, "forgotten": 0.5} | bounds)
        sums, tags = correlations(1.0, 0.5, 0.5), np.array([[True]])
        one = Share.of(sums, tags, agreement, rules, (0.75, 0.5), (0.5, 0.75))
        return rules.shares.index(one.value) if one.value else None, one.raised == one.value

    assert share() == (2, True)
    assert [share(margin=0.51, sure=sure) for sure in (0.75, 0.76)] == [(1, True), (0, True)]
    assert share(likeness=0.51)[0] is None
    assert share(reach=0.24)[0] is None
    assert share(forgotten=0.49) == (1, True)  # half of it is less than what is forgotten
    assert [share(forgotten=bound) for bound in (0.25, 0.24)] == [(1, True), (1, False)]


def test_where_nothing_was_measured_nothing_is_doubted():
    found = Trust.of(PseudoLabels.of({}), PseudoLabels.of({}), np.zeros((1, 2), bool), [4], ("a", "b"), USUAL)
    assert (found.agreement, found.conflict, found.classes, found.adopted) == (1, 0, {}, True)
    share = Share.of(np.empty((0, 3, 3, 2)), np.empty((0, 2), bool), 1.0, USUAL)
    assert (share.value, share.raised) == (USUAL.shares[0], USUAL.shares[0])


def test_rounding_makes_no_correlation_beyond_one():
    draws = np.random.default_rng(0)
    labels = [draws.random((7, 40)) for _ in range(5)]
    scaled = [3.7 * one for one in labels]
    found = agreement(labels, scaled, np.ones((5, 40), bool))
    assert found == pytest.approx(1)
    assert (found <= 1).all()


def test_how_far_the_best_segments_reach():
    # One run of two snippets and a better one of a single snippet; a level map; a class that is no tag.
    tcam = torch.tensor([[0.6, 0.7, 0.9], [0.6, 0.7, 0.0], [0.0, 0.7, 0.0], [0.9, 0.7, 0.0], [0.0, 0.7, 0.0]])
    maps = Maps([0], torch.tensor([5]), tcam, torch.tensor([[0.9, 0.9, 0.9]]), torch.empty(0))
    found = reach(maps, ProposalConfig(), np.array([[True, True, False]]))
    assert found == pytest.approx([1 / 5, 1])


def test_how_far_segments_reach_is_measured_on_all_videos(data):
    run = train.train("rskp", QUICK, data)
    share, videos = run.history[-1]["share"], Videos(data, torch.device("cpu"))
    networks = {"reach": run.backbone.model, "reach_without": run.aside.without.backbone.model}
    for name, network in networks.items():
        every = [
            part
            for maps in activation_maps(network.eval(), videos, 1)
            for part in reach(maps, run.backbone.proposals, data.tags[maps.videos])
        ]
        assert share[name] == pytest.approx(np.mean(every), abs=1e-6)
        assert 0 < share[name] <= 1


def test_a_mean_that_joins_segments_has_no_share(data):
    run = train.train("bm", QUICK, data)
    videos, aside, rules = Videos(data, torch.device("cpu")), run.aside, run.backbone.proposals
    (plain, ours), share = (one.eval() for one in (aside.without.backbone.model, run.backbone.model)), aside.share
    every = []
    for video in range(len(data)):
        first, second = plain(*videos.batch([video])), ours(*videos.batch([video]))
        tcam, length = (1 - share) * first.tcam[0] + share * second.tcam[0], torch.tensor([len(first.tcam[0])])
        scores = first.scores + share * (second.scores - first.scores).clamp_min(0)
        maps = Maps([video], length, tcam.detach(), scores.detach(), torch.empty(0))
        every += reach(maps, rules, data.tags[[video]])
    found = run.history[-1]["share"]
    assert found["reach_mean"] == pytest.approx(np.mean(every), abs=1e-6)
    further = max(found["reach"], found["reach_without"])
    for factor, expected in ((0.99, 0), (1.01, share)):
        bound = replace(ANY, joined=factor * found["reach_mean"] / further)
        less = train.weigh(replace(run, config=replace(run.config, trust=bound)), videos, train.Group())
        assert (less.value, less.raised) == (aside.share, aside.raised) == (expected, expected)


@pytest.mark.parametrize("backbone", ["bm", "wum"])
def test_segments_of_the_mean_and_of_both_networks_are_pooled(data, backbone):
    run = train.train(backbone, QUICK, data)
    videos, rules, share = Videos(data, torch.device("cpu")), run.backbone.proposals, run.aside.share
    tags = torch.from_numpy(data.tags)
    networks = [run.network.eval(), run.aside.without.backbone.model.eval(), run.backbone.model.eval()]
    parts = [list(activation_maps(one, videos, 1)) for one in networks]  # in batches of one video
    (pooled, *_), (plain, *_), (ours, *_) = parts
    assert QUICK.trust.pool == (2.0, 6.0)
    sources = (replace(pooled, others=()), plain, ours)
    for by_support, weights in ((False, (1.0, 1 - share, share)), (True, (1.0, 2.0, 6 * share))):
        expected = set()
        for weight, maps in zip(weights, sources, strict=True):
            one, keys = candidates(replace(maps, scores=pooled.scores), rules, len(data.classes), tags[maps.videos])
            columns = (keys[one.owner], one.start, one.end, weight * one.score)
            expected |= set(zip(*(column.tolist() for column in columns), strict=True))
        one, keys = candidates(pooled, rules, len(data.classes), tags[pooled.videos], by_support)
        got = list(zip(keys[one.owner].tolist(), one.start.tolist(), one.end.tolist(), one.score.tolist(), strict=True))
        assert set(got) == expected
        assert got == sorted(got, key=lambda row: row[0])
    alone = candidates(sources[0], rules, len(data.classes), tags[pooled.videos])[0]
    assert len(got) > len(alone)
    found = {ranking: detect(run.network, rules, videos, replace(run.config.detection, ranking=ranking), 16384)
             for ranking in ("score", "support")}  # fmt: skip
    assert not np.array_equal(found["score"].start, found["support"].start)  # other weights, other fused bounds
    whole = detect(run.network, rules, videos, run.config.detection, 16384)
    single = detect(run.network, rules, videos, run.config.detection, 1)
    for name in ("start", "end", "score"):
        np.testing.assert_allclose(*(np.sort(getattr(found, name)) for found in (whole, single)), atol=1e-4)


@pytest.mark.parametrize(
    ("aucs", "bound", "value", "raised"),
    [((0.7, 0.9), 0.1, 0.2, 0.0), ((0.8, 0.89), 0.1, 0.2, 0.2), ((0.85, 0.89), 0.1, 0.6, 0.6),
     ((0.9, 0.7), 0.1, 0.6, 0.6), ((0.7, 0.9), 1, 0.6, 0.6)],
)  # fmt: skip
def test_labels_by_which_tags_are_forgotten_do_not_lead_and_raise_no_score_of_a_video(aucs, bound, value, raised):
    rules = replace(USUAL, forgotten=bound)
    found = Share.of(correlations(0.8, 0.1, 0.5), np.array([[True]]), 0.9, rules, (0.1, 0.1), aucs)
    assert (found.tag_auc, found.tag_auc_without, found.value, found.raised) == (*aucs, value, raised)
    elsewhere = Share.of(correlations(0.8, 0.1, 0.1), np.array([[True]]), 0.9, rules, (0.1, 0.1), aucs)
    assert (elsewhere.value, elsewhere.raised) == (0, 0)


def test_the_order_of_tags_and_the_rest_is_counted_pair_by_pair():
    draws = np.random.default_rng(3)
    scores, tags = draws.integers(0, 6, (7, 4)) / 5, draws.random((7, 4)) < 0.4  # equal ones too
    pairs = [(high > low) + (high == low) / 2 for high in scores[tags] for low in scores[~tags]]
    assert 0 < np.mean(pairs) < 1
    assert tag_auc(scores, tags) == pytest.approx(np.mean(pairs))
    assert tag_auc(scores, np.ones_like(tags)) == tag_auc(scores, np.zeros_like(tags)) == 1


def test_how_well_tags_are_known_is_measured_on_all_videos(data):
    run = train.train("stpn", replace(QUICK, trust=replace(ANY, forgotten=0)), data)
    share, videos = run.history[-1]["share"], Videos(data, torch.device("cpu"))
    networks = {"tag_auc": run.backbone.model, "tag_auc_without": run.aside.without.backbone.model}
    for name, network in networks.items():
        found = torch.cat([network.eval()(*videos.batch([video])).scores for video in range(len(data))]).detach()
        high, low = (found[torch.from_numpy(chosen)] for chosen in (data.tags, ~data.tags))
        assert share[name] == pytest.approx((high[:, None] > low).double().mean().item(), abs=1e-6)
    known = share["tag_auc"] >= share["tag_auc_without"]
    assert run.network.raises == [0, share["raised"]] == [0, share["value"] if known else 0]


def test_without_a_share_the_run_is_one_without_labels(data):
    run = train.train("stpn", replace(QUICK, trust=replace(ANY, likeness=1)), data)
    assert run.aside.share == 0
    without = train.train("stpn", Variant().of(QUICK, 6), data)
    features, mask = Videos(data, torch.device("cpu")).batch([0, 1])
    for name in ("tcam", "scores"):
        assert torch.equal(getattr(run.network(features, mask), name), getattr(without.network(features, mask), name))


class Killed(Exception):
    """A run that ends here."""


def test_an_averaged_run_is_resumed_bit_for_bit_and_predicts(data, tmp_path, monkeypatch):
    whole = train.train("rskp", QUICK, data, out=tmp_path / "whole")
    usual = train.train_epoch

    def killed(run, videos, epoch, *rest):
        if epoch == 5:
            raise Killed
        return usual(run, videos, epoch, *rest)

    monkeypatch.setattr(train, "train_epoch", killed)
    with pytest.raises(Killed):
        train.train("rskp", QUICK, data, out=tmp_path / "halted")
    monkeypatch.undo()
    halted = train.begin("rskp", QUICK, data, torch.device("cpu"))
    RunFolder(tmp_path / "halted", data, train.Group()).resume(halted)
    (share, *_) = [record["share"] for record in reversed(halted.history) if "share" in record]
    assert (halted.aside.share, halted.aside.raised) == (share["value"], share["raised"])
    again = train.train("rskp", QUICK, data, out=tmp_path / "halted")
    saved = load_backbone(open_checkpoint(tmp_path / "halted" / "last.safetensors")).model
    for state in (again.network.state_dict(), saved.state_dict()):
        assert list(state) == list(whole.network.state_dict())
        assert all(torch.equal(tensor, state[name]) for name, tensor in whole.network.state_dict().items())
    assert all("loss_without_labels" in record for record in again.history[whole.config.schedule.rounds[0] :])
    page = write_report(tmp_path / "halted").read_text()
    assert "share of the network with labels" in page
    assert "share by which it raises scores of videos" in page
    assert (whole.aside.share, whole.aside.raised) == (again.aside.share, again.aside.raised)
    assert (saved.shares, saved.raises) == (whole.network.shares, whole.network.raises)
    assert saved.pool == whole.network.pool == [2.0, 6 * whole.aside.share]
    checkpoint = open_checkpoint(tmp_path / "halted" / "last.safetensors")
    for shares, rule in (([], "a list of 1 .. 16"), ([0.1] * 17, "a list of 1 .. 16"), ([0.5, 2.0], r"in \[0, 1\]")):
        with pytest.raises(DataError, match=f"shares must be {rule}"):
            load_backbone(replace(checkpoint, facts={**checkpoint.facts, "shares": shares}))
    for raises, rule in ((0.1, "a list of 1 .. 16"), ([0.5, -0.1], r"in \[0, 1\]"), ([0.1], "one of each member")):
        with pytest.raises(DataError, match=f"raises must be {rule}"):
            load_backbone(replace(checkpoint, facts={**checkpoint.facts, "raises": raises}))
    listed = "a list of finite numbers >= 0"
    for pool, rule in ((0.1, listed), (["x", 1.0], listed), ([-1.0, 1.0], listed), ([0.1], "one of each member")):
        with pytest.raises(DataError, match=f"pool must be {rule}"):
            load_backbone(replace(checkpoint, facts={**checkpoint.facts, "pool": pool}))


def test_a_run_of_one_video_has_no_halves_and_is_resumed(tmp_path):
    data, config = feature_sets.draw(1), replace(QUICK, epochs=2)
    whole = train.train("stpn", config, data, out=tmp_path)
    assert whole.aside.halves == []
    again = train.begin("stpn", config, data, torch.device("cpu"))
    RunFolder(tmp_path, data, train.Group()).resume(again)
    assert again.aside.halves == []
    assert (again.aside.share, again.aside.raised) == (whole.aside.share, whole.aside.raised)


def test_a_checkpoint_of_an_earlier_version_is_a_mean_and_nothing_else(data, tmp_path):
    train.train("stpn", QUICK, data, out=tmp_path)
    checkpoint = open_checkpoint(tmp_path / "last.safetensors")
    facts = {name: value for name, value in checkpoint.facts.items() if name not in ("raises", "pool")}
    model = load_backbone(replace(checkpoint, facts=facts)).model.eval()
    features, mask = Videos(data, torch.device("cpu")).batch([0, 1])
    mean = sum(share * one(features, mask).scores for share, one in zip(model.shares, model.members, strict=True))
    found = model(features, mask)
    torch.testing.assert_close(found.scores, mean)
    assert found.others == ()
    # The version after it pooled segments by the shares.
    assert load_backbone(replace(checkpoint, facts={**facts, "pooled": True})).model.pool == model.shares


@pytest.mark.parametrize("trust", [ANY, NONE, None])
def test_steps_are_counted_beforehand(data, trust):
    taken = []

    class Counted(Pace):
        def step(self):
            taken.append(1)

    config = replace(QUICK, trust=trust)
    run, videos = train.begin("stpn", config, data, torch.device("cpu")), Videos(data, torch.device("cpu"))
    planned = train.steps_left(run, len(data))
    pace = Counted("", planned, quiet=True)
    for epoch in range(6):
        train.run_epoch(run, videos, epoch, train.Group(), pace)
        if epoch == run.config.schedule.rounds[0] and trust is NONE:  # found out half-way: the copy is not needed
            planned -= (6 - epoch) * -(-len(data) // run.batch)
    assert len(taken) == planned


def test_a_run_that_asks_for_no_trust_says_so(data, tmp_path):
    train.train("stpn", replace(QUICK, trust=None), data, out=tmp_path / "run")
    assert "adopted without a measure of trust" in write_report(tmp_path / "run").read_text()


def test_every_video_is_labelled_by_a_network_that_never_saw_it(data, monkeypatch):
    run = train.begin("stpn", QUICK, data, torch.device("cpu"))
    seen, labelled, seeds = [], [], []
    usual_begin, usual_round = train.begin, train.label_round
    monkeypatch.setattr(train, "begin", lambda name, config, part, device: (
        seen.append(set(part.names)) or seeds.append(config.seed) or usual_begin(name, config, part, device)
    ))  # fmt: skip
    monkeypatch.setattr(train, "label_round", lambda half, videos, *rest: (
        labelled.append(set(videos.data.names)) or usual_round(half, videos, *rest)
    ))  # fmt: skip
    labels = PseudoLabels.of({(0, 0): torch.zeros(int(data.lengths[0]))})
    before = copy.deepcopy(weights(run))
    _, halves = train.measure_trust(run, labels, Videos(data, torch.device("cpu")), 1, 0.2, train.Group())
    assert torch.equal(before, weights(run))
    assert len(halves) == 2
    assert len({*range(1000), *seeds}) == 1002  # networks of their own: of no run that anyone would begin
    for one, other in zip(seen, labelled, strict=True):
        assert not one & other
        assert one | other == set(data.names)
    assert abs(len(seen[0]) - len(seen[1])) <= 1


def test_a_negative_bound():
    with pytest.raises(ValueError, match="trust: joined must be >= 0, got -1"):
        TrustConfig(joined=-1)


def test_what_is_trained_with_is_said():
    published = OptimConfig(lr=5e-5, batch=10)
    given = TrainConfig(lr=0.25, batch=3, epochs=7)
    assert (
        sentence(given, published, 64, 56)
        == "learning rate 0.25, 3 videos a step, 7 epochs: as published where not given"
    )
    usual = sentence(TrainConfig(), published, 64, 56)
    assert usual.startswith("learning rate 5e-05, 10 videos a step, ")


def test_the_memory_has_what_every_video_offers(data):
    """Each video is seen once, whatever the batches, by the network in evaluation mode."""
    run, videos, asked = train.begin("rskp", QUICK, data, torch.device("cpu")), Videos(data, torch.device("cpu")), []
    model = run.backbone.model.train()
    memories = model.memories
    model.memories = lambda activations, batch, tags: asked.extend(batch.tolist()) or memories(activations, batch, tags)
    train.fill_memory(run, videos, train.Group())
    assert sorted(asked) == list(range(len(data)))
    assert not model.training


def test_what_is_given_is_not_fitted():
    given = fitted(TrainConfig(fit=True, lr=1e-3, batch=3, epochs=7), OptimConfig(lr=5e-5), 64, 56)
    assert (given.lr, given.batch, given.epochs) == (1e-3, 3, 7)
    published = fitted(TrainConfig(), OptimConfig(lr=5e-5), 64, 56)
    assert (published.lr, published.batch, published.epochs) == (None, None, 350)


@pytest.mark.parametrize(
    "changes",
    [
        {"agreement": -1.5},
        {"conflict": 1.5},
        {"conflict": -0.1},
        {"margin": 3},
        {"likeness": 2},
        {"reach": -0.1},
        {"forgotten": 1.5},
        {"shares": (0.1, 0.2, 1.5)},
    ],
)
def test_bad_settings(changes):
    with pytest.raises(ValueError, match=rf"trust: {next(iter(changes))} must be in"):
        TrustConfig(**changes)


def test_features_are_kept_as_far_as_there_is_room(data, monkeypatch):
    size, reads = [data.features(video).nbytes for video in range(len(data))], []
    read = type(data).features
    monkeypatch.setattr(type(data), "features", lambda self, video: reads.append(video) or read(self, video))
    videos = Videos(data, torch.device("cpu"), cache_mib=(size[0] + size[1]) / 2**20)
    for _ in range(2):
        for video in range(len(data)):
            videos.batch([video])
    again = sum(size[video] for video in range(len(data)) if reads.count(video) == 1)
    assert size[0] + size[1] - min(size) < again <= size[0] + size[1]


def test_asking_which_tags_are_open_changes_none(data, monkeypatch):
    pair = tuple(np.argwhere(data.tags)[0])
    monkeypatch.setattr(train, "known_columns", lambda *_: {pair})
    run, before = SimpleNamespace(config=QUICK), data.tags.copy()
    found = train.unknown_tags(run, data)
    assert not found[pair]
    assert (data.tags == before).all()
    assert (found != before).sum() == 1


def test_moments_of_single_precision_are_doubles():
    ours, theirs = np.array([[0.0], [1.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    assert moments(ours, theirs).dtype == np.float64
