"""Patches, composites and the tests of pseudo-annotations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from pyws import DataError
from pyws.data.video.frames import read_image, write_mask
from pyws.masks.self_training import frame_selection
from pyws.masks.self_training.cut_and_paste import Backgrounds, Square, composite, cut, foreground_square, parts_of
from pyws.masks.self_training.frame_selection import (
    PLACES,
    FrameSelector,
    SelectionConfig,
    _Candidate,
    _fill_classes,
    _pass_share,
    _passes,
    read_selection,
    summary,
    write_selection,
)
from pyws.masks.self_training.image_ops import as_images, gaussian_blur, resample
from pyws.masks.self_training.pseudo_annotations import Frame
from pyws.masks.self_training.selection_samples import PatchSource, write_samples
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig, auc, score_composites

SMALL = DiscriminatorConfig(patch_size=36, width=4, steps=6, batch=8)


def selector(config: SelectionConfig) -> FrameSelector:
    classifier: Any = SimpleNamespace(mean=(0.1, 0.2, 0.3))
    return FrameSelector(cast(Any, None), Path(), config, SMALL, classifier, 0, torch.device("cpu"))


def test_the_classifier_sees_normalised_pictures() -> None:
    """Its score is the softmax of what it says of (picture - mean) / std."""
    seen: list[torch.Tensor] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.mean((2, 3))

    mean, std, picture = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0), torch.rand(3, 4, 5, generator=torch.manual_seed(0))
    classifier: Any = SimpleNamespace(mean=mean, std=std, model=model)
    data: Any = SimpleNamespace(classes={1: (0, 2)})
    tested = FrameSelector(data, Path(), SelectionConfig(), SMALL, classifier, 0, torch.device("cpu"))
    one = _Candidate(Frame("v", "0"), {"label": 1}, pictured=picture)
    tested._test_by_classifier([one])
    wanted = (picture.numpy() - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    assert np.allclose(seen[0][0].numpy(), wanted, atol=1e-6)
    scores = np.exp(wanted.mean((1, 2))) / np.exp(wanted.mean((1, 2))).sum()
    assert one.about["classifier"] == pytest.approx(scores[[0, 2]].max(), abs=1e-5)


def prepared(picture: np.ndarray, mask: np.ndarray, config: SelectionConfig) -> _Candidate:
    """What is prepared of the label 1 of a video of one frame."""
    sample = cut([picture], 0, mask, Backgrounds([mask]), np.random.default_rng(0), config.context, PLACES)
    return selector(config)._candidate(Frame("v", "0"), {"label": 1}, sample, [Frame("v", "0")])


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.sampled_from([0.0, 0.25, 0.5]))
@settings(max_examples=40, deadline=None)
def test_foreground_square(mask: np.ndarray, context: float) -> None:
    square = foreground_square(mask, context)
    if square is None:
        assert not mask.any()
        return
    rows, columns = np.nonzero(mask)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    assert 0 <= square.top <= mask.shape[0] - square.side
    assert 0 <= square.left <= mask.shape[1] - square.side
    assert square.side == min(int(np.ceil(extent * (1 + context))), *mask.shape)
    if extent <= min(mask.shape):
        assert square.of(mask).sum() == mask.sum()


@given(st.lists(arrays(bool, (12, 17)), min_size=1, max_size=3), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_background_patches_have_no_foreground(masks: list[np.ndarray], side: int, seed: int) -> None:
    masks = [mask & (np.arange(17) < 9) for mask in masks]
    drawn, relaxed = Backgrounds([mask.astype(np.uint8) for mask in masks]).draw(side, np.random.default_rng(seed), 3)
    places = [
        mask[top : top + side, left : left + side].sum()
        for mask in masks
        for top in range(13 - side)
        for left in range(18 - side)
    ]
    assert len(drawn) == (0 if min(places) > 0.01 * side * side else 3)
    for index, square in drawn:
        covered = square.of(masks[index])
        assert covered.shape == (side, side)
        assert relaxed == (min(places) > 0)
        assert covered.sum() <= (0.01 * side * side if relaxed else 0)


def test_all_places_are_drawn() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 2] = 1
    backgrounds, rng = Backgrounds([mask]), np.random.default_rng(0)
    places = {place.square[:2] for place in backgrounds.draw(2, rng, 200)[0]}
    assert places == {(top, left) for top in range(3) for left in (0, 3, 4)}
    assert backgrounds.draw(4, rng) == ([], False)


def test_composite() -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 1, 3, 20, 20)
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 6:14, 6:14] = True
    pasted = composite(one, mask, other)
    torch.testing.assert_close(pasted[..., 10, 10], one[..., 10, 10])
    assert torch.equal(pasted[..., 1, 1], other[..., 1, 1])
    edge = (pasted - other)[..., 6, 10] / (one - other)[..., 6, 10]
    assert ((edge > 0.5) & (edge < 0.9)).all()  # the blur of a step, half a pixel inside
    assert torch.equal(composite(one, mask, one), one)
    torch.testing.assert_close(composite(one, torch.ones_like(mask), other), one)
    assert torch.equal(composite(one, mask, other, seam=0), torch.where(mask, one, other))


def test_cut_takes_the_background_of_another_frame() -> None:
    pictures = [np.full((20, 20, 3), value, np.uint8) for value in (50, 200)]
    masks = [np.zeros((20, 20), np.uint8) for _ in range(2)]
    masks[0][5:13, 5:13] = 3
    masks[0][0, :] = 1  # no place for a patch of 10 in the first frame: rows 1..19 left and right are too narrow
    masks[0][10, :] = 1
    sample = cut(pictures, 0, masks[0] == 3, Backgrounds(masks), np.random.default_rng(0))
    assert sample.real.shape == (3, 10, 10)
    assert sample.mask.sum() == 56
    assert (sample.real == 50 / 255).all()
    assert sample.pasted is not None
    assert sample.pasted.max() > 180 / 255
    assert sample.pasted[:, 2, 5].tolist() == pytest.approx([50 / 255] * 3, abs=0.05)
    with pytest.raises(ValueError, match="chosen must have at least one pixel, got none"):
        cut(pictures, 0, masks[0] == 2, Backgrounds(masks), np.random.default_rng(0))


def test_parts_of_a_mask() -> None:
    """Specks are no parts, and corners connect."""
    mask = np.zeros((20, 30), bool)
    mask[2:8, 2:8] = mask[8:12, 8:12] = mask[2:8, 20:28] = True
    mask[18, 0] = True
    assert [part.sum() for part in parts_of(mask)] == [36 + 16, 48]
    assert (parts_of(mask)[0] | parts_of(mask)[1] == (mask & (np.arange(20) < 18)[:, None])).all()
    assert parts_of(np.zeros((3, 3), bool)) == []


def samples(count: int, good: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Striped patches of a square on noise; a bad mask pastes a bright halo along."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.rand(count, 3, 36, 36, generator=generator) * 0.3
    real[:, :, 12:24, 12:24] = 0.6
    pasted = torch.rand(count, 3, 36, 36, generator=generator) * 0.3
    pasted[:, :, 12:24, 12:24] = 0.6
    if not good:
        pasted[:, :, 6:12] = 0.9
    return (real * 255).to(torch.uint8), (pasted * 255).to(torch.uint8)


def test_composites_with_a_seam_are_found_out() -> None:
    bad, good = samples(12, False, 0), samples(6, True, 1)
    real, pasted = (torch.cat(pair) for pair in zip(bad, good, strict=True))
    videos = [f"v{index % 6}" for index in range(18)]
    few = DiscriminatorConfig(patch_size=36, width=4, steps=24, batch=6, lr=5e-3)
    scores, found = score_composites(real, pasted, videos, few, 0, torch.device("cpu"))
    assert found > 0.65
    assert scores[:12].mean() < 0.2
    assert scores[12:].min() > scores[:12].max()


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc with stripes on a bright slope, and its mask."""
    y, x = np.mgrid[:72, :72]
    centre, radius = rng.uniform(24, 48, 2), rng.uniform(9, 13)
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    slope = 150 + 60 * np.sin((x + rng.uniform(0, 72)) / 30) + rng.normal(0, 6, (72, 72))
    disc = 60 + 30 * np.sin(y * 1.2) + rng.normal(0, 6, (72, 72))
    return np.repeat(np.where(mask, disc, slope)[..., None], 3, 2).clip(0, 255).astype(np.uint8), mask


