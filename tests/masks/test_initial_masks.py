"""From frames and tags to PA.v0: the pieces, the command, resuming, and what bad input says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from video_files import write_timed_video, write_video

from pyws import DataError, ops
from pyws.cli import main
from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.video import decoders
from pyws.data.video.frames import (
    open_frames,
    read_heat,
    read_image,
    read_mask,
    write_heat,
    write_mask,
    write_picture,
)
from pyws.data.video.remembered import REMEMBERED
from pyws.evaluation.segmentation import evaluate_masks, mask_iou
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks.cam_to_mask import cut_maps, initial_masks, refine_masks, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.image_annotator import ImageAnnotator
from pyws.masks.initial_masks.pipeline import annotate
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.masks.initial_masks.tag_to_class import IMAGENET_TAGS, resolve_tag, tag_warnings
from pyws.models.classifiers import load_classifier
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.report.colours import shown_colours
from pyws.report.pictures import contact_sheet, draw_masks, legend, overlay

LABELS = ("background", "red fox, Vulpes vulpes", "motor scooter, scooter", "black swan", "sorrel", "tabby")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of five classes: the smallest that the command takes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifier") / "weights.pth"
    torch.save(EfficientNetLite(classes=5).state_dict(), path)
    (path.parent / "labels.txt").write_text("\n".join(LABELS))
    return path


def make_frames(folder: Path, count: int = 5, size: tuple[int, int] = (40, 56)) -> Path:
    """A bright square that moves over noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        frame = rng.integers(0, 8, (*size, 3), dtype=np.uint8)
        frame[10:30, 4 * index : 4 * index + 20] = (200, 80, 40)
        Image.fromarray(frame).save(folder / f"{index + 1:05d}.png")
    return folder


