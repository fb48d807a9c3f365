"""Tensors of more than 2^32 elements: the kernels find their way with 64-bit offsets.

The tensors are mapped and never filled: only the last blocks of each grid, or the last units of work of a CPU kernel,
are run, which touch the last item alone, and the rest stays pages that the system never hands out. What must come is
what the CPU says of the last item by itself. Before and behind the elements lies a page that nobody may touch: what
reads or writes there crashes. So do tensors of few elements end, whose last block is not full.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import emulation
import pytest
import torch
from torch import Tensor

from pyws import Segments, ops
from pyws.ops import _library

pytestmark = pytest.mark.skipif(bool(emulation.SANITIZE), reason="shadow memory is not made for so many addresses")

BEYOND = 2**32  # unsigned numbers of 32 bits do not do either
NO_RESERVE = 0x4000  # mmap.MAP_NORESERVE, which Python names from 3.12 on
FROM_HERE = 1 << 24  # bytes
VECTOR = 16  # bytes that the kernels load at once, where a tensor begins at a multiple of them
LIBC = ctypes.CDLL(None)


def vast(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    """Zeros whose pages come into being where they are touched, between two pages that are locked."""
    count = torch.Size(shape).numel()
    if count == 0:
        return torch.zeros(shape, dtype=dtype)
    size = max(1, count * dtype.itemsize)
    end = mmap.PAGESIZE - (-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        pages = mmap.mmap(-1, end + mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    except OSError as error:
        pytest.skip(f"this system maps no {size} bytes: {error}")
    first = torch.frombuffer(pages, dtype=torch.uint8).data_ptr()
    for lock in (first, first + end):
        assert LIBC.mprotect(ctypes.c_void_p(lock), mmap.PAGESIZE, 0) == 0
    at = (end - size) // VECTOR * VECTOR
    return torch.frombuffer(pages, dtype=dtype, count=count, offset=at).view(shape)


@pytest.fixture(params=["cuda", *_library._C.cpu_paths()])
def emulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The last blocks of the emulated kernels or the last units of the CPU's, with vast tensors wherever the operations
    allocate."""
    plain_zeros = torch.zeros

    def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        small = torch.Size(shape).numel() * 8 < FROM_HERE
        return plain_zeros(shape, dtype=dtype) if small else vast(*shape, dtype=dtype)

    def of_tensor(self: Tensor, *shape: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return zeros(tuple(shape[0]) if isinstance(shape[0], (tuple, list)) else shape, dtype or self.dtype)

    def anywhere(*shape: Any, dtype: torch.dtype = torch.float32, **_: Any) -> Tensor:
        return zeros(tuple(shape[0]) if isinstance(shape[0], (tuple, list)) else shape, dtype)

    monkeypatch.setattr(torch.Tensor, "new_empty", of_tensor)
    monkeypatch.setattr(torch.Tensor, "new_zeros", of_tensor)
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **_: self)
    monkeypatch.setattr(torch, "empty", anywhere)
    monkeypatch.setattr(torch, "empty_like", lambda other, dtype=None, **_: zeros(other.shape, dtype or other.dtype))
    module, on_card = emulation.load(), request.param == "cuda"
    backend = _library.KernelBackend(module, "_cuda" if on_card else "_cpu", lambda: 1 if on_card else 2)
    monkeypatch.setattr(_library, "BACKEND", backend)
    before = module.cpu_path()
    if not on_card:
        module.set_cpu_path(request.param)
    with emulation.last_blocks(64):
        yield request.param
    module.set_cpu_path(before)