def test_each_epoch_pastes_over_another_background() -> None:
    """The composites that are scored are over the first place, those of the epochs over the next, in turn."""
    generator = np.random.default_rng(0)
    pictures = {Frame("v", str(k)): generator.integers(0, 256, (20, 30, 3), np.uint8) for k in range(2)}
    data = SimpleNamespace(picture=pictures.__getitem__)
    mask = np.zeros((8, 8), bool)
    mask[2:6, 3:7] = True
    frames = list(pictures)
    places = [(frames[1], Square(0, 0, 8)), (frames[0], Square(12, 22, 8)), (frames[1], Square(5, 11, 8))]
    source = PatchSource(frames[0], Square(4, 6, 8), np.packbits(mask), places)
    for epoch, (frame, square) in ((0, places[1]), (1, places[2]), (2, places[0]), (3, places[1])):
        real, other = (as_images([one.of(pictures[of])]) for of, one in ((frames[0], source.square), (frame, square)))
        wanted = composite(real, torch.from_numpy(mask)[None], other)[0]
        assert torch.equal(source.composite(data, epoch + 1), wanted)


def test_pictures_of_what_passed_and_what_failed(tmp_path: Path) -> None:
    """Patch, patch under its mask, and composite; of a label without a background the first two."""
    picture = np.full((20, 30, 3), 200, np.uint8)
    data = SimpleNamespace(picture=lambda frame: picture)
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    tested = []
    for number in range(9):
        places = [(Frame("v", "0"), Square(0, 0, 8))] if number else []
        source = PatchSource(Frame("v", str(number)), Square(4, 6, 8), np.packbits(mask), places)
        tested.append(({"label": 1}, source, number < 8))
    write_samples(tmp_path, data, tested)
    said = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert [one["passed"] for one in said] == [True] * 6 + [False]
    assert said[-1]["frame"] == "8"
    shapes = [read_image(tmp_path / f"{number}.png").shape for number in range(7)]
    assert shapes == [(128, 256, 3)] + [(128, 384, 3)] * 6
    shown = read_image(tmp_path / "1.png")
    assert (shown[64, 64].tolist(), shown[64, 192].tolist(), shown[2, 130].tolist()) == ([200] * 3, [200] * 3, [50] * 3)


