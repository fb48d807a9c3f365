"""What every operation shares: the compiled core, argument checks, registration with torch, one launch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyws.ragged import Segments, check_dense

try:
    from pyws import _C as _compiled
except ImportError as error:
    raise ImportError(
        "pyws: the compiled core pyws._C is missing or does not load. Build it with `pip install .` in the source "
        f"folder, or `pip install -e . --no-build-isolation` for development. The loader said: {error}"
    ) from error

_C: Any = _compiled  # csrc/bindings.cpp lists what it has

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

MAX_ENTRIES = 2**30  # values of memory that a number alone asks for, 8 GiB of float64
_library = torch.library.Library("pyws", "DEF")


class KernelBackend:
    """The compiled functions that serve CPU tensors. The tests put the emulated CUDA kernels here.

    Parameters
    ----------
    module : pyws._C, or one that was compiled like it
    suffix : ends the functions' names: "_cpu" or "_cuda"
    last_argument : function that gives the number of threads, or the CUDA stream
    """

    def __init__(self, module: ModuleType, suffix: str, last_argument: Callable[[], int]) -> None:
        self.module, self.suffix, self.last_argument = module, suffix, last_argument
        module.set_dtypes([getattr(torch, name) for name in module.dtypes])

    def call(self, name: str, fields: dict[str, Any]) -> Any:
        return getattr(self.module, name + self.suffix)(fields, self.last_argument())


_HOST = BACKEND = KernelBackend(_C, "_cpu", torch.get_num_threads)


def runs_on_card(device: torch.device) -> bool:
    """Whether :func:`launch` calls CUDA kernels for tensors of ``device``, emulated ones included."""
    return device.type == "cuda" or BACKEND.suffix == "_cuda"


def launch(name: str, device: torch.device, fields: dict[str, Any]) -> Any:
    """Call the compiled function of ``name`` for ``device`` with the fields of its struct of parameters, by name.

    Tensors go as they are, or None where a field is optional; a tensor of a type that the field is not is a TypeError.
    They must be contiguous, on ``device``, and of the sizes that the header of the family says. The CPU function
    gets the number of threads besides, the CUDA function the current stream.
    """
    if device.type == "cpu":
        return BACKEND.call(name, fields)
    function = getattr(_C, name + "_cuda", None)
    if function is None:
        raise RuntimeError(f"{name}: got CUDA tensors, but pyws was built without CUDA kernels (see `pyws doctor`)")
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream
        return function(fields, stream)


def launch_on_host(name: str, fields: dict[str, Any]) -> Any:
    """Call the CPU function of ``name``, also where :data:`BACKEND` serves CPU tensors by CUDA kernels."""
    return (_HOST if BACKEND.suffix == "_cuda" else BACKEND).call(name, fields)


def register(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
    check: Callable[..., None] | None = None,
    reads_contents: bool = False,
) -> Any:
    """Define ``pyws::<schema>`` for CPU and CUDA with its fake (shapes without data) and its gradient, if any.

    Whoever calls ``torch.ops.pyws.<name>`` passes ``check``, which takes the same arguments and raises where the kernel
    would misread them: a wrong type, shape or device, a number that sizes memory.

    ``reads_contents`` is said of kernels that wait for contents of tensors, such as those that size their answer. No
    CUDA graph can hold them: they refuse to be captured, and torch.compile leaves them out of the graphs that it makes.

    Returns what calls it from the public function, which has checked: the operator, or the kernel itself where the
    dispatcher, which costs more than a small call, would do nothing but hand the arguments through. Without
    ``backward`` it refuses tensors that require grad or carry a tangent.
    """
    name = schema[: schema.index("(")]
    kernel = _named(name, kernel, reads_contents)
    tags = (torch.Tag.pt2_compliant_tag, *([torch.Tag.cudagraph_unsafe] if reads_contents else []))
    _library.define(schema, tags=tags)
    parsed = torch._C.parse_schema(f"pyws::{schema}")
    for key in ("CPU", "CUDA"):
        _library.impl(name, _checked(kernel, check, parsed), key)
    torch.library.register_fake(f"pyws::{name}", _checked(fake, check, parsed), lib=_library)
    if backward is not None:
        torch.library.register_autograd(f"pyws::{name}", backward, setup_context=setup_context, lib=_library)
    operator = getattr(torch.ops.pyws, name).default
    names = [argument.name for argument in operator._schema.arguments]

    def call(*arguments: Any) -> Any:
        if can_skip_dispatch(arguments):
            return kernel(*arguments)
        if backward is None or in_forward_ad():
            refuse_grad(name, **dict(zip(names, arguments, strict=True)))
        return operator(*arguments)

    return call


def in_capture() -> bool:
    """Whether the current CUDA stream is captured in a graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def refuse_capture(op: str) -> None:
    """Raise while the current CUDA stream is captured, for operations that wait for contents of their tensors."""
    if in_capture():
        raise RuntimeError(
            f"{op}: cannot be captured in a CUDA graph, since it reads the sizes of its answer back from the card; "
            "call it outside"
        )