def last_items(shape: tuple[int, ...], values: Tensor) -> Tensor:
    """So many items of a shape that they exceed 2^32 elements; the last one is ``values``."""
    tensor = vast(BEYOND // torch.Size(shape).numel() + 3, *shape, dtype=values.dtype)
    tensor[-1] = values
    return tensor


G = torch.Generator().manual_seed(3)
MAP = torch.rand(8, 8, generator=G).half()
LABELS = torch.arange(256).reshape(16, 16).div(40, rounding_mode="floor").int()
MASK = torch.rand(16, 16, generator=G) < 0.4


def check(monkeypatch: pytest.MonkeyPatch, found: Tensor, run: Callable[[], Tensor]) -> None:
    """``found`` is what ``run`` gives on the CPU, and is not what untouched pages hold."""
    monkeypatch.undo()
    assert bool(found.any())
    torch.testing.assert_close(found, run())


def kernel_of(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
    """What launches the kernels of an operation, without the checks that read all of its tensors."""
    return getattr(sys.modules[operation.__module__], name)  # type: ignore[no-any-return]


def test_otsu(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = kernel_of(ops.otsu, "_kernel")(last_items((8, 8), MAP))[-1:]
    check(monkeypatch, found, lambda: ops.otsu(MAP[None]))


@pytest.mark.parametrize("size", [(8, 8), (16, 16)], ids=["maps beyond", "masks beyond"])
def test_otsu_masks(emulated: None, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    maps = last_items((8, 8), MAP) if size == (8, 8) else vast(BEYOND // 256 + 3, 8, 8)
    maps[-1] = MAP
    found = kernel_of(ops.otsu_masks, "_kernel")(maps, *size)[0][-1]
    check(monkeypatch, found, lambda: ops.otsu_masks(MAP[None], size).masks[0])


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (256, 1, 1, 1), (16, 2, 2, 2)], ids=["maps", "weights", "activations"])
def test_gradcam3d(emulated: None, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    clip = torch.rand(shape, generator=G).half() + 0.5
    found = ops.gradcam3d(last_items(shape, clip), last_items(shape, clip))[-1]
    check(monkeypatch, found, lambda: ops.gradcam3d(clip[None], clip[None])[0])


def test_integral_image_and_patches(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    integral = ops.integral_image(last_items((16, 16), MASK))
    with emulation.last_blocks(0):
        last, side = torch.tensor([len(integral) - 1]), torch.tensor([3])
        counts = ops.count_patches(integral, last, side, 0.4)
        corner = ops.find_patches(integral, last, side, counts - 1, 0.4)
    found = torch.cat([integral[-1].flatten(), counts.int(), corner.flatten().int()])

    def on_cpu() -> Tensor:
        alone = ops.integral_image(MASK[None])
        first = torch.tensor([0])
        return torch.cat([alone.flatten(), ops.count_patches(alone, first, side, 0.4).int(),
                          ops.find_patches(alone, first, side, counts - 1, 0.4).flatten().int()])  # fmt: skip

    check(monkeypatch, found, on_cpu)


def test_integral_image_of_many_rows_and_columns(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ops.integral_image(last_items((2, 1), torch.ones(2, 1, dtype=torch.bool)))[-1]
    check(monkeypatch, found, lambda: ops.integral_image(torch.ones(1, 2, 1, dtype=torch.bool))[0])


def test_patches_of_many_queries(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two numbers a query: those of the last one lie beyond 2^31."""
    find = kernel_of(ops.find_patches, "_find")
    integral = torch.zeros(1, 9, 9, dtype=torch.int32)
    frames, sides, ranks = (vast(2**30 + 2, dtype=torch.int64) for _ in range(3))
    sides[-1], ranks[-1] = 3, 20
    found = find(integral, frames, sides, ranks, 0.4)[-1]
    check(monkeypatch, found, lambda: find(integral, frames[-1:], sides[-1:], ranks[-1:], 0.4)[0])


@pytest.mark.parametrize("superpixels", [7, 300], ids=["pixels beyond", "tables beyond"])
def test_superpixel_select(emulated: None, monkeypatch: pytest.MonkeyPatch, superpixels: int) -> None:
    select, options = kernel_of(ops.superpixel_select, "_select_kernel"), (0.3, 1.0, "superpixel", superpixels)
    refined, counts, _ = select(last_items((16, 16), LABELS), last_items((16, 16), MASK), *options)
    found = torch.cat([refined[-1].flatten().int(), counts[:, -1].flatten().int()])

    def on_cpu() -> Tensor:
        alone = select(LABELS[None], MASK[None], *options)
        return torch.cat([alone[0].flatten().int(), alone[1][:, 0].flatten().int()])

    check(monkeypatch, found, on_cpu)


CLASSES_AND_SUPERPIXELS = pytest.mark.parametrize(
    ("classes", "superpixels"), [(40, 7), (2, 300)], ids=["classes beyond", "superpixels beyond"]
)


@CLASSES_AND_SUPERPIXELS
def test_superpixel_vote(emulated: None, monkeypatch: pytest.MonkeyPatch, classes: int, superpixels: int) -> None:
    vote, given, options = kernel_of(ops.superpixel_vote, "_vote_kernel"), MASK.to(torch.uint8), (0.3, 255, superpixels)
    found = vote(last_items((16, 16), LABELS), last_items((16, 16), given), classes, *options)[0][-1]
    check(monkeypatch, found, lambda: vote(LABELS[None], given[None], classes, *options)[0][0])


@CLASSES_AND_SUPERPIXELS
def test_superpixel_confusion(emulated: None, monkeypatch: pytest.MonkeyPatch, classes: int, superpixels: int) -> None:
    confusion, given = kernel_of(ops.superpixel_confusion, "_kernel"), MASK.to(torch.uint8)
    predicted, options = last_items((16, 16), given), (classes, 0.3, 0.2, 255, superpixels)
    found = confusion(last_items((16, 16), LABELS), predicted, predicted, *options)[1][-1]
    check(monkeypatch, found, lambda: confusion(LABELS[None], given[None], given[None], *options)[1][0])


def test_drop_components(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = kernel_of(ops.superpixel_select, "_drop_kernel")
    found = drop(last_items((16, 16), MASK), 0.02)[-1]
    check(monkeypatch, found, lambda: drop(MASK[None], 0.02)[0])


def test_slic(emulated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many frames that the pixels of one channel exceed 2^32."""
    image, mask = torch.rand(3, 32, 32, generator=G).half(), torch.rand(32, 32, generator=G) < 0.9
    masks = last_items((32, 32), mask)
    images = vast(len(masks), 3, 32, 32)
    images[-1] = image
    # Frames at once, for a card more than a grid has rows, and the units of the last frame.
    slots, last = (70000, 4) if emulated == "cuda" else (len(images), 2048)
    monkeypatch.setattr(torch, "get_num_threads", lambda: slots)
    with emulation.last_blocks(last):
        found = kernel_of(ops.slic, "_kernel")(images, masks, 4.0, 10.0, 3, 0.2)[-1]
    check(monkeypatch, found, lambda: ops.slic(image[None], 4, mask=mask[None], iterations=3, min_size_factor=0.2)[0])


def test_propose_segments(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tcam, classes = torch.rand(40, 1032, generator=G), 1032
    before = BEYOND // classes
    values = vast(before + 40, classes, dtype=torch.float32)
    values[before:] = tcam
    found = ops.propose_segments(values, torch.tensor([0, before, before + 40])).group(2 * classes - 1).score
    check(monkeypatch, found, lambda: ops.propose_segments(tcam, torch.tensor([0, 40])).group(classes - 1).score)


def last_segments(rows: Tensor, total: int = BEYOND // 11 + 5) -> Segments:
    """Two groups, ``rows`` in the last; that they are segments is not looked at."""
    fields = vast(len(rows), total, dtype=torch.float64)
    fields[:, -rows.shape[1] :] = rows
    return Segments.unchecked(fields, torch.tensor([0, total - rows.shape[1], total]))


ROWS = torch.rand(4, 30, generator=G, dtype=torch.float64) * 9
ROWS[1] += ROWS[0]


def test_fuse_segments(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulation.last_blocks(1):
        found = ops.fuse_segments(last_segments(ROWS), 0.3, 0.5)
    check(monkeypatch, found.score, lambda: ops.fuse_segments(Segments(*ROWS, torch.tensor([0, 30])), 0.3, 0.5).score)


def test_suppress_segments(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulation.last_blocks(1):
        found = ops.suppress_segments(last_segments(ROWS), 0.3)
    check(monkeypatch, found.score, lambda: ops.suppress_segments(Segments(*ROWS, torch.tensor([0, 30])), 0.3).score)


def test_match_segments(emulated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One number a prediction and threshold: those of the last video lie beyond 2^32."""
    truth, thresholds, last = ROWS[:, ::3] + 0.25, [k / 64 for k in range(1, 65)], torch.tensor([0, 1, 2])
    total = BEYOND // len(thresholds) + 5
    with emulation.last_blocks(1):
        matched = ops.match_segments(last_segments(ROWS, total), last_segments(truth, total), last, thresholds)
    order = matched.order[-30:] - len(matched.order) + 30
    found = torch.cat([matched.hit[-30:].double().flatten(), matched.ap[-1], order])

    def on_cpu() -> Tensor:
        videos = [Segments(*rows, torch.tensor([0, rows.shape[1]])) for rows in (ROWS, truth)]
        alone = ops.match_segments(*videos, last[:2], thresholds)
        return torch.cat([alone.hit.double().flatten(), alone.ap[0], alone.order])

    check(monkeypatch, found, on_cpu)


def test_match_segments_of_many_truths(emulated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last video has few predictions, and its truth lies beyond 2^32."""
    truth, last = ROWS[:, ::3] + 0.25, torch.tensor([0, 1, 2])
    before = Segments(*ROWS, torch.tensor([0, 0, ROWS.shape[1]]))
    with emulation.last_blocks(1):
        matched = ops.match_segments(before, last_segments(truth, BEYOND), last, [0.2, 0.4])
    found = torch.cat([matched.hit.double().flatten(), matched.order.double()])

    def on_cpu() -> Tensor:
        videos = [Segments(*rows, torch.tensor([0, rows.shape[1]])) for rows in (ROWS, truth)]
        alone = ops.match_segments(*videos, last[:2], [0.2, 0.4])
        return torch.cat([alone.hit.double().flatten(), alone.order.double()])

    check(monkeypatch, found, on_cpu)


def test_class_mean(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, ids = 1032, torch.tensor([0, 1, 1, 0, 2, 1])
    values = torch.rand(6, columns, generator=G)
    before = BEYOND // columns
    whole, class_ids = vast(before + 6, columns, dtype=torch.float32), vast(before + 6, dtype=torch.int64)
    whole[before:], class_ids[before:] = values, ids + 1
    offsets = torch.tensor([0, before, before + 6])
    with emulation.last_blocks(1):
        means = kernel_of(ops.class_mean, "_class_mean")(whole, class_ids, torch.tensor([0, 1, 4]), offsets, 0)[0]
    found = means[before:, -1]
    check(monkeypatch, found, lambda: ops.class_mean(values, ids, 3)[:, -1])


def test_class_mean_of_many_videos(emulated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last have neither snippets nor classes; a card has no blocks for so many."""
    values, ids = torch.rand(6, generator=G), torch.tensor([0, 1, 1, 0, 2, 1])
    offsets, class_offsets = (vast(BEYOND + 2**31 + 100, dtype=torch.int64) for _ in range(2))
    offsets[-1], class_offsets[-1] = 6, 3
    run = kernel_of(ops.class_mean, "_class_mean")
    if emulated == "cuda":
        with pytest.raises(RuntimeError, match="class_mean: too large for one launch"):
            run(values, ids, class_offsets, offsets, 0)
        return
    found = run(values, ids, class_offsets, offsets, 0)[0]
    check(monkeypatch, found, lambda: ops.class_mean(values, ids, 3))


@pytest.fixture
def guarded(emulated: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All blocks, and every tensor that an operation allocates ends at a locked page."""
    monkeypatch.setattr(sys.modules[__name__], "FROM_HERE", 0)
    with emulation.last_blocks(0):
        yield


def locked(values: Tensor) -> Tensor:
    found = vast(*values.shape, dtype=values.dtype)
    found.copy_(values)
    return found


IMAGES = torch.rand(1, 3, 20, 20, generator=G).half()  # 400 pixels: not a multiple of a block, but of a vector
SUPERPIXELS = torch.arange(400).reshape(1, 20, 20).div(57, rounding_mode="floor").int()
MASKS = torch.rand(1, 20, 20, generator=G) < 0.4
CLASSES = MASKS.to(torch.uint8)
WITHIN: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "slic": (lambda images: ops.slic(images, 6), (IMAGES,)),
    "otsu": (ops.otsu, (IMAGES[:, 0],)),
    "otsu_masks": (lambda maps: ops.otsu_masks(maps, (20, 28)).masks, (IMAGES[:, 0],)),
    "gradcam3d": (ops.gradcam3d, (IMAGES[:, :, None], IMAGES[:, :, None])),
    "integral_image": (ops.integral_image, (MASKS,)),
    "drop_components": (lambda masks: kernel_of(ops.superpixel_select, "_drop_kernel")(masks, 0.02), (MASKS,)),
    "superpixel_select": (lambda *given: ops.superpixel_select(*given, 0.3).mask, (SUPERPIXELS, MASKS)),
    "superpixel_vote": (lambda *given: ops.superpixel_vote(*given, 2, 0.3).classes, (SUPERPIXELS, CLASSES)),
    "superpixel_confusion": (lambda *given: ops.superpixel_confusion(*given, 2)[1], (SUPERPIXELS, CLASSES, CLASSES)),
}


@pytest.mark.parametrize("name", WITHIN)
def test_nothing_is_touched_beyond_the_end(guarded: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    operation, given = WITHIN[name]
    check(monkeypatch, operation(*map(locked, given)), lambda: operation(*given))


def test_offsets_that_change_meanwhile_write_nothing_beyond_the_end(
    guarded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposals are counted, and then there are more of the last video."""
    module = sys.modules[ops.propose_segments.__module__]
    launch, offsets = module.launch, torch.tensor([0, 24, 32])

    def late(name: str, device: torch.device, fields: dict[str, Any]) -> None:
        if name == "fill_proposals":
            fields["offsets"][1] = 4
        launch(name, device, fields)

    monkeypatch.setattr(module, "launch", late)
    found = ops.propose_segments(locked(torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(8)[:, None]), offsets, (0.5,))
    assert len(found.start) == 8


def test_lengths_that_change_meanwhile_write_nothing_beyond_the_end(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are allocated, and then the first video is longer than all memory."""
    module, lengths = sys.modules[ops.linpro.__module__], torch.tensor([20, 20])

    def late(run: Callable[..., Any], *given: Any) -> None:
        given[-1]["lengths"][0] = 2**40
        run(*given)

    for name in ("launch", "launch_on_host"):
        monkeypatch.setattr(module, name, functools.partial(late, getattr(module, name)))
    segments = Segments.of([[(2, 6, 0.8), (4, 9, 0.5)], [(3, 12, 0.8), (8, 19, 0.5)]])
    assert len(ops.linpro(segments, lengths).labels) == 40
    assert lengths[0] == 2**40


def test_whatever_other_groups_write_meanwhile_fused_segments_stay_inside(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where offsets fall, groups lie in the same memory, and on a card their blocks run at the same time."""
    module, launched = sys.modules[ops.fuse_segments.__module__], []
    launch = module.launch

    def run(name: str, device: torch.device, fields: dict[str, Any]) -> None:
        launched.append(name)
        with emulation.written_meanwhile([fields[each] for each in ("scratch", "membership") if each in fields]):
            launch(name, device, fields)

    monkeypatch.setattr(module, "launch", run)
    segments = Segments(*map(locked, ROWS), torch.tensor([0, 17, 30]))
    for distribution in module.DISTRIBUTIONS:
        for signed in {False, distribution == "gaussian"}:
            fused = ops.fuse_segments(segments, 0.3, 0.5, distribution=distribution, sign_weights=signed)
            assert 2 <= len(fused.score) <= 30
    for sigma in (None, 0.5):
        assert 2 <= len(ops.suppress_segments(segments, 0.3, sigma=sigma).score) <= 30
    assert len(launched) == len(module.DISTRIBUTIONS) + 3