@pytest.mark.parametrize(
    ("covered", "untested", "asked", "shown"),
    [((0, 20), "close shot", False, True), ((6, 14), None, True, True), ((9, 10), "small", False, False)],
)
def test_close_shots_are_for_the_classifier_alone(covered, untested, asked, shown) -> None:
    """A mask that fills its patch shows no seam: the discriminator is not asked, the classifier is."""
    mask = np.zeros((20, 60), bool)
    mask[slice(*covered), slice(*covered)] = True
    picture = np.full((20, 60, 3), 100, np.uint8)
    found = prepared(picture, mask, SelectionConfig(context=0.25 if untested != "small" else 20.0))
    assert found.about.get("untested") == untested
    assert (found.patches is not None) == asked
    assert (found.pictured is not None) == shown


def test_without_a_background_masks_lie_on_the_mean_of_the_network() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:16, 4:16] = True
    found = prepared(np.full((20, 20, 3), 100, np.uint8), mask, SelectionConfig(classifier_size=15))
    assert found.about["untested"] == "no background"
    assert found.patches is None
    assert found.pictured[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.pictured[:, 7, 7].tolist() == pytest.approx([100 / 255] * 3)


def test_training_asks_for_fresh_composites_of_its_own_fold(capsys: pytest.CaptureFixture[str]) -> None:
    real, pasted = samples(12, True, 0)
    asked: list[tuple[int, list[int]]] = []

    def fresh(epoch: int, chosen: torch.Tensor) -> torch.Tensor:
        asked.append((epoch, chosen.tolist()))
        return pasted[chosen]

    config = DiscriminatorConfig(patch_size=36, width=2, steps=4, batch=6)
    videos = [f"v{index // 2}" for index in range(12)]
    scores, _ = score_composites(real, pasted, videos, config, 0, torch.device("cpu"), fresh, quiet=False)
    assert capsys.readouterr().err.count("step 4/4") == 2  # folds
    assert torch.equal(scores, score_composites(real, pasted, videos, config, 0, torch.device("cpu"))[0])
    first, second = ({index for _, rows in part for index in rows} for part in (asked[:4], asked[4:]))
    assert not first & second
    assert [epoch for epoch, _ in asked[:4]] == [0, 0, 1, 1]  # four samples of two videos, three a step


def test_samples_of_one_video_are_parted_among_the_folds_one_by_one() -> None:
    real, pasted = samples(12, True, 0)
    asked: list[set[int]] = []

    def fresh(epoch: int, chosen: torch.Tensor) -> torch.Tensor:
        asked.append(set(chosen.tolist()))
        return pasted[chosen]

    config = DiscriminatorConfig(patch_size=36, width=2, steps=2, batch=12)
    score_composites(real, pasted, ["v"] * 12, config, 0, torch.device("cpu"), fresh)
    first, second = set.union(*asked[:2]), set.union(*asked[2:])
    assert len(first) == len(second) > 3
    assert not first & second


def test_true_masks_score_above_shifted_ones() -> None:
    """Half the masks are true, half are shifted by a third of the disc; the discriminators see both as composites."""
    rng = np.random.default_rng(0)
    pairs, videos, true = [], [], []
    for number in range(48):
        frames, masks = zip(*(scene(rng) for _ in range(2)), strict=True)
        shifted = bool(number % 2)
        chosen = np.roll(masks[0], (8, 5), (0, 1)) if shifted else masks[0]
        backgrounds = Backgrounds([(mask | chosen).astype(np.uint8) for mask in masks])
        sample = cut(frames, 0, chosen, backgrounds, rng)
        if sample.pasted is not None:
            pairs.append((resample(torch.stack([sample.real, sample.pasted]), 36) * 255).round().to(torch.uint8))
            videos.append(f"v{number}")
            true.append(not shifted)
    real, pasted = torch.stack(pairs).unbind(1)
    config = DiscriminatorConfig(patch_size=36, width=6, steps=60, batch=32)
    scores, found = score_composites(real, pasted, videos, config, 0, torch.device("cpu"))
    chosen = torch.tensor(true)
    assert found > 0.65
    assert auc(scores[chosen], scores[~chosen]) >= 0.8


def test_a_blind_discriminator_leaves_the_choice_to_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    patch = torch.zeros(3, 36, 36, dtype=torch.uint8)
    frame = Frame("v", "0")

    def passes(found: float, tests: str) -> list[bool]:
        abouts = [{"label": 1, "classifier_pass": recognised} for recognised in (True, False)]
        monkeypatch.setattr(frame_selection, "score_composites", lambda *rest: (torch.tensor([0.2, 0.9]), found))
        candidates: list = [_Candidate(frame, about, (patch, patch), source="made of") for about in abouts]
        assert selector(SelectionConfig(label_tests=tests))._test_by_discriminator(candidates) == found
        return [_passes(about, tests) for about in abouts]

    assert passes(0.6, "both") == passes(0.6, "either") == [True, False]
    assert passes(0.7, "both") == [False, False]
    assert passes(0.7, "either") == [True, True]
    assert passes(0.6, "discriminator") == [False, True]


def test_scores_are_seeded_and_takes_one_video() -> None:
    real, pasted = samples(6, True, 0)
    for videos, folds in (("aaabbb", 2), ("aaaaaa", 2), ("abcdef", 1), ("aaabbb", 1)):
        chosen = DiscriminatorConfig(patch_size=36, width=2, steps=2, batch=4, folds=folds)
        scores = [
            score_composites(real, pasted, list(videos), chosen, seed, torch.device("cpu"))[0] for seed in (1, 1, 2)
        ]
        assert torch.equal(scores[0], scores[1])
        assert not torch.equal(scores[0], scores[2])
        assert ((scores[0] > 0) & (scores[0] < 1)).all()


def test_a_composite_is_never_scored_by_what_was_trained_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, asked = [], []

    def remember(real: torch.Tensor, *rest: object) -> None:
        seen.append(set(real[:, 0, 0, 0].tolist()))

    def ask(model: None, pasted: torch.Tensor, *rest: object) -> torch.Tensor:
        asked.append(set(pasted[:, 0, 0, 0].tolist()))
        return torch.zeros(len(pasted))  # once for the patches, once for their composites

    monkeypatch.setattr("pyws.masks.self_training.train_discriminator._train", remember)
    monkeypatch.setattr("pyws.masks.self_training.train_discriminator._scores", ask)
    real = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 36, 36)
    score_composites(real, real, [f"v{index // 2}" for index in range(10)], SMALL, 0, torch.device("cpu"))
    assert [one & other for one, other in zip(seen, asked[::2], strict=True)] == [set(), set()]
    assert asked[0] | asked[2] == set(range(10))
    assert asked[::2] == asked[1::2]


