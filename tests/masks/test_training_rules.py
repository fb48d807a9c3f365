"""Presets of pyws masks train, and the rules of single steps: seeds, chunks, when a run stops."""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pyws import DataError, cli, run_manifest
from pyws.cli import main
from pyws.commands.common import Common
from pyws.commands.masks.ablate import _possible
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.tagged.label_space import object_labels
from pyws.data.video.frames import open_frames, write_picture
from pyws.distributed import Group
from pyws.masks.ablation import shown_versions
from pyws.masks.initial_masks.actor_action_annotator import ActorActionAnnotator, ActorActionConfig
from pyws.masks.initial_masks.annotator import Chunk
from pyws.masks.initial_masks.cam_to_mask import initial_masks, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.pipeline import annotate, open_annotations
from pyws.masks.initial_masks.superpixels import _read_labels, _write_labels
from pyws.masks.initial_masks.tag_to_class import tag_warnings
from pyws.masks.initial_masks.train_classifier import ClassifierConfig, _Training
from pyws.masks.prediction.predict import RUN, load_model, predict_videos
from pyws.masks.seeds import seed_of
from pyws.masks.self_training import loop as loop_module
from pyws.masks.self_training.frame_selection import FrameSelector, _pieces
from pyws.masks.self_training.loop import FORMAT, SelfTraining, SelfTrainingConfig
from pyws.masks.self_training.next_version import NextVersion
from pyws.masks.self_training.presets import PRESETS, preset_config, with_rules_of
from pyws.masks.self_training.pseudo_annotations import Annotations
from pyws.masks.self_training.stopping import LoopConfig, why_stop
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig, _step
from pyws.masks.self_training.train_segmentation import (
    TrainingConfig,
    _stacked,
    make_optimizer,
    segmentation_network,
)
from pyws.models.classifiers import build_classifier
from pyws.models.image_networks.deeplab import build_deeplab
from pyws.models.image_networks.discriminator import PatchDiscriminator
from pyws.run_manifest import open_run

GROUPS = ("selection", "training", "loop", "discriminator")
CHANGED = {
    "paper": {
        "training.backbone": "resnet50",
        "training.output_stride": 16,
        "loop.choose_after": 0.0,
        "loop.noise": 0.0,
        "loop.returned": "last",
        "loop.constrain_labels": False,
    },
    "pyws": {"selection.label_tests": "classifier", "selection.select_share": 0.5, "training.equal_steps": True},
}


def parsed(*words: str, command: str = "masks train") -> dict[str, Any]:
    """Values of options by group and field."""
    first = ["data", "first"] if command == "masks ablate" else ["first"]
    found = cli.parse(command, [*first, "-o", "run", *words])
    return {f"{group}.{name}": value for group in GROUPS for name, value in vars(found[group]).items()}


