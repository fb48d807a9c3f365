"""Tensors on disk: states of runs that go on, and saved weights. One format, safetensors, checked byte by byte.

A checkpoint is a safetensors file that any reader opens. Its metadata has one key, ``pyws``, with a JSON document: the
kind of the checkpoint, the version of the format, a checksum over the whole file, and the facts that belong to the
tensors. Tensors of several parts (``model``, ``optimizer``) have names such as ``model.head.weight``.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar
from zipfile import ZipFile

import torch
from torch import Tensor

from pyws.errors import DataError, reading
from pyws.files import atomic_write, bound, check_regular, open_regular, parse_json, sync_folder
from pyws.pickles import BoundedUnpickler, Instructions, Record, instructions

VERSION = 3
_KEY = "pyws"
_UNSEALED = "0" * 64  # stands where the checksum will be, while it is taken
_ZIP = b"PK\x03\x04"  # begins a file of torch.save since torch 1.6


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors and the facts that belong to them.

    Parameters
    ----------
    path : the file
    tensors : by name, in the order in which they were written
    facts : what the writer said of them
    """

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors ``prefix.NAME`` by NAME."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_checkpoint(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, Tensor | Mapping[str, Tensor]],
    facts: Mapping[str, Any] | None = None,
    keep_previous: bool = False,
) -> None:
    """Write tensors and facts, whole or not at all, and durable when the function returns.

    Parameters
    ----------
    path : the file to write
    kind : what it is, such as "pyws segments checkpoint"; a reader must ask for the same
    tensors : by name, or by part and name
    facts : a JSON object without NaN
    keep_previous : the file that is there is kept beside the new one, for :func:`read_latest`

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> write_checkpoint(path, "example", {"model": {"bias": torch.tensor([1.0, 2.0])}}, {"epoch": 3})
    >>> saved = read_checkpoint(path, "example")
    >>> saved.part("model"), saved.facts
    ({'bias': tensor([1., 2.])}, {'epoch': 3})
    """
    from safetensors.torch import save

    named = {name: tensor.detach().cpu().contiguous() for name, tensor in _flat(tensors)}
    header = {"kind": kind, "version": VERSION, "sha256": _UNSEALED, "order": list(named), "facts": facts or {}}
    unsealed = save(named, {_KEY: json.dumps(header, allow_nan=False)})  # with several keys the order would vary
    target = Path(path)
    with atomic_write(target, "wb", _previous(target) if keep_previous else None) as file:
        file.write(unsealed.replace(_UNSEALED.encode(), sha256(unsealed).hexdigest().encode(), 1))
    sync_folder(target.parent)


