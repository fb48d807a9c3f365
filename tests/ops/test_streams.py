"""Devices, streams and CUDA graphs, as far as they can be seen without a card, and with one."""

from __future__ import annotations

import re
from contextlib import contextmanager
from types import SimpleNamespace

import emulation
import pytest
import torch

from pyws import Segments, ops
from pyws.ops import _library

READERS = {
    "propose_segments": lambda segments, lengths, tcam: ops.propose_segments(tcam, segments.offsets[:2]),
    "fuse_segments": lambda segments, lengths, tcam: ops.fuse_segments(segments),
    "suppress_segments": lambda segments, lengths, tcam: ops.suppress_segments(segments),
    "snippet_classes": lambda segments, lengths, tcam: ops.snippet_classes(segments, lengths),
    "linpro": lambda segments, lengths, tcam: ops.linpro(segments, lengths),
}


def arguments(device: str) -> tuple[Segments, torch.Tensor, torch.Tensor]:
    segments = Segments.of([[(0, 4, 0.5), (2, 6, 0.4)], [(1, 3, 0.2)]])
    return segments.to(device), torch.tensor([8, 8], device=device), torch.rand(2, 2, device=device) * 0.05


def test_kernels_run_on_the_device_of_their_tensors_and_its_current_stream(monkeypatch):
    """Tensors lie on a device that is not the current one, whose stream is a side stream."""
    current, seen = [0], []

    @contextmanager
    def device(wanted):
        before, current[0] = current[0], wanted.index
        yield
        current[0] = before

    core = SimpleNamespace(otsu_cuda=lambda fields, stream: seen.append((current[0], fields, stream)))
    monkeypatch.setattr(_library, "_C", core)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda wanted: SimpleNamespace(cuda_stream=70 + wanted.index))
    _library.launch("otsu", torch.device("cuda", 1), {"maps": 5})
    assert seen == [(1, {"maps": 5}, 71)]
    assert current == [0]


@pytest.mark.parametrize("op", READERS)
def test_what_reads_sizes_back_refuses_to_be_captured(op, monkeypatch):
    given = arguments("cpu")
    READERS[op](*given)  # is fine otherwise
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=f"^{op}: cannot be captured in a CUDA graph"):
        READERS[op](*given)
    assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.pyws, op).default.tags


def test_capture_is_refused_before_contents_are_looked_at(monkeypatch):
    """Which would wait for the card: CUDA's own error of it names no operation."""
    segments, _, _ = arguments("cpu")
    lengths = torch.tensor([8, -8])
    with pytest.raises(ValueError, match="snippet_classes: lengths must be >= 0"):
        ops.snippet_classes(segments, lengths)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="^snippet_classes: cannot be captured"):
        ops.snippet_classes(segments, lengths)


def test_what_reads_nothing_back_may_be_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    ops.gradcam3d(torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3), "minmax")
    ops.otsu_masks(torch.rand(1, 3, 3), (6, 6))  # checks nothing then
    ops.class_mean(torch.rand(3, 2), torch.tensor([0, 1, 9]), 2)  # 9 is no class
    labels = torch.arange(16).view(1, 4, 4) // 4
    ops.superpixel_select(labels, labels > 1, num_superpixels=4)
    with pytest.raises(ValueError, match="num_superpixels must be a number under .* capture"):
        ops.superpixel_select(labels, labels > 1)
    assert torch.Tag.cudagraph_unsafe not in torch.ops.pyws.gradcam3d.default.tags


def test_launchers_neither_wait_nor_allocate():
    """Nothing of the CUDA runtime is called in csrc but launches and their errors."""
    for path in sorted((emulation.ROOT / "csrc").glob("*/*")):
        calls = set(re.findall(r"\bcu(?:da)?[A-Z]\w+(?=\()", path.read_text()))
        assert calls <= {"cudaGetLastError", "cudaGetErrorString"}, path


@pytest.mark.cuda
def test_a_side_stream_and_a_graph_give_the_same_bits():
    acts, grads = torch.rand(2, 3, 8, 9, device="cuda"), torch.rand(2, 3, 8, 9, device="cuda")
    expected, side, graph = ops.gradcam3d(acts, grads, "minmax"), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = ops.gradcam3d(acts, grads, "minmax")
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(found, expected)
    with torch.cuda.graph(graph):
        captured = ops.gradcam3d(acts, grads, "minmax")
    graph.replay()
    assert torch.equal(captured, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("op", READERS)
def test_a_graph_with_what_reads_sizes_back_is_refused_by_name(op):
    given = arguments("cuda")
    READERS[op](*given)
    with pytest.raises(RuntimeError, match=f"{op}: cannot be captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        READERS[op](*given)
