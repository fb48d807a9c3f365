"""What the tests share: the compiled functions that serve CPU tensors, one backend after the other, and shared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # as many workers as cores; set before torch loads, and inherited by children

import emulation
import pytest
import torch

from pyws.ops import _library

KERNELS = emulation.load() if emulation.SANITIZE else _library._C  # with the CPU kernels that are under test
CPU_PATHS = KERNELS.cpu_paths()
EMULATED = [f"emulated-{seed}" for seed in range(int(os.environ.get("PYWS_EMULATOR_SEEDS", "2")))]
REQUIRE_CUDA = os.environ.get("PYWS_REQUIRE_CUDA") == "1"
HAVE_CUDA = bool(_library._C.cuda) and torch.cuda.is_available()
GPU = [pytest.param("cuda", marks=pytest.mark.cuda)] if HAVE_CUDA or REQUIRE_CUDA else []


class FencedBackend(_library.KernelBackend):
    """Runs kernels on copies of the memory, between fences: a write beyond a storage is an error at once, and what
    lies there, which may be read and used by mistake, is a great number of every type."""

    WIDTH, FENCE = 256, 0x7F
    LARGEST = 1 << 24  # bytes that are copied

    def call(self, name: str, fields: dict[str, Any]) -> Any:
        copies: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        result = super().call(name, {key: self._fenced(value, copies) for key, value in fields.items()})
        for own, inner, whole in copies.values():
            outside = int((whole != self.FENCE).sum() - (inner != self.FENCE).sum())
            assert outside == 0, f"{name}: {outside} bytes beyond the tensors were written"
            if not torch.equal(own, inner):  # memory that is only read may be protected
                own.copy_(inner)
        return result

    def _fenced(self, value: Any, copies: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Any:
        if not isinstance(value, torch.Tensor) or not 0 < value.untyped_storage().nbytes() <= self.LARGEST:
            return value
        storage = value.untyped_storage()
        if storage.data_ptr() not in copies:
            own = torch.empty(0, dtype=torch.uint8).set_(storage)
            whole = torch.full((len(own) + 2 * self.WIDTH,), self.FENCE, dtype=torch.uint8)
            start = self.WIDTH + (storage.data_ptr() - whole.data_ptr()) % 64  # aligned as it was
            inner = whole[start : start + len(own)]
            copies[storage.data_ptr()] = own, inner.copy_(own), whole
        _, inner, whole = copies[storage.data_ptr()]
        start = inner.storage_offset() + value.storage_offset() * value.element_size()
        place = start // value.element_size(), value.shape, value.stride()
        return torch.empty(0, dtype=value.dtype).set_(whole.untyped_storage(), *place)


class ZeroedBackend(_library.KernelBackend):
    """The scratch memory of its kernels begins as zeros; that of others, filled by torch, as NaN and greatest integers.
    What relies on either shows with the other."""

    FIELDS = ("scratch", "memory", "runs", "sums", "parent", "size", "passes")

    def call(self, name: str, fields: dict[str, Any]) -> Any:
        for field in self.FIELDS:
            value = fields.get(field)
            if isinstance(value, torch.Tensor) and self._is_fresh(value):
                value.zero_()
        return super().call(name, fields)

    @staticmethod
    def _is_fresh(value: torch.Tensor) -> bool:
        return bool((value.isnan() if value.is_floating_point() else value == torch.iinfo(value.dtype).max).all())


class GpuBackend(_library.KernelBackend):
    """Runs the CUDA kernels for CPU tensors: on copies of their storages, which are copied back."""

    def call(self, name: str, fields: dict[str, Any]) -> Any:
        copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        result = super().call(name, {key: self._on_gpu(value, copies) for key, value in fields.items()})
        for storage, copy in copies.values():
            storage.copy_(copy)
        return result

    def _on_gpu(self, value: Any, copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]]) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        storage = value.untyped_storage()
        copy = copies.setdefault(storage.data_ptr(), (storage, storage.cuda()))[1]
        place = (value.storage_offset(), value.shape, value.stride())
        return torch.empty(0, dtype=value.dtype, device="cuda").set_(copy, *place)


@contextmanager
def _running_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name, before = request.param, KERNELS.cpu_path()
    garbage = name.startswith("emulated") and request.node.get_closest_marker("garbage")
    if emulation.SANITIZE:
        monkeypatch.setattr(_library, "BACKEND", _library.KernelBackend(KERNELS, "_cpu", lambda: 3))
    if name.startswith("emulated"):
        seed = int(name.removeprefix("emulated-"))
        kind = ZeroedBackend if seed % 2 else _library.KernelBackend
        monkeypatch.setattr(_library, "BACKEND", kind(emulation.load(), "_cuda", lambda: seed))
    elif name == "cuda":
        stream = torch.cuda.current_stream().cuda_stream
        monkeypatch.setattr(_library, "BACKEND", GpuBackend(_library._C, "_cuda", lambda: stream))
    else:
        KERNELS.set_cpu_path(name)
        if not emulation.SANITIZE:
            odd = {CPU_PATHS[0]: ZeroedBackend, CPU_PATHS[-1]: FencedBackend}
            kind = odd.get(name, _library.KernelBackend)
            monkeypatch.setattr(_library, "BACKEND", kind(KERNELS, "_cpu", torch.get_num_threads))
    # Fills what torch.empty hands out with NaN and the greatest integers, as a card's memory may hold anything.
    torch.use_deterministic_algorithms(True, warn_only=True)
    with emulation.no_look_for_races() if garbage else nullcontext():
        yield name
    torch.use_deterministic_algorithms(False)
    KERNELS.set_cpu_path(before)


@pytest.fixture(params=[*CPU_PATHS, *EMULATED, *GPU])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test on CPU tensors once for each way to compute them: with each instruction set that this machine has,
    with the CUDA kernels on the emulator in several orders, and with the CUDA kernels themselves where a GPU is.

    PYWS_EMULATOR_SEEDS sets the number of orders; PYWS_REQUIRE_CUDA=1 makes a missing GPU a failure.
    """
    with _running_on(request, monkeypatch) as name:
        yield name


@pytest.fixture(params=[CPU_PATHS[-1], EMULATED[0], *GPU])
def device_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As ``backend``, but one CPU path and one order of the emulator: for tests that take long."""
    with _running_on(request, monkeypatch) as name:
        yield name


@pytest.fixture(params=CPU_PATHS)
def cpu_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As ``backend``, for families that have no CUDA kernel."""
    with _running_on(request, monkeypatch) as name:
        yield name


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers beside the repository; tests that want it are skipped without."""
    folder = Path(os.environ.get("PYWS_SHARED", emulation.ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder {folder}")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a sanitizer, only what drives the kernels: the rest is not compiled with it."""

    def keep(item: pytest.Item) -> bool:
        if emulation.SANITIZE == "thread" and item.get_closest_marker("garbage"):
            return False
        return bool({"backend", "device_backend", "cpu_backend"} & set(getattr(item, "fixturenames", ())))

    if emulation.SANITIZE:
        kept = [item for item in items if keep(item)]
        config.hook.pytest_deselected(items=[item for item in items if not keep(item)])
        items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not HAVE_CUDA:
        reason = "needs a CUDA device and a build with CUDA kernels"
        pytest.fail(reason) if REQUIRE_CUDA else pytest.skip(reason)