@pytest.mark.parametrize("command", ["masks train", "masks ablate"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_its_table_says(preset: Any, command: str) -> None:
    usual, found = parsed(), parsed("--preset", preset, command=command)
    assert {name: value for name, value in found.items() if value != usual[name]} == CHANGED[preset]
    config = asdict(preset_config(preset, seed=3))
    assert (config.pop("seed"), config.pop("preset")) == (3, preset)
    assert {f"{group}.{name}": value for group, values in config.items() for name, value in values.items()} == found


def test_options_win_over_a_preset_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('preset = "paper"\n[loop]\nreturned = "best"\nnoise = 0.5\n')
    found = parsed("--config", str(file), "--noise", "1.0", "--set", "training.output-stride=8")
    assert (found["loop.returned"], found["loop.noise"]) == ("best", 1.0)
    assert (found["training.output_stride"], found["training.backbone"]) == (8, "resnet50")
    back = parsed("--constrain-labels", "--preset=paper", "--backbone", "resnet101")
    assert (back["loop.constrain_labels"], back["training.backbone"], back["loop.noise"]) == (True, "resnet101", 0.0)
    assert parsed("--config", str(file), "--preset", "pyws")["training.backbone"] == "resnet101"  # the last one counts


def test_a_run_keeps_its_preset(tmp_path: Path) -> None:
    began = preset_config("pyws")
    with open_run(tmp_path, *FORMAT, asdict(began), ()) as manifest:
        assert manifest.document["parameters"]["preset"] == "pyws"
    same_values = replace(began, preset="paper")
    refused = pytest.raises(DataError, match="holds a run with preset 'pyws', not 'paper'; choose another folder")
    with refused, open_run(tmp_path, *FORMAT, asdict(same_values), ()):
        pass
    assert SelfTrainingConfig().preset is None
    with pytest.raises(ValueError, match="preset: must be one of paper, pyws, got 'released'"):
        preset_config("released")  # type: ignore[arg-type]


def test_ablation_of_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First masks of actors and of both are rows; so are presets, and tables have actions after alignment."""
    pytest.importorskip("h5py")
    sizes: Any = {"frames": 6, "height": 24, "width": 32, "actor_size": (12.0, 16.0), "pan": 1.0}
    config = GeneratedConfig(**sizes, train=5, validation=0, test=2, pairs=(35, 39, 55, 59), several=0.0)
    write_generated_a2d(tmp_path / "set", seed=1, config=config, quiet=True)
    for what, network in (("actor", "small2d"), ("action", "small3d")):
        words = ["masks", "classify", "set", "-o", f"{what}.safetensors", "--what", what, "--network", network]
        words += ["--epochs", 1, "--short-side", 24, "--quiet", *(("--frames", 4) if what == "action" else ())]
        assert run_in(tmp_path, words) == 0
    for name, kinds in (("actors", ("actor",)), ("actions", ("action",)), ("both", ("actor", "action"))):
        words = ["masks", "init", "--data", "set", "--subset", "train", "-o", name, "--region-area", 40, "--quiet"]
        for kind in kinds:
            words += [f"--{kind}-classifier", f"{kind}.safetensors"]
        assert run_in(tmp_path, words) == 0
    words = ["masks", "ablate", "set", "both", "actions", "-o", "tables", "--seeds", 0, "--json"]
    words += ["--variants", "baseline", "pyws", "--max-epoch", 2, "--max-versions", 1, "--clip-frames", 3]
    words += ["--classifier-weights", "actor.safetensors", "--classifier-size", 24, "--crop", 24, "--batch", 4]
    words += ["--backbone", "small2d", "--every", 2]
    assert run_in(tmp_path, words) == 0
    found = json.loads(capsys.readouterr().out)
    rows = [row[0] for row in found["tables"][0]["rows"]]
    assert rows == ["Baseline, both", "preset pyws, both", "Baseline, actions"]  # no image classifier of actions
    assert "aligned, action" in found["tables"][0]["columns"]
    assert [row[0] for row in found["tables"][2]["rows"]][-1] == "Baseline, actions v0, aligned"
    by_criterion = found["tables"][3]["rows"]
    assert [row[0] for row in by_criterion[:3]] == [
        f"Baseline, both v0, by {choice}" for choice in ("RIC", "mIoU_PA", "the last epoch")
    ]  # one training, three epochs of it
    assert len(by_criterion) == 9
    assert (tmp_path / "tables/versions/both-pyws-0.jpg").is_file()


def run_in(folder: Path, words: list[Any]) -> int:
    """A command of pyws whose paths are relative to a folder."""
    return main([str(folder / word) if (folder / str(word)).exists() or word in NEW else str(word) for word in words])


NEW = {"actor.safetensors", "action.safetensors", "actors", "actions", "both", "tables"}


@pytest.mark.parametrize("preset", ["paper", "pyws"])
def test_the_rules_of_a_preset_without_its_network(preset: Any) -> None:
    own = SelfTrainingConfig(training=TrainingConfig(backbone="small2d", lr=0.5), loop=LoopConfig(noise=5.0))
    own = replace(own, selection=replace(own.selection, select_share=0.25))
    found, whole = with_rules_of(own, preset), preset_config(preset)
    assert found.loop == whole.loop
    assert found.selection == whole.selection  # the share is the preset's, which is none for the paper's
    assert found.training == replace(own.training, equal_steps=whole.training.equal_steps)
    assert found.preset == preset


def test_seeds_are_of_seven_bytes() -> None:
    """Few of 2^56 seeds meet: of 2^24 two of ten thousand often would."""
    seeds = {seed_of(0, number) for number in range(10_000)}
    assert len(seeds) == 10_000
    assert 2**55 < max(seeds) < 2**56


def test_the_sampled_frames_of_a_chunk_in_their_order() -> None:
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, 2, 3)
    assert Chunk([3, 4, 6, 8, 9], [4, 9]).shown(images)[:, 0, 0, 0].tolist() == [1, 4]
    assert Chunk([3, 4, 6, 8, 9], [9, 4]).shown(images)[:, 0, 0, 0].tolist() == [4, 1]


def test_the_last_model_that_finds_nothing_stops_a_run() -> None:
    found = {"best_score": 0.5, "spread": 0.0, "miou_pa_v0": 0.5, "miou_pa_v0_spread": 0.0}
    versions = [found | {"foreground": True}, found | {"best_score": 0.9, "foreground": False}]
    assert why_stop(versions, LoopConfig()) == "version 1 predicts background only"
    assert "background" not in (why_stop(versions[::-1], LoopConfig()) or "")


def test_a_step_of_a_discriminator_learns_after_it_was_evaluated() -> None:
    """The bound of a layer's largest singular value follows the weights in training alone."""
    torch.manual_seed(0)
    model = PatchDiscriminator(36, 2, "spectral").eval()
    state = {name: value.clone() for name, value in model.named_buffers()}
    patches = torch.randint(0, 256, (4, 3, 36, 36), dtype=torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    config, generator = DiscriminatorConfig(patch_size=36, width=2), torch.Generator().manual_seed(0)
    _step(model, optimizer, patches, patches.flip(3), config, generator, torch.device("cpu"))
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, state[name])}
    assert moved >= {name for name in state if "features" in name}
    assert moved


def test_a_tag_that_scores_as_much_as_another_is_not_beaten() -> None:
    rest = [0.025] * 8
    assert tag_warnings([0.4, 0.4, *rest], {"cat": [0]}, {"dog": [1]}) == []
    assert len(tag_warnings([0.39, 0.41, *rest], {"cat": [0]}, {"dog": [1]})) == 1


def test_soft_labels_are_means_over_superpixels_where_these_refine() -> None:
    probabilities = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 2, 1]])
    data = SimpleNamespace(superpixels_of=lambda frame: labels)
    for refine in (False, True):
        found = NextVersion(Any, data, LoopConfig(refine_pa=refine), Any, Any)  # type: ignore[arg-type]
        found.predict = lambda frame: SimpleNamespace(probabilities=probabilities)  # type: ignore[method-assign, assignment, return-value]
        expected = probabilities.clone()
        for index in range(3) if refine else ():
            here = labels == index
            expected[:, here] = probabilities[:, here].mean(1, keepdim=True)
        torch.testing.assert_close(found.soft_labels(Any), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("clip", [1, 3])
def test_the_shown_frame_is_the_middle_annotated_one(clip: int, tmp_path: Path) -> None:
    """With the frame itself out of the middle of its clip, and its own truth."""
    for index in range(9):
        write_picture(tmp_path / "v" / f"{index}.png", np.full((8, 8, 3), 10 * index, np.uint8))
    stems = ["1", "2", "6", "7", "8"]  # among all nine the middle is another, without truth
    video = TaggedVideo("v", tmp_path / "v", (1,), "test", truth=dict.fromkeys(stems, tmp_path))
    truth: Any = SimpleNamespace(videos=[video], truth=lambda video, stem: np.full((8, 8), int(stem), np.uint8))
    config = SimpleNamespace(training=TrainingConfig(clip_frames=clip))
    run: Any = SimpleNamespace(manifest={"versions": []}, config=config)
    ((picture, masks),) = shown_versions(run, truth)
    assert np.unique(picture).tolist() == [60]
    assert picture.shape == (8, 8, 3)
    assert [np.unique(mask).tolist() for mask in masks] == [[6]]


def test_a_frame_is_held_out_where_it_was_selected_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "selected_frames", lambda path: {"b", "d", "x"})
    for select, validation, held_out in ((True, "cd", "d"), (False, "cd", "cd"), (True, "ce", "ce")):
        run = SimpleNamespace(
            selection_file=lambda number: Path("s"), training="abx", validation=validation,
            config=SelfTrainingConfig(loop=LoopConfig(select_validation=select)),
        )  # fmt: skip
        assert SelfTraining._frames(run, 1) == (list("bx"), list(held_out))


