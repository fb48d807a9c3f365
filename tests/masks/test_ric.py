"""RII, mIoU_PA and RIC: cases by hand, the guards, and that better masks score higher."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyws.masks.self_training.ric import Criterion
from pyws.ops import superpixel_vote


def scores(prediction, annotation, superpixels, num_classes=4, **options):
    criterion = Criterion(num_classes, **options)
    criterion.add(prediction, annotation, superpixels)
    return criterion.scores()


def frames(batch=3, height=24, width=32):
    """Superpixels of 4x4 pixels, and annotations of two classes aligned with them."""
    rows, columns = torch.arange(height)[:, None] // 4, torch.arange(width)[None] // 4
    superpixels = (rows * (width // 4) + columns).expand(batch, -1, -1).contiguous()
    annotation = torch.zeros(batch, height, width, dtype=torch.int64)
    for b in range(batch):
        annotation[b, 4:16, 4 * b : 4 * b + 12] = 1 + b % 2
    return superpixels, annotation


def by_hand(predictions, annotations, superpixels, num_classes, first=1):
    """The definition with sets of pixels, class by class."""
    refined = superpixel_vote(superpixels, predictions, num_classes).classes
    classes = {c for c in range(first, num_classes) if bool((predictions == c).any()) or bool((annotations == c).any())}

    def mean_iou(one, two):
        ious = []
        for c in classes:
            a, b = one == c, two == c
            either = int((a | b)[two != 255].sum())
            ious.append(int((a & b).sum()) / either if either else 0.0)
        return sum(ious) / len(ious)

    return mean_iou(predictions, refined), mean_iou(refined, annotations)


def test_three_classes_by_hand():
    # Superpixels of 4, 4, 4 and 2 pixels. Class 1 fills 3 of 4 and 1 of 4, class 2 fills 2 of 4 (not more than half),
    # class 3 nothing. Refined: superpixel 0 is class 1, the others background.
    superpixels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]]])
    prediction = torch.tensor([[[1, 1, 1, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 0]]])
    annotation = torch.tensor([[[1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 3, 3]]])
    got = scores(prediction, annotation, superpixels)
    # class 1: |p & r| = 3, |p | r| = 5; class 2: 0 of 2; class 3: 0 of nothing, but annotated
    assert got.rii == pytest.approx((3 / 5 + 0 + 0) / 3)
    # class 1: |r & a| = 4 of 6; class 2: neither refined nor annotated, but predicted; class 3: 0 of 2
    assert got.miou_pa == pytest.approx((4 / 6 + 0 + 0) / 3)
    assert got.ric == got.miou_pa + 0.5 * got.rii
    assert got.rii_of_class.isnan().tolist() == [True, False, False, False]
    with_background = scores(prediction, annotation, superpixels, include_background=True)
    assert with_background.rii_of_class[0] == pytest.approx(7 / 11)
    assert with_background.rii == pytest.approx((7 / 11 + 3 / 5) / 4)
    binary = scores(prediction, annotation, superpixels, binary=True)
    assert binary.rii == pytest.approx(3 / 7)
    assert binary.miou_pa == pytest.approx(4 / 8)
    assert len(binary.rii_of_class) == len(binary.miou_pa_of_class) == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_equals_the_definition_on_noise(dtype):
    generator = torch.Generator().manual_seed(0)
    superpixels, annotation = frames()
    noisy = torch.where(torch.rand(annotation.shape, generator=generator) < 0.3, 3, annotation)
    annotation[torch.rand(annotation.shape, generator=generator) < 0.1] = 255
    got = scores(noisy.to(dtype), annotation.to(dtype), superpixels.int())
    assert (got.rii, got.miou_pa) == pytest.approx(by_hand(noisy, annotation, superpixels, 4))
    got = scores(noisy.to(dtype), annotation.to(dtype), superpixels.int(), include_background=True)
    assert (got.rii, got.miou_pa) == pytest.approx(by_hand(noisy, annotation, superpixels, 4, first=0))


def test_batches_add_up():
    superpixels, annotation = frames()
    prediction = annotation.roll(2, dims=2)
    whole = scores(prediction, annotation, superpixels)
    parts = Criterion(4)
    for b in range(len(annotation)):
        parts.add(prediction[b : b + 1], annotation[b : b + 1], superpixels[b : b + 1])
    assert parts.scores().ric == whole.ric


@pytest.mark.parametrize("options", [{}, {"include_background": True}, {"binary": True}], ids=str)
def test_an_all_background_model_is_the_worst(options):
    superpixels, annotation = frames()
    generator = torch.Generator().manual_seed(0)
    nothing = scores(torch.zeros_like(annotation), annotation, superpixels, **options)
    assert nothing.rii == 0
    others = {
        "annotation": annotation,
        "half": annotation * (torch.arange(32) % 2),
        "one class everywhere": torch.ones_like(annotation),
        "noise": torch.randint(0, 4, annotation.shape, generator=generator),
        "shifted": annotation.roll(2, dims=1),
    }
    rics = {name: scores(prediction, annotation, superpixels, **options).ric for name, prediction in others.items()}
    if not options.get("include_background"):
        assert nothing.ric == 0
        assert min(rics.values()) >= nothing.ric
    assert rics["annotation"] == max(rics.values()) == 1.5
    assert rics["shifted"] > nothing.ric


def test_one_empty_frame_does_not_hide():
    superpixels, annotation = frames(2)
    prediction = annotation.clone()
    prediction[1] = 0
    got = scores(prediction, annotation, superpixels)
    assert got.rii == got.miou_pa == 0.5  # class 2 is annotated on the second frame only


def test_masks_like_the_annotation_beat_noisy_ones():
    superpixels, annotation = frames()
    generator = torch.Generator().manual_seed(1)
    previous = math.inf
    for share in (0.0, 0.1, 0.3, 0.45, 0.6):
        flip = torch.rand(annotation.shape, generator=generator) < share
        ric = scores(torch.where(flip, 0, annotation), annotation, superpixels).ric
        assert ric < previous
        previous = ric


def test_superpixels_beyond_beta_become_background():
    superpixels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]])
    mask = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]])
    assert scores(mask, mask, superpixels, beta=0.6).miou_pa == 0
    assert scores(mask, mask, superpixels, beta=0.61).miou_pa == 1


def test_nothing_to_compare():
    superpixels, annotation = frames()
    empty = torch.zeros_like(annotation)
    assert Criterion(4).scores().ric == 0
    assert scores(empty, empty, superpixels).ric == 0
    assert scores(empty, empty, superpixels, include_background=True).ric == 1.5
    assert scores(empty, torch.full_like(empty, 255), superpixels).ric == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "Criterion: num_classes must be >= 2, got 1"),
        ({"weight": -1}, "Criterion: weight must be >= 0, got -1"),
        ({"weight": np.nan}, "Criterion: weight must be >= 0, got nan"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Criterion(**{"num_classes": 4, **options})


def test_classes_out_of_range():
    superpixels, annotation = frames()
    with pytest.raises(ValueError, match=r"must be in 0..3"):
        scores(annotation + 3, annotation, superpixels)
    with pytest.raises(ValueError, match=r"must be in 0..3"):
        scores(annotation, annotation - 1, superpixels)


def test_frames_that_were_dealt_out_are_joined_in_their_order() -> None:
    superpixels, annotation = frames()
    prediction = annotation.roll(2, dims=2)
    whole, parts = Criterion(4), (Criterion(4), Criterion(4))
    for b in range(len(annotation)):
        for criterion in (whole, parts[b % 2]):
            criterion.add(prediction[b : b + 1], annotation[b : b + 1], superpixels[b : b + 1])
    held = [torch.cat(part._frames) for part in parts]
    parts[1].join(SimpleNamespace(world=2, gather=lambda _: held))
    assert torch.equal(torch.cat(parts[1]._frames), torch.cat(whole._frames))
    assert (parts[1].scores().ric, parts[1].spread()) == (whole.scores().ric, whole.spread())


def test_spread_against_resampled_frames() -> None:
    """The standard deviation over many draws, each scored by a criterion of its own."""
    generator = torch.Generator().manual_seed(0)
    frames = [
        (*torch.randint(3, (2, 1, 6, 8), generator=generator), torch.arange(48).reshape(1, 6, 8) // 4) for _ in range(5)
    ]
    whole = Criterion(3)
    for prediction, annotation, superpixels in frames:
        whole.add(prediction, annotation, superpixels)
    found = []
    for _ in range(400):
        one = Criterion(3)
        for index in torch.randint(5, (5,), generator=generator):
            one.add(*frames[index])
        found.append(one.scores().ric)
    assert whole.spread(400)["ric"] == pytest.approx(float(torch.tensor(found).std(correction=0)), rel=0.15)
    assert whole.spread() == whole.spread()
    alone = Criterion(3)
    alone.add(*frames[0])
    assert alone.spread() == {"rii": 0.0, "miou_pa": 0.0, "ric": 0.0}
