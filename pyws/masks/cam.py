"""Grad-CAM over any torch model: which positions of a layer speak for a class (WS^2 section 3.1, eq. 4-5)."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws import ops
from pyws.masks.cam_layout import Layout, channels_of, find_layout, tensor_in, with_tensor
from pyws.models.devices import on_device

Targets = int | Sequence[Any] | Tensor | Callable[[Tensor], Tensor] | None

# How far a gradient may be from the analytic one, relative to the largest entry: rounding of one product and one mean.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class _Pass(threading.local):
    """What the hooks see of a forward pass, and what its call then knows: of each thread its own."""

    recording = False
    runs = 0
    recorded: Any = None
    last: nn.Module | None = None
    grid: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    shape = Layout("channels-first")
    computed = torch.float32
    logits: Tensor | None = None


class GradCAM:
    """Class activation maps of a layer, with the hook removed when the block ends, however it ends.

    The part of the model below the layer runs without a graph, and gradients are taken with respect to the layer's
    output alone: nothing is left in the parameters, and no more memory is used than in inference. Train and eval mode
    are used as they are. (In train mode a forward pass updates batch norm statistics, as any forward pass does.)
    Ordinary calls of the model inside the block are not touched. Several threads may call it at once.

    Parameters
    ----------
    model : a module that maps its input (B, ...) to class scores before softmax, (B, classes)
    layer : one of its modules, or its dotted name, e.g. "layer4"; its output is (B, C, *S), S of 1 to 3 dimensions, or
        what ``layout`` says, alone or the first such tensor of a tuple or mapping
    head : how the gradient is found.
        "autograd": one backward pass through what follows the layer, for each class asked for.
        "auto" (default): where several classes are asked for, one backward pass with a random weight on every class
        tests whether the gradient is that of a global average pool and a linear layer (or 1x1 convolution) of the
        model; if so, all maps come from one matrix product, else from "autograd". A gradient is linear in these
        weights, so that one test settles it for every class.
        A module: the caller states that the model ends in a global average pool and this linear layer; no backward
        pass is made.

    Raises
    ------
    ValueError, TypeError : no such layer; the layer did not run, ran twice or gave no (B, C, *S); the model gave no
        (B, classes); a class out of range. Each names what came.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> clips = torch.randn(2, 3, 6, 10, 10)
    >>> with GradCAM(model, "1") as cam:
    ...     cam(clips, 3).shape, cam(clips, [3, 0]).shape, cam(clips, [[0, 3]]).shape, cam(clips).shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2, 4, 8, 8]), torch.Size([2, 2, 4, 8, 8]), torch.Size([2, 5, 4, 8, 8]))
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        head: str | nn.Module = "auto",
        layout: str | tuple[int, ...] = "auto",
        output: Callable[[Any], Tensor] | None = None,
        run: int | None = None,
    ) -> None:
        if not isinstance(head, nn.Module) and head not in ("auto", "autograd"):
            raise ValueError(f"GradCAM: head must be 'auto', 'autograd' or a module, got {head!r}")
        if run is not None and run < -1:
            raise ValueError(f"GradCAM: run must be -1 (the last) or >= 0, got {run}")
        self.model, self.output, self.run, self.layout = model, output, run, layout
        self.layer = _find_layer(model, layer)
        self.head = head
        self._layer_name = layer if isinstance(layer, str) else type(layer).__name__
        self._handles: list[Any] = []
        self._now = _Pass()

    @property
    def logits(self) -> Tensor | None:
        """Class scores (B, classes) of this thread's last call, without a graph."""
        return self._now.logits

    def __enter__(self) -> GradCAM:
        if self.layout == "auto":
            weighted = [module for module in self.model.modules() if channels_of(module) is not None]
            self._handles = [module.register_forward_hook(self._pass) for module in weighted]
        self._handles.append(self.layer.register_forward_hook(self._record))
        return self

    def attached(self) -> GradCAM:
        """The same with its hooks in place for good: threads that use the network must not see them come and go."""
        return self.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __call__(
        self,
        inputs: Any,
        classes: Targets = None,
        normalize: str | None = None,
        size: str | Sequence[int] | None = None,
    ) -> Tensor:
        """Maps of the given classes, from one forward pass.

        Parameters
        ----------
        inputs : (B, ...), what the model takes; a tuple of its arguments, or a mapping of named ones
        classes : an int: that class for every element of the batch -> (B, *S);
            (B,) ints: one class for each element -> (B, *S);
            (B, K) ints: K classes for each; (1, K): the same K for all -> (B, K, *S);
            None: every class -> (B, classes, *S);
            a function from scores (B, classes) to what is to be explained, (B,) or (B, K), e.g.
            ``lambda scores: scores[:, dogs].logsumexp(1)`` for "any breed of dog"
        normalize : None, or "minmax" to map each map to [0, 1]
        size : None for maps of the layer's size *S; (..., H, W) to scale them, linearly in each dimension; "input" for
            the size of the images or clips that went in

        Returns
        -------
        Maps on the device and of the dtype of the layer's output, without a graph; float32 of a layer in autocast.
        """
        if not self._handles:
            raise RuntimeError("GradCAM: call it inside its with block: with GradCAM(model, layer) as cam: ...")
        maps = self._maps(inputs, classes, normalize)
        if size is None:
            return maps
        wanted = _input_size(inputs) if size == "input" else tuple(int(side) for side in size)
        return scaled(maps, wanted, len(self._now.size))

    def _maps(self, inputs: Any, classes: Targets, normalize: str | None) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            activations, logits = self._forward(inputs)
            self._now.logits = logits.detach()
            if callable(classes):
                return self._from_gradients(activations, self._explained(classes, logits), normalize)
            wanted = _class_table(classes, logits)
            weight = self._head_weight(activations, logits, wanted)
            if weight is None:
                with torch.enable_grad():
                    targets = logits.gather(1, _two_dims(wanted))
                maps = self._from_gradients(activations, targets, normalize)
            else:
                maps = _from_weight(
                    self._now.shape.channels_first(activations.detach()), weight, _two_dims(wanted), normalize
                )
            return maps[:, 0] if wanted.ndim == 1 else maps

    def linear(self, inputs: Any, classes: Targets) -> Tensor | None:
        """As a call, if the model ends in a global average pool and a linear layer; otherwise None.

        Whether it does is tested on these inputs, as head "auto" does for several classes. ``logits`` are set in both
        cases. Maps of many classes then cost one matrix product.
        """
        if not self._handles:
            raise RuntimeError("GradCAM: call it inside its with block: with GradCAM(model, layer) as cam: ...")
        if callable(classes):
            raise ValueError("GradCAM: maps of a linear head are of classes, got a function of the scores")
        with torch.inference_mode(False), torch.no_grad():
            activations, logits = self._forward(inputs)
            self._now.logits = logits.detach()
            wanted = _class_table(classes, logits)
            weight = _proved_head(self.model, activations, logits, self._now.shape, self._now.computed)
            if weight is None:
                return None
            maps = _from_weight(self._now.shape.channels_first(activations.detach()), weight, _two_dims(wanted), None)
            return maps[:, 0] if wanted.ndim == 1 else maps

    def _pass(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The hook of modules with weights: which ran last before the layer gave its output tells the layout."""
        if self._now.recording and self._now.recorded is None:
            self._now.last = module

    def _record(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """The hook: cut the graph at the layer's output and give what follows a copy it may change in place."""
        if not self._now.recording:
            return None
        self._now.runs += 1
        if self.run not in (None, -1, self._now.runs - 1):
            return None
        found, self._now.grid, place = tensor_in(output)
        self._now.recorded = found
        if not isinstance(found, Tensor) or not found.is_floating_point() or not 3 <= found.ndim <= 5:
            return None
        self._now.computed = found.dtype
        # Under autocast the layer may be narrow: its maps and gradients are not.
        narrow = torch.is_autocast_enabled(found.device.type)
        wide = torch.promote_types(found.dtype, torch.float32) if narrow else found.dtype
        leaf = self._now.recorded = found.detach().to(wide)
        if isinstance(self.head, nn.Module):
            return with_tensor(output, place, leaf.clone())
        torch.set_grad_enabled(True)  # until the no_grad block of _forward ends
        return with_tensor(output, place, leaf.requires_grad_().clone())

    def _forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """The layer's output, as it came, and the scores; sets the layout of the former."""
        self._now.runs, self._now.recorded, self._now.last, self._now.recording = 0, None, None, True
        try:
            with torch.no_grad():
                logits = _called(self.model, inputs)
                if self.output is not None:
                    logits = self.output(logits)
            activations = self._now.recorded
        finally:
            self._now.recorded, self._now.recording = None, False
        self._check_runs()
        if not isinstance(activations, Tensor) or not 3 <= activations.ndim <= 5:
            name = self._layer_name
            raise ValueError(f"GradCAM: output of layer {name} must be (B, C, *S) float, got {_shown(activations)}")
        if self.output is not None and isinstance(logits, Tensor) and logits.ndim == 1:
            with torch.enable_grad():
                logits = logits[:, None]
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(activations):
            wanted = f"({len(activations)}, classes)"
            hint = "" if self.output is not None else "; output= chooses them"
            raise ValueError(f"GradCAM: output of the model must be scores {wanted}, got {_shown(logits)}{hint}")
        try:
            size = _input_size(inputs)
            self._now.shape = find_layout(activations.shape, self.layout, self._now.last, size, self._now.grid)
        except ValueError as error:
            raise ValueError(f"GradCAM: layer {self._layer_name}: {error}") from error
        self._now.size = self._now.shape.channels_first(activations).shape[2:]
        return activations, logits

    def _check_runs(self) -> None:
        runs, name = self._now.runs, self._layer_name
        if self.run is None and runs != 1:
            hint = "; run= chooses one" if runs else ""
            raise ValueError(f"GradCAM: layer must run once in a forward pass of the model, {name} ran {runs} x{hint}")
        if self.run is not None and runs <= max(self.run, 0):
            raise ValueError(f"GradCAM: run must be one of the layer's, {name} ran {runs} x, got run={self.run}")

    def _explained(self, function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
        if isinstance(self.head, nn.Module):
            raise ValueError("GradCAM: a function of the scores needs gradients: head must be 'auto' or 'autograd'")
        with torch.enable_grad():
            targets = function(logits)
        if not isinstance(targets, Tensor) or targets.ndim not in (1, 2) or len(targets) != len(logits):
            batch = len(logits)
            raise ValueError(f"GradCAM: classes must return ({batch},) or ({batch}, K) scores, got {_shown(targets)}")
        return targets

    def _from_gradients(self, activations: Tensor, targets: Tensor, normalize: str | None) -> Tensor:
        """One backward pass a column of targets; elements of a batch do not meet, so their sum serves them all."""
        columns = targets.shape[1] if targets.ndim == 2 else 1
        maps = []
        for index in range(columns):
            gradients = None
            if targets.requires_grad:
                with torch.enable_grad():
                    total = targets.view(len(targets), columns)[:, index].sum()
                last = index + 1 == columns
                (gradients,) = torch.autograd.grad(total, activations, retain_graph=not last, allow_unused=True)
            if gradients is None:
                raise ValueError(f"GradCAM: no gradient reaches layer {self._layer_name} from the scores")
            shaped = self._now.shape.channels_first
            maps.append(ops.gradcam3d(shaped(activations.detach()), shaped(gradients), normalize))
        return maps[0] if targets.ndim == 1 else torch.stack(maps, 1)

    def _head_weight(self, activations: Tensor, logits: Tensor, wanted: Tensor) -> Tensor | None:
        """The weight (classes, C) of a head that is pool + linear; None where gradients must be asked."""
        channels, classes = self._now.shape.channels_first(activations).shape[1], logits.shape[1]
        if isinstance(self.head, nn.Module):
            weight = _matrix(self.head, classes, channels)
            if weight is None:
                raise ValueError(f"GradCAM: head must be linear from {channels} to {classes}, got {self.head}")
            return weight.to(activations.dtype)
        several = wanted.ndim == 2 and wanted.shape[1] > 1
        if not several or self.head != "auto":
            return None
        return _proved_head(self.model, activations, logits, self._now.shape, self._now.computed)


def _proved_head(
    model: nn.Module, activations: Tensor, logits: Tensor, layout: Layout, computed: torch.dtype
) -> Tensor | None:
    """The weight of the linear layer whose pool gives the scores, proved by one backward pass; None where none does.

    For random weights v on the scores, the gradient of v . scores with respect to channel c must be (v W)_c / Z at all
    Z positions. It is linear in v, so that for another Jacobian this holds with probability zero.
    """
    if not len(logits) or not logits.requires_grad:
        return None
    mixture = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits.dtype)
    mixture = on_device(mixture, logits.device)
    with torch.enable_grad():
        total = (logits * mixture).sum()  # a gradient of a scalar: of others torch loads sympy
    (gradients,) = torch.autograd.grad(total, activations, retain_graph=True, materialize_grads=True)
    gradients = layout.channels_first(gradients)
    for module in reversed(list(model.modules())):
        weight = _matrix(module, logits.shape[1], gradients.shape[1])
        if weight is None or weight.dtype != activations.dtype:
            continue
        expected = mixture.to(weight.dtype) @ weight / gradients[0, 0].numel()
        difference = gradients.flatten(2) - expected[:, :, None]
        if bool((difference.abs() <= _ROUNDING[computed] * expected.abs().amax()).all()):
            return weight
    return None


def scaled(maps: Tensor, size: Sequence[int], dimensions: int) -> Tensor:
    """Maps (..., *S) scaled to ``size``, linearly in each of the last ``dimensions``.

    Raises
    ------
    ValueError : a size of another number of dimensions

    Examples
    --------
    >>> scaled(torch.tensor([[0.0, 1.0]]), (4,), 1)
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if len(size) != dimensions or min(size) < 1:
        raise ValueError(f"GradCAM: size must have {dimensions} sides >= 1, as the maps have, got {tuple(size)}")
    mode = ("linear", "bilinear", "trilinear")[dimensions - 1]
    lead = maps.shape[: maps.ndim - dimensions]
    flat = maps.reshape(1, -1, *maps.shape[maps.ndim - dimensions :])
    return functional.interpolate(flat, size=tuple(size), mode=mode, align_corners=False).reshape(*lead, *size)


def _called(model: nn.Module, inputs: Any) -> Any:
    """What the model gives; tensors made in inference mode can never carry a gradient, their copies can."""

    def usable(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) and value.is_inference() else value

    if isinstance(inputs, Mapping):
        return model(**{name: usable(value) for name, value in inputs.items()})
    if isinstance(inputs, tuple):
        return model(*(usable(value) for value in inputs))
    return model(usable(inputs))


def _input_size(inputs: Any) -> tuple[int, ...]:
    """(H, W), (T, H, W) of the first images or clips among the inputs, (T,) of sequences; () without any."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    floats = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return next((tuple(value.shape[2:]) for value in floats if 3 <= value.ndim <= 5), ())


def _find_layer(model: nn.Module, layer: nn.Module | str) -> nn.Module:
    names = dict(model.named_modules())
    if isinstance(layer, str):
        if layer in names:
            return names[layer]
        near = difflib.get_close_matches(layer, names, n=3) or [name for name, _ in model.named_children()][-5:]
        raise ValueError(f"GradCAM: layer must name a module of the model (such as {', '.join(near)}), got {layer!r}")
    if not any(module is layer for module in names.values()):
        raise ValueError(
            f"GradCAM: layer must be a module of the model, got a {type(layer).__name__} that is not in it"
        )
    return layer


def _class_table(classes: Any, logits: Tensor) -> Tensor:
    """Class ids as (B,) or (B, K) int64, checked."""
    (batch, count), device = logits.shape, logits.device
    if classes is None:
        return torch.arange(count, device=device).expand(batch, count)
    table = torch.as_tensor(classes)
    if table.numel() and (table.is_floating_point() or table.is_complex() or table.dtype == torch.bool):
        raise TypeError(f"GradCAM: classes must be integers, got {str(table.dtype).removeprefix('torch.')}")
    if table.ndim == 0:
        table = table.expand(batch)
    if table.ndim == 2 and len(table) == 1:
        table = table.expand(batch, -1)
    if table.ndim not in (1, 2) or len(table) != batch or (table.numel() == 0 and batch > 0):
        raise ValueError(
            f"GradCAM: classes must be an int, ({batch},), ({batch}, K) or (1, K) for a batch of {batch}, "
            f"got shape {tuple(table.shape)}"
        )
    if table.numel() and not 0 <= int(table.min()) <= int(table.max()) < count:
        bad = table[(table < 0) | (table >= count)][0]
        raise ValueError(f"GradCAM: classes must be in 0..{count - 1}, got {int(bad)}")
    return on_device(table.long(), device)


def _two_dims(table: Tensor) -> Tensor:
    return table[:, None] if table.ndim == 1 else table


def _matrix(module: nn.Module, classes: int, channels: int) -> Tensor | None:
    """The weight of a linear layer or 1x1 convolution from ``channels`` to ``classes``."""
    if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    weight = module.weight.detach()
    if weight.shape[:2] != (classes, channels) or weight.numel() != classes * channels:
        return None
    return weight.reshape(classes, channels)


def _from_weight(activations: Tensor, weight: Tensor, wanted: Tensor, normalize: str | None) -> Tensor:
    """Maps (B, K, *S) of the wanted classes: only classes that somebody wants are multiplied out."""
    ids, place = wanted.unique(return_inverse=True)
    maps = ops.gradcam3d_from_head(activations, weight[ids], normalize)
    return maps[torch.arange(len(maps), device=maps.device)[:, None], place]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{type(value).__name__} with {', '.join(map(str, value))}"
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
