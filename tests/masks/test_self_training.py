"""The second stage: crops, convergence, the loop over versions, and runs that were killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import one_hot

import pyws.masks.self_training.loop as loop
import pyws.masks.self_training.next_version as next_version_module
import pyws.masks.self_training.train_segmentation as training
from pyws import DataError
from pyws.cli import main
from pyws.data.tagged.label_space import actor_actions
from pyws.data.video import decoders
from pyws.data.video.clips import around
from pyws.data.video.frames import open_frames, read_image, read_mask, write_mask
from pyws.data.video.remembered import REMEMBERED
from pyws.distributed import Group
from pyws.errors import TrainingError
from pyws.exchange.sources import read_results
from pyws.masks.ablation import scores_of
from pyws.masks.prediction.predict import load_model, predict_videos
from pyws.masks.self_training.frame_selection import SelectionConfig, read_selection
from pyws.masks.self_training.loop import SelfTraining, SelfTrainingConfig, as_variant
from pyws.masks.self_training.next_version import NextVersion, Prediction
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame, split
from pyws.masks.self_training.stopping import (
    LoopConfig,
    Version,
    best_epoch,
    epochs_are_enough,
    returned_version,
    why_stop,
)
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import (
    TrainingConfig,
    cross_entropy,
    make_optimizer,
    predict,
    random_crop,
)
from pyws.models.image_networks.deeplab import DeepLabV2
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.report.run import write_report

SIZE = (40, 88)
VIDEOS = {"fox_a": "fox", "fox_b": "fox", "swan_a": "swan", "swan_b": "swan"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier whose batch norm fits its features: as it comes, they vanish from block to block."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifier") / "weights.pth"
    model = EfficientNetLite(classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))
    torch.save(model.state_dict(), path)
    (path.parent / "labels.txt").write_text("fox\nswan\ntabby\n")
    return path


@pytest.fixture(scope="module")
def init(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What masks init writes of four tiny videos, with the squares that move there for masks."""
    folder = tmp_path_factory.mktemp("stage1")
    rng = np.random.default_rng(0)
    for video in VIDEOS:
        (folder / "videos" / video).mkdir(parents=True)
        for index in range(3):
            frame = rng.integers(0, 60, (*SIZE, 3), dtype=np.uint8)
            frame[4:36, 4 * index : 4 * index + 32] = (220, 90, 30) if "fox" in video else (40, 90, 220)
            Image.fromarray(frame).save(folder / "videos" / video / f"{index}.png")
    (folder / "tags.csv").write_text("video,tag\n" + "".join(f"{video},{tag}\n" for video, tag in VIDEOS.items()))
    words = ["masks", "init", *(folder / "videos" / video for video in VIDEOS), "-o", folder / "init", "--tags"]
    words += [folder / "tags.csv", "--classifier", "efficientnet-lite0", "--weights", weights, "--short-side", 32]
    words += ["--class-names", weights.parent / "labels.txt", "--region-area", 64, "--device", "cpu", "--quiet"]
    assert main([str(word) for word in words]) == 0
    for path in (folder / "init" / "pa/v0").rglob("*.png"):
        mask, start = np.zeros(SIZE, np.uint8), 4 * int(path.stem)
        mask[4:36, start : start + 32] = 1 + ("swan" in path.parent.name)
        write_mask(path, mask)
        write_mask(folder / "truth" / path.parent.name / path.name, mask)
    return folder / "init"


