"""A convolution of three taps over the snippets of packed videos, with half the products of the plain form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyws.models.backbones.linear import linear

# Four outputs y = A^T [(G w) * (B^T x)] of six inputs x: the Toom-Cook algorithm F(4, 3) with the points 0, 1, -1, 2,
# -2 and infinity. Six products do for twelve. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.
_OUTPUTS = 4
_OF_INPUTS = (
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)  # fmt: skip
_OF_TAPS = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)  # fmt: skip
_OF_PRODUCTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def temporal_convolution(rows: Tensor, sizes: Sequence[int], weight: Tensor, bias: Tensor) -> Tensor:
    """Each snippet with its neighbours in the same video, zeros beyond its ends.

    Equivalent to ``conv1d(video.T, weight, bias, padding=1).T`` for each video, but for rounding (about three times
    that of the plain form), with no product for padding.

    Parameters
    ----------
    rows : (N, D) snippets, video by video
    sizes : snippets of each video, N together
    weight : (E, D, 3)
    bias : (E,)

    Returns
    -------
    (N, E)

    Examples
    --------
    >>> rows, weight = torch.tensor([[1.0], [2.0], [3.0], [5.0]]), torch.tensor([[[100.0, 10.0, 1.0]]])
    >>> temporal_convolution(rows, [3, 1], weight, torch.zeros(1)).round().flatten().tolist()
    [12.0, 123.0, 230.0, 50.0]
    """
    read, written = _tiles(sizes, rows.device)
    of_inputs, of_taps, of_products = (rows.new_tensor(table) for table in (_OF_INPUTS, _OF_TAPS, _OF_PRODUCTS))
    tiles = torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).index_select(0, read.flatten())
    inputs = (of_inputs @ tiles.view(6, -1)).view(6, -1, rows.shape[1])
    taps = (of_taps @ weight.permute(2, 0, 1).reshape(3, -1)).view(6, *weight.shape[:2])
    # One product after another: bmm is slower on a CPU where matrices are large.
    products = torch.stack([linear(one, tap) for one, tap in zip(inputs, taps, strict=True)])
    outputs = (of_products @ products.view(6, -1)).view(-1, len(weight))
    return outputs.index_select(0, written) + bias


def _tiles(sizes: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The six rows that each tile of four snippets reads, (6, tiles), N for zeros, and the place of each snippet among
    the outputs (4, tiles), flattened."""
    lengths = torch.tensor(sizes)
    counts = -(-lengths // _OUTPUTS)
    ends, tile_ends = lengths.cumsum(0), counts.cumsum(0)
    total = int(ends[-1])
    starts, tile_starts = ends - lengths, tile_ends - counts
    of_tile = torch.repeat_interleave(counts)  # the video of each tile
    first = _OUTPUTS * (torch.arange(int(tile_ends[-1])) - tile_starts[of_tile])
    place = first + torch.arange(-1, _OUTPUTS + 1)[:, None]
    inside = (place >= 0) & (place < lengths[of_tile])
    read = torch.where(inside, place + starts[of_tile], total)
    video = torch.repeat_interleave(lengths)
    own = torch.arange(total) - starts[video]
    written = own % _OUTPUTS * len(of_tile) + own // _OUTPUTS + tile_starts[video]
    return read.to(device), written.to(device)
