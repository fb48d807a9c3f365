"""Refinement by a model of each video: its parts, whole videos, and the command."""

from __future__ import annotations

import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from skimage.color import rgb2lab
from video_files import write_video

from pyws import ops
from pyws.cli import main
from pyws.commands.masks.train import open_first_classifier
from pyws.data.video import decoders
from pyws.data.video.decoders import PyAV
from pyws.data.video.frames import read_mask, write_mask
from pyws.data.video.optical_flow import CONSISTENT, dense_flow
from pyws.data.video.remembered import REMEMBERED
from pyws.errors import DataError
from pyws.evaluation.segmentation import mask_iou
from pyws.files import file_sha256
from pyws.masks.initial_masks import motion
from pyws.masks.initial_masks.motion import motion_weights, neighbours
from pyws.masks.refinement import video_model
from pyws.masks.refinement.appearance import (
    EarlyFeatures,
    early_layers,
    fit_logistic,
    superpixel_features,
    superpixel_means,
)
from pyws.masks.refinement.config import RefinementConfig
from pyws.masks.refinement.local_crf import local_crf
from pyws.masks.refinement.video_model import Places, flows_between, over_time, refine_video
from pyws.masks.self_training.pseudo_annotations import Annotations
from pyws.models.classifier import Classifier
from pyws.models.classifiers import build_classifier
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite

pytest.importorskip("cv2")
SIZE = (48, 80)
LABELS = ("red fox", "black swan", "tabby")


# The appearance model


def test_fit_logistic_against_a_general_optimizer() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4))
    targets, weights = rng.random(60), rng.random(60)

    def loss(x: np.ndarray) -> float:
        odds = features @ x[:4] + x[4]
        each = -targets * np.log(1 / (1 + np.exp(-odds))) - (1 - targets) * np.log(1 / (1 + np.exp(odds)))
        return (weights * each).sum() / weights.sum() + 0.03 * (x[:4] ** 2).sum()

    found = fit_logistic(features, targets, weights, 0.03)
    np.testing.assert_allclose(found, minimize(loss, np.zeros(5), method="BFGS", tol=1e-10).x, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_fit_logistic_of_one_class_is_finite(value: float) -> None:
    features = np.random.default_rng(0).normal(size=(20, 3))
    found = fit_logistic(features, np.full(20, value), np.ones(20), 1e-3)
    assert np.isfinite(found).all()
    assert ((features @ found[:3] + found[3] > 0) == value).all()


def test_superpixel_means_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (6, 7)).astype(np.int32)
    values = rng.random((3, 6, 7))
    expected = [[one[labels == k].mean() for one in values] for k in range(5)]
    np.testing.assert_allclose(superpixel_means(labels, values), expected)


NETWORKS = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "small2d", "resnet18", "mobilenet_v2"]


@pytest.mark.parametrize("name", [*NETWORKS, "efficientnet_b0", "convnext_tiny", "regnet_y_400mf"])
def test_early_layers_have_a_fourth_and_an_eighth_of_the_size(name: str) -> None:
    model = build_classifier(name, 3).model.eval()
    sizes: list[Any] = []
    for layer in early_layers(name):
        model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[2:])))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    assert sizes == [(16, 24), (8, 12)]


def built(name: str) -> Classifier:
    classifier = build_classifier(name, 3)
    classifier.model.eval()
    return classifier


def hooks_of(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("layers", [("layer1", "layer2"), ("layer2", "layer1"), ("conv1", "relu")])
def test_early_features_are_what_the_whole_network_gives_and_no_later_layer_runs(layers: tuple[str, str]) -> None:
    """In any order, and between convolution and activation, which inference would make in one pass."""
    classifier, found = built("resnet18"), dict[str, torch.Tensor]()
    model, ran = classifier.model, list[int]()
    for layer in layers:
        model.get_submodule(layer).register_forward_hook(lambda m, _, out: found.setdefault(m, out.clone()))
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        model(classifier.prepare(torch.from_numpy(frame)[None], 48))
    with EarlyFeatures(classifier, layers, 48) as features:
        inside = features._classifier.model
        inside.get_submodule("layer3").register_forward_pre_hook(lambda *_: ran.append(1))
        for layer, one in zip(layers, features(frame), strict=True):
            torch.testing.assert_close(one, found[model.get_submodule(layer)], rtol=1e-4, atol=1e-4)
        held = hooks_of(inside)
    assert not ran
    assert hooks_of(inside) == held - 2


def test_threads_share_early_features() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    with EarlyFeatures(built("small2d"), ("layers.1", "layers.2"), 32) as features:
        alone = [features(frame) for frame in frames]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(features, frames))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other)