def small(backbone: str = "", classes: int = 3, weights: Any = None, **options: Any) -> DeepLabV2:
    """A network that learns the squares' colours in a moment."""
    nn = torch.nn
    layers = (nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
    options.pop("output_stride", None)
    return DeepLabV2(nn.Sequential(*layers), 16, classes, **options)


PAPER = {"choose_after": 0.0, "noise": 0.0}


def tiny(**loop: Any) -> SelfTrainingConfig:
    """Two versions of two epochs, in a second."""
    return SelfTrainingConfig(
        SelectionConfig(label_tests="discriminator", min_per_class=2),
        DiscriminatorConfig(patch_size=36, width=2, steps=2, threshold=0.0),
        TrainingConfig(crop=40, batch=3, max_epoch=2, lr=0.2),
        LoopConfig(**{"max_versions": 2, "outer_tolerance": 0.0, "validation": "frames", **PAPER, **loop}),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a run, by its path within the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Crops


def test_crop_by_hand() -> None:
    """Without anything random a crop of the frame's size is the frame."""
    still = TrainingConfig(crop=8, scale=(1.0, 1.0), rotation=0.0, blur=0.0, flip=False)
    image, mask = torch.rand(3, 8, 8), torch.randint(0, 3, (8, 8))
    cut, ids = random_crop(image, mask, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(cut, image)
    assert torch.equal(ids, mask)
    cut, ids = random_crop(image, mask, replace(still, crop=12), torch.Generator().manual_seed(0))
    torch.testing.assert_close(cut[:, 2:10, 2:10], image)
    assert torch.equal(ids[2:10, 2:10], mask)
    assert (ids[:2] == 255).all()
    assert not cut[:, :2].any()


def test_crops_keep_image_and_mask_together() -> None:
    mask = torch.zeros(40, 60, dtype=torch.long)
    mask[10:30, 20:45] = 2
    mask[:, :5] = 255
    image = torch.where(mask == 2, 1.0, 0.0).expand(3, -1, -1)
    settings, seen = TrainingConfig(crop=32), set()
    for seed in range(20):
        cut, ids = random_crop(image, mask, settings, torch.Generator().manual_seed(seed))
        again = random_crop(image, mask, settings, torch.Generator().manual_seed(seed))
        assert torch.equal(cut, again[0])
        assert torch.equal(ids, again[1])
        inside = ids != 255
        agree = (cut[0] > 0.5) == (ids == 2)
        assert agree[inside].float().mean() > 0.93
        seen |= set(ids.unique().tolist())
    assert seen == {0, 2, 255}


def test_cross_entropy_ignores() -> None:
    scores = torch.randn(1, 3, 2, 2)
    targets = torch.tensor([[[1, 255], [255, 255]]])
    torch.testing.assert_close(cross_entropy(scores, targets), -scores.log_softmax(1)[0, 1, 0, 0])
    assert cross_entropy(scores, torch.full_like(targets, 255)) == 0


def test_prediction_keeps_to_the_tags() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(len(images), 4, *images.shape[2:])
            scores[:, 3], scores[:, 2, :, :2] = 2.0, 1.0
            return scores

    frame = np.zeros((6, 8, 3), np.uint8)
    device = torch.device("cpu")
    assert predict(Fixed(), [frame], None, None, device).unique().tolist() == [3]
    assert predict(Fixed(), [frame], [2], None, device)[0, 0].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]
    assert predict(Fixed(), [frame], [], 3, device).shape == (1, 6, 8)


# When to stop


def test_inner_convergence() -> None:
    rising = [0.1, 0.2, 0.2005, 0.2009, 0.25]
    assert best_epoch(rising) == 4
    assert best_epoch([0.3, 0.3, 0.1]) == 0
    assert [best_epoch([0.9, 0.2, 0.3, 0.1][:count], first=1) for count in (1, 2, 3, 4)] == [0, 1, 2, 2]
    assert not epochs_are_enough(rising, patience=3, tolerance=0.001)
    assert epochs_are_enough(rising[:4], patience=2, tolerance=0.001)
    assert not epochs_are_enough(rising[:4], patience=2, tolerance=0.0)
    assert not epochs_are_enough([], patience=1, tolerance=0.0)


def versions(*scores: float, foreground: bool = True, agreements: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Versions with spreads of .02."""
    spreads = {"spread": 0.02, "miou_pa_v0_spread": 0.02, "foreground": foreground}
    agreements = agreements or [0.5] * len(scores)
    return [{"best_score": a, "miou_pa_v0": b, **spreads} for a, b in zip(scores, agreements, strict=True)]


def test_outer_convergence() -> None:
    loop = LoopConfig(noise=0.0)
    assert why_stop(versions(0.1), loop) is None
    assert why_stop(versions(0.1, 0.2, 0.3), loop) is None
    assert why_stop(versions(0.1, 0.2, 0.3, 0.4), loop) == "4 versions are done"
    assert why_stop(versions(0.3, 0.306), loop) is None
    for scores in ((0.3, 0.304), (0.3, 0.1, 0.302)):
        assert str(why_stop(versions(*scores), loop)).startswith("the best ric rose by no more than 0.005")
    assert why_stop(versions(0.0, foreground=False), loop) == "version 0 predicts background only"
    assert returned_version(versions(0.1, 0.4, 0.3), loop) == 1
    assert returned_version(versions(0.1, 0.4, 0.3), LoopConfig(returned="last")) == 2


def test_differences_within_the_noise_decide_nothing() -> None:
    loop = LoopConfig()
    assert str(why_stop(versions(0.3, 0.319), loop)) == (
        "the best ric rose by no more than 0.005 and the noise: 0.319 after 0.300 (spread 0.020)"
    )
    assert why_stop(versions(0.3, 0.321), loop) is None
    assert returned_version(versions(0.3, 0.319), loop) == 0
    assert returned_version(versions(0.3, 0.321, 0.33), loop) == 1


def test_a_version_that_strays_from_the_first_masks_is_not_returned() -> None:
    """RIC rises from version to version while agreement with PA.v0 falls, as on DAVIS."""
    loop = LoopConfig()
    found = versions(1.045, 1.172, agreements=(0.70, 0.62))
    assert str(why_stop(found, loop)) == (
        "version 1 agrees less with the first pseudo-annotations than version 0: "
        "mIoU 0.620 against 0.700 (spread 0.020)"
    )
    assert returned_version(found, loop) == 0
    assert returned_version(found, LoopConfig(noise=0.0)) == 1
    within = versions(1.045, 1.172, agreements=(0.70, 0.69))
    assert why_stop(within, loop) is None
    assert returned_version(within, loop) == 1


def test_variants() -> None:
    assert as_variant(SelfTrainingConfig(), "ws2") == SelfTrainingConfig()
    assert as_variant(SelfTrainingConfig(), "model-s").loop.criterion == "miou_pa"
    assert as_variant(SelfTrainingConfig(), "model-s").selection.label_tests == "either"
    assert as_variant(SelfTrainingConfig(), "baseline").selection.label_tests == "none"
    half = SelfTrainingConfig(SelectionConfig(select_share=0.5))
    assert as_variant(half, "baseline").selection == SelectionConfig(label_tests="none")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoopConfig(patience=0), "patience must be >= 1"),
        (lambda: LoopConfig(validation_share=1.0), "validation_share must be in"),
        (lambda: LoopConfig(tolerance=-1.0), "must be >= 0"),
        (lambda: LoopConfig(noise=-1.0), "must be >= 0"),
        (lambda: LoopConfig(choose_after=1.0), r"choose_after must be in \[0, 1\)"),
        (lambda: TrainingConfig(crop=0), "crop must be >= 1, got 0"),
        (lambda: TrainingConfig(rates=(0,)), "rates must be >= 1"),
        (lambda: TrainingConfig(rates=(6,), linear_head=True), "which linear_head leaves out"),
        (lambda: TrainingConfig(scale=(2.0, 0.5)), "scale must be a range, the smaller factor first"),
    ],
)
def test_bad_settings(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Checkpoints and what is held out


def test_settings_come_back_from_a_manifest() -> None:
    for given in (TrainingConfig(), TrainingConfig(linear_head=True)):
        read = TrainingConfig(**json.loads(json.dumps(asdict(given))))
        assert json.dumps(asdict(read)) == json.dumps(asdict(given))


@pytest.mark.parametrize(
    ("name", "value"), [("output_stride", "a"), ("backbone", [1]), ("clip_step", None), ("scale", True), ("lr", -1)]
)
def test_settings_of_a_run_that_cannot_be_are_named_with_its_manifest(name, value, whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "run")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["parameters"]["training"][name] = value
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=rf"run/manifest.json: parameters.training: .*{name}"):
        load_model(copy)


def test_every_second_crop_is_blurred_up_to_the_bound() -> None:
    """By how much an impulse spreads: its variance is that of the blur."""
    image = torch.zeros(3, 41, 41, dtype=torch.float32)
    image[:, 20, 20] = 1.0
    plain = TrainingConfig(crop=41, scale=(1.0, 1.0), rotation=0.0, flip=False, blur=3.0)
    place, widths = (torch.arange(41) - 20).double(), []
    for seed in range(60):
        cut, _ = random_crop(image, torch.zeros(41, 41, dtype=torch.int64), plain, torch.Generator().manual_seed(seed))
        rows = cut[0].double().sum(1)
        widths.append(float((rows * place.square()).sum() / rows.sum()) ** 0.5)
    blurred = [width for width in widths if width > 0.01]
    assert 20 <= len(blurred) <= 40
    assert 2.5 < max(blurred) <= 3.0
    assert 1.2 < np.mean(blurred) < 1.8


def test_every_tag_keeps_a_video_to_train_on() -> None:
    """However many videos are held out, of whatever tags; and none is kept back that could be spared."""
    random = np.random.default_rng(0)
    for seed in range(30):
        tags = {f"v{k}": tuple(np.flatnonzero(random.random(4) < 0.5).tolist()) or (0,) for k in range(6)}
        frames = tuple(Frame(video, "0") for video in tags)
        data = SimpleNamespace(tags=tags, frames=frames, subsets=dict.fromkeys(tags, ""), corrected=set(), folder="f")
        learned, _ = split(cast(Any, data), LoopConfig(validation_share=0.99), seed)
        left = Counter(tag for frame in learned for tag in tags[frame.video])
        assert set(left) == {tag for ids in tags.values() for tag in ids}
        assert not any(all(left[tag] > 1 for tag in tags[frame.video]) for frame in learned)


def test_what_is_held_out(init: Path, tmp_path: Path) -> None:
    data = Annotations(init, tmp_path)
    learned, held_out = split(data, LoopConfig(), 0)
    assert len({frame.video for frame in held_out}) == 1
    assert not {frame.video for frame in held_out} & {frame.video for frame in learned}
    assert len({split(data, LoopConfig(), seed)[1] for seed in range(8)}) > 1
    learned, held_out = split(data, LoopConfig(validation_share=0.9), 0)
    assert {VIDEOS[frame.video] for frame in learned} == {"fox", "swan"}
    learned, held_out = split(data, LoopConfig(validation="frames"), 0)
    assert held_out == tuple(Frame(video, "1") for video in VIDEOS)
    assert len(learned) == 8
    ours = Annotations(init, tmp_path)
    ours.subsets = dict.fromkeys(VIDEOS, "val")
    with pytest.raises(DataError, match="no frames to spare"):  # nothing would be left to train on
        split(ours, LoopConfig(), 0)
    alone = Annotations(init, tmp_path)
    alone.tags = {video: (index + 1,) for index, video in enumerate(VIDEOS)}
    with pytest.warns(UserWarning, match="no video can be spared for scoring"):  # every tag needs its own video
        assert split(alone, LoopConfig(), 0) == (learned, held_out)
    data.subsets["swan_b"] = "val"
    for seed in range(3):
        assert split(data, LoopConfig(), seed)[1] == tuple(Frame("swan_b", str(index)) for index in range(3))


def test_damaged_first_stages_are_named(init: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a folder that pyws masks init wrote, found no manifest.json"):
        Annotations(tmp_path, tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="must be a manifest of pyws masks init, version 4"):
        Annotations(tmp_path, tmp_path)
    manifest = json.loads((init / "manifest.json").read_text())
    del manifest["parameters"]["iterations"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        DataError, match="manifest.json: must have the parameters iterations; run pyws masks init again"
    ):
        Annotations(tmp_path, tmp_path)
    copy = shutil.copytree(init, tmp_path / "init")
    (copy / "pa/v0/fox_a/1.png").rename(tmp_path / "1.png")
    for read in (lambda: Annotations(copy, tmp_path), lambda: read_results([copy])):
        with pytest.raises(DataError, match="pa/v0/fox_a: must hold the 3 masks .* found 2; run again what wrote them"):
            read()
    (tmp_path / "1.png").rename(copy / "pa/v0/fox_a/1.png")
    data = Annotations(copy, tmp_path)
    path = copy / "pa/v0/fox_a/0.png"
    write_mask(path, np.full(SIZE, 7, np.uint8))
    with pytest.raises(DataError, match=r"0.png: ids must be 0..2 or 255, got 7"):
        data.mask(copy / "pa/v0", Frame("fox_a", "0"))
    write_mask(path, np.zeros((40, 44), np.uint8))
    with pytest.raises(DataError, match=r"0.png: must have the size of its frame \(40, 88\), got \(40, 44\)"):
        data.mask(copy / "pa/v0", Frame("fox_a", "0"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"0.png: cannot be read"):
        data.mask(copy / "pa/v0", Frame("fox_a", "0"))


# The loop


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "build_deeplab", small)


@pytest.fixture(scope="module")
def whole(init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "build_deeplab", small)
        SelfTraining(init, out, tiny(), quiet=True).run()
    return out


def test_a_run(init: Path, whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [version["version"] for version in manifest["versions"]] == [0, 1]
    assert manifest["stopped"]
    first = manifest["versions"][0]
    assert [row["epoch"] for row in first["curve"]] == [0, 1]
    assert all(row["ric"] == row["miou_pa"] + 0.5 * row["rii"] for row in first["curve"])
    assert first["best_score"] == max(row["ric"] for row in first["curve"])
    assert first["miou_pa_v0"] == first["curve"][first["best_epoch"]]["miou_pa"]
    assert all(row["spread"] > 0 and row["ric_v0"] == row["ric"] for row in first["curve"])
    assert first["selection"]["selected"] == 8
    frames = {str(path.relative_to(init / "pa/v0")) for path in (init / "pa/v0").rglob("*.png")}
    assert {str(path.relative_to(whole / "pa/v1")) for path in (whole / "pa/v1").rglob("*.png")} == frames
    for path in (whole / "pa/v1").rglob("*.png"):
        assert set(np.unique(read_mask(path))) <= {0, 1 + ("swan" in path.parent.name)}
    for number in {0, manifest["returned"]}:
        shown = {
            str(path.relative_to(whole / f"predictions/v{number}")) for path in whole.glob(f"predictions/v{number}/*/*")
        }
        assert shown == frames
    returned = whole / "models" / f"v{manifest['returned']}.safetensors"
    assert (whole / "model.safetensors").read_bytes() == returned.read_bytes()
    assert not list(whole.rglob("*-last*"))


def page_data(run: Path) -> dict[str, Any]:
    """What the page of a run has of its videos."""
    page = write_report(run).read_text()
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_report_of_a_run(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    manifest = json.loads((run / "manifest.json").read_text())
    fox = {video["name"]: video for video in page_data(run)["videos"]}["fox_a"]
    assert next(iter(fox["strip"]["layers"])) == f"predicted by v{manifest['returned']}"
    assert {"PA.v0", "PA.v1", "predicted by v0"} <= set(fox["strip"]["layers"])
    rows = [json.loads(line) for line in (run / "select/v0.jsonl").read_text().splitlines()]
    chosen = {float(row["frame"]): row["selected"] for row in rows if row["video"] == "fox_a"}
    (lane,) = (lane for lane in fox["lanes"] if lane["caption"] == "training frames of v0")
    assert {mark[0]: mark[1] for mark in lane["marks"]} == chosen
    assert all("discriminator" in mark[2] for mark in lane["marks"])
    first = read_mask(run / f"predictions/v{manifest['returned']}/fox_a/0.png") > 0
    assert 0 <= fox["measures"]["agreement"] <= 1
    assert (fox["measures"]["area"] > 0) == first.any()


def test_report_of_an_interrupted_run(
    init: Path, small_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is done, and the manifest does not know it yet."""
    real = loop.write_checkpoint

    def dying(path: Path, *arguments: Any, **options: Any) -> None:
        real(path, *arguments, **options)
        if "last" in path.name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", dying)
        with pytest.raises(Killed):
            SelfTraining(init, tmp_path, tiny(), quiet=True).run()
    page = write_report(tmp_path).read_text()
    assert "The run is not done: version 0, 1 epochs of it." in page
    assert "RIC by epoch" in page
    assert "fox_a" in page


class Killed(BaseException):
    """Stands for SIGKILL: nothing that runs afterwards may write."""


# The selection; a best model; an epoch; the manifest after the first version's training; the second version's selection
# and its epoch; the model that is returned.
KILLS = (
    ("write_selection", 1), ("write_checkpoint", 1), ("write_checkpoint", 2), ("manifest", 3), ("write_selection", 2),
    ("write_checkpoint", 6), ("atomic_write", 1),
)  # fmt: skip


@pytest.mark.parametrize(("name", "number"), KILLS)
def test_killed_run_goes_on_to_the_same_files(
    init: Path,
    small_networks: None,
    whole: Path,
    tmp_path: Path,
    name: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 0
    place, name = (SelfTraining, "_save") if name == "manifest" else (loop, name)
    real = getattr(place, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        result = real(*arguments, **options)
        count += 1
        if count == number:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying)
        with pytest.raises(Killed):
            SelfTraining(init, tmp_path, tiny(), quiet=True).run()
    SelfTraining(init, tmp_path, tiny(), quiet=True).run()
    assert files_of(tmp_path) == files_of(whole)


def test_kill_9(init: Path, small_networks: None, whole: Path, tmp_path: Path) -> None:
    """The real signal, in the middle of the second version's masks."""
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_self_training as t; from pathlib import Path; write, done = t.loop.write_mask, []\n"
        "def dying(path, ids):\n"
        "    write(path, ids); done.append(path)\n"
        "    if len(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.loop.write_mask, t.training.build_deeplab = dying, t.small\n"
        "t.SelfTraining(Path(sys.argv[2]), Path(sys.argv[3]), t.tiny(), quiet=True).run()\n"
    )
    words = [sys.executable, "-c", program, str(Path(__file__).parent), str(init), str(tmp_path)]
    assert subprocess.run(words, check=False).returncode == -9
    assert len(list((tmp_path / "pa").rglob("*.png"))) == 2  # for each frame first what the model predicts
    SelfTraining(init, tmp_path, tiny(), quiet=True).run()
    assert files_of(tmp_path) == files_of(whole)


@pytest.mark.parametrize(
    "name", ["models/v0.safetensors", "models/v1.safetensors", "select/v1.jsonl", "model.safetensors"]
)
def test_what_was_removed_is_made_again(
    name: str, init: Path, small_networks: None, whole: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(whole, tmp_path / "run")
    (copy / name).unlink()
    SelfTraining(init, copy, tiny(), quiet=True).run()
    assert files_of(copy) == files_of(whole)


def test_other_parameters_and_damage_are_refused(init: Path, small_networks: None, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds a run with loop.patience 5, not 4; choose another folder"):
        SelfTraining(init, whole, tiny(patience=4), quiet=True).run()
    copy = shutil.copytree(whole, tmp_path / "run")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest = {key: value for key, value in manifest.items() if key not in ("stopped", "returned")}
    del manifest["versions"][1]["best_epoch"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    write_mask(copy / "pa/v1/fox_a/0.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DataError, match="pa/v1: changed since version 1 began"):
        SelfTraining(init, copy, tiny(), quiet=True).run()
    (copy / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds models but no manifest.json"):
        SelfTraining(init, copy, tiny(), quiet=True).run()


def test_nothing_is_selected(init: Path, small_networks: None, tmp_path: Path) -> None:
    config = tiny()
    none = replace(
        config,
        selection=replace(config.selection, min_per_class=0),
        discriminator=replace(config.discriminator, threshold=1.0),
    )
    said = r"v0.jsonl: no frame passes label_tests 'discriminator': 0 of . frames have no mask"
    with pytest.raises(DataError, match=said):
        SelfTraining(init, tmp_path, none, quiet=True).run()


def test_background_only(init: Path, small_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collapsed model has score 0, and its version is the last."""
    monkeypatch.setattr(loop, "train_epoch", lambda *arguments: 0.0)
    monkeypatch.setattr(
        loop, "predict_frames", lambda model, data, frames, *rest: ((f, torch.zeros(SIZE).byte()) for f in frames)
    )
    manifest = SelfTraining(init, tmp_path, tiny(), quiet=True).run()
    assert manifest["stopped"] == "version 0 predicts background only"
    assert manifest["versions"][0]["best_score"] == 0


def test_disagreement_with_the_first_masks_is_left_out(
    init: Path, small_networks: None, whole: Path, tmp_path: Path
) -> None:
    run = SelfTraining(init, tmp_path, tiny(disagreement=("v0",)), quiet=True)
    (tmp_path / "models").mkdir()
    shutil.copy(whole / "models/v0.safetensors", tmp_path / "models")
    run._predict(Version(0, ""))
    differ = 0
    for path in (whole / "pa/v1").rglob("*.png"):
        name = path.relative_to(whole / "pa/v1")
        predicted, first, found = (read_mask(p / name) for p in (whole / "pa/v1", init / "pa/v0", tmp_path / "pa/v1"))
        np.testing.assert_array_equal(found, np.where(predicted == first, first, 255))
        differ += int((found == 255).sum())
    assert differ


def test_equal_steps(init: Path, small_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two selected frames of eight: eight crops an epoch, each frame four times, no two crops alike."""
    crops: list[tuple[Frame, int]] = []

    def crop(data: Any, folder: Path, frame: Frame, config: TrainingConfig, seed: int) -> tuple[Any, Any]:
        crops.append((frame, seed))
        return torch.zeros(3, 40, 40), torch.zeros(40, 40, dtype=torch.long)

    monkeypatch.setattr(training, "_crop", crop)
    data, config = Annotations(init, tmp_path), TrainingConfig(crop=40, batch=3, max_epoch=1, lr=0.1, equal_steps=True)
    model = small()
    training.train_epoch(
        model, make_optimizer(model, config), data, init, data.frames[:2], config, 0, 0, torch.device("cpu"), 8
    )
    assert sorted(frame for frame, _ in crops) == sorted([*data.frames[:2]] * 4)
    assert len({seed for _, seed in crops}) == 8


def test_training_that_diverges_says_so(init: Path, small_networks: None, tmp_path: Path) -> None:
    config = tiny()
    fast = replace(config, training=replace(config.training, lr=1e30))
    with pytest.raises(TrainingError, match=r"masks train, version 0: loss must be finite, got nan in epoch [12]"):
        SelfTraining(init, tmp_path, fast, quiet=True).run()


@pytest.mark.parametrize("epochs", [1, 3])
def test_only_late_epochs_are_chosen(init: Path, small_networks: None, tmp_path: Path, epochs: int) -> None:
    config = tiny(choose_after=0.67, max_versions=1, patience=1, tolerance=9.0)
    config = replace(config, training=replace(config.training, max_epoch=epochs))
    (version,) = SelfTraining(init, tmp_path, config, quiet=True).run()["versions"]
    assert len(version["curve"]) == epochs
    assert version["best_epoch"] == epochs - 1


@pytest.mark.parametrize("empty", ["keep", "drop"])
def test_frames_without_a_prediction(
    init: Path, small_networks: None, whole: Path, tmp_path: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SelfTraining(init, tmp_path, tiny(empty=empty), quiet=True)
    (tmp_path / "models").mkdir()
    shutil.copy(whole / "models/v0.safetensors", tmp_path / "models")
    nothing = Prediction(torch.zeros(2, *SIZE), np.zeros(SIZE, np.uint8), np.ones(SIZE, bool))
    monkeypatch.setattr(NextVersion, "predict", lambda self, frame: nothing)
    run._predict(Version(0, ""))
    assert read_mask(tmp_path / "pa/v1/fox_a/0.png").any() == (empty == "keep")


class Seen(torch.nn.Module):
    """Two ids: what is brighter than a threshold, which may depend on the size of the picture, is the second."""

    def __init__(self, at: Callable[[torch.Tensor], float]) -> None:
        super().__init__()
        self.at = at

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = images.mean(1)
        return torch.stack([torch.zeros_like(grey), 20 * (grey - self.at(images))], 1)


class Ramp(torch.nn.Module):
    """The second id is the likelier the further to the right, whatever is seen."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-2, 2, images.shape[3]).expand_as(images[:, 0])
        return torch.stack([torch.zeros_like(ramp), ramp], 1)


def next_version(init: Path, tmp_path: Path, model: Any, *disagreement: Any) -> NextVersion:
    options = LoopConfig(disagreement=disagreement)
    return NextVersion(model, Annotations(init, tmp_path), options, TrainingConfig(), torch.device("cpu"))


def test_what_views_disagree_on_is_left_out(init: Path, tmp_path: Path) -> None:
    """A model that is sure of the square in the frame as it is, and doubts it in other sizes, and one that does not."""
    frame, before = Frame("fox_a", "1"), np.zeros(SIZE, np.uint8)
    whole = Seen(lambda images: 0.3 if images.shape[3] == SIZE[1] else 0.46)
    square = next_version(init, tmp_path, whole).annotation(frame, before)
    assert set(np.unique(square)) == {0, 1}
    np.testing.assert_array_equal(next_version(init, tmp_path, whole, "views").annotation(frame, before) == 255, square)
    alike = next_version(init, tmp_path, Seen(lambda images: 0.3), "views").annotation(frame, before)
    inside = (alike != 255) & (square == 1)
    assert (alike[inside] == 1).all()
    assert (alike[8:32, 12:28] == 1).all()
    assert (alike == 255).mean() < 0.2  # the outline, as the frame is scaled


def test_views_are_averaged_as_probabilities_of_the_frame(init: Path, tmp_path: Path) -> None:
    """Half of the views are mirror images, turned back."""
    found = next_version(init, tmp_path, Ramp(), "views").predict(Frame("fox_a", "1"))
    one = torch.linspace(-2, 2, SIZE[1]).sigmoid()
    np.testing.assert_allclose(found.probabilities[1, 0], (one + one.flip(0)) / 2, atol=0.02)


def test_what_neighbours_disagree_on_is_left_out(init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of three frames that follow the square as it moves by four pixels, but for one that lost its upper half."""
    pytest.importorskip("cv2")
    masks = {str(index): np.zeros(SIZE, np.uint8) for index in range(3)}
    for index, mask in enumerate(masks.values()):
        mask[4:36, 4 * index : 4 * index + 32] = 1
    masks["2"][4:20] = 0

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        start, end = (np.argwhere(frame.max(2) > 128)[:, 1].mean() for frame in (first, second))
        return np.broadcast_to(np.float32([end - start, 0]), (*SIZE, 2))

    def predict(self: NextVersion, frame: Frame) -> Prediction:
        return Prediction(torch.zeros(2, *SIZE), masks[frame.stem], np.ones(SIZE, bool))

    monkeypatch.setattr(next_version_module, "dense_flow", flow)
    monkeypatch.setattr(NextVersion, "predict", predict)
    found = next_version(init, tmp_path, None, "neighbours")
    first, middle = (found.annotation(Frame("fox_a", stem), masks["0"]) for stem in ("0", "1"))
    np.testing.assert_array_equal(first, masks["0"])
    assert (middle[4:20, 4:36] == 255).all()
    np.testing.assert_array_equal(middle[20:], masks["1"][20:])


def test_a_neighbour_is_believed_where_the_way_there_leads_back(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back is right in the left half alone; what counts is where the way there leads, not where it begins."""
    pytest.importorskip("cv2")

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        start, end = (np.argwhere(frame.max(2) > 128)[:, 1].mean() for frame in (first, second))
        way = np.zeros((*SIZE, 2), np.float32)
        way[:, : SIZE[1] // 2 if end < start else SIZE[1], 0] = np.sign(end - start) * 8
        return way

    def predict(self: NextVersion, frame: Frame) -> Prediction:
        return Prediction(torch.zeros(2, *SIZE), np.full(SIZE, frame.stem == "0", np.uint8), np.ones(SIZE, bool))

    monkeypatch.setattr(next_version_module, "dense_flow", flow)
    monkeypatch.setattr(NextVersion, "predict", predict)
    found = next_version(init, tmp_path, None, "neighbours").annotation(Frame("fox_a", "0"), np.ones(SIZE, np.uint8))
    wanted = np.where(np.arange(SIZE[1]) + 8 < SIZE[1] // 2, 255, 1)
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, SIZE))


def test_soft_labels_are_trained_on_from_version_1(init: Path, small_networks: None, tmp_path: Path) -> None:
    config = tiny(soft_labels=True)
    manifest = SelfTraining(init, tmp_path / "run", config, quiet=True).run()
    assert len(manifest["versions"]) == 2
    data, folder, frame = Annotations(init, tmp_path), tmp_path / "run/pa/v1", Frame("swan_a", "2")
    mask = torch.tensor(data.mask(folder, frame)).long()
    soft = data.soft_labels(folder, frame, mask)
    torch.testing.assert_close(soft.sum(0), torch.ones(SIZE))
    assert not soft[1].any()  # a fox, which the video is not tagged with
    assert ((soft > 0.02) & (soft < 0.98)).any()
    sure = soft.amax(0) > 0.6
    assert torch.equal(soft.argmax(0)[sure], mask[sure])
    mask[:4] = 255
    assert not data.soft_labels(folder, frame, mask)[:, :4].any()
    data.write_soft_labels(folder, frame, torch.zeros(2, *SIZE))  # what rounding may leave of a frame
    assert torch.equal(data.soft_labels(folder, frame, mask), torch.zeros(3, *SIZE))
    first = torch.tensor(data.mask(init / "pa/v0", frame)).long()
    assert torch.equal(data.soft_labels(init / "pa/v0", frame, first), one_hot(first, 3).permute(2, 0, 1).float())
    hard = SelfTraining(init, tmp_path / "hard", tiny(), quiet=True).run()
    assert hard["versions"][0] == manifest["versions"][0]
    assert hard["versions"][1]["curve"][0]["loss"] != manifest["versions"][1]["curve"][0]["loss"]
    before = data.digest(folder)
    data.soft_file(folder, frame).unlink()
    assert data.digest(folder) != before


def test_a_version_of_the_first_masks_that_the_model_reproduces(
    init: Path, small_networks: None, tmp_path: Path
) -> None:
    """It trains on PA.v0 of the better half of each class, by the IoU with what version 0 predicts."""
    config = tiny(reproduced_share=0.5)
    config = replace(config, selection=replace(config.selection, min_per_class=0))
    run = SelfTraining(init, tmp_path, config, quiet=True)
    first, second = run.run()["versions"]
    assert first["pa_sha256"] == second["pa_sha256"]
    assert not (tmp_path / "pa").exists()
    rows = read_selection(tmp_path / "select/v1.jsonl")
    assert [Frame(row["video"], row["frame"]) for row in rows] == list(run.training)
    for label in (1, 2):
        iou = {}
        for row in (row for row in rows if row["labels"][0]["label"] == label):
            name = f"{row['video']}/{row['frame']}.png"
            own, found = (read_mask(folder / name) == label for folder in (init / "pa/v0", tmp_path / "predictions/v0"))
            iou[row["frame"], row["video"]] = (own & found).sum() / (own | found).sum()
            assert row["labels"][0]["reproduced"] == pytest.approx(iou[row["frame"], row["video"]], abs=1e-6)
        best = sorted(iou.values())[len(iou) // 2 :]
        chosen = [
            iou[row["frame"], row["video"]] for row in rows if row["selected"] and row["labels"][0]["label"] == label
        ]
        assert sorted(chosen) == [one for one in best if one > 0]


def test_reproduced_masks_are_the_first_ones() -> None:
    with pytest.raises(ValueError, match=r"loop: with reproduced_share later versions learn from the first masks"):
        LoopConfig(reproduced_share=0.5, disagreement=("v0",))
    with pytest.raises(ValueError, match=r"loop: reproduced_share must be in \(0, 1\], got 0"):
        LoopConfig(reproduced_share=0)


def test_soft_labels_of_what_is_certain_are_the_ids() -> None:
    """The same loss and gradient as of ids, and nothing of pixels where nothing is known."""
    torch.manual_seed(0)
    scores, ids = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(3, (2, 4, 5))
    ids[0, 0] = 255
    soft = one_hot(ids.where(ids < 255, 0), 3).permute(0, 3, 1, 2) * (ids != 255)[:, None].float()
    losses = [cross_entropy(scores, targets) for targets in (ids, soft)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores)[0] for loss in losses))
    cut = [
        random_crop(torch.rand(3, 9, 9), target, TrainingConfig(crop=12), torch.Generator().manual_seed(1))[1]
        for target in (torch.ones(9, 9, dtype=torch.long), torch.full((2, 9, 9), 0.5))
    ]
    assert torch.equal(cut[0] == 255, cut[1].sum(0) == 0)
    with pytest.raises(ValueError, match="soft_labels are kept of the tags of a video, they need constrain_labels"):
        LoopConfig(soft_labels=True, constrain_labels=False)


def test_commands(init: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train and predict as a user does, with the classifier asked and taken for the backbone."""
    words = ["masks", "train", init, "-o", tmp_path / "run", "--weights", weights]
    words += ["--class-names", weights.parent / "labels.txt", "--classifier-weights", weights, "--output-stride", 16]
    words += ["--backbone", "efficientnet-lite0", "--short-side", 24, "--crop", 24, "--max-epoch", 1]
    words += ["--max-versions", 1, "--min-per-class", 1, "--discriminator.patch-size", 36, "--discriminator.width", 2]
    words += ["--discriminator.steps", 1, "--device", "cpu", "--json"]
    assert main([str(word) for word in words]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["returned"] == 0
    assert manifest["versions"][0]["selection"]["selected"] >= 2
    report = (tmp_path / "run/report.html").read_text()
    assert "the model of version 0 is returned" in report
    assert report.count("<svg") == 4  # RIC, mIoU_PA, RII, loss
    frames = init.parent / "videos/fox_a"
    words = ["masks", "predict", tmp_path / "run", frames, "-o", tmp_path / "out", "--device", "cpu", "--json"]
    assert main([str(word) for word in words]) == 0
    video = json.loads(capsys.readouterr().out)["videos"]["fox_a"]
    assert video["frames"] == 3
    found = json.loads((tmp_path / "out/instances/fox_a.json").read_text())
    assert len(found["annotations"]) == video["instances"]
    for path in (tmp_path / "out/masks/fox_a").iterdir():
        assert read_mask(path).shape == SIZE
    assert main([*map(str, words[:5]), str(tmp_path / "refined"), "--refine", *map(str, words[6:])]) == 0
    capsys.readouterr()
    superpixels = Annotations(init, tmp_path / "work").superpixels
    for path in (tmp_path / "refined/masks/fox_a").iterdir():
        raw, refined = (read_mask(tmp_path / folder / "masks/fox_a" / path.name) for folder in ("out", "refined"))
        labels = superpixels(read_image(frames / path.name), "fox_a", path.stem)
        for part in np.unique(labels):  # one class a superpixel: what more than half of its pixels have
            ids, counts = np.unique(raw[labels == part], return_counts=True)
            winner = ids[counts.argmax()] if 2 * counts.max() > counts.sum() else 0
            assert (refined[labels == part] == winner).all()
    (tmp_path / "tags.csv").write_text("video,tag\nfox_a,fox\nelsewhere,fox\n")
    more = ["--tags", tmp_path / "tags.csv", "--on-error", "skip"]
    assert main([*map(str, words[:5]), str(tmp_path / "tagged"), "--device", "cpu", *map(str, more)]) == 0
    assert "left out: row 3: elsewhere is none of the videos" in capsys.readouterr().out
    odd = shutil.copytree(frames, tmp_path / "odd")
    Image.new("RGB", (60, 50)).save(odd / "9.png")
    missing = [word for word in words if word != frames]
    assert main([str(word) for word in [*missing, odd]]) == 1
    assert "odd: frames must have one size, got 60x50 and 88x40" in capsys.readouterr().err
    assert main([str(word) for word in [*missing, tmp_path / "none"]]) == 1
    assert "must be a folder of frames or a video file, found neither" in capsys.readouterr().err


def test_predictions_are_lost_to_nothing(
    init: Path, small_networks: None, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two videos of one name are refused, in one call or two; what was removed or cut off is made again."""
    model, out = load_model(whole), tmp_path / "out"
    one = init.parent / "videos/fox_a"
    other = shutil.copytree(init.parent / "videos/swan_a", tmp_path / "fox_a")
    Image.new("RGB", SIZE[::-1]).save(other / "9.png")
    assert main([str(word) for word in ("masks", "predict", whole, one, other, "-o", out, "--quiet")]) == 1
    assert "fox_a: two videos are called fox_a, the other is" in capsys.readouterr().err
    assert not out.exists()
    predict_videos(model, {"fox_a": one}, out, quiet=True)
    before = files_of(out)
    with pytest.raises(DataError, match="has results of another video of this name, .*; choose another folder"):
        predict_videos(model, {"fox_a": other}, out, quiet=True)
    assert files_of(out) == before
    (out / "masks/fox_a/0.png").unlink()
    (out / "masks/fox_a/1.png").write_bytes(before["masks/fox_a/1.png"][:40])
    predict_videos(model, {"fox_a": one}, out, quiet=True)
    assert files_of(out) == before
    (out / "instances/fox_a.json").unlink()
    predict_videos(model, {"fox_a": one}, out, quiet=True)
    assert files_of(out) == before


def test_a_video_file_is_predicted_from_one_decoding(
    small_networks: None, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overlays and the page show frames of it too."""
    from video_files import write_timed_video  # which test_kill_9 has no path to

    clip = write_timed_video(tmp_path / "clip.mkv", [k / 10 for k in range(5)], size=(88, 40))
    asked, read, room = list[list[int]](), decoders.PyAV.read, REMEMBERED.room()
    monkeypatch.setattr(decoders, "_video_decoder", lambda: None)
    monkeypatch.setattr(decoders.PyAV, "read", lambda self, at: (asked.append(list(at)), read(self, at))[1])
    words = ["masks", "predict", whole, clip, "-o", tmp_path / "out", "--every", 2, "--device", "cpu", "--quiet"]
    assert main([str(word) for word in words]) == 0
    assert asked == [[0, 2, 4]]
    assert len(list((tmp_path / "out/overlays/clip").iterdir())) == 3
    assert main([str(word) for word in words]) == 0
    assert asked == [[0, 2, 4]]  # again, all done: no picture is drawn anew
    assert REMEMBERED.room() == room


def test_videos_of_a_data_set_are_predicted_under_their_names(
    init: Path, small_networks: None, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shots of YouTube-Objects are folders called images: their names come from the data set."""
    for number, labelled in enumerate((True, False)):
        shot = tmp_path / f"YTO/dog/data/000{number}/shots/001"
        shutil.copytree(init.parent / "videos/fox_a", shot / "images")
        if labelled:
            picture = Image.open(next((shot / "images").iterdir())).convert("L")
            (shot / "labels").mkdir()
            picture.save(shot / "labels/00000.jpg")
    words = [str(word) for word in ("masks", "predict", whole, "-o", tmp_path / "out", "--quiet")]
    assert main([*words, "--data", str(tmp_path / "YTO"), "--subset", "test"]) == 0
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["dog_0000_001"]
    assert (tmp_path / "out/instances/dog_0000_001.json").is_file()
    for more, said in (
        (["--data", tmp_path, init], "a data set as --data, not both"),
        ([init.parent / "videos", "--subset", "test"], "--subset: only with --data"),
        (["--data", tmp_path, "--tags", tmp_path / "t.csv"], "--tags: only with FRAMES"),
    ):
        assert main([*words, *map(str, more)]) == 1
        assert said in capsys.readouterr().err


def test_shards_predict_the_files_of_one_process(
    init: Path, small_networks: None, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun and as Slurm say which shard it is."""
    words = ["masks", "predict", str(whole), str(init.parent / "videos"), "--device", "cpu", "--quiet", "-o"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    for name, count, first in (("RANK", "WORLD_SIZE", 0), ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", 7)):
        with monkeypatch.context() as patch:
            patch.setenv(count, "3")
            patch.setenv("SLURM_ARRAY_TASK_MIN", str(first))
            for index in (2, 0, 1):
                patch.setenv(name, str(first + index))
                assert main([*words, str(tmp_path / name)]) == 0
        assert files_of(tmp_path / name) == files_of(tmp_path / "whole")


def test_ablation(init: Path, small_networks: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first pseudo-annotations are the truth here: 100 percent, full and selected."""
    words = ["masks", "ablate", init.parent, init, "-o", tmp_path, "--variants", "baseline", "ws2", "--seeds", 0, 1]
    words += ["--label-tests", "discriminator", "--discriminator.threshold", 0, "--discriminator.patch-size", 36]
    words += ["--discriminator.width", 2, "--discriminator.steps", 1]
    words += ["--crop", 40, "--batch", 3, "--max-epoch", 1, "--lr", 0.2, "--max-versions", 1, "--json"]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(run["variant"], run["seed"]) for run in found["runs"]] == [
        ("baseline", 0), ("ws2", 0), ("baseline", 1), ("ws2", 1),
    ]  # fmt: skip
    first = found["runs"][1]["versions"][0]
    assert first["full"] == {"frames": 9, "joint": 100.0}
    assert first["selected"]["joint"] == 100.0
    assert 0 < found["runs"][1]["validation"]["joint"] < 100
    assert found["tables"][0]["columns"] == ["variant", "seeds", "held out, joint", "test, joint"]
    assert [row[:2] for row in found["tables"][0]["rows"]] == [["Baseline", "2"], ["WS2", "2"]]
    assert "± 0.0" in found["tables"][1]["rows"][0][2]
    assert [table["title"][:7] for table in found["tables"]] == ["Table 1", "Table 2"]  # no test videos
    assert (tmp_path / "report.html").is_file()


def test_clips_end_where_videos_do(init: Path, tmp_path: Path) -> None:
    data = Annotations(init, tmp_path, offsets=(-1, 0, 1))
    first = data.frames[0]
    clip = data.clip(first, (-1, 0, 1))
    pictures = [data.picture(Frame(first.video, stem)) for stem in ("0", "0", "1")]
    assert np.array_equal(clip, np.concatenate(pictures, 2))
    small = [data.picture(Frame(first.video, stem), min(clip.shape[:2]) // 2) for stem in ("0", "0", "1")]
    assert np.array_equal(data.clip(first, (-1, 0, 1), min(clip.shape[:2]) // 2), np.concatenate(small, 2))
    assert small[0].size < pictures[0].size
    frames = open_frames(init.parent / "videos" / first.video)
    streamed = list(around(frames, [0, 2], (-1, 0, 1)))
    assert np.array_equal(streamed[0], clip)
    assert np.array_equal(streamed[1], data.clip(Frame(first.video, "2"), (-1, 0, 1)))


def test_runs_that_see_clips_predict_as_they_trained(init: Path, small_networks: None, tmp_path: Path) -> None:
    """The masks of a run's own frames are those of masks predict, and a frame alone is another input."""
    config = tiny(max_versions=1, constrain_labels=False)
    config = replace(config, training=replace(config.training, clip_frames=3, clip_step=1))
    SelfTraining(init, tmp_path / "run", config, quiet=True).run()
    words = ["masks", "predict", tmp_path / "run", init.parent / "videos", "-o", tmp_path / "out", "--align.radius", 0]
    assert main([*map(str, words), "--quiet"]) == 0
    own = {key: value for key, value in files_of(tmp_path / "run/predictions/v0").items() if key.endswith(".png")}
    made = files_of(tmp_path / "out/masks")
    for name in own:
        assert (
            read_mask(tmp_path / "run/predictions/v0" / name) != read_mask(tmp_path / "out/masks" / name)
        ).mean() < 0.01
    assert set(own) == set(made)
    with pytest.raises(ValueError, match="clip_frames must be odd, so that one is the middle, got 2"):
        TrainingConfig(clip_frames=2)


def test_scores_by_hand() -> None:
    """Eight pixels of two pairs of one actor: a wrong action is right for the actor."""
    space = actor_actions([("cat", "running"), ("cat", "eating")])
    true = np.array([[0, 0, 1, 1, 2, 2, 255, 255]], np.uint8)
    mask = np.array([[0, 1, 1, 1, 1, 2, 0, 2]], np.uint8)
    scores = scores_of([(mask, true)], space)
    assert scores["joint"] == pytest.approx(100 * (1 / 2 + 2 / 4 + 1 / 2) / 3)
    assert scores["actor"] == pytest.approx(100 * (1 / 2 + 4 / 5) / 2)
    assert scores["action"] == scores["joint"]
    assert scores_of([], space)["joint"] is None


def test_processes_wait_before_they_read_what_others_wrote(
    init: Path, small_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is followed by a wait before it is read, and what is read before it is written anew."""
    events: list[str] = []

    class Watched(Group):
        def wait(self) -> None:
            events.append("wait")

    def noted(name: str, say: Callable[..., str]) -> None:
        usual = getattr(loop, name)

        def call(*given: Any, **named: Any) -> Any:
            events.append(say(*given))
            return usual(*given, **named)

        monkeypatch.setattr(loop, name, call)

    noted("write_mask", lambda path, mask: f"write {path.parents[1].name} {path.parents[2].name}")
    noted("read_latest", lambda path, kind, facts: f"read {path.name}")
    noted("read_checkpoint", lambda path, kind: f"read {path.name}")
    noted("write_checkpoint", lambda path, kind, *more: f"write {path.name}")
    noted("selected_frames", lambda path: f"select {path.stem}")
    SelfTraining(init, tmp_path, tiny(start="previous", returned="last"), quiet=True, group=Watched()).run()

    def after(first: str, second: str) -> None:
        """Between the last ``first`` that is before a ``second`` and that one the processes wait."""
        place = next(k for k, event in enumerate(events) if event == second and first in events[:k])
        last = place - 1 - events[:place][::-1].index(first)
        assert "wait" in events[last:place], (first, second)

    for version in ("v0", "v1"):
        after(f"read {version}-last.safetensors", f"write {version}-last.safetensors")
        after(f"write {version}.safetensors", f"read {version}.safetensors")
    after("write v1 pa", "select v1")
    assert "write v1 predictions" in events
    assert events[-1] == "wait"  # and does not end before the predictions of all are there
    begun = events.index("read v1-last.safetensors")
    assert events[begun - 1] == "read v0.safetensors"  # from which version 1 starts


def test_a_version_is_in_the_manifest_before_anything_is_made_of_it(
    init: Path, small_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks that change while a run is stopped are noticed, wherever it was stopped; what was selected is not again."""

    def stop(run: SelfTraining, version: Version) -> bool:
        raise KeyboardInterrupt

    for step in ("_select", "_train"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(SelfTraining, step, stop)
            SelfTraining(init, tmp_path, tiny(), quiet=True).run()
        (version,) = json.loads((tmp_path / "manifest.json").read_text())["versions"]
        assert version["pa_sha256"] == Annotations(init, tmp_path / "frames").digest(init / "pa/v0")
        assert ("selection" in version) == (step == "_train")
    assert version["selection"]["frames"] == len(SelfTraining(init, tmp_path, tiny(), quiet=True).training)