def test_a_process_without_crops_has_an_empty_batch() -> None:
    images, targets = _stacked([], 5)
    assert (images.shape, images.dtype, targets.shape, targets.dtype) == (
        (0, 3, 5, 5), torch.float32, (0, 5, 5), torch.int64)  # fmt: skip


def test_pieces_of_a_label_are_its_components_or_all_of_it() -> None:
    mask = np.array([[1, 0, 1], [2, 0, 1]], np.uint8)
    whole = [(about, piece.tolist()) for about, piece in _pieces(mask, [2, 1], False)]
    assert whole == [({"label": 2}, (mask == 2).tolist()), ({"label": 1}, (mask == 1).tolist())]
    parts = list(_pieces(mask, [2, 1], True))
    assert [about for about, _ in parts] == [{"label": 2, "part": 0}, {"label": 1, "part": 0}, {"label": 1, "part": 1}]
    assert np.array_equal(parts[1][1] | parts[2][1], mask == 1)
    assert {int(piece.sum()) for _, piece in parts[1:]} == {1, 2}


@pytest.mark.parametrize("maps", [torch.zeros(2, 3, 4), torch.zeros(2, 1, 3, 4, dtype=torch.int64)])
def test_maps_are_of_classes_and_of_floats(maps: torch.Tensor) -> None:
    for use in (initial_masks, scaled_maps):
        with pytest.raises(ValueError, match=rf"{use.__name__}: maps must be \(B, K, h, w\) float, got "):
            use(maps, (3, 4))


