"""Operations of pyws on seeded inputs, for same_bits.py: all of them, in many shapes, dtypes and layouts.

Each function takes a seeded generator of random numbers and yields labels and results.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import pyws
from pyws import Segments, ops

Case = tuple[str, Any]
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def strided(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same values in several layouts."""
    yield "contiguous", tensor
    yield "transposed", tensor.mT.contiguous().mT
    yield "last", tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    yield "sliced", torch.stack([tensor, tensor], -1)[..., 0]


def gradcam3d(g: torch.Generator) -> Iterator[Case]:
    shapes = ((2, 7, 5), (3, 5, 6, 7), (2, 33, 4, 9, 17), (4, 96, 8, 28, 28))
    for shape, dtype in itertools.product(shapes, FLOATS):
        activations, gradients = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
        weight = torch.randn(5, shape[1], generator=g).to(dtype)
        for layout, viewed in strided(activations):
            for normalize in (None, "minmax"):
                yield f"{dtype} {layout}", ops.gradcam3d(viewed, gradients, normalize)
            if viewed.numel() < 1e5:
                yield f"from head {dtype} {layout}", ops.gradcam3d_from_head(viewed, weight, "minmax")
        if dtype in (torch.float32, torch.float64) and activations.numel() < 1e5:
            inputs = (activations.requires_grad_(), gradients.requires_grad_())
            maps = ops.gradcam3d(*inputs, "minmax")
            yield f"backward {dtype}", torch.autograd.grad((maps * maps.detach().sin()).sum(), inputs)


def otsu(g: torch.Generator) -> Iterator[Case]:
    for shape, dtype in itertools.product(((3, 1), (5, 11, 13), (2, 3, 20, 31), (40, 240, 320)), FLOATS):
        maps = torch.rand(shape, generator=g).pow(3).to(dtype)
        maps[0] = 0.5
        for layout, viewed in strided(maps):
            yield f"{dtype} {layout}", ops.otsu(viewed)


def otsu_masks(g: torch.Generator) -> Iterator[Case]:
    sizes = (((7, 5), (31, 17)), ((14, 14), (240, 427)), ((3, 1), (2, 3)), ((30, 40), (30, 40)), ((40, 50), (13, 11)))
    for (low, high), dtype in itertools.product(sizes, FLOATS):
        maps = torch.rand((3, 4, *low), generator=g).to(dtype)
        maps[0, 0] = 0.25
        for layout, viewed in strided(maps):
            yield f"{dtype} {layout}", ops.otsu_masks(viewed, high)