def _named(name: str, kernel: Callable[..., Any], reads_contents: bool) -> Callable[..., Any]:
    """The kernel, whose lack of memory is a MemoryError that names the operation."""

    def run(*arguments: Any) -> Any:
        if reads_contents:
            refuse_capture(name)
        try:
            return kernel(*arguments)
        except RuntimeError as error:
            if "DefaultCPUAllocator" not in str(error):
                raise
            raise MemoryError(f"{name}: needs more memory than there is; give it fewer at once ({error})") from error

    return run


def _checked(function: Callable[..., Any], check: Callable[..., None] | None, schema: Any) -> Callable[..., Any]:
    needed = [(place, one.name) for place, one in enumerate(schema.arguments) if one.type.kind() == "TensorType"]

    def run(*arguments: Any) -> Any:
        for place, name in needed:
            if arguments[place] is None:  # which torch takes for a tensor without contents
                raise TypeError(f"{schema.name.removeprefix('pyws::')}: {name} must be a tensor, got None")
        if check is not None:
            check(*arguments)
        return function(*arguments)

    return run


def _private_functions() -> dict[str, Any] | None:
    """Functions of torch that :func:`can_skip_dispatch` asks and no release promises; None where one is missing."""
    try:
        keys, key = torch._C.DispatchKeySet, torch._C.DispatchKey
        inference = keys(key.BackendSelect)
        found: dict[str, Any] = {
            "included": torch._C._dispatch_tls_local_include_set,
            "no_modes": (inference | keys(key.ADInplaceOrView), inference),  # the thread's keys outside all modes
            "overrides": torch._C._len_torch_function_stack,
            "profiling": torch.autograd._profiler_enabled,
        }
        if not isinstance(found["overrides"](), int) or found["included"]() not in found["no_modes"]:
            return None
    except (AttributeError, TypeError):
        return None
    return found


_torch = _private_functions()
_SCALARS = {int, float, bool, str, list, type(None)}


def in_forward_ad() -> bool:
    """Whether a level of forward-mode differentiation is open, in which tensors may carry tangents."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def has_tangent(tensor: Any) -> bool:
    """Whether forward-mode differentiation follows the tensor."""
    return in_forward_ad() and isinstance(tensor, Tensor) and forward_ad.unpack_dual(tensor).tangent is not None


def in_vmap() -> bool:
    """Whether the call is inside torch.vmap."""
    stack = getattr(torch._C._functorch, "get_interpreter_stack", lambda: None)()
    return stack is not None and any(level.key().name == "Vmap" for level in stack)


def contents_are_readable() -> bool:
    """Whether a function may look at the contents of its tensors, which torch.compile, torch.vmap and the capture of a
    CUDA graph do not have."""
    return not torch.compiler.is_compiling() and not in_vmap() and not in_capture()


def refuse_vmap(op: str) -> None:
    """Raise under torch.vmap, for operations on ragged batches."""
    if not torch.compiler.is_compiling() and in_vmap():
        raise RuntimeError(
            f"{op}: takes ragged batches as they are, and does not work under torch.vmap; call it outside"
        )


def dispatch_is_skipped() -> bool:
    """Whether small calls go straight to their kernels, which needs functions of torch that are private to it."""
    return _torch is not None


def can_skip_dispatch(arguments: tuple[Any, ...]) -> bool:
    """Whether the dispatcher would go straight to the kernel: no compiler, tracer, fake or functorch mode, profiler or
    gradient is interested in the call, and all tensors are plain ones, none a view that negates, none a zero without
    memory (which derivatives are made of).

    False as well where this torch lacks a function that tells: the dispatcher is then called, which costs a few
    microseconds.
    """
    if torch.compiler.is_compiling() or _torch is None or in_forward_ad():
        return False
    if _torch["included"]() not in _torch["no_modes"] or _torch["overrides"]() or _torch["profiling"]():
        return False
    for argument in arguments:
        kind = type(argument)
        if kind is Tensor:
            if argument.requires_grad or argument.is_neg() or argument._is_zerotensor():
                return False
        elif kind not in _SCALARS:
            return False  # a tensor of another class, or of the symbolic numbers of a tracer
    return True


def check_tensor(
    op: str,
    name: str,
    tensor: Any,
    dtypes: tuple[torch.dtype, ...],
    ndim: int | tuple[int, ...] | None = None,
    shape: tuple[int | None, ...] | None = None,
    device: torch.device | None = None,
) -> None:
    """Raise unless ``tensor`` is a strided CPU or CUDA tensor of the given dtypes, rank, shape and device.

    ``shape`` holds None where any size will do.
    """
    check_dense(op, name, tensor)
    if tensor.dtype not in dtypes:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{op}: {name} must be {expected}, got {str(tensor.dtype).removeprefix('torch.')}")
    if ndim is not None:
        ranks = (ndim,) if isinstance(ndim, int) else ndim
        if tensor.ndim not in ranks:
            wanted = " or ".join(map(str, ranks))
            raise ValueError(f"{op}: {name} must have {wanted} dimensions, got shape {tuple(tensor.shape)}")
    if shape is not None:
        fits = tensor.ndim == len(shape) and all(
            want is None or want == size for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = "(" + ", ".join("*" if want is None else str(want) for want in shape) + ")"
            raise ValueError(f"{op}: {name} must have shape {wanted}, got {tuple(tensor.shape)}")
    if device is not None and tensor.device != device:
        raise ValueError(f"{op}: {name} must be on {device} like the other arguments, got {tensor.device}")


def check_segments(op: str, name: str, segments: Any) -> None:
    """Raise unless ``segments`` is a ragged batch of segments."""
    if not isinstance(segments, Segments):
        raise TypeError(f"{op}: {name} must be pyws.Segments, got {type(segments).__name__}")
    refuse_vmap(op)


def check_columns(op: str, offsets: Any, **columns: Any) -> None:
    """Raise unless the columns of ragged segments are float64 and as long as the first, and offsets int64 beside it."""
    first = next(iter(columns.values()))
    for name, column in columns.items():
        check_tensor(op, name, column, (torch.float64,), ndim=1)
        check_tensor(op, name, column, (torch.float64,), shape=tuple(first.shape), device=first.device)
    check_tensor(op, "offsets", offsets, (torch.int64,), ndim=1, device=first.device)
    if not len(offsets):
        raise ValueError(f"{op}: offsets must have shape (groups+1,), got (0,)")


def check_choice(op: str, name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_range(op: str, name: str, value: Any, rule: str, holds: Callable[[], bool]) -> None:
    """Raise ``<op>: <name> must be <rule>, got <value>`` unless a number ``holds``, which NaN must fail."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    if not holds():
        raise ValueError(f"{op}: {name} must be {rule}, got {value}")