def test_labels_beyond_sixteen_bits_are_not_kept(tmp_path: Path) -> None:
    for most, kept in ((255, True), (256, True), (65535, True), (65536, False)):
        labels = np.array([[0, most]], np.int32)
        path = tmp_path / f"{most}.png"
        _write_labels(path, "key", labels, "slic")
        assert path.exists() == kept
        found = _read_labels(path, "key", (1, 2))
        assert found is None if not kept else np.array_equal(found, labels)
        assert _read_labels(path, "other", (1, 2)) is None
        assert _read_labels(path, "key", (2, 1)) is None
    path.write_bytes((tmp_path / "256.png").read_bytes()[:60])
    assert _read_labels(path, "key", (1, 2)) is None


def test_pictures_are_kept_as_memory_allows(tmp_path: Path) -> None:
    """Two of three pictures fit; the one that was asked for longest ago makes room, of which as much is free again."""
    read: list[str] = []
    data = SimpleNamespace(_cached=OrderedDict(), _free_bytes=40)
    data._read = lambda frame: read.append(frame) or np.zeros((2, 3, 3), np.uint8)
    for frame in "abacaab":
        assert Annotations.picture(data, frame).shape == (2, 3, 3)
    assert "".join(read) == "abcb"
    assert data._free_bytes == 40 - 2 * 18