def test_resampling_keeps_the_mean() -> None:
    patches = torch.rand(1, 3, 100, 100)
    assert resample(patches, 50).mean().item() == pytest.approx(patches.mean().item(), abs=2e-3)


@pytest.mark.parametrize(
    ("real", "recognised", "passes"),
    [
        (True, True, "either both discriminator classifier none"),
        (True, False, "either discriminator none"),
        (False, True, "either classifier none"),
        (False, False, "none"),
    ],
)
def test_rules(real: bool, recognised: bool, passes: str) -> None:
    about = {"discriminator_pass": real, "classifier_pass": recognised}
    choices = ("either", "both", "discriminator", "classifier", "none")
    assert [tests for tests in choices if _passes(about, tests)] == passes.split()
    assert not _passes({}, "either")


def test_the_share_with_the_highest_softmax_passes_of_each_class() -> None:
    """Half of three and of two labels; one that was not shown does not count."""
    scores = [(1, 0.9), (1, 0.2), (1, 0.95), (2, 0.4), (2, 0.3), (2, None)]
    labels = [{"label": label, "classifier": score} for label, score in scores]
    _pass_share(labels, "classifier", 0.5)
    assert [about.get("classifier_pass") for about in labels] == [True, False, True, True, False, None]
    _pass_share(labels, "classifier", 1.0)
    assert [about.get("classifier_pass") for about in labels] == [True] * 5 + [None]