def test_early_features_refuse_layers_that_are_none() -> None:
    classifier = built("small2d")
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="layers: small2d has no such layer"):
        EarlyFeatures(classifier, ["nothing"], 32)
    with pytest.raises(ValueError, match=r"layers: fc of small2d must give \(B, C, h, w\)"):
        EarlyFeatures(classifier, ["fc"], 32).__enter__()(frame)
    with pytest.raises(ValueError, match="early layers of vit_b_16 are not known"):
        early_layers("vit_b_16")


def test_superpixel_features_are_means_of_colours_and_scaled_features() -> None:
    classifier, rng = built("small2d"), np.random.default_rng(0)
    frame = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    small, labels = frame[::2, ::2], rng.integers(0, 5, (32, 32)).astype(np.int32)
    with EarlyFeatures(classifier, ("layers.1", "layers.2"), 64) as features:
        found = superpixel_features(features, frame, small, labels)
        scaled = [torch.nn.functional.interpolate(one, (32, 32), mode="bilinear")[0] for one in features(frame)]
    values = np.concatenate([rgb2lab(small).transpose(2, 0, 1), *scaled])
    expected = [[one[labels == k].mean() for one in values] for k in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# Place and time


def test_places_are_highest_in_the_middle_and_scale_with_the_masks() -> None:
    masks = np.zeros((3, 40, 60), bool)
    masks[0, 10:20, 10:20] = masks[1, 10:20, 30:40] = True
    areas = masks.sum((1, 2)).tolist()
    found = [Places(masks[0].shape, areas, 0.5)(mask) for mask in masks]
    assert [np.unravel_index(place.argmax(), place.shape) for place in found[:2]] == [(14, 14), (14, 34)]
    assert found[0].max() == found[1].max() == 1
    assert not found[2].any()
    assert Places(masks[0].shape, areas[:1], 2.0)(masks[0])[35, 50] > 0.05 > found[0][35, 50]


@pytest.mark.parametrize("sigma", [0.01, 0.3, 0.6, 4.0])
def test_places_are_the_masks_blurred_by_a_gaussian(sigma: float) -> None:
    """Narrower than a pixel, and wider than the frame."""
    masks = np.random.default_rng(0).random((2, 23, 40)) < 0.2
    width = sigma * np.sqrt(np.median(masks.sum((1, 2))))
    place = Places(masks[0].shape, masks.sum((1, 2)).tolist(), sigma)
    for mask in masks:
        expected = gaussian_filter(mask.astype(float), width, mode="nearest")
        np.testing.assert_allclose(place(mask), expected / expected.max(), rtol=1e-9, atol=1e-12)


def test_over_time_is_the_mean_with_the_neighbours() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    scores = [np.full((1, *SIZE), value, np.float32) for value in (0.0, 3.0, 6.0)]
    still = list(over_time(flows_between([frame] * 3), scores))
    np.testing.assert_allclose([one.mean() for one in still], [1.5, 3.0, 4.5], atol=1e-3)


def test_a_neighbour_counts_as_far_as_the_way_there_leads_back() -> None:
    """The way back is right in the left half alone; what counts is where the way there leads, not where it begins."""
    height, width = 4, 20
    forth = np.zeros((height, width, 2), np.float32)
    forth[..., 0] = 2
    back = -forth
    back[:, width // 2 :] = 0
    there = np.minimum(np.arange(width) + 2, width - 1)
    weight = np.where(there < width // 2, 1.0, np.exp(-2 / CONSISTENT))
    scores = [np.zeros((1, height, width), np.float32), np.ones((1, height, width), np.float32)]
    found = next(over_time([(forth, back)], scores))
    np.testing.assert_allclose(found, np.broadcast_to(weight / (1 + weight), found.shape), rtol=1e-5)


def test_masks_are_carried_by_the_flow_that_is_given() -> None:
    """One that says that everything is ten pixels to the right in the next frame, and to the left in the one before."""
    frames = [np.full((*SIZE, 3), value, np.uint8) for value in (0, 1)]

    def flow(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32([10, 0]) * (int(other.max()) - int(one.max())), (*SIZE, 2))

    score = np.zeros((1, *SIZE), np.float32)
    score[0, 20, 30] = 4
    found = list(over_time(flows_between(frames, flow), [score, np.zeros_like(score)]))[1][0]
    assert np.unravel_index(found.argmax(), SIZE) == (20, 40)


def test_over_time_carries_scores_along_with_what_moves() -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 2)
    score = np.zeros((1, *SIZE), np.float32)
    score[0, 20:28, 30:38] = 4
    carried = list(over_time(flows_between([frame, np.roll(frame, 5, 1)]), [score, np.zeros_like(score)]))[1][0]
    assert carried[22:26, 37:41].min() > 1.8
    assert carried[22:26, 30:33].max() < 0.2


# Whole videos


def video(count: int = 6, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Two discs of their own colours that move over noise, and their true masks of ids 1 and 2."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    noise = rng.integers(60, 120, (*SIZE, 3), dtype=np.uint8)
    frames, truth = [], np.zeros((count, *SIZE), np.uint8)
    for index in range(count):
        truth[index][(y - 16) ** 2 + (x - 18 - 2 * index) ** 2 < 100] = 1
        truth[index][(y - 34) ** 2 + (x - 60 + 2 * index) ** 2 < 64] = 2
        frame = noise.copy()
        frame[truth[index] == 1] = (200, 60, 40)
        frame[truth[index] == 2] = (40, 80, 210)
        frames.append(frame)
    return frames, truth


def refined(frames: list[np.ndarray], masks: np.ndarray, **options: Any) -> np.ndarray:
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    superpixels = list(ops.slic(images, region_area=12).numpy())
    features = [
        superpixel_means(labels, frame.transpose(2, 0, 1)).astype(np.float32)
        for labels, frame in zip(superpixels, frames, strict=True)
    ]
    made = refine_video(frames, superpixels, features, list(masks), [1, 2], RefinementConfig(**options))
    scores = np.stack(list(made))
    return np.where(scores.max(1) > 0, scores.argmax(1) + 1, 0)


def test_memory_of_a_long_video_is_that_of_its_superpixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, places and flow of all frames at once were 50 bytes a pixel; flow is found again where it is not kept."""
    monkeypatch.setattr(video_model, "FLOW_BYTES", 0)
    flow, peaks = np.zeros((*SIZE, 2), np.float32), []
    labels = np.arange(SIZE[0] * SIZE[1], dtype=np.int32).reshape(SIZE) // 64
    colours, mask = np.zeros((labels.max() + 1, 3), np.float32), (labels % 2).astype(np.uint8)
    for count in (12, 60):
        given = [[one] * count for one in (np.zeros((*SIZE, 3), np.uint8), labels, colours, mask)]
        tracemalloc.start()
        for _ in refine_video(*given, [1], RefinementConfig(), lambda one, other: flow):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 48 < 8 * SIZE[0] * SIZE[1]


@pytest.mark.parametrize(("kept", "calls"), [(1 << 30, 1), (0, 3), (2.5, 2)])
def test_flow_that_is_not_kept_is_found_again(kept: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, none, or that of the first two of four pairs of frames, in three rounds; the scores are the same."""
    frames, truth = video(5)
    whole = refined(frames, truth, rounds=3)
    found = list[int]()

    def flow(one: np.ndarray, other: np.ndarray, method: Any) -> Any:
        found.append(1)
        return dense_flow(one, other, method)

    monkeypatch.setattr(video_model, "dense_flow", flow)
    monkeypatch.setattr(video_model, "FLOW_BYTES", kept if kept > 3 else kept * 16 * SIZE[0] * SIZE[1])
    assert np.array_equal(refined(frames, truth, rounds=3), whole)
    assert len(found) == 8 * calls


def test_refined_masks_are_nearer_the_truth() -> None:
    """Masks that are off by up to five pixels, another way in each frame, and one frame without any."""
    frames, truth = video()
    rng = np.random.default_rng(1)
    masks = np.stack([np.roll(mask, rng.integers(-5, 6, 2), (0, 1)) for mask in truth])
    masks[3] = 0
    found = refined(frames, masks)
    for one in (1, 2):
        before, after = (
            mask_iou((kind == one).astype(np.uint8), (truth == one).astype(np.uint8)) for kind in (masks, found)
        )
        assert before.mean() < 0.6
        assert after.mean() > before.mean() + 0.2
        assert after[3] > 0.6


def test_ignored_pixels_say_nothing() -> None:
    """Half of each object annotated as background by mistake: with 255 there, the objects are whole again."""
    frames, truth = video()
    wrong, ignored = truth.copy(), truth.copy()
    for mask, value in ((wrong, 0), (ignored, 255)):
        mask[:, 16:32][truth[:, 16:32] > 0] = value
        mask[:, 34:][truth[:, 34:] > 0] = value
    scores = [
        mask_iou((refined(frames, mask, rounds=1) > 0).astype(np.uint8), truth > 0).mean() for mask in (wrong, ignored)
    ]
    assert scores[1] > scores[0] + 0.1


def test_outlines_move_to_edges_and_alone_pixels_go() -> None:
    """An edge three pixels beyond the picture's comes back to it, a speck goes, and weight 0 changes nothing."""
    frame = np.zeros((32, 40, 3), np.uint8)
    frame[:, 20:] = 200
    scores = np.full((1, 32, 40), -1.0, np.float32)
    scores[:, :, 17:] = 1.0
    scores[:, 16, 6] = 3.0
    found = local_crf(scores, frame, 2.0)[0] > 0
    assert np.array_equal(found, frame[..., 0] > 0)
    assert local_crf(scores, frame, 0.0) is scores
    both = local_crf(np.concatenate([scores, -scores]), frame, 2.0)
    np.testing.assert_allclose(both[0], -both[1], atol=1e-4)  # an id and its opposite


def test_outlines_are_those_of_mean_field_inference_pixel_by_pixel() -> None:
    random = np.random.default_rng(1)
    frame, scores = random.integers(0, 60, (7, 9, 3), dtype=np.uint8), random.normal(0, 2, (2, 7, 9)).astype(np.float32)
    own = np.clip(scores.astype(float), -1.4, 1.4)
    odds, colours, weight, places = own.copy(), frame.astype(float), 0.7, range(-8, 9, 2)
    for _ in range(5):
        belief, odds = 1 / (1 + np.exp(-odds)), own.copy()
        for y, x in np.ndindex(7, 9):
            pulls, total = np.zeros(2), 0.0
            for down, right in ((down, right) for down in places for right in places if (down, right) != (0, 0)):
                at = min(max(y + down, 0), 6), min(max(x + right, 0), 8)
                unlike = ((colours[at] - colours[y, x]) ** 2).sum() / (2 * 20**2)
                pull = np.exp(-unlike - (down**2 + right**2) / (2 * 6**2))
                pulls, total = pulls + pull * belief[(slice(None), *at)], total + pull
            odds[:, y, x] += 4 * weight * (pulls / total - 0.5)
    np.testing.assert_allclose(local_crf(scores, frame, weight), odds, atol=1e-4)


def test_an_id_without_masks_is_nowhere() -> None:
    frames, truth = video()
    assert set(np.unique(refined(frames, np.where(truth == 1, 1, 0)))) == {0, 1}
    assert not refined(frames, np.zeros_like(truth)).any()


# Motion in first masks


def test_motion_weights_tell_what_moves_beside_the_camera() -> None:
    import cv2

    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (120, 200, 3), dtype=np.uint8), (0, 0), 2)
    thing = cv2.GaussianBlur(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8), (0, 0), 2)
    frames = np.stack([scene[:, 3 * k : 3 * k + 160] for k in range(4)]).copy()
    for k in range(4):
        frames[k, 40:70, 60:90] = thing  # stays in the picture while the camera pans
    weights = motion_weights(torch.from_numpy(frames), [0, 1, 2, 3], [1, 2])
    assert weights.shape == (2, 120, 160)
    assert weights[:, 45:65, 65:85].min() > 0.7
    assert weights[:, 80:, 110:150].max() < 0.3
    alone = motion_weights(torch.from_numpy(frames[:1]), [0], [0])
    assert (alone == 1).all()