def test_what_initial_masks_need() -> None:
    objects, config = object_labels(["cat"]), InitialMaskConfig()
    for words, space, files, own, clips in (
        ("an actor classifier, an action classifier or both are needed", objects, (None, None), config, {}),
        ("an action classifier needs tags of actions", objects, (None, Path("a")), config, {}),
        ("otsu_resolution 'map' needs otsu_per 'frame'", objects, (Path("a"), None),
         replace(config, otsu_resolution="map"), {"otsu_per": "clip"}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"masks init: {words}"):
            ActorActionAnnotator(space, *files, own, ActorActionConfig(**clips))


@pytest.mark.parametrize(
    ("names", "tags", "message"),
    [
        ("vv", (1,), "v: two videos have this name, and so would their masks"),
        ("v", (), "v: has no tag"),
        ("v", (0,), r"v: tags must be among the 2 labels, got \(0,\)"),
        ("v", (1, 3), r"v: tags must be among the 2 labels, got \(1, 3\)"),
    ],
)
def test_videos_that_no_masks_can_be_made_of(names: str, tags: tuple[int, ...], message: str, tmp_path: Path) -> None:
    annotator: Any = SimpleNamespace(space=object_labels(["cat", "dog"]))
    videos = [TaggedVideo(name, tmp_path / name, tags, "train") for name in names]
    with pytest.raises(DataError, match=message):
        annotate(annotator, videos, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_masks_go_on_with_their_labels_alone(tmp_path: Path) -> None:
    for names, refused in ((["cat"], False), (["cat"], False), (["dog"], True)):
        space = object_labels(names).document()
        said = pytest.raises(DataError, match="holds masks of another label space") if refused else nullcontext()
        with said, open_annotations(tmp_path / "out", {"seed": 0}, space):
            pass


def _settings(optimizer: torch.optim.Optimizer) -> list[tuple[int, float, float, float]]:
    """Parameters, learning rate, decay and momentum of each group."""
    return [
        (len(group["params"]), group["lr"], group["weight_decay"], group.get("momentum", 0.0))
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize(
    ("changes", "fresh", "rates", "decay"),
    [
        ({"optimizer": "sgd", "schedule": "step"}, False, (0.5, 2.0), 1e-4),
        ({"optimizer": "sgd", "schedule": "step"}, True, (2.0, 2.0), 1e-4),
        ({"optimizer": "sgd", "schedule": "step", "weight_decay": 0.25}, False, (0.5, 2.0), 0.25),
        ({"optimizer": "adamw", "schedule": "step", "weight_decay": 0.25}, False, (0.5, 2.0), 0.25),
        ({"optimizer": "adamw", "schedule": "one-cycle"}, False, (0.5, 2.0), 1e-4),
        ({"network": "small3d", "optimizer": "sgd", "schedule": "step"}, False, (0.5, 2.0), 1e-7),
    ],
)
def test_how_a_classifier_is_optimised(
    changes: dict[str, Any], fresh: bool, rates: tuple[float, float], decay: float
) -> None:
    """Two thirds of seven examples in five epochs of three steps are ten; then a tenth of the rate."""
    config = ClassifierConfig(**{"network": "small2d", "lr": 0.5, "head_lr": 2.0, "batch": 5, "samples": 2, "epochs": 5,
                                 **changes})  # fmt: skip
    classifier = replace(build_classifier(config.network, 2), labels=("a", "b"))
    parameters = list(classifier.model.parameters())
    examples: list[Any] = [None] * 7
    training = _Training(classifier, parameters[-2:], config, examples, 0, torch.device("cpu"), fresh, Group())
    momentum = 0.9 if config.optimizer == "sgd" else 0.0
    assert training.steps == 3
    if config.schedule == "one-cycle":
        assert training.schedule.total_steps == 15
        assert [group["max_lr"] for group in training.optimizer.param_groups] == list(rates)
        assert [group["weight_decay"] for group in training.optimizer.param_groups] == [decay] * 2
        return
    counts = (len(parameters) - 2, 2)
    expected = [(count, rate, decay, momentum) for count, rate in zip(counts, rates, strict=True)]
    assert _settings(training.optimizer) == expected
    for _ in range(10):
        assert [group["lr"] for group in training.optimizer.param_groups] == list(rates)
        training.optimizer.step()
        training.schedule.step()
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([rate / 10 for rate in rates])


def test_how_a_segmentation_is_optimised() -> None:
    model = build_deeplab("small2d", 3)
    config = TrainingConfig(backbone="small2d", lr=0.5, head_lr=4.0, bias_lr=8.0, momentum=0.75, weight_decay=0.125)
    learned, branches = sum(one.requires_grad for one in model.body.parameters()), len(model.branches)
    expected = [(count, rate, 0.125, 0.75) for count, rate in ((learned, 0.5), (branches, 2.0), (branches, 16.0))]
    assert _settings(make_optimizer(model, config)) == expected


def test_a_run_is_predicted_from_when_it_is_done_and_whole(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"model")
    document: dict[str, Any] = {"format": RUN[0], "version": RUN[1], "parameters": {}}
    for more, message in (
        ({}, "holds a run that is not done; continue it with pyws masks train"),
        ({"returned": 1, "model_sha256": "0" * 64}, "model.safetensors: is not the model that the manifest of its run"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(document | more))
        with pytest.raises(DataError, match=message):
            load_model(tmp_path)
    with pytest.raises(ValueError, match="every: must be >= 1, got 0"):
        predict_videos(None, {}, tmp_path / "out", every=0)  # type: ignore[arg-type]  # no model is asked for


def test_what_a_training_needs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heads: factorised heads need pairs of actors and actions"):
        segmentation_network(TrainingConfig(backbone="small2d", heads="factorised"), object_labels(["cat"]))
    for tests, given, refused in (("classifier", None, True), ("none", None, False), ("classifier", "network", False)):
        config: Any = SimpleNamespace(uses_classifier=tests == "classifier", label_tests=tests)
        said = pytest.raises(
            ValueError, match="select: label_tests 'classifier' need the classifier of the first stage"
        )
        with said if refused else nullcontext():
            FrameSelector(None, tmp_path, config, None, given, 0, torch.device("cpu"))  # type: ignore[arg-type]


def test_a_source_that_changed_since_is_not_trained_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "v" / "0.png", np.zeros((4, 4, 3), np.uint8))
    videos = {"v": {"fingerprint": open_frames(tmp_path / "v").fingerprint()}}
    data = SimpleNamespace(_open={}, sources={"v": tmp_path / "v"}, manifest={"videos": videos})
    assert Annotations._source(data, "v").path == tmp_path / "v"
    data._open.clear()
    write_picture(tmp_path / "v" / "0.png", np.full((4, 4, 3), 9, np.uint8))
    with pytest.raises(DataError, match="v: changed since its masks were made; run pyws masks init again"):
        Annotations._source(data, "v")


def test_the_state_of_a_version_decides_how_a_run_goes_on(tmp_path: Path) -> None:
    """Annotations that changed are refused; of a later version none may be selected; what ended is not ended again."""
    saved: list[str] = []
    run: Any = SimpleNamespace(
        annotations=lambda number: tmp_path, versions=[], data=SimpleNamespace(digest=lambda folder: "a"),
        _save=lambda: saved.append("x"), manifest={"returned": 0}, config=SelfTrainingConfig(),
        selection_file=lambda number: tmp_path / "s.jsonl", _frames=lambda number: ([], []),
    )  # fmt: skip
    first = SelfTraining._version(run, 0)
    assert (first.number, first.pa_sha256, saved) == (0, "a", ["x"])
    assert SelfTraining._version(run, 0) is first
    run.data.digest = lambda folder: "b"
    with pytest.raises(DataError, match="changed since version 0 began; start again in another folder"):
        SelfTraining._version(run, 0)
    SelfTraining._return(run, "enough")
    assert (run.manifest, saved) == ({"returned": 0}, ["x"])
    first.selection = {"frames": 2}
    assert not SelfTraining._select(run, replace(first, number=1))
    (tmp_path / "s.jsonl").write_text('{"labels": []}\n{"labels": [1]}\n')
    with pytest.raises(DataError, match=r"s\.jsonl: no frame passes label_tests .*: 1 of 2 frames have no mask"):
        SelfTraining._select(run, first)
    run._frames = lambda number: (["frame"], [])
    assert SelfTraining._select(run, first)


def test_rows_that_a_folder_cannot_have_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that test masks by a classifier of images, of first masks by one of actions alone."""
    parameters = {"weights_sha256": "a", "action_weights_sha256": "a"}
    monkeypatch.setattr(run_manifest, "read_manifest", lambda *given: {"parameters": parameters})
    kept = _possible(Path("first"), ["baseline", "ws2", "paper"], SelfTrainingConfig(), Common())
    assert kept == ["baseline"]
    said = "first: made without a classifier of images, which the tests of ws2, paper need: left out\n"
    assert capsys.readouterr().out == said