def test_the_labels_that_a_model_reproduces_best_pass_of_each_class(tmp_path: Path) -> None:
    """One of two frames of a cat and two of four of a dog, none that the model lacks; pixels left out do not count,
    and what a person drew is trained on in any case."""
    first = {name: np.full((2, 5), label, np.uint8) for name, label in zip("abcdef", (1, 1, 2, 2, 2, 2), strict=True)}
    first["b"][1] = 255
    predicted = {name: mask.copy() for name, mask in first.items()}
    predicted["a"][:, 4], predicted["b"] = 0, np.array([[1, 1, 1, 0, 0], [1] * 5], np.uint8)
    predicted["c"][0], predicted["d"], predicted["e"], predicted["f"] = 0, first["a"], first["a"], first["a"]
    for name, mask in predicted.items():
        write_mask(Frame("v", name).png(tmp_path), mask)
    data = SimpleNamespace(mask=lambda folder, frame: first[frame.stem], corrected={Frame("v", "f")})
    test = FrameSelector(
        cast(Any, data), Path(), SelectionConfig(label_tests="none"), SMALL, None, 0, torch.device("cpu")
    )
    found = test.select_reproduced([Frame("v", name) for name in first], tmp_path, 0.5)
    assert [row["labels"][0]["reproduced"] for row in found] == [0.8, 0.6, 0.5, 0, 0, 0]
    assert [row["frame"] for row in found if row["selected"]] == ["a", "c", "f"]
    assert summary(found, ("background", "cat", "dog"))["reproduced"] == 2


def rows() -> list[dict]:
    def row(frame: str, label: int, score: float, selected: bool) -> dict:
        about = {"label": label, "discriminator": score, "classifier": None, "discriminator_pass": selected}
        return {"video": "v", "frame": frame, "labels": [about], "selected": selected}

    return [row("a", 1, 0.9, True), row("b", 1, 0.2, False), row("c", 2, 0.1, False), row("d", 2, 0.3, False)]


def test_starved_classes_are_filled() -> None:
    table = rows()
    _fill_classes(table, 0)
    assert [row["selected"] for row in table] == [True, False, False, False]
    _fill_classes(table, 1)
    assert [row["selected"] for row in table] == [True, False, False, True]
    assert summary(table, ("background", "cat", "dog"))["classes"] == {
        "cat": {"frames": 2, "selected": 1},
        "dog": {"frames": 2, "selected": 1},
    }


