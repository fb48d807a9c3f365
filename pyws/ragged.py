"""Ragged batches: values and offsets. In the base layer of pyws: imports torch only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 1e300  # magnitude of a time, score or weight


def check_dense(op: str, name: str, tensor: Any) -> None:
    """Raise unless ``tensor`` is a tensor whose values lie side by side in memory of the CPU or of a GPU.

    Examples
    --------
    >>> check_dense("otsu", "maps", torch.eye(2).to_sparse())
    Traceback (most recent call last):
        ...
    ValueError: otsu: maps must be a dense tensor on cpu or cuda, got torch.sparse_coo on cpu
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type not in ("cpu", "cuda"):
        layout = "a nested tensor" if tensor.is_nested else str(tensor.layout)
        raise ValueError(f"{op}: {name} must be a dense tensor on cpu or cuda, got {layout} on {tensor.device.type}")
    if tensor.dtype == torch.bool and not torch.compiler.is_compiling() and tensor.is_neg():
        raise ValueError(f"{op}: {name} must be true or false, got a view that negates them")


def check_offsets(op: str, name: str, offsets: Tensor, total: int | None = None) -> None:
    """Raise unless ``offsets`` is int64 (groups+1,), starts at 0, never falls and ends at ``total``.

    Examples
    --------
    >>> check_offsets("fuse_segments", "offsets", torch.tensor([0, 3, 2]))
    Traceback (most recent call last):
        ...
    ValueError: fuse_segments: offsets must never fall, got 2 after 3 at group 1
    """
    check_dense(op, name, offsets)
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or offsets.numel() == 0:
        raise ValueError(
            f"{op}: {name} must be int64 of shape (groups+1,), got {offsets.dtype} of shape {tuple(offsets.shape)}"
        )
    ends = offsets.cpu().resolve_neg().numpy()
    if ends[0] != 0:
        raise ValueError(f"{op}: {name} must start at 0, got {ends[0]}")
    falls = ends[1:] < ends[:-1]
    if falls.any():
        group = int(falls.argmax())
        raise ValueError(f"{op}: {name} must never fall, got {ends[group + 1]} after {ends[group]} at group {group}")
    if total is not None and ends[-1] != total:
        raise ValueError(f"{op}: {name} must end at the number of values {total}, got {ends[-1]}")


def offsets_of(sizes: Tensor) -> Tensor:
    """(groups+1,) offsets of groups of these (groups,) sizes.

    Examples
    --------
    >>> offsets_of(torch.tensor([2, 0, 3]))
    tensor([0, 2, 2, 5])
    """
    return functional.pad(sizes.cumsum(0), (1, 0))


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of many groups, one group for each pair of a video and a class.

    All five lie on one device. Contents must be finite and at most 1e300 in magnitude, so that sums stay finite.

    Parameters
    ----------
    start, end : (N,) float64, half-open [start, end) on one time axis (snippets or seconds), end >= start
    score : (N,) float64, what orders the segments (the contrast of a proposal, the fused confidence)
    weight : (N,) float64, what the fusion weighs by (the inner score of a proposal)
    offsets : (groups+1,) int64; group g owns the segments offsets[g] .. offsets[g+1]-1

    Raises
    ------
    TypeError : a field is not a tensor
    ValueError : a wrong shape, dtype or device, contents that are not finite, an end before its start, bad offsets

    Examples
    --------
    >>> segments = Segments.of([[(0, 4, 0.9), (2, 6, 0.5)], []])
    >>> len(segments), segments.groups
    (2, 2)
    >>> segments.offsets.tolist()
    [0, 2, 2]
    """

    start: Tensor
    end: Tensor
    score: Tensor
    weight: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        for name in ("start", "end", "score", "weight"):
            self._check_field(name, getattr(self, name))
        check_offsets("Segments", "offsets", self.offsets, total=len(self.start))
        if self.offsets.device != self.start.device:
            raise ValueError(f"Segments: offsets must be on {self.start.device}, got {self.offsets.device}")
        reversed_at = self.end < self.start
        if reversed_at.any():
            at = int(reversed_at.nonzero()[0])
            raise ValueError(
                f"Segments: end must be >= start, got [{float(self.start[at])}, {float(self.end[at])}] at segment {at}"
            )

    def _check_field(self, name: str, field: Tensor) -> None:
        check_dense("Segments", name, field)
        if field.dtype != torch.float64 or field.ndim != 1:
            raise ValueError(
                f"Segments: {name} must be float64 of shape (N,), got {field.dtype} of shape {tuple(field.shape)}"
            )
        if len(field) != len(self.start) or field.device != self.start.device:
            raise ValueError(
                f"Segments: {name} must match start, {len(self.start)} values on {self.start.device}, "
                f"got {len(field)} on {field.device}"
            )
        values = field.detach()
        if math.isfinite(torch.dot(values, values)):
            return  # the usual case: a sum of squares hides neither NaN nor infinity nor what is large
        bad = (~(values.abs() <= LARGEST)).nonzero()
        if len(bad):
            at = int(bad[0, 0])
            rule = f"must be finite and at most {LARGEST:g} in magnitude"
            raise ValueError(f"Segments: {name} {rule}, got {float(field[at])} at segment {at}")

    @classmethod
    def of(cls, groups: list[list[tuple[float, ...]]]) -> Segments:
        """Build from Python lists: a group is a list of (start, end, score) or (start, end, score, weight).

        Without a weight the score is the weight, as in the paper's equation 3.
        """
        rows = [(*row, row[2])[:4] for group in groups for row in group]
        columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).T.contiguous()
        sizes = torch.tensor([0, *(len(group) for group in groups)], dtype=torch.int64)
        return cls(columns[0], columns[1], columns[2], columns[3], sizes.cumsum(0))

    @classmethod
    def unchecked(cls, rows: Tensor, offsets: Tensor) -> Segments:
        """Build from (4, N) rows start, end, score, weight that an operation of pyws made, without reading them."""
        segments = object.__new__(cls)
        for name, field in zip(("start", "end", "score", "weight", "offsets"), (*rows.unbind(), offsets), strict=True):
            object.__setattr__(segments, name, field)  # torch.compile of torch 2.11 follows no update of __dict__
        return segments

    def __len__(self) -> int:
        return len(self.start)

    @property
    def groups(self) -> int:
        """Number of groups, empty ones included."""
        return len(self.offsets) - 1

    @property
    def owner(self) -> Tensor:
        """(N,) int64, the group of each segment."""
        groups = torch.arange(self.groups, device=self.offsets.device)
        return torch.repeat_interleave(groups, self.offsets.diff(), output_size=len(self))

    def group(self, index: int) -> Segments:
        """The segments of one group, as a ragged batch of one group."""
        first, last = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.where(slice(first, last), self.offsets.new_tensor([0, last - first]))

    def where(self, rows: Tensor | slice, offsets: Tensor) -> Segments:
        """The segments at some rows, a mask or indices, in groups with these offsets."""
        return Segments(self.start[rows], self.end[rows], self.score[rows], self.weight[rows], offsets)

    def to(self, device: torch.device | str) -> Segments:
        """The same segments on another device."""
        rows = torch.stack([self.start, self.end, self.score, self.weight])
        return Segments.unchecked(rows.to(device), self.offsets.to(device))
