"""Networks made ready for inference: batch norm and activation as part of the convolutions, channels last."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from pyws.models.fused_convolution import FusedConvolution, activation_of, can_fuse

Network = TypeVar("Network", bound=nn.Module)

_Conv = nn.modules.conv._ConvNd
_Norm = nn.modules.batchnorm._BatchNorm
_ROUNDING = 1e-4  # tolerance, as a share of the largest output; what folding changes lies a hundred times below


class _Seen(NamedTuple):
    """What a forward pass showed.

    Parameters
    ----------
    follows : the batch norm or activation that reads the output of each convolution or batch norm, by their names
    watched : the outputs of the layers that were asked for, and of the model
    """

    follows: dict[str, str]
    watched: list[Tensor]


@torch.no_grad()
def for_inference(model: Network, size: Sequence[int], *layers: str) -> Network:
    """A copy of a network in eval mode that gives the same outputs, but for rounding, in less time.

    Batch norms that read a convolution become part of it, other activations work in place, and weights lie channels
    last. On the CPU, convolutions of images are oneDNN's, which makes the activations that read them in the same pass.
    Which module reads which is seen on a random input, and so is that the copy gives the same: where it does not, as
    where a tensor is needed again that an activation overwrote, there is less of this, or none.

    Parameters
    ----------
    model : images (B, C, H, W) or clips (B, C, T, H, W) to a tensor
    size : shape of such an input without B, (C, H, W) or (C, T, H, W); a small one is quick
    layers : dotted names of modules whose outputs must stay what they are too

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> fast, images = for_inference(model, (3, 8, 8)), torch.rand(2, 3, 9, 9)
    >>> [type(part).__name__ for part in fast], torch.allclose(fast(images), model(images), atol=1e-6)
    (['FusedConvolution', 'Identity', 'Identity'], True)

    Raises
    ------
    ValueError : the network is in train mode
    """
    if model.training:
        raise ValueError("for_inference: the network must be in eval mode, got train mode")
    if not any(isinstance(module, _Norm) or can_fuse(module) for module in model.modules()):
        return model
    example = torch.rand(1, *size, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    plain = _watch(model, example, layers)
    for fused in (True, False):
        fast = _made_fast(model, plain.follows, fused, example.ndim)
        same = zip(plain.watched, _watch(fast, example, layers).watched, strict=True)
        if all(_agree(one, other) for one, other in same):
            return fast
    return model


def _made_fast(model: Network, follows: dict[str, str], fused: bool, dimensions: int) -> Network:
    fast = copy.deepcopy(model)
    convolutions = [name for name in follows if isinstance(model.get_submodule(name), _Conv)]
    for convolution in convolutions:
        if isinstance(model.get_submodule(follows[convolution]), _Norm):
            _fold(fast, convolution, follows[convolution])
    for module in fast.modules():
        if getattr(module, "inplace", None) is False:
            module.inplace = True  # type: ignore[assignment]
    last: Any = torch.channels_last if dimensions == 4 else torch.channels_last_3d
    fast = fast.to(memory_format=last)
    if fused:
        for name in [name for name, layer in fast.named_modules() if can_fuse(layer)]:
            reader = follows.get(name, "")
            if reader and isinstance(model.get_submodule(reader), _Norm):
                reader = follows.get(reader, "")
            _fuse(fast, name, reader)
    return fast


def _watch(model: nn.Module, example: Tensor, layers: Sequence[str]) -> _Seen:
    made: dict[int, tuple[str, Any]] = {}  # by identity; the tensor is kept so that no other takes its place
    gave: dict[str, int] = {}
    took: dict[str, int] = {}
    follows: dict[str, str] = {}
    watched: list[Tensor] = []
    handles = []

    def after(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            gave[name] = gave.get(name, 0) + 1
            made[id(output)] = name, output

        return hook

    def before(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            took[name] = took.get(name, 0) + 1
            if id(inputs[0]) in made:
                follows[made[id(inputs[0])][0]] = name

        return hook

    for name, module in model.named_modules():
        norm = isinstance(module, _Norm) and module.running_mean is not None
        if norm or activation_of(module) is not None:
            handles.append(module.register_forward_pre_hook(before(name)))
        if norm or (isinstance(module, _Conv) and not module.transposed):
            handles.append(module.register_forward_hook(after(name)))
    for layer in layers:
        keep = model.get_submodule(layer).register_forward_hook(
            lambda _, inputs, output: watched.append(output.clone())
        )
        handles.append(keep)
    try:
        watched.append(model(example))
    finally:
        for handle in handles:
            handle.remove()
    return _Seen({one: reader for one, reader in follows.items() if gave[one] == took[reader] == 1}, watched)


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    """Make a batch norm part of the convolution before it."""
    layer: Any = model.get_submodule(convolution)
    after: Any = model.get_submodule(norm)
    scale = (after.running_var + after.eps).rsqrt()
    scale = scale if after.weight is None else scale * after.weight
    shift = -after.running_mean if layer.bias is None else layer.bias - after.running_mean
    shift = shift * scale if after.bias is None else shift * scale + after.bias
    layer.weight = nn.Parameter(layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1)), requires_grad=False)
    layer.bias = nn.Parameter(shift, requires_grad=False)
    model.set_submodule(norm, nn.Identity())


def _fuse(model: nn.Module, convolution: str, activation: str) -> None:
    """Give a convolution, and the activation that reads it where there is one, to oneDNN."""
    layer: Any = model.get_submodule(convolution)
    after = model.get_submodule(activation) if activation else None
    model.set_submodule(convolution, FusedConvolution(layer, after))
    if activation:
        model.set_submodule(activation, nn.Identity())


def _agree(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.shape != other.shape:
        return False
    far = (one - other).abs().amax() if one.numel() else one.new_zeros(())
    return bool(far <= _ROUNDING * one.abs().amax()) if one.numel() else True