def check_count(op: str, name: str, value: Any, minimum: int, maximum: int, rule: str = "") -> None:
    """Raise unless ``value`` is an integer in ``minimum..maximum``, which ``rule`` may say in other words."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{op}: {name} must be {rule or f'in {minimum}..{maximum}'}, got {value}")


def check_pixels(op: str, name: str, frames: Tensor) -> None:
    """Raise where frames (B, H, W) have 2^31 pixels or more each."""
    if frames.shape[1] * frames.shape[2] >= 2**31:
        raise ValueError(f"{op}: {name} must have less than 2**31 pixels a frame, got shape {tuple(frames.shape)}")


def check_table(op: str, frames: int, superpixels: int, classes: int) -> None:
    """Raise where counters of superpixels and classes are 2^31 or more a frame, or more than MAX_ENTRIES in all."""
    if superpixels * classes >= 2**31:
        raise ValueError(f"{op}: num_superpixels * num_classes must be below 2**31, got {superpixels} * {classes}")
    check_entries(op, "frames * num_superpixels * num_classes", frames * superpixels * classes)


def check_entries(op: str, name: str, entries: int) -> None:
    """Raise where a number that only sizes memory asks for more than MAX_ENTRIES values."""
    if entries > MAX_ENTRIES:
        raise ValueError(f"{op}: {name} must be 2**30 or less in all, got {entries}")


def first_wrong(op: str, name: str, values: Tensor, wrong: Tensor) -> int | float:
    """The first of the values that are ``wrong``, which a kernel has found: that there is one.

    Raises
    ------
    RuntimeError : none is, since another thread wrote to the tensor meanwhile
    """
    places = wrong.nonzero()
    if not len(places):
        raise changed(op, name)
    return values[tuple(places[0])].item()


def changed(op: str, name: str) -> RuntimeError:
    """What is raised where a tensor was not the same throughout a call."""
    return RuntimeError(f"{op}: {name} must not be written to during the call, by another thread, found them changed")


def refuse_grad(op: str, **arguments: Any) -> None:
    """Raise where a gradient, or a tangent of forward mode, is asked for through an operation that has none."""
    if torch.is_grad_enabled():
        for name, argument in arguments.items():
            if isinstance(argument, Tensor) and argument.requires_grad:
                raise RuntimeError(f"{op}: not differentiable, but {name} requires grad; detach it first")
    if not torch.compiler.is_compiling() and in_forward_ad():
        for name, argument in arguments.items():
            if has_tangent(argument):
                raise RuntimeError(f"{op}: has no forward-mode derivative, but {name} carries a tangent")
