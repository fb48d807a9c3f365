"""gradcam3d: class activation maps from activations and gradients, or from a linear head (WS^2 eq. 4-5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyws.ops._library import _C, FLOATS, check_choice, check_tensor, has_tangent, launch, register

_MAX_POSITIONS = 2**30


def gradcam3d(activations: Tensor, gradients: Tensor, normalize: str | None = None) -> Tensor:
    """Grad-CAM in one fused pass: ``relu(sum_c mean_S(gradients)_c * activations_c)``.

    Equivalent to ``relu((gradients.flatten(2).mean(-1)[..., None] * activations.flatten(2)).sum(1))``, without the
    (B, C, S) product.

    Parameters
    ----------
    activations : (B, C, *S) float32, float64, float16 or bfloat16; S has one to three dimensions, e.g. (T, H, W).
        Any strides: nothing is copied.
    gradients : like ``activations``, the derivative of a class score with respect to them
    normalize : None, or "minmax" to map each map of the batch to [0, 1]; a constant map becomes zeros

    Returns
    -------
    (B, *S), the dtype and device of ``activations``. Differentiable in both inputs, any number of times, and
    in forward mode.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or ``normalize``; more than 2^30 positions

    Notes
    -----
    NaN and infinities propagate as in the formula. Sums are taken in float32 (float64 for float64) in a fixed order:
    the same bits for any number of threads and any batch composition.
    Source: Chen et al., Learning a Weakly-Supervised Video Actor-Action Segmentation Model with a Wise Selection,
    CVPR 2020, eq. 4 and 5, with Z the number of positions.

    Examples
    --------
    >>> activations = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])  # one map, two channels, two positions
    >>> gradients = torch.tensor([[[1.0, 1.0], [-1.0, 0.0]]])   # channel weights 1 and -0.5
    >>> gradcam3d(activations, gradients)
    tensor([[0., 2.]])
    """
    _check(activations, gradients)
    check_choice("gradcam3d", "normalize", normalize, (None, "minmax"))
    if has_tangent(activations) or has_tangent(gradients):
        maps = _composed(activations, gradients)
    elif torch.is_grad_enabled() and (activations.requires_grad or gradients.requires_grad):
        maps = _gradcam3d(activations, gradients)
    else:
        return _gradcam3d_maps(activations, gradients, normalize == "minmax")
    return _min_max(maps) if normalize == "minmax" else maps


def gradcam3d_from_head(activations: Tensor, head_weight: Tensor, normalize: str | None = None) -> Tensor:
    """Grad-CAM of every class at once for networks that end in a global average pool and a linear layer.

    There the gradient of class k with respect to channel c is ``head_weight[k, c] / Z`` at every position, so that
    eq. 4 needs no backward pass: ``relu(einsum("kc,bcs->bks", head_weight, activations)) / Z``. The matrix product is
    torch's own.

    Parameters
    ----------
    activations : (B, C, *S) float, S of one to three dimensions, the input of the pool
    head_weight : (classes, C), the weight of the linear layer, of the same dtype and device
    normalize : None, or "minmax" to map each (B, class) map to [0, 1]; a constant map becomes zeros

    Returns
    -------
    (B, classes, *S) of the dtype of ``activations``. Differentiable in both inputs.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or ``normalize``; more than 2^30 positions

    Examples
    --------
    >>> activations = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    >>> gradcam3d_from_head(activations, torch.tensor([[2.0, -1.0], [0.0, 1.0]]))
    tensor([[[0.0000, 2.0000],
             [1.5000, 0.0000]]])
    """
    op = "gradcam3d_from_head"
    check_tensor(op, "activations", activations, FLOATS, ndim=(3, 4, 5))
    check_tensor(op, "head_weight", head_weight, (activations.dtype,), shape=(None, activations.shape[1]),
                 device=activations.device)  # fmt: skip
    check_choice(op, "normalize", normalize, (None, "minmax"))
    flat = activations.flatten(2)
    maps = torch.relu(torch.matmul(head_weight, flat)) / max(flat.shape[2], 1)
    if normalize == "minmax":
        maps = _min_max(maps.flatten(0, 1)).reshape(maps.shape)
    return maps.reshape(*maps.shape[:2], *activations.shape[2:])


def _check(activations: Tensor, gradients: Tensor, minmax: bool = False) -> None:
    check_tensor("gradcam3d", "activations", activations, FLOATS, ndim=(3, 4, 5))
    check_tensor("gradcam3d", "gradients", gradients, (activations.dtype,), device=activations.device)
    if gradients.shape != activations.shape:
        raise ValueError(
            f"gradcam3d: gradients must have the shape of activations {tuple(activations.shape)}, "
            f"got {tuple(gradients.shape)}"
        )
    if activations.shape[2:].numel() > _MAX_POSITIONS:
        raise ValueError(
            f"gradcam3d: activations must have at most 2^30 positions each, got {tuple(activations.shape)}"
        )


def _composed(activations: Tensor, gradients: Tensor) -> Tensor:
    """The formula in torch's operations, for forward mode, which a registered operator cannot have."""
    weights = gradients.flatten(2).mean(-1)
    maps = torch.relu(torch.einsum("bc,bcs->bs", weights, activations.flatten(2)))
    return maps.reshape(len(maps), *activations.shape[2:])