def test_motion_is_measured_beside_the_short_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel of a frame 60 pixels high is as four of the 240 that lengths are said in; two frames on, half of it."""
    monkeypatch.setattr(motion, "dense_flow", lambda one, other, method: None)
    monkeypatch.setattr(motion, "object_motion", lambda flow: np.ones((60, 160)))
    weights = motion_weights(torch.zeros(2, 60, 160, 3, dtype=torch.uint8), [0, 2], [0])
    torch.testing.assert_close(weights, torch.full((1, 60, 160), (2 + motion.STILL) / (2 + motion.KNEE)))


def test_neighbours_stay_in_the_video() -> None:
    assert neighbours([0, 9], 10) == [0, 1, 2, 4, 5, 7, 8, 9]


# The command


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a random classifier, two videos, and what masks init --motion makes of them; the
    masks are then replaced by wrong ones."""
    folder = tmp_path_factory.mktemp("refine")
    torch.manual_seed(0)
    model = EfficientNetLite(classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees; as they come, features vanish
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))
    torch.save(model.state_dict(), folder / "weights.pth")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    for name in ("a", "b"):
        frames, _ = video(seed=ord(name))
        (folder / "videos" / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / "videos" / name / f"{index}.png")
    assert run("init", folder / "videos/a", folder / "videos/b", "-o", folder / "first", *init_words(folder)) == 0
    for name in ("a", "b"):
        for index, mask in enumerate(video(seed=ord(name))[1]):
            write_mask(folder / "first/pa/v0" / name / f"{index}.png", np.roll(mask, 3 * (-1) ** index, 1))
    return folder