def command(weights: Path, out: Path, *words: Any) -> list[str]:
    fixed = ["--classifier", "efficientnet-lite0", "--weights", weights, "--class-names", weights.parent / "labels.txt"]
    small = ["--short-side", 64, "--batch", 2, "--region-area", 64, "--device", "cpu", "--quiet"]
    return [str(word) for word in ("masks", "init", *words, "-o", out, *fixed, *small)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# The pieces


def test_initial_masks_by_hand() -> None:
    """Two tags in one row of eight pixels: 0 and 1 at four times the size, and a map that says nothing."""
    maps = torch.zeros(2, 2, 1, 2)
    maps[0, 0, 0, 1] = 3.0  # the right half, by bilinear interpolation rising from pixel 2 to 5
    masks, scores = initial_masks(maps, (1, 8)), scaled_maps(maps, (1, 8))
    assert masks[0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert scores[0, 0, 0].tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    assert masks[1].sum() == 0
    assert not scores[:, 1].any()


def test_pixels_of_several_tags_go_to_the_stronger() -> None:
    maps = torch.tensor([[[[1.0, 0.8, 0.0, 0.0]], [[0.0, 0.9, 1.0, 0.0]]]])
    assert initial_masks(maps, (1, 4)).tolist() == [[[1, 2, 2, 0]]]
    equal = maps[:, :1].expand(1, 2, 1, 4)
    assert initial_masks(equal, (1, 4)).tolist() == [[[1, 1, 0, 0]]]
    most = torch.zeros(1, 255, 1, 2)
    most[0, 254, 0, 1] = 1
    assert initial_masks(most, (1, 2)).tolist() == [[[0, 255]]]
    with pytest.raises(ValueError, match="initial_masks: maps must be of at most 255 tags, got 256"):
        initial_masks(torch.zeros(1, 256, 1, 2), (1, 2))


def test_initial_masks_agree_with_scikit_image() -> None:
    filters = pytest.importorskip("skimage.filters")
    torch.manual_seed(0)
    maps = torch.rand(3, 1, 5, 7)
    masks, scores = initial_masks(maps, (33, 40)), scaled_maps(maps, (33, 40))
    for mask, score in zip(masks, scores[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(mask.numpy(), score > filters.threshold_otsu(score))


def test_maps_of_several_scales(weights: Path) -> None:
    classifier = load_classifier("efficientnet-lite0", weights, weights.parent / "labels.txt")
    frames = torch.randint(0, 256, (2, 40, 56, 3), dtype=torch.uint8)

    def maps(of: torch.Tensor, **options: Any) -> torch.Tensor:
        config = InitialMaskConfig(short_side=64, **options)
        return ImageAnnotator(classifier, weights, {"swan": [2]}, config).maps(of, range(len(of)), [2, 0], {})

    with GradCAM(classifier.model, classifier.layer) as cam:
        torch.testing.assert_close(maps(frames), cam(classifier.prepare(frames, 64), [[2, 0]]))
    each = [scaled_maps(maps(frames, scales=(scale,)), (40, 56)) for scale in (1.0, 2.0)]
    both = maps(frames, scales=(1.0, 2.0), power=2.0)
    torch.testing.assert_close(both, ((each[0] + each[1]) / 2) ** 2)
    mirrored = maps(frames, mirror=True)
    torch.testing.assert_close(maps(frames.flip(2), mirror=True), mirrored.flip(3), rtol=1e-3, atol=1e-4)
    for bad, message in (
        ({"scales": ()}, "scales: at least one is needed"),
        ({"scales": (1.0, 0.0)}, r"scales must be > 0, got \(1.0, 0.0\)"),
        ({"power": 0.0}, "power must be > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            InitialMaskConfig(**bad)


def test_maps_of_frames_that_the_class_was_chosen_on(weights: Path, tmp_path: Path) -> None:
    """They are kept from then; those of the frames between are made, and all are what the network says of each."""
    classifier = load_classifier("efficientnet-lite0", weights, weights.parent / "labels.txt")
    pictures = np.random.default_rng(0).integers(0, 256, (35, 40, 56, 3), np.uint8)
    for index, picture in enumerate(pictures):
        write_picture(tmp_path / "video" / f"{index:03d}.png", picture)
    frames, images = open_frames(tmp_path / "video"), torch.from_numpy(pictures)
    annotator = ImageAnnotator(classifier, weights, {"swan": [2, 1]}, InitialMaskConfig(short_side=64))
    before = annotator.maps(images, range(35), [1], {})
    of_video = annotator.of_video(frames, (1,), range(len(frames)))
    chosen = of_video.about["classes"]["swan"]
    seen = of_video.initial_masks.args[1]
    assert len(seen) == 32
    assert chosen in seen[0]
    for places in (range(35), [0, 1], [index for index in range(35) if index not in seen]):
        torch.testing.assert_close(
            annotator.maps(images[list(places)], places, [1], seen), before[list(places)], rtol=1e-4, atol=1e-6
        )
    short = annotator.of_video(open_frames(tmp_path / "video"), (1,), [0])
    assert short.about["classes"]["swan"] == chosen


def test_scale_of_otsu() -> None:
    """The threshold is the map's own: scikit-image's of 15 values, not of 15000."""
    from skimage.filters import threshold_otsu

    maps = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    scaled = torch.nn.functional.interpolate(maps, size=(100, 150), mode="bilinear", align_corners=False)
    found = cut_maps(maps, (100, 150), "map")
    for b, k in np.ndindex(2, 3):
        assert torch.equal(found[b, k], scaled[b, k] > threshold_otsu(maps[b, k].numpy()))
    assert not torch.equal(found, cut_maps(maps, (100, 150)))
    assert torch.equal(initial_masks(maps[:, :1], (100, 150), "map") > 0, found[:, 0])
    assert not cut_maps(torch.ones(1, 1, 3, 5), (9, 9), "map").any()


def test_refine_masks() -> None:
    superpixels = torch.tensor([[[0, 0, 0, 1, 1, 1, 2, 2]]])
    one = torch.tensor([[[0, 1, 1, 1, 0, 0, 1, 1]]])
    assert refine_masks(superpixels, one).tolist() == [[[1, 1, 1, 0, 0, 0, 1, 1]]]
    two = torch.tensor([[[0, 1, 2, 2, 2, 0, 2, 2]]])  # the union covers each; ties go to the lower tag
    assert refine_masks(superpixels, two).tolist() == [[[1, 1, 1, 2, 2, 2, 2, 2]]]
    assert refine_masks(superpixels, two * 0).sum() == 0
    assert refine_masks(superpixels, one, beta=0.3, beta_on="component").tolist() == [[[0, 0, 0, 0, 0, 0, 1, 1]]]


@pytest.mark.parametrize("method", ["pyws", "skimage"])
def test_superpixels_are_cached_and_checked(tmp_path: Path, method: str) -> None:
    frame = read_image(next(iter(make_frames(tmp_path / "v", 1).iterdir())))
    make = Superpixels(tmp_path / "slic", region_area=64, method=method)
    first = make(frame, "v", "00001")
    path = tmp_path / "slic" / make.parameter_hash / "v" / "00001.png"
    assert first.dtype == np.int32
    assert first.min() == 0
    assert 20 < first.max() < 60

    marked = Superpixels(tmp_path / "slic", region_area=64, method=method)
    object.__setattr__(marked, "_compute", lambda *_: pytest.fail("the cache was not used"))
    np.testing.assert_array_equal(marked(frame, "v", "00001"), first)

    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b""):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(make(frame, "v", "00001"), first)
        assert path.read_bytes() == whole
    other = make(frame[::-1].copy(), "v", "00001")  # another frame under the same name
    assert (other != first).any()
    settings = [{}, {"region_area": 65}, {"compactness": 11.0}, {"iterations": 9}]
    known = {Superpixels(tmp_path, **{"region_area": 64, "method": method} | one).parameter_hash for one in settings}
    assert make.parameter_hash in known
    assert len(known) == len(settings)  # superpixels of other settings are never taken for these


def test_superpixels_say_who_made_them(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    makers = {method: Superpixels(tmp_path, region_area=100, method=method) for method in ("pyws", "skimage")}
    hashes = {make.parameter_hash for make in makers.values()}
    assert len(hashes) == 2
    for method, make in makers.items():
        together = make.of_frames(frames, "v", ["0", "1"])
        np.testing.assert_array_equal(make(frames[1], "v", "1"), together[1])
        with Image.open(tmp_path / make.parameter_hash / "v" / "1.png") as image:
            assert image.info["method"] == method
    labels = ops.slic(torch.from_numpy(frames).permute(0, 3, 1, 2), iterations=5, region_area=100)
    np.testing.assert_array_equal(makers["pyws"].of_frames(frames, "v", ["0", "1"]), labels.numpy())
    with pytest.raises(ValueError, match="superpixels: method must be pyws or skimage, got 'cv2'"):
        Superpixels(tmp_path, method="cv2")


def test_superpixels_beyond_eight_bits(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    make = Superpixels(tmp_path, region_area=4, compactness=100.0)
    first = make(frame, "v", "0")
    assert first.max() > 255
    np.testing.assert_array_equal(make(frame, "v", "0"), first)
    with Image.open(next(tmp_path.rglob("0.png"))) as image:
        assert image.mode.startswith("I")


@pytest.mark.parametrize(
    ("tag", "classes"),
    [
        ("scooter", [1]),
        ("Swan", [2]),
        ("sorrel", [3]),
        ("animal=0, 2-4", [0, 2, 3, 4]),
        ("quux", "'quux' is not among the 5 labels of the classifier. To go on, give its classes by number"),
        ("taby", "near: tabby"),
        ("x=3-9", r"classes must be ranges in 0..4, got 3-9"),
        ("x=a", "classes must be numbers and ranges"),
        ("=3", "must have a name"),
    ],
)
def test_tags(tag: str, classes: list[int] | str) -> None:
    if isinstance(classes, list):
        assert resolve_tag(tag, LABELS[1:])[1] == classes
    else:
        with pytest.raises(ValueError, match=classes):
            resolve_tag(tag, LABELS[1:])


def test_an_unknown_tag_has_the_five_nearest_labels() -> None:
    with pytest.raises(ValueError, match="among the 9 labels .*; near: fox7, fox6, fox5, fox4, fox3. To"):
        resolve_tag("Foxx", ["swan", *(f"fox{index}" for index in range(8))])


def test_tags_that_match_one_word_are_doubtful() -> None:
    """Running is no shoe: what only a word of a name matches is said, and actions are sent to their own classifier."""
    labels = ("running shoe", "walking stick, walkingstick", "pay-phone, pay-station", "football helmet", "dog")
    for tag, named in zip(("running", "walking", "phone", "football"), labels, strict=False):
        warning = resolve_tag(tag, labels).warning(labels)
        assert warning is not None
        assert f"tag '{tag}' matches only a word of '{named.split(',')[0]}'" in warning
        assert ("classifier of actions and people" in warning) == tag.endswith("ing")
    assert resolve_tag("walking stick", labels).warning(labels) is None
    assert resolve_tag("running=0", labels).warning(labels) is None
    with pytest.raises(ValueError, match="train a classifier of actions and people"):
        resolve_tag("person", labels)


def test_tags_that_scores_speak_against() -> None:
    tags = {"dog": [0, 1], "bird": [2]}
    assert tag_warnings([0.25, 0.25, 0.3, 0.2], tags, {"cat": [3]}) == []
    assert tag_warnings([0.3, 0.3, 0.005, 0], tags, {}) == [
        "the classifier may not see a tag: 'bird' scores only 0.005 in the mean"
    ]
    many = [0.1, 0.1, 0.35, 0.3] + [0.15 / 96] * 96
    assert tag_warnings(many, tags, {"cat": [3]}) == [
        "the classifier may not see a tag: 'dog' scores only 0.200 in the mean; 'cat' scores 0.300"
    ]
    # Large inputs lower all scores: a class among the highest hundredth is seen, however low it is.
    flat = [0.006 - k / 1e6 for k in range(20)] + [0.001] * 980
    assert tag_warnings(flat, {"bird": [9]}, {}) == []
    assert tag_warnings(flat, {"bird": [10]}, {}) == [
        "the classifier may not see a tag: 'bird' scores only 0.006 in the mean"
    ]
    # Another tag must score higher, not as high.
    rest = [0.002] * 98
    assert tag_warnings([0.4, 0.4, *rest], {"cat": [0]}, {"dog": [1]}) == []
    assert len(tag_warnings([0.4, 0.41, *rest], {"cat": [0]}, {"dog": [1]})) == 1
    # Thirty of a hundred classes score something wherever one looks.
    assert tag_warnings([0.3 / 31] * 31 + [0.7 / 69] * 69, {"bird": [50]}, {"dog": list(range(31))}) == []


def test_common_tags_of_imagenet() -> None:
    weights = pytest.importorskip("torchvision.models").ResNet18_Weights
    labels = weights.DEFAULT.meta["categories"]
    named = {tag: [labels[index] for index in resolve_tag(tag, labels)[1]] for tag in (*IMAGENET_TAGS, "planes")}
    assert named["dog"][0] == "Chihuahua"
    assert named["dog"][-1] == "Mexican hairless"
    assert len(named["dog"]) == 118
    assert len(named["bird"]) == 59
    assert named["cat"] == ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"]
    assert named["train"] == ["bullet train", "electric locomotive", "passenger car", "steam locomotive"]
    assert {"minivan", "sports car", "convertible"} <= set(named["car"])
    assert named["plane"] == named["planes"] == ["airliner", "warplane"]  # and not the carpenter's
    assert named["bike"] == ["bicycle-built-for-two", "moped", "motor scooter", "mountain bike"]
    assert named["sheep"] == ["ram", "bighorn"]
    assert named["van"] == ["minivan", "moving van", "police van"]
    assert resolve_tag("black swan", labels)[1] == [100]
    with pytest.raises(ValueError, match=r"labels of the classifier\. To go on"):  # no name is near
        resolve_tag("mallard", labels)


def test_words_that_classes_are_kinds_of() -> None:
    weights = pytest.importorskip("torchvision.models").ResNet18_Weights
    labels = weights.DEFAULT.meta["categories"]
    named = {
        tag: (resolve_tag(tag, labels).found, [labels[index] for index in resolve_tag(tag, labels).classes])
        for tag in ("Phone", "buses", "dogs", "bear", "swan")
    }
    assert named["Phone"] == ("branch", ["cellular telephone", "dial telephone", "pay-phone"])
    assert named["buses"] == ("branch", ["minibus", "school bus", "trolleybus"])
    assert (named["dogs"][0], len(named["dogs"][1])) == ("group", 118)
    assert named["bear"] == ("branch", ["brown bear", "American black bear", "ice bear", "sloth bear"])
    assert named["swan"] == ("branch", ["black swan"])
    for action in ("drink", "person"):  # more often a verb; people
        with pytest.raises(ValueError, match="is not among the 1000 labels"):
            resolve_tag(action, labels)
    assert resolve_tag("Phone", (*LABELS[1:], "pay-phone")).found == "word"  # other labels than ImageNet's


def test_palette_png(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), ids)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]
    with pytest.raises(ValueError, match=r"ids must be \(H, W\) uint8"):
        write_mask(tmp_path / "b.png", ids.astype(np.int64))


def test_maps_are_kept_and_shown(tmp_path: Path) -> None:
    """Beside the masks: a small grey picture of each map, a column of the sheet, and a line of its legend."""
    levels = np.linspace(0, 1, 12).reshape(3, 4)
    write_heat(tmp_path / "heat/clip/00.png", levels)
    again = read_heat(tmp_path / "heat/clip/00.png", (3, 4))
    assert np.abs(again - levels).max() <= 0.51 / 255
    assert read_heat(tmp_path / "heat/clip/00.png", (30, 40)).shape == (30, 40)
    with pytest.raises(DataError, match="nowhere.png"):
        read_heat(tmp_path / "nowhere.png", (3, 4))
    write_picture(tmp_path / "clip/00.jpg", np.full((30, 40, 3), 20, np.uint8))
    write_mask(tmp_path / "masks/clip/00.png", np.eye(30, 40, dtype=np.uint8))
    widths = []
    for heats in ({}, {"map": tmp_path / "heat/clip"}, {"map": tmp_path / "heat/other"}):
        given = {"mask": tmp_path / "masks/clip"}
        draw_masks(tmp_path / "clip", given, tmp_path / "sheet", names=("background", "cat"), heats=heats)
        widths.append(read_image(tmp_path / "sheet.jpg").shape[1])
    assert widths == [2 * 320 + 4, 3 * 320 + 8, 2 * 320 + 4]
    plain, scaled = legend({1: "cat"}, 400), legend({1: "cat"}, 400, "map: low to high")
    assert np.array_equal(plain[:, :40], scaled[:, :40])
    assert not np.array_equal(plain, scaled)


def test_overlay_and_contact_sheet() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    mask = np.zeros((4, 6), int)
    assert np.array_equal(overlay(image, mask), image)
    mask[:, 3:] = 1
    laid = overlay(image, mask)
    assert np.array_equal(laid[:, :3], image[:, :3])
    assert laid[0, 3].tolist() == [255, 85, 85]  # the outline
    assert laid[0, 5].tolist() == [177, 92, 92]
    assert contact_sheet([[image, laid], [laid, image]], ["a", "b"], width=12).shape == (16 + 8 + 4 + 8, 28, 3)
    with pytest.raises(ValueError, match="rows must be equally long"):
        contact_sheet([[image], []])


def test_navy_is_seen_on_dark_frames_and_named() -> None:
    """Every colour of A2D's 43 ids has a luminance that shows on black, is no grey, and is none of the others."""
    shown = shown_colours()[1:44].astype(float)
    assert (shown @ (0.2126, 0.7152, 0.0722)).min() > 60
    assert (shown.max(1) - shown.min(1)).min() > 80
    assert min(np.linalg.norm(shown[one] - shown[other]) for one in range(43) for other in range(one)) > 30
    strip = legend({1: "cat", 4: "dog"}, 60)
    assert strip.shape == (32, 60, 3)
    assert strip[8, 8].tolist() == [255, 85, 85]
    assert strip[24, 8].tolist() == [85, 85, 255]


def test_mask_iou(tmp_path: Path) -> None:
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, :2] = 255
    guess = np.zeros_like(truth)
    guess[0, 1:3] = 1
    assert mask_iou(guess, truth).tolist() == [1 / 3, 1.0]
    for index in range(2):
        write_mask(tmp_path / "truth" / "v" / f"{index}.png", truth[index])
    write_mask(tmp_path / "guess" / "v" / "0.png", guess[0])
    with pytest.raises(DataError, match=r"of each of the 2 annotated frames, 1 are missing, such as v/1.png"):
        evaluate_masks(tmp_path / "guess", tmp_path / "truth")
    skipped = evaluate_masks(tmp_path / "guess", tmp_path / "truth", "skip")
    assert (skipped["mean_iou"], skipped["missing"]) == (1 / 3, 1)
    write_mask(tmp_path / "other" / "v" / "00000.png", guess[0])  # names that match nowhere are an error, never 0.000
    with pytest.raises(DataError, match=r"such as v/0.png; its video has 1 masks such as 00000.png$"):
        evaluate_masks(tmp_path / "other", tmp_path / "truth", "background")
    assert evaluate_masks(tmp_path / "guess", tmp_path / "truth", "background") == {
        "videos": {"v": {"frames": 2, "missing": 1, "iou": 2 / 3}},
        "frames": 2,
        "missing": 1,
        "mean_iou": 2 / 3,
    }
    write_mask(tmp_path / "guess" / "v" / "1.png", guess[0, :2])
    with pytest.raises(DataError, match=r"1.png: must have the size of the truth \(4, 4\), got \(2, 4\)"):
        evaluate_masks(tmp_path / "guess", tmp_path / "truth")


# The command


def test_masks_of_a_folder(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_frames(tmp_path / "fox")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    words = command(weights, out, Path("fox"), "--tag", "fox", "--tag", "scooter", "--json")
    assert main(words) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["parameters"]["tags"] == [
        {"id": 1, "tag": "fox", "classes": [0]},
        {"id": 2, "tag": "scooter", "classes": [1]},
    ]
    assert manifest["videos"]["fox"]["status"] == "done"
    assert manifest["videos"]["fox"]["source"] == str(tmp_path / "fox")
    assert manifest["videos"]["fox"]["classes"] == {"fox": 0, "scooter": 1}
    scores, ranks = manifest["videos"]["fox"]["scores"], manifest["videos"]["fox"]["ranks"]
    assert all(0 < score < 1 for score in scores.values())
    assert sorted(ranks, key=ranks.__getitem__) == sorted(scores, key=scores.__getitem__, reverse=True)  # a class each
    assert manifest["videos"]["fox"]["warnings"] == [
        "tag 'fox' matches only a word of 'red fox': if that is not what the videos show, give its classes by number, "
        "e.g. --tag 'fox=3,7-9', or train a classifier on the tagged videos (pyws masks classify)"
    ]
    stems = [f"{index:05d}" for index in range(1, 6)]
    for kind in ("init", "pa/v0"):
        masks = {path.stem: read_mask(path) for path in (out / kind / "fox").iterdir()}
        assert sorted(masks) == stems
        assert all(mask.shape == (40, 56) and mask.max() <= 2 for mask in masks.values())
    assert manifest["videos"]["fox"]["report"]["init_area"] > 0
    assert len(list((out / "slic").rglob("*.png"))) == 5
    assert (
        read_image(out / "overlays" / "fox.jpg").shape[1] == 5 * 320 + 4 * 4
    )  # frame, map, both masks, what refinement did
    assert sorted(path.stem for path in (out / "heat/fox").iterdir()) == stems

    # Again: nothing is made anew. With other parameters: refused.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert main(words) == 0
    del before[out / "manifest.json"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert main([*words, "--alpha", "0.4"]) == 1
    assert "holds a run with alpha 0.5, not 0.4; choose another folder" in capsys.readouterr().err


def test_killed_run_goes_on_to_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    """Killed after a frame of the second batch is on disk: the next run ends as an undisturbed one."""
    make_frames(tmp_path / "v")
    program = (
        "import os, signal, sys, torch, pyws.masks.initial_masks.pipeline as initial, pyws.cli\n"
        "torch.set_num_threads(1)\n"  # one batch after the other
        "write, done = initial.write_mask, []\n"
        "def dying(path, ids):\n"
        "    write(path, ids); done.append(path)\n"
        "    if len(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "initial.write_mask = dying\n"
        "pyws.cli.main(sys.argv[1:])\n"
    )
    killed = command(weights, tmp_path / "killed", tmp_path / "v", "--tag", "fox")
    assert subprocess.run([sys.executable, "-c", program, *killed], check=False).returncode == -9
    assert len(list((tmp_path / "killed" / "init").rglob("*.png"))) == 3
    kept = (tmp_path / "killed/init/v/00001.png").stat().st_mtime_ns
    assert main(killed) == 0
    assert (tmp_path / "killed/init/v/00001.png").stat().st_mtime_ns == kept
    assert main(command(weights, tmp_path / "whole", tmp_path / "v", "--tag", "fox")) == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("order", [(1, 2), (3, 1, 2)])
def test_shards_write_the_files_of_one_process(
    order: tuple[int, ...], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In whatever order they end; each says what is missing until the last has written the whole."""
    for name, count in (("a", 2), ("b", 5), ("c", 3), ("d", 2)):
        make_frames(tmp_path / "v" / name, count)
    (tmp_path / "v" / "e").mkdir()
    (tmp_path / "v" / "e" / "0.png").write_bytes(b"damaged")
    words = [tmp_path / "v", "--tag", "fox", "--on-error", "skip", "--json"]
    assert main(command(weights, tmp_path / "whole", *words)) == 0
    documents = [json.loads(capsys.readouterr().out)]
    for index in order:
        assert main(command(weights, tmp_path / "parts", *words, "--shard", f"{index}/{len(order)}")) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    whole, *first, last = documents
    assert last == whole
    assert [document["shard"] for document in first] == [f"{index}/{len(order)}" for index in order[:-1]]
    assert all(document["missing"] for document in first)


def test_a_killed_shard_is_taken_up_by_another_number_of_them(weights: Path, tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 3), ("c", 2)):
        make_frames(tmp_path / "v" / name, count)
    assert main(command(weights, tmp_path / "whole", tmp_path / "v", "--tag", "fox")) == 0
    words = command(weights, tmp_path / "parts", tmp_path / "v", "--tag", "fox")
    for shard in ("1/2", "2/3"):
        code = (
            "import sys, os, pyws.cli, pyws.masks.initial_masks.pipeline as pipeline\n"
            "real = pipeline.write_mask\n"
            "def dying(path, ids):\n"
            "    real(path, ids)\n"
            "    if path.parent.name in 'bc': os.kill(os.getpid(), 9)\n"
            "pipeline.write_mask = dying\n"
            "pyws.cli.main(sys.argv[1:])\n"
        )
        killed = subprocess.run([sys.executable, "-c", code, *words, "--shard", shard], capture_output=True)
        assert killed.returncode == (-9 if shard == "2/3" else 0), killed.stderr  # 1/2 has but a
    assert (tmp_path / "parts/.run/2-of-3.jsonl").stat().st_size > 0
    assert main(words) == 0
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_changed_frames_are_made_anew(weights: Path, tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "v", 3)
    words = command(weights, tmp_path / "out", frames, "--tag", "fox")
    assert main(words) == 0
    Image.new("RGB", (56, 40), (0, 90, 0)).save(frames / "00002.png")
    assert main(words) == 0
    assert main(command(weights, tmp_path / "fresh", frames, "--tag", "fox")) == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_masks_that_were_lost_are_made_again(weights: Path, tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "v", 3)
    words = command(weights, tmp_path / "out", frames, "--tag", "fox")
    assert main(words) == 0
    before = files_of(tmp_path / "out")
    (tmp_path / "out/pa/v0/v/00001.png").unlink()
    cut = tmp_path / "out/init/v/00003.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    assert main(words) == 0
    assert files_of(tmp_path / "out") == before
    other = make_frames(tmp_path / "other/v", 2)
    assert main(command(weights, tmp_path / "out", other, "--tag", "fox")) == 1
    assert files_of(tmp_path / "out") == before


def test_video_file_and_tags_file(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_frames(tmp_path / "swans", 4)
    write_video(tmp_path / "clip.avi", [read_image(path) for path in sorted(folder.iterdir())])
    (tmp_path / "tags.csv").write_text("video,tag\nclip,scooter\nswans,swan\nswans,fox\nelsewhere,sorrel\n")
    out = tmp_path / "out"
    words = command(weights, out, tmp_path, "--tags", tmp_path / "tags.csv")
    assert main(words) == 1
    assert "row 5: elsewhere is none of the videos" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--on-error", "skip"]) == 0
    assert sorted(path.name for path in (out / "pa/v0/clip").iterdir()) == [f"{index:05d}.png" for index in range(4)]
    found = {video: {int(i) for p in (out / "init" / video).iterdir() for i in read_mask(p).flat} for video in
             ("clip", "swans")}  # fmt: skip
    assert found["clip"] == {0, 1}  # ids in the order of the tags file: scooter 1, swan 2, fox 3
    assert found["swans"] <= {0, 2, 3}
    assert len(found["swans"]) > 1


def test_a_video_file_is_decoded_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the choice of classes, for masks, for overlays and for the page; and nothing of it is kept."""
    frames = [read_image(path) for path in sorted(make_frames(tmp_path / "frames", 7).iterdir())]
    names = ("a", "b", "c")
    clips = [write_video(tmp_path / f"{name}.avi", frames) for name in names]
    passes, rooms, read, room = list[str](), list[int](), decoders.PyAV.read, REMEMBERED.room()
    monkeypatch.setattr(decoders, "_video_decoder", lambda: None)

    def counted(self: decoders.PyAV, indices: Any) -> Any:
        passes.append(self.path.stem)
        if self.path.stem == "c":
            raise DataError(self.path, "is gone")
        rooms.append(REMEMBERED.room())
        return read(self, indices)

    monkeypatch.setattr(decoders.PyAV, "read", counted)
    words = command(weights, tmp_path / "out", *clips, "--tag", "fox", "--on-error", "skip")
    assert main(words) == 0
    assert passes == list(names)
    assert REMEMBERED.room() == room
    assert rooms[1] > room - 2 * 7 * frames[0].nbytes
    strips = [json.loads((tmp_path / "out/report" / name / "strip.json").read_text()) for name in names[:2]]
    assert [len(one["names"]) for one in strips] == [7, 7]
    assert main(command(weights, tmp_path / "no", clips[0], clips[2], "--tag", "fox")) == 1
    assert REMEMBERED.room() == room


def test_tags_that_are_no_class_are_named_together_or_left_out(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        make_frames(tmp_path / "v" / name, 2)
    table = tmp_path / "tags.csv"
    table.write_text("video,tag\na,juggling\nb,juggling\nb,fox\nb,unheard\nc,fox\n")
    words = command(weights, tmp_path / "out", tmp_path / "v", "--tags", table)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "'juggling' is not among" in said
    assert "'unheard' is not among" in said
    assert main([*(word for word in words if word != "--quiet"), "--on-error", "skip"]) == 0
    assert "left out: tag: 'juggling' is not among" in "".join(capsys.readouterr())
    assert sorted(path.name for path in (tmp_path / "out/pa/v0").iterdir()) == ["b", "c"]  # a has no other tag
    table.write_text("video,tag\nb,fox\nc,fox\n")
    less = command(weights, tmp_path / "less", tmp_path / "v/b", tmp_path / "v/c", "--tags", table)
    assert main(less) == 0
    assert files_of(tmp_path / "out/init") == files_of(tmp_path / "less/init")
    table.write_text("video,tag\na,juggling\nb,unheard\n")
    assert main([*words, "--on-error", "skip"]) == 1  # nothing is left


def test_tag_of_several_classes_takes_the_one_seen_best(weights: Path, tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "v", 3)
    classifier = load_classifier("efficientnet-lite0", weights, weights.parent / "labels.txt")
    pictures = torch.from_numpy(np.stack([read_image(path) for path in sorted(frames.iterdir())]))
    with torch.no_grad():
        scores = classifier.model(classifier.prepare(pictures, 32)).mean(0)
    best = 1 + int(scores[1:4].argmax())
    assert main(command(weights, tmp_path / "out", frames, "--tag", "thing=1-3")) == 0
    assert main(command(weights, tmp_path / "one", frames, "--tag", f"thing={best}")) == 0
    videos = json.loads((tmp_path / "out" / "manifest.json").read_text())["videos"]
    assert videos["v"]["classes"] == {"thing": best}
    assert files_of(tmp_path / "out" / "init") == files_of(tmp_path / "one" / "init")


def test_skipping_bad_videos(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = make_frames(tmp_path / "good", 2), make_frames(tmp_path / "bad", 3)
    broken = bad / "00003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    words = command(weights, tmp_path / "out", bad, good, "--tag", "fox")
    assert main(words) == 1
    assert f"{broken}: cannot be read as a jpg or png picture" in capsys.readouterr().err
    assert main([*words, "--on-error", "skip"]) == 0
    videos = json.loads((tmp_path / "out" / "manifest.json").read_text())["videos"]
    assert videos["good"]["status"] == "done"
    assert videos["bad"]["status"] == "failed"
    assert str(broken) in videos["bad"]["error"]
    alone = command(weights, tmp_path / "none", bad, "--tag", "fox", "--on-error", "skip")
    assert main(alone) == 1  # made nothing
    assert f"none: no video could be used, such as {broken}" in capsys.readouterr().err
    (tmp_path / "tags.csv").write_text("video,tag\nelsewhere,fox\n")
    tagged = [*command(weights, tmp_path / "no", good), "--tags", str(tmp_path / "tags.csv"), "--on-error", "skip"]
    tagged.remove("--quiet")
    assert main(tagged) == 1
    said = capsys.readouterr()
    assert "left out: row 2: elsewhere is none of the videos" in said.out
    assert "VIDEOS: none of them has a tag and can be read" in said.err


def test_what_steers_a_terminal_is_escaped(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(weights, tmp_path / "out", make_frames(tmp_path / "v", 2), "--tag", "wolf\x1b[2J\u202e\r")) == 1
    said = capsys.readouterr().err
    assert "--tag 'wolf\\x1b[2J\\u202e" in said
    assert not set("\x1b\u202e\r") & set(said)


def test_a_bad_video_does_not_touch_the_one_before_it(weights: Path, tmp_path: Path) -> None:
    """It is begun while the last frames of that one are worked on, and its error comes in its turn."""
    good, bad = make_frames(tmp_path / "good", 6), tmp_path / "bad.mp4"
    bad.write_text("not a video")
    videos = [TaggedVideo("good", good, (1,)), TaggedVideo("bad", bad, (1,))]
    classifier = load_classifier("efficientnet-lite0", weights, weights.parent / "labels.txt")
    annotator = ImageAnnotator(classifier, weights, {"fox": [1]}, InitialMaskConfig(short_side=64, batch=2))
    done: list[str] = []
    with pytest.raises(DataError, match="bad.mp4"):
        annotate(annotator, videos, tmp_path / "out", quiet=True, finished=lambda name, entry: done.append(name))
    assert done == ["good"]
    entries = json.loads((tmp_path / "out" / "manifest.json").read_text())["videos"]
    assert [entries[name]["status"] for name in ("good", "bad")] == ["done", "failed"]
    assert len(list((tmp_path / "out" / "pa/v0/good").iterdir())) == 6


def test_videos_side_by_side_have_the_masks_of_each_alone(weights: Path, tmp_path: Path) -> None:
    """Maps that were made when the class was chosen belong to one video, though the next is begun before it ends."""
    folders = [
        make_frames(tmp_path / name, count, size)
        for name, count, size in (("a", 9, (40, 56)), ("b", 5, (48, 40)), ("c", 12, (40, 56)))
    ]
    assert main(command(weights, tmp_path / "all", *folders, "--tag", "thing=1-3")) == 0
    for folder in folders:
        assert main(command(weights, tmp_path / "alone" / folder.name, folder, "--tag", "thing=1-3")) == 0
        for part in ("init", "pa/v0", "heat"):
            made = files_of(tmp_path / "all" / part / folder.name)
            assert made == files_of(tmp_path / "alone" / folder.name / part / folder.name)


def test_a_name_that_is_no_text(weights: Path, tmp_path: Path) -> None:
    """Older disks have names in other encodings; masks, page and hashes take them."""
    name = os.fsdecode(b"v\xff")
    words = command(weights, tmp_path / "out", make_frames(tmp_path / name, 3), "--tag", "fox")
    assert main(words) == 0
    assert len(list((tmp_path / "out" / "pa/v0" / name).iterdir())) == 3
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert '"name":"v?"' in page
    assert main(["verify", str(tmp_path / "out"), "--quiet"]) == 0


def test_numbers_in_names_count_by_value(tmp_path: Path) -> None:
    for name in ("img10.png", "img9.jpg", "img100.PNG", "img09.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert open_frames(tmp_path).stems == ["img09", "img9", "img10", "img100"]


def test_bad_frames(tmp_path: Path) -> None:
    make_frames(tmp_path / "nested" / "v", 1)
    (tmp_path / "empty").mkdir()
    twins = make_frames(tmp_path / "twins", 1)
    (twins / "00001.jpg").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n/etc/hostname\n"
    )
    (tmp_path / "nothing.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "header.avi"), "w") as container:  # a video stream without a frame
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        container.start_encoding()
    for name, message in {
        "nested": "must hold jpg or png frames, found none; it has 1 folders: give those",
        "empty": "must hold jpg or png frames, found none",
        "twins": "must hold one file a frame, found 00001.jpg and 00001.png",
        "missing": "must be a folder of frames or a video file, found neither",
        "text.mp4": "cannot be decoded",
        "list.m3u8": "cannot be decoded: its container must be one of avi, ",
        "nothing.mp4": "cannot be decoded",
        "header.avi": "has no frames",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            open_frames(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(DataError, match="found neither"):
        open_frames("/dev/zero")


def test_truncated_video(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = write_video(tmp_path / "v.avi", [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(20)])
    assert len(open_frames(clip)) == 20
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(DataError, match=r"v.avi: (is truncated: its header says 20|cannot be decoded)"):
        open_frames(clip)


def test_too_large_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyws.data.video.decoders.MAX_PIXELS", 100)
    frames = open_frames(make_frames(tmp_path / "v", 1))
    with pytest.raises(DataError, match="must have at most 100 pixels a frame, got 56x40"):
        next(frames.read([0]))


def test_frames_of_one_colour_have_no_masks(weights, tmp_path, capsys):
    """Nor do they choose the class; the run says how many there are."""
    frames = make_frames(tmp_path / "v", 3)
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 3, (40, 56, 3), dtype=np.uint8)
        write_picture(frames / f"black{index}.png", noise)
    (tmp_path / "alone").mkdir()
    for path in frames.glob("[0-9]*.png"):
        (tmp_path / "alone" / path.name).write_bytes(path.read_bytes())
    words = command(weights, tmp_path / "out", frames, tmp_path / "alone", "--tag", "fox")
    words.remove("--quiet")
    assert main(words) == 0
    assert "warning: v: 4 of 7 frames have no mask" in capsys.readouterr().out
    entries = json.loads((tmp_path / "out/manifest.json").read_text())["videos"]
    assert entries["v"]["scores"] == entries["alone"]["scores"]
    for folder in ("init/v", "pa/v0/v"):
        empty = {path.stem for path in (tmp_path / "out" / folder).iterdir() if not read_mask(path).any()}
        assert empty == {f"black{index}" for index in range(4)}


def test_videos_of_one_name_may_be_skipped(weights, tmp_path, capsys):
    """The first in order stays, the other is said; by default both commands stop and name it."""
    for folder in ("a", "b"):
        make_frames(tmp_path / "in" / folder / "clip", 2)
    mask = command(weights, tmp_path / "masks", tmp_path / "in", "--tag", "fox")
    mask.remove("--quiet")
    fixed = ["--network", "efficientnet-lite0", "--weights", weights, "--class-names", weights.parent / "labels.txt"]
    features = ["features", tmp_path / "in", "-o", tmp_path / "out", "--folder-fps", 10, "--device", "cpu", *fixed]
    for words in (mask, [str(word) for word in features]):
        assert main(words) == 1
        assert f"{tmp_path / 'in/b/clip'}: is called as" in capsys.readouterr().err
        assert main([*words, "--on-error", "skip"]) == 0
        assert f"left out: {tmp_path / 'in/b/clip'} is called as" in capsys.readouterr().out
    sources = json.loads((tmp_path / "masks/manifest.json").read_text())["videos"]
    assert sources["clip"]["source"] == str(tmp_path / "in/a/clip")
    assert (tmp_path / "out/features/clip.safetensors").is_file()


def test_all_unreadable_videos_are_named_before_anything_runs(weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_timed_video(tmp_path / "in" / "good.mkv", [0.0, 0.1])
    (tmp_path / "in" / "text.mp4").write_text("no video")
    (tmp_path / "in" / "list.mkv").write_text("ffconcat version 1.0\nfile good.mkv\n")
    words = [*command(weights, tmp_path / "out", tmp_path / "in", "--tag", "fox")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'in' / 'text.mp4'}: cannot be decoded" in said
    assert f"{tmp_path / 'in' / 'list.mkv'}: cannot be decoded" in said
    assert "2 videos cannot be used; --on-error skip goes on" in said
    assert not (tmp_path / "out").exists()
    assert main([*words, "--on-error", "skip"]) == 0
    assert (tmp_path / "out/pa/v0/good/00000.png").is_file()


def test_bad_use_of_the_command(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = make_frames(tmp_path / "v", 1)
    (tmp_path / "junk.pth").write_bytes(b"junk")
    out = tmp_path / "out"
    for words, message in (
        (command(weights, out, frames), "either --tag NAME or --tags FILE must be given"),
        (command(weights, out, frames, "--tag", "zebra"), "'zebra' is not among the 5 labels"),
        (
            command(weights, out, frames, make_frames(tmp_path / "w/v", 1), "--tag", "fox"),
            f"{tmp_path / 'w' / 'v'}: is called as",
        ),
        (command(weights, out, frames, "--tag", "fox", "--alpha", "2"), "alpha must be in [0, 1], got 2.0"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_bad_weights(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save([1, 2], tmp_path / "list.pth")
    whole = weights.read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    for path, name, message in (
        (tmp_path / "none.pth", "efficientnet-lite0", "must be a file of weights, found none"),
        (tmp_path / "junk.pth", "efficientnet-lite0", "cannot be read as weights"),
        (tmp_path / "half.pth", "efficientnet-lite0", "cannot be read as weights"),
        (tmp_path / "list.pth", "efficientnet-lite0", "must be a state dict"),
        (weights, "resnet18", "does not hold the weights of resnet18"),
        (weights, "resnet19", r"a classifier of torchvision, timm:NAME or clip:NAME, got 'resnet19' \(near: "),
        (weights, "efficientnet-lite0", "a classifier of 5 classes needs a file of their names"),
    ):
        with pytest.raises(ValueError, match=message):
            load_classifier(name, path)
    (weights.parent / "short.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="must have 5 or 6 lines"):
        load_classifier("efficientnet-lite0", weights, weights.parent / "short.txt")


def test_weights_run_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fc.bias": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_classifier("resnet18", tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_torchvision_classifier(tmp_path: Path) -> None:
    from torchvision.models import shufflenet_v2_x0_5

    torch.save(shufflenet_v2_x0_5(weights=None, num_classes=3).state_dict(), tmp_path / "w.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    classifier = load_classifier("shufflenet_v2_x0_5", tmp_path / "w.pth", tmp_path / "labels.txt")
    assert classifier.labels == ("a", "b", "c")
    prepared = classifier.prepare(torch.zeros(2, 30, 45, 3, dtype=torch.uint8), short_side=32)
    assert prepared.shape == (2, 3, 32, 64)  # 48 rounds to 64: halves go to the even multiple
    assert classifier.model(prepared).shape == (2, 3)


@pytest.mark.parametrize("method", ["pyws", "skimage"])
def test_small_frames_have_superpixels_of_their_own_size(method: str, tmp_path: Path) -> None:
    """Settings for large videos do not leave a small one without masks."""
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    frame = blocks.repeat(10, 0).repeat(10, 1)
    labels = Superpixels(tmp_path, region_area=3072, method=method)(frame, "v", "0")
    assert 4 <= labels.max() + 1 <= 16


def test_a_video_is_in_the_manifest_before_its_first_mask(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stops in it knows of which frames its masks are, and of which tags."""

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    frames = make_frames(tmp_path / "fox")
    monkeypatch.setattr("pyws.masks.initial_masks.pipeline.write_mask", stop)
    main(command(weights, tmp_path / "out", frames, "--tag", "red fox"))
    entry = json.loads((tmp_path / "out/manifest.json").read_text())["videos"]["fox"]
    assert entry["status"] == "started"
    assert entry["fingerprint"] == open_frames(frames).fingerprint()
    assert (entry["tags"], entry["frames"]) == (["red fox"], 5)