def _superpixels(g: torch.Generator, shape: tuple[int, int, int], dtype: torch.dtype, gap: int = 1) -> Tensor:
    batch, height, width = shape
    cells = torch.randint(0, 40, (batch, 1 + height // 6, 1 + width // 5), generator=g)
    grown = cells.repeat_interleave(6, 1).repeat_interleave(5, 2)[:, :height, :width]
    return (grown * gap).to(dtype)


def superpixels(g: torch.Generator) -> Iterator[Case]:
    shapes = ((1, 1, 1), (2, 23, 37), (5, 64, 65), (24, 240, 320))
    for shape, dtype, gap in itertools.product(shapes, (torch.int32, torch.int64), (1, 3)):
        labels = _superpixels(g, shape, dtype, gap)
        mask = torch.rand(shape, generator=g) < _superpixels(g, shape, torch.int64) / 40
        mask[0] = False
        mask[0, 0, 0] = True  # less than a superpixel, where the overlaps differ
        for overlap, bounded in itertools.product(("superpixel", "min"), ("superpixel", "component")):
            for layout, viewed in list(strided(labels))[:2]:
                found = ops.superpixel_select(viewed, mask, 0.5, 0.05, overlap, beta_on=bounded)
                yield f"select {overlap} {bounded} {layout}", found
        yield "select iou", ops.superpixel_select(labels, mask, 0.01, 2.0, "iou", 130)
        for classes_dtype in (torch.uint8, torch.int32, torch.int64):
            classes = _superpixels(g, shape, torch.int64).remainder(5).to(classes_dtype)
            classes[mask] = torch.randint(0, 5, (int(mask.sum()),), generator=g).to(classes_dtype)
            annotation = _superpixels(g, shape, torch.int64).remainder(5).to(classes_dtype)
            annotation[..., 0] = 255
            classes[..., -1, 0] = 0
            yield f"vote {classes_dtype}", ops.superpixel_vote(labels, classes, 5, 0.3)
            yield f"confusion {classes_dtype}", ops.superpixel_confusion(labels, classes, annotation, 5, 0.3, 0.2)


def slic(g: torch.Generator) -> Iterator[Case]:
    for height, width in ((1, 9), (37, 53), (64, 96), (240, 321)):
        smooth = nn.functional.interpolate(torch.rand(3, 3, 5, 7, generator=g), (height, width), mode="bilinear")
        images = (smooth + 0.1 * torch.rand(3, 3, height, width, generator=g)).clamp(0, 1)
        mask = torch.rand(3, height, width, generator=g) < 0.8
        few = max(1, height * width // 150)
        for dtype in (torch.uint8, *FLOATS):
            typed = (images * 255).to(dtype) if dtype == torch.uint8 else images.to(dtype)
            yield f"{dtype}", ops.slic(typed, few)
        for layout, viewed in strided(images):
            yield layout, ops.slic(viewed, few, 20.0, 4)
        yield "mask", ops.slic(images, few, mask=mask)
        yield "options", ops.slic(images, region_area=77.5, min_size_factor=0.0, iterations=3)
        yield "options", ops.slic(images, few, 1.0, min_size_factor=2.0)


def background_patches(g: torch.Generator) -> Iterator[Case]:
    for shape in ((1, 1, 1), (3, 17, 29), (6, 120, 161)):
        masks = torch.rand(shape, generator=g) < 0.02
        for layout, viewed in list(strided(masks))[:2]:
            yield f"integral {layout}", ops.integral_image(viewed)
        integral = ops.integral_image(masks)
        frames, sides = (torch.randint(low, high, (200,), generator=g) for low, high in ((0, shape[0]), (1, 20)))
        for share in (0.0, 0.1):
            counts = ops.count_patches(integral, frames, sides, share)
            ranks = (torch.rand(200, generator=g) * (counts + 1)).long()
            yield "count", counts
            yield "find", ops.find_patches(integral, frames, sides, ranks, share)


def _segments(g: torch.Generator, groups: int, max_size: int, lengths: Tensor, real: bool = True) -> Segments:
    """Random segments with some equal scores, some empty groups and some negative weights."""
    sizes = torch.randint(0, max_size + 1, (groups,), generator=g)
    sizes[groups // 2] = 0
    length = lengths.repeat_interleave(sizes).double()
    start, width, score, weight = torch.rand(4, int(sizes.sum()), generator=g, dtype=torch.float64)
    start = start * (length - 1)
    end = torch.minimum(start + 1 + width**2 * length / 3, length)
    if not real:
        start, end = start.floor(), end.ceil()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    return Segments(start, end, (score * 40).round() / 40, weight * 1.1 - 0.1, offsets)


def propose_segments(g: torch.Generator) -> Iterator[Case]:
    for lengths, classes in (((1, 2, 0, 37), 3), ((120, 75, 333), 20), ((750,) * 20, 20)):
        offsets = torch.tensor([0, *itertools.accumulate(lengths)])
        smooth = torch.rand(1, classes, 2 + int(offsets[-1]) // 7, generator=g, dtype=torch.float64)
        tcam = nn.functional.interpolate(smooth, int(offsets[-1]), mode="linear")[0].T.pow(4).contiguous()
        wanted = torch.rand(len(lengths), classes, generator=g) < 0.5
        for dtype in (torch.float32, torch.float64):
            typed = tcam.to(dtype)
            for viewed in (typed, typed.T.contiguous().T, torch.stack([typed, typed], 2)[..., 0]):
                yield f"released {dtype}", ops.propose_segments(viewed, offsets)
                yield f"paper {dtype}", ops.propose_segments(viewed, offsets, [0.05, 0.2, 0.5], "paper", 1, 0.3)
            yield f"wanted {dtype}", ops.propose_segments(typed, offsets, [0.1, 0.3], "paper", wanted=wanted)


def fuse_segments(g: torch.Generator) -> Iterator[Case]:
    for groups, max_size in ((1, 1), (9, 30), (200, 120), (2, 3000)):
        lengths = torch.randint(20, 400, (groups,), generator=g)
        for real in (True, False):
            segments = _segments(g, groups, max_size, lengths, real)
            for overlap in ("iou", "own"):
                for distribution in ("gaussian", "uniform", "exponential", "t"):
                    for iou, temperature in ((0.25, 0.1), (0.6, 0.003), (0.0, 5.0)):
                        fused = ops.fuse_segments(
                            segments, iou, temperature, overlap, distribution, return_membership=True
                        )
                        yield f"fuse {overlap} {distribution}", fused
                signed = ops.fuse_segments(segments, 0.25, 0.1, overlap, sign_weights=True)
                yield f"fuse {overlap} signed", signed
                for sigma in (None, 0.3):
                    kept = ops.suppress_segments(segments, 0.4, overlap, sigma, return_indices=True)
                    yield f"suppress {overlap} {sigma}", kept


def match_segments(g: torch.Generator) -> Iterator[Case]:
    for classes, videos, max_size in ((1, 1, 1), (3, 7, 20), (20, 60, 40)):
        lengths = torch.full((classes * videos,), 100)
        predictions, truth = (_segments(g, classes * videos, size, lengths, False) for size in (max_size, 3))
        class_offsets = torch.arange(0, classes * videos + 1, videos)
        yield "", ops.match_segments(predictions, truth, class_offsets, [0.1 * i for i in range(1, 10)])


def class_mean(g: torch.Generator) -> Iterator[Case]:
    for groups, max_size in ((3, 4), (40, 60)):
        lengths = torch.randint(0, 500, (groups,), generator=g).clamp(min=1)
        segments = _segments(g, groups, max_size, lengths)
        for geometry, margin in itertools.product(("paper", "released"), (None, 0.0, 0.4)):
            classes = ops.snippet_classes(segments, lengths, margin, geometry)
            yield f"snippet_classes {geometry}", classes
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        for dtype, columns in itertools.product((torch.float32, torch.float64), ((), (1,), (7,))):
            values = (
                torch.randn(int(offsets[-1]), *columns, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
            )
            means = ops.class_mean(values, classes.ids, classes.class_offsets, offsets)
            yield f"{dtype}", means
            yield f"{dtype}", ops.class_mean(values, classes.ids, int(classes.class_offsets[-1]))
            yield f"backward {dtype}", torch.autograd.grad((means * means.detach().cos()).sum(), values)


def linpro(g: torch.Generator) -> Iterator[Case]:
    lengths = torch.randint(30, 400, (24,), generator=g)
    few = _segments(g, 24, 6, lengths)
    offsets = torch.tensor([0, 300, 420, 1000])
    smooth = torch.rand(1, 8, 150, generator=g, dtype=torch.float64)
    tcam = nn.functional.interpolate(smooth, 1000, mode="linear")[0].T.pow(3).contiguous()
    proposals = ops.propose_segments(tcam, offsets, [0.05 * i for i in range(1, 15)], "paper")
    fused = ops.fuse_segments(replace(proposals, weight=proposals.score), 0.25, 0.1)
    for segments, snippets in ((few, lengths), (fused, offsets.diff().repeat_interleave(8))):
        for preset, rows, tie_break in itertools.product(
            ("paper", "released"), ("sum", "mean"), ("canonical", "center")
        ):
            for margin, upper in ((None, None), (0.1, 0.3), (0.0, None)):
                options: dict[str, Any] = {"margin": margin, "upper": upper, "rows": rows, "tie_break": tie_break}
                yield f"{preset} {rows} {tie_break}", pyws.segments.linpro(segments, snippets, preset, **options)
            yield f"{preset}", pyws.segments.linpro(segments, snippets, preset)


def detection_map(g: torch.Generator) -> Iterator[Case]:
    def video(count: int) -> list[dict[str, Any]]:
        rows = torch.rand(count, 4, generator=g, dtype=torch.float64).tolist()
        return [
            {"label": f"class{int(4 * a)}", "score": round(b, 2), "segment": [90 * c, 90 * c + 10 * d + 0.1]}
            for a, b, c, d in rows
        ]

    names = [f"video{i:02}" for i in range(12)]
    predictions = {"version": "1", "results": {name: video(40) for name in names}, "external_data": {}}
    for protocol, subset in (("thumos14", "test"), ("activitynet", "validation"), ("wtalc", "test")):
        database = {name: {"subset": subset, "duration": 100.0, "annotations": video(5)} for name in names}
        scores = pyws.evaluation.detection_map(predictions, {"database": database}, protocol)
        yield protocol, (scores.ap, scores.map)


def grad_cam(g: torch.Generator) -> Iterator[Case]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5))
    clips = torch.randn(2, 3, 6, 20, 20, generator=g)
    targets: tuple[Any, ...] = (3, [3, 0], [[0, 3], [1, 2]], None)
    for head, classes in itertools.product(("auto", "autograd", model[4]), targets):
        with pyws.masks.GradCAM(model, "1", head) as cam:
            yield "", cam(clips, classes, "minmax")


def models(g: torch.Generator) -> Iterator[Case]:
    features, mask = torch.randn(3, 40, 24, generator=g), torch.ones(3, 40, dtype=torch.bool)
    mask[1, 25:] = False
    for name in ("RSKP", "STPN", "BM", "WUM", "FACNet"):
        torch.manual_seed(5)
        model = getattr(pyws.models, name)(24, 4).eval()
        with torch.no_grad():
            found = model(features, mask)
        yield name, (list(model.state_dict().values()), found.scores, found.tcam)
    torch.manual_seed(5)
    model = importlib.import_module("pyws.models.video_networks.i3d").I3D(7).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 8, 32, 32, generator=g))
    yield "I3D", (list(model.state_dict().values()), logits)


OPERATIONS: tuple[Callable[[torch.Generator], Iterator[Case]], ...] = (
    gradcam3d, otsu, otsu_masks, superpixels, slic, background_patches, propose_segments, fuse_segments,
    match_segments, class_mean, linpro, detection_map, grad_cam, models,
)  # fmt: skip