def run(*words: Any) -> int:
    return main([str(word) for word in ("masks", *words, "--device", "cpu", "--quiet")])


def init_words(folder: Path) -> list[Any]:
    network = [
        "--classifier",
        "efficientnet-lite0",
        "--weights",
        folder / "weights.pth",
        "--class-names",
        folder / "labels.txt",
    ]
    return [*network, "--tag", "fox", "--tag", "swan", "--short-side", 32, "--region-area", 64, "--motion"]


def refine(folder: Path, out: Path, *words: Any) -> int:
    weights = ["--classifier-weights", folder / "weights.pth", "--class-names", folder / "labels.txt"]
    return run("refine", folder / "first", "-o", out, *weights, "--feature-side", 64, "--region-area", 16, *words)


def iou(masks: Path, name: str) -> float:
    found = np.stack([read_mask(masks / name / f"{index}.png") for index in range(6)])
    return float(mask_iou((found > 0).astype(np.uint8), video(seed=ord(name))[1] > 0).mean())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_refine_writes_a_folder_that_training_reads(first: Path, tmp_path: Path) -> None:
    assert refine(first, tmp_path / "out") == 0
    for name in ("a", "b"):
        assert iou(tmp_path / "out/pa/v0", name) > iou(first / "first/pa/v0", name) + 0.1
    data = Annotations(tmp_path / "out", tmp_path / "frames")
    assert len(data.frames) == 12
    assert data.parameters["refinement"]["layers"] == ["_blocks.2", "_blocks.4"]
    assert (tmp_path / "out/overlays/a.jpg").is_file()