def read_checkpoint(
    path: str | os.PathLike[str], kind: str, required: Mapping[str, type | tuple[type, ...]] | None = None
) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : the file
    kind : what it must be
    required : facts that it must state, and their types

    Raises
    ------
    DataError : missing, truncated, a bit differs from what was written, of another kind or version, a fact is missing
        or of another type
    """
    tensors, header = read_tensors(path)
    if header.get("kind") != kind:
        raise DataError(path, f"must be a {kind}, but its header {_says('kind', header)}")
    facts = header["facts"]
    for name, types in (required or {}).items():
        if name not in facts:
            raise DataError(path, f"must say its {name}, got {', '.join(facts) or 'nothing'}")
        if not isinstance(facts[name], types):
            raise DataError(path, f"{name} must be of type {_names(types)}, got {facts[name]!r}")
    return Checkpoint(Path(path), tensors, facts)


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint says beside its tensors, which stay unread and unchecked: enough to look at a run.

    Raises
    ------
    DataError : missing, or no checkpoint

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> write_checkpoint(path, "example", {"bias": torch.zeros(1)}, {"epoch": 3})
    >>> read_facts(path)
    {'epoch': 3}
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, "pt") as file:
            return _header(path, (file.metadata() or {}).get(_KEY))["facts"]
    except (OSError, SafetensorError) as error:
        raise DataError(path, f"cannot be read: {error}") from error


def read_latest(
    path: str | os.PathLike[str], kind: str, required: Mapping[str, type | tuple[type, ...]] | None = None
) -> Checkpoint | None:
    """Read the state that a run goes on from: the latest, or with a warning the one before where that is damaged.

    Returns
    -------
    None where there is no state yet.

    Raises
    ------
    DataError : neither can be read, or the file is of another kind or version

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "last.safetensors"
    >>> read_latest(path, "example") is None
    True
    >>> for epoch in (1, 2):
    ...     write_checkpoint(path, "example", {"bias": torch.zeros(1)}, {"epoch": epoch}, keep_previous=True)
    >>> _ = path.write_bytes(b"damaged")
    >>> with warnings.catch_warnings(record=True):
    ...     read_latest(path, "example").facts
    {'epoch': 1}
    """
    target = Path(path)
    previous = _previous(target)
    if not target.exists() and not previous.exists():
        return None
    try:
        return read_checkpoint(target, kind, required)
    except DataError as error:
        try:
            found = read_checkpoint(previous, kind, required)
        except DataError:
            raise error from None
        warnings.warn(f"{error}. Going on from the state before it, {previous.name}", stacklevel=2)
        return found


def remove_checkpoint(path: str | os.PathLike[str]) -> None:
    """Remove a checkpoint and the one kept beside it, where they are there."""
    for file in (Path(path), _previous(Path(path))):
        file.unlink(missing_ok=True)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read any safetensors file; one that :func:`write_checkpoint` wrote is checked.

    Returns
    -------
    tensors : by name, of a checkpoint in the order in which they were written, else sorted by name
    header : ``kind``, ``version``, ``facts`` and more of a checkpoint; empty for a file of another program

    Raises
    ------
    DataError : missing, truncated, not safetensors; of a checkpoint another version, or a bit differs from what was
        written
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        with open_regular(path) as file:
            check_weights(path, os.fstat(file.fileno()).st_size)
            raw = file.read()
        tensors = load(raw)
        metadata = parse_json(raw[8 : 8 + int.from_bytes(raw[:8], "little")]).get("__metadata__") or {}
    except DataError:
        raise
    except FileNotFoundError as error:
        raise _damaged(path, "is missing") from error
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise _damaged(path, f"is truncated, damaged or not safetensors ({error})") from error
    if _KEY not in metadata:
        return {name: tensors[name] for name in sorted(tensors)}, {}
    header = _header(path, metadata[_KEY])
    if header["version"] != VERSION:
        raise DataError(path, f"must be of version {VERSION} of the format, but its header {_says('version', header)}")
    if sha256(raw.replace(header["sha256"].encode(), _UNSEALED.encode(), 1)).hexdigest() != header["sha256"]:
        raise _damaged(path, "is damaged: its checksum does not fit its contents")
    order = [str(name) for name in header["order"]]
    if sorted(order) != sorted(tensors):
        raise DataError(path, f"must list its tensors in its header, got {order}")
    return {name: tensors[name] for name in order}, header


def check_weights(path: str | os.PathLike[str], size: int) -> None:
    """Raise DataError where weights or a state are, or unpack to, more than they may; the variable
    PYWS_MAX_WEIGHTS_MIB says how much, 8192 if not set."""
    most = bound("PYWS_MAX_WEIGHTS_MIB", 8192)
    if size > most << 20:
        rule = f"must have at most {most} MiB, got more; PYWS_MAX_WEIGHTS_MIB in the environment raises it"
        raise DataError(path, rule)


def read_torch(path: str | os.PathLike[str], check: Callable[[str | os.PathLike[str], int], None]) -> Any:
    """What a file of ``torch.save`` holds: tensors, numbers and text in tables and lists. Nothing in it is run.

    Parameters
    ----------
    path : the file
    check : is given the path and the bytes that the file unpacks to, and raises where those are too many

    Raises
    ------
    DataError : missing, damaged, too large, or it names anything else, such as what makes much of few bytes

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "weights.pth"
    >>> torch.save({"bias": torch.ones(2)}, path)
    >>> read_torch(path, check_weights)
    {'bias': tensor([1., 1.])}
    """
    with reading(path, "cannot be read as weights (torch.load, weights_only=True)"):
        with open_regular(path) as file:
            check(path, os.fstat(file.fileno()).st_size)
            if file.read(len(_ZIP)) == _ZIP:
                with ZipFile(file) as packed:
                    check(path, sum(member.file_size for member in packed.infolist()))
                raw = torch._C.PyTorchFileReader(os.fspath(path)).get_record("data.pkl")
                _Rehearsal(io.BytesIO(raw), len(raw)).load()
            else:
                file.seek(0)
                rehearsal = _Rehearsal(file, os.fstat(file.fileno()).st_size)
                for _ in ("magic number", "version", "system", "tensors", "storages"):
                    rehearsal.load()
        return torch.load(path, map_location="cpu", weights_only=True)


class _Table(dict[Any, Any], Record):
    """OrderedDict, whose ``_metadata`` torch keeps as its state."""


class _Unmade:
    """A tensor, type or size of torch, which is not made."""


class _Rehearsal(BoundedUnpickler):
    """Goes through a pickle of torch.save as torch does, makes no tensor, and adds up what everything would take.

    torch lets a pickle call more than tensors need: ``bytearray`` makes two gigabytes of ten bytes.
    """

    stray, foreign = ", which no table of tensors needs", "no table of tensors needs"
    makers: ClassVar[Mapping[str, Any]] = {
        r"collections\.OrderedDict": _Table,
        r"torch\.(Size|device|\w+Storage|b?float\w*|u?int\d+|bool|complex\d+)": _Unmade,
        r"torch\._utils\._rebuild_(tensor(_v2)?|parameter)": _Unmade,
    }
    dispatch: ClassVar[Instructions] = BoundedUnpickler.dispatch | instructions(
        "EMPTY_DICT SETITEM SETITEMS EMPTY_SET BINPERSID"
    )

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, 64 * size + (1 << 20), "utf-8")
        self._unread, self._keys, self._zipped = size, set[str](), isinstance(file, io.BytesIO)

    def persistent_load(self, pid: Any) -> Any:
        """A storage, which files before torch 1.6 have room made for at once."""
        _, _, key, _, count, *_ = pid
        if key not in self._keys:
            self._keys.add(key)
            self._unread -= count
            if count < 0 or (self._unread < 0 and not self._zipped):
                raise pickle.UnpicklingError("claims more values than the file has bytes")
        return None

    def make(self, maker: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        made = _Table(*arguments) if maker is _Table else None
        self.spend(1000 + 100 * len(made or ()))
        return made


def load_into(module: torch.nn.Module, checkpoint: Checkpoint, part: str = "model") -> None:
    """Give a module the weights of a checkpoint.

    Parameters
    ----------
    module : its weights are replaced
    checkpoint : holds them as ``PART.NAME``
    part : the name before the dot

    Raises
    ------
    DataError : weights are missing, unknown or of another shape; names the first
    """
    own, given = module.state_dict(), checkpoint.part(part)
    for name in sorted(own.keys() ^ given.keys()):
        verb = "misses" if name in own else "has an unknown"
        raise DataError(checkpoint.path, f"is of another model: it {verb} weight {name!r}")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            shapes = f"{tuple(tensor.shape)}, got {tuple(given[name].shape)}"
            raise DataError(checkpoint.path, f"is of another model: weight {name!r} must have shape {shapes}")
    module.load_state_dict(given)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer, such as its momentum, as tensors by name; its settings are not part of it.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> optimizer_tensors(optimizer)
    {'0.momentum_buffer': tensor([1., 1.])}
    """
    states = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, state in states.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer what :func:`optimizer_tensors` took from one over the same parameters."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _damaged(path: str | os.PathLike[str], what: str) -> DataError:
    return DataError(path, f"{what}; restore it from a copy, or remove it and run again what wrote it")


def _flat(tensors: Mapping[str, Tensor | Mapping[str, Tensor]]) -> list[tuple[str, Tensor]]:
    found = []
    for name, value in tensors.items():
        named = {name: value} if isinstance(value, Tensor) else {f"{name}.{key}": part for key, part in value.items()}
        found += list(named.items())
    return found


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def _header(path: str | os.PathLike[str], text: Any) -> dict[str, Any]:
    """The header, its fields of the types that they must have."""
    fields = {"kind": str, "version": int, "sha256": str, "order": list, "facts": dict}
    try:
        header = parse_json(text)
        sound = all(isinstance(header[name], kind) for name, kind in fields.items())
        sound = sound and re.fullmatch("[0-9a-f]{64}", header["sha256"]) is not None
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise DataError(path, "is no checkpoint of this version of pyws: its header does not say so") from error
    if not sound:
        raise DataError(path, f"is no checkpoint: its header must have {', '.join(fields)} of their types")
    return header


def _says(name: str, header: Mapping[str, Any]) -> str:
    return f"says {name} {header[name]!r}" if name in header else f"says no {name}"


def _names(types: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (types if isinstance(types, tuple) else (types,)))