def _min_max(maps: Tensor) -> Tensor:
    """The differentiable form of the kernel's min-max, for maps (B, *S)."""
    if maps.numel() == 0:
        return maps
    flat = maps.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    constant = high == low
    scaled = (flat - low).masked_fill(constant, 0) / (high - low).masked_fill(constant, 1)
    return scaled.reshape(maps.shape)


def _five(numbers: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Sizes or strides of (B, C, *S) with S padded in front to three dimensions."""
    return (*numbers[:2], *(fill,) * (5 - len(numbers)), *numbers[2:])


def _maps_kernel(activations: Tensor, gradients: Tensor, minmax: bool = False) -> Tensor:
    shape, device, dtype = activations.shape, activations.device, activations.dtype
    maps = torch.empty((shape[0], *shape[2:]), dtype=dtype, device=device)
    scratch = torch.empty(
        _C.gradcam3d_scratch(shape[0], shape[1], shape[2:].numel()),
        dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=device,
    )  # fmt: skip
    launch("gradcam3d", device, {
        "activations": activations, "gradients": gradients, "shape": _five(shape, 1),
        "activation_strides": _five(activations.stride(), 0), "gradient_strides": _five(gradients.stride(), 0),
        "minmax": minmax, "scratch": scratch, "maps": maps,
    })  # fmt: skip
    return maps


def _maps_fake(activations: Tensor, *rest: Any) -> Tensor:
    return activations.new_empty((activations.shape[0], *activations.shape[2:]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _backward(ctx: Any, grad_maps: Tensor) -> tuple[Tensor, Tensor]:
    activations, gradients, maps = ctx.saved_tensors
    positions = max(maps[0].numel() if len(maps) else 1, 1)
    weights = gradients.flatten(2).mean(-1)
    open_maps = grad_maps.masked_fill(maps <= 0, 0).flatten(1)
    grad_activations = (weights[:, :, None] * open_maps[:, None]).reshape(activations.shape)
    grad_weights = torch.einsum("bcs,bs->bc", activations.flatten(2), open_maps) / positions
    return grad_activations, grad_weights[:, :, None].expand(*weights.shape, positions).reshape(gradients.shape)


# The differentiable operator passes through torch's autograd in Python, which costs a small map a fifth of its time:
# without a gradient to come, the plain one is called.
_gradcam3d = register(
    "gradcam3d(Tensor activations, Tensor gradients) -> Tensor",
    _maps_kernel,
    _maps_fake,
    _backward,
    _setup_context,
    _check,
)
_gradcam3d_maps = register(
    "gradcam3d_maps(Tensor activations, Tensor gradients, bool minmax) -> Tensor",
    _maps_kernel,
    _maps_fake,
    check=_check,
)