def test_superpixels_have_the_area_that_was_asked_for(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slic, counts = ops.slic, []

    def counted(images: torch.Tensor, **options: Any) -> torch.Tensor:
        found = slic(images, **options)
        counts.append(images[0, 0].numel() / (int(found.max()) + 1))
        return found

    monkeypatch.setattr(ops, "slic", counted)
    assert refine(first, tmp_path / "out") == 0
    assert len(counts) == 12
    assert 8 < np.mean(counts) < 32  # 16 pixels each, more or less


def test_a_video_file_is_decoded_once(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For features, masks, overlays and the page; nothing of it is kept in memory or on the disk, after errors too."""
    clips = [write_video(tmp_path / f"{name}.avi", video(seed=ord(name))[0]) for name in ("a", "b")]
    assert run("init", *clips, "-o", tmp_path / "first", *init_words(first)) == 0
    passes, read, room = list[tuple[str, int]](), PyAV.read, REMEMBERED.room()
    monkeypatch.setattr(decoders, "_video_decoder", lambda: None)

    def counted(self: PyAV, indices: Any) -> Any:
        passes.append((self.path.stem, len(indices)))
        return read(self, indices)

    monkeypatch.setattr(PyAV, "read", counted)
    (tmp_path / "weights.pth").symlink_to(first / "weights.pth")
    (tmp_path / "labels.txt").symlink_to(first / "labels.txt")
    assert refine(tmp_path, tmp_path / "out") == 0
    assert passes == [("a", 6), ("b", 6)]
    assert REMEMBERED.room() == room
    assert not (tmp_path / "out/frames").exists()
    strip = json.loads((tmp_path / "out/report/b/strip.json").read_text())
    assert len(strip["names"]) == 6
    assert refine(tmp_path, tmp_path / "out") == 0
    assert passes == [("a", 6), ("b", 6)]  # again, all done: no picture is drawn anew
    (tmp_path / "out/overlays/b.jpg").unlink()
    assert refine(tmp_path, tmp_path / "out") == 0
    assert passes[2:] == [("b", 6)]
    (tmp_path / "first/pa/v0/b/00005.png").write_bytes(b"")
    assert refine(tmp_path, tmp_path / "other") == 1
    assert REMEMBERED.room() == room


def test_an_interrupted_refinement_ends_the_same(first: Path, tmp_path: Path) -> None:
    assert refine(first, tmp_path / "whole") == 0
    assert refine(first, tmp_path / "broken") == 0
    manifest = json.loads((tmp_path / "broken/manifest.json").read_text())
    del manifest["videos"]["b"]
    (tmp_path / "broken/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "broken/pa/v0/b/3.png").unlink()
    kept = (tmp_path / "broken/pa/v0/a/0.png").stat().st_mtime_ns
    assert refine(first, tmp_path / "broken") == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert (tmp_path / "broken/pa/v0/a/0.png").stat().st_mtime_ns == kept


def test_shards_refine_the_files_of_one_process(first: Path, tmp_path: Path) -> None:
    assert refine(first, tmp_path / "whole", "--rounds", 1) == 0
    for shard in ("2/2", "1/2"):
        assert refine(first, tmp_path / "parts", "--rounds", 1, "--shard", shard) == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert (tmp_path / "parts/manifest.json").read_bytes() == (tmp_path / "whole/manifest.json").read_bytes()


def test_other_masks_are_refined(first: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index in range(6):
            write_mask(tmp_path / "none" / name / f"{index}.png", np.zeros(SIZE, np.uint8))
    assert refine(first, tmp_path / "out", "--masks", tmp_path / "none") == 0
    assert not read_mask(tmp_path / "out/pa/v0/a/0.png").any()


def test_flow_by_raft_is_of_its_weights(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands take RAFT from a file, masks are other ones, and a folder does not mix two ways."""
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.get_model("raft_small", weights=None).state_dict(), tmp_path / "raft.pth")
    words = ["--flow", "raft_small", "--raft-weights", tmp_path / "raft.pth"]
    one = ["init", first / "videos/a", "-o", tmp_path / "init", "--max-frames", 1, *init_words(first)]
    assert run(*one, *words) == 0
    said = json.loads((tmp_path / "init/manifest.json").read_text())["parameters"]["flow"]
    assert said == f"raft_small {file_sha256(tmp_path / 'raft.pth')}"
    assert run(*one) == 1
    assert "flow" in capsys.readouterr().err
    assert run(*one[:-1], *words) == 1
    assert "--flow, --raft-weights: only with --motion" in capsys.readouterr().err
    assert run(*one, *words[2:]) == 1
    assert "--raft-weights: only with --flow raft_small or raft_large" in capsys.readouterr().err
    assert run(*one, *words[:3], "random") == 1
    assert "flow needs trained weights" in capsys.readouterr().err
    network = ["--classifier-weights", first / "weights.pth", "--class-names", first / "labels.txt"]
    assert run("refine", tmp_path / "init", "-o", tmp_path / "out", "--feature-side", 64, *network, *words) == 0
    assert json.loads((tmp_path / "out/manifest.json").read_text())["parameters"]["refinement"]["flow"] == said


def test_what_refine_refuses(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: Any) -> str:
        assert refine(first, *words) != 0
        return capsys.readouterr().err

    assert "holds the masks that are to be refined" in refused(first / "first")
    assert "rounds must be >= 1, got 0" in refused(tmp_path / "a", "--rounds", 0)
    assert "has no such layer" in refused(tmp_path / "b", "--layers", "nothing")
    assert refine(first, tmp_path / "c") == 0
    assert "holds a run with refinement." in refused(tmp_path / "c", "--rounds", 1)
    assert "none" in refused(tmp_path / "d", "--masks", tmp_path / "none")


def test_motion_needs_an_image_classifier(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first / "tags.csv").write_text("video,tag\na,fox\nb,swan\n")
    assert run("init", "--data", first, "-o", first / "no", "--actor-classifier", first / "actor", "--motion") != 0
    assert "--motion: only with --classifier" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["classifier", "layer", "weights_sha256"])
@pytest.mark.parametrize("value", [None, {}, ["x"], 3])
def test_what_a_manifest_says_of_its_classifier_is_text(tmp_path, name, value):
    known = {"classifier": "small2d", "layer": "3", "weights_sha256": "0", "tags": [{"tag": "fox"}]}
    document = {"format": "pyws masks init", "version": 4, "parameters": {**known, name: value}, "videos": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"manifest.json: parameters: {name} must be str, got"):
        open_first_classifier(tmp_path, "default", None)
    del document["parameters"][name]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"manifest.json: is damaged"):
        open_first_classifier(tmp_path, "default", None)