def test_labels_are_counted_by_what_they_passed() -> None:
    """A test that was not made is none that was passed."""
    tests = [{"discriminator_pass": True}, {"classifier_pass": True, "untested": "x"}, {}, {"reproduced_pass": True}]
    tests += [
        {"discriminator_pass": real, "classifier_pass": known} for real in (True, False) for known in (True, False)
    ]
    found = summary(
        [{"labels": [{"label": 1, **one} for one in tests], "selected": True}, {"labels": [], "selected": False}],
        ("background", "cat"),
    )
    assert found == {
        "frames": 2, "selected": 1, "empty": 1, "labels": 8, "by_discriminator_only": 2, "by_classifier_only": 2,
        "by_both": 1, "reproduced": 1, "untested": 1, "classes": {"cat": {"frames": 1, "selected": 1}},
    }  # fmt: skip


def test_selection_files(tmp_path: Path) -> None:
    path = tmp_path / "select" / "v0.jsonl"
    write_selection(path, rows())
    assert read_selection(path) == rows()
    path.write_text(path.read_text() + '{"video": "v"}\n')
    with pytest.raises(DataError, match=r"v0.jsonl: line 5: must be a row of a selection"):
        read_selection(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_selection(tmp_path / "none.jsonl")


def test_bad_settings() -> None:
    for make, message in (
        (lambda: SelectionConfig(min_share=0.9, max_share=0.5), "min_share < max_share"),
        (lambda: SelectionConfig(select_share=0.0), r"select_share must be in \(0, 1\], got 0.0"),
        (lambda: SelectionConfig(label_tests="none", select_share=0.5), "label_tests 'none' leaves out"),
        (lambda: DiscriminatorConfig(quantile=0.0), "quantile must be in"),
        (lambda: DiscriminatorConfig(folds=3), "folds must be 1 or 2, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_pictures_are_blurred_to_three_standard_deviations(sigma: float) -> None:
    image = np.random.default_rng(0).random((2, 3, 11, 15))
    expected = ndimage.gaussian_filter(image, (0, 0, sigma, sigma), mode="nearest", radius=math.ceil(3 * sigma))
    np.testing.assert_allclose(gaussian_blur(torch.from_numpy(image), sigma), expected, atol=1e-9)


@pytest.mark.parametrize(("tests", "drawn"), [("none", False), ("classifier", True)])
def test_pictures_are_of_what_was_tested(
    tests: Any, drawn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(frame_selection, "write_samples", lambda folder, data, samples: calls.append(folder))
    monkeypatch.setattr(frame_selection, "_rows", lambda *given: [])
    assert selector(SelectionConfig(label_tests=tests, select_share=None)).select([], tmp_path) == ([], None)
    assert calls == [tmp_path] * drawn
    square = Square(1, 3, 2).of(np.arange(30).reshape(5, 6))
    assert square.tolist() == [[9, 10], [15, 16]]


def test_the_discriminator_sees_the_real_patches_and_the_pasted_ones(monkeypatch):
    """And each score goes to the composite that it is of; frames without a composite have none."""
    seen = []

    def scored(real, pasted, videos, *_):
        seen.append((real, pasted, videos))
        return torch.tensor([0.25, 0.75]), 0.9

    monkeypatch.setattr(frame_selection, "score_composites", scored)

    def candidate(video, patches):
        frame = SimpleNamespace(video=video)
        return SimpleNamespace(frame=frame, patches=patches, source=patches and object(), about={})

    found = [
        candidate("a", (torch.zeros(3, 2, 2), torch.ones(3, 2, 2))),
        candidate("b", None),
        candidate("c", (torch.full((3, 2, 2), 2.0), torch.full((3, 2, 2), 3.0))),
    ]
    selector: Any = SimpleNamespace(
        discriminator=DiscriminatorConfig(threshold=0.5, quantile=None), config=SelectionConfig(),
        seed=0, device=torch.device("cpu"), quiet=True, data=None,
    )  # fmt: skip
    assert FrameSelector._test_by_discriminator(selector, cast(Any, found)) == 0.9
    ((real, pasted, videos),) = seen
    assert real[:, 0, 0, 0].tolist() == [0.0, 2.0]
    assert pasted[:, 0, 0, 0].tolist() == [1.0, 3.0]
    assert videos == ["a", "c"]
    assert [one.about for one in found] == [
        {"discriminator": 0.25, "discriminator_pass": False}, {}, {"discriminator": 0.75, "discriminator_pass": True}
    ]  # fmt: skip
