"""Where channels and positions lie in a layer's output: channels first, channels last, or a row of tokens.

Convolutions give (B, C, *S). Transformers give (B, N, C), tokens in the order of a grid after some that stand for the
whole (class, distillation, register tokens), or (B, *S, C).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

LAYOUTS = ("auto", "channels-first", "channels-last", "tokens")

# Tokens before the grid: none, a class token, one more for distillation, a class token and four registers.
_EXTRA_TOKENS = (0, 1, 2, 5)

_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention)


@dataclass(frozen=True)
class Layout:
    """How a layer's output becomes (B, C, *S).

    Parameters
    ----------
    kind : "channels-first", "channels-last" or "tokens"
    grid : *S of tokens
    """

    kind: str
    grid: tuple[int, ...] = ()

    def channels_first(self, values: Tensor) -> Tensor:
        """A view (B, C, *S); tokens in front of the grid are left out.

        Examples
        --------
        >>> import torch
        >>> Layout("tokens", (2, 3)).channels_first(torch.zeros(4, 1 + 2 * 3, 8)).shape
        torch.Size([4, 8, 2, 3])
        """
        if self.kind == "channels-first":
            return values
        if self.kind == "channels-last":
            return values.movedim(-1, 1)
        return values[:, values.shape[1] - prod(self.grid) :].transpose(1, 2).unflatten(2, self.grid)


def channels_of(module: nn.Module) -> int | None:
    """The number of channels that a module with weights gives; None of modules that say nothing of it."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.out_channels
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return module.normalized_shape[-1]
    return module.embed_dim if isinstance(module, nn.MultiheadAttention) else None


def find_layout(
    shape: Sequence[int], wanted: str | Sequence[int], last: nn.Module | None, size: Sequence[int], grid: Sequence[int]
) -> Layout:
    """The layout of a layer's output.

    The axis of channels is the one of as many entries as the last module with weights gave.

    Parameters
    ----------
    shape : shape of the output, 3 to 5 dimensions
    wanted : one of LAYOUTS, or the grid of tokens
    last : the module with weights that ran last before the output was there
    size : (T,), (H, W) or (T, H, W) of the model's input; () where it is none of these
    grid : grid of tokens, where the layer itself says it; else ()

    Raises
    ------
    ValueError : the layout cannot be known

    Examples
    --------
    >>> find_layout((2, 197, 768), "auto", nn.LayerNorm(768), (224, 224), ())
    Layout(kind='tokens', grid=(14, 14))
    >>> find_layout((2, 7, 7, 768), "auto", nn.LayerNorm(768), (224, 224), ())
    Layout(kind='channels-last', grid=())
    """
    if not isinstance(wanted, str):
        if len(shape) != 3 or not 0 < prod(wanted) <= shape[1]:
            raise ValueError(f"layout: a grid of {tuple(wanted)} tokens does not fit an output of shape {tuple(shape)}")
        return Layout("tokens", tuple(wanted))
    if wanted not in LAYOUTS:
        raise ValueError(f"layout: must be one of {', '.join(LAYOUTS)} or the grid of tokens, got {wanted!r}")
    kind = _recognised(shape, last) if wanted == "auto" else wanted
    if kind == "channels-last" and len(shape) == 3 and len(size) > 1 and wanted == "auto":
        kind = "tokens"
    if kind != "tokens":
        return Layout(kind)
    return Layout("tokens", tuple(grid) or _grid(shape[1], size))


def _recognised(shape: Sequence[int], last: nn.Module | None) -> str:
    channels = None if last is None else channels_of(last)
    first, final = shape[1] == channels, shape[-1] == channels
    if first != final:
        return "channels-first" if first else "channels-last"
    if isinstance(last, _FIRST) and (first or last.weight is None or last.weight.ndim in (1, len(shape))):
        return "channels-first"  # also where branches are joined along the channels
    if first and type(last) in _LAST:
        return "channels-last"
    what = "no module with weights ran before it" if last is None else f"it follows {type(last).__name__}({channels})"
    raise ValueError(
        f"layout: of an output of shape {tuple(shape)} cannot be known ({what}); give layout='channels-first', "
        "'channels-last', 'tokens' or the grid of tokens, such as layout=(14, 14)"
    )


def _grid(tokens: int, size: Sequence[int]) -> tuple[int, ...]:
    """The grid of so many tokens whose cells are squares of the input, and of clips equal stretches of time."""
    found = []
    size = size if len(size) > 1 else (0, 0)
    frames = [time for time in range(1, size[0] + 1) if size[0] % time == 0] if len(size) == 3 else [0]
    for extra in _EXTRA_TOKENS:
        for time in frames:
            for cell in range(1, min(size[-2:], default=0) + 1):
                height, width = (side / cell for side in size[-2:])
                if height % 1 == width % 1 == 0 and height * width * (time or 1) == tokens - extra:
                    found.append(((time,) if time else ()) + (int(height), int(width)))
    if len(found) == 1:
        return found[0]
    fits = "fits none" if not found else f"may be {' or '.join(map(str, found))}"
    raise ValueError(
        f"layout: the grid of {tokens} tokens of an input of {tuple(size)} {fits}; give it, such as layout=(14, 14)"
    )


def tensor_in(output: Any) -> tuple[Any, tuple[int, ...], Any]:
    """What a layer gave: its first tensor of (B, C, *S), the grid that it names beside it, and where the tensor is.

    The place is None of a tensor alone, an index of a tuple or list, a key of a mapping.
    """
    if isinstance(output, Tensor):
        return output, (), None
    items = output.items() if isinstance(output, Mapping) else enumerate(output if _is_row(output) else ())
    entries = list(items)
    for place, value in entries:
        if isinstance(value, Tensor) and value.is_floating_point() and 3 <= value.ndim <= 5:
            rows = [tuple(one) for _, one in entries if _is_row(one) and len(one) in (2, 3)]
            grids = [row for row in rows if all(type(side) is int for side in row) and value.ndim == 3]
            return value, grids[0] if grids else (), place
    return output, (), None


def with_tensor(output: Any, place: Any, tensor: Tensor) -> Any:
    """A layer's output with another tensor at that place."""
    if place is None:
        return tensor
    if isinstance(output, Mapping):
        changed = copy.copy(output)
        changed[place] = tensor  # type: ignore[index]  # what a model returns can be written to
        return changed
    values = [tensor if index == place else value for index, value in enumerate(output)]
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)


def _is_row(value: Any) -> bool:
    return isinstance(value, (tuple, list))
