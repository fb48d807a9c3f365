"""pyws doctor: what is installed, what the core was built with, and what is wrong."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from pyws.commands.common import Common, CommonOptions, table_of

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "av", "pillow", "matplotlib")


def doctor(common: CommonOptions = Common()) -> dict[str, Any]:  # noqa: B008
    """Print versions, what the compiled core was built with, the devices, and what is wrong where something is.

    Examples
    --------
    pyws doctor
    pyws doctor --json
    """
    import torch

    import pyws
    from pyws import _C
    from pyws.data.video.decoders import torchcodec_version
    from pyws.models.devices import has_bfloat16
    from pyws.ops._library import dispatch_is_skipped

    cuda = _cuda_devices()
    places = ["cpu", "cuda"] if cuda else ["cpu"]
    report: dict[str, Any] = {
        "pyws": pyws.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torchcodec": torchcodec_version(),
        "core": {
            "file": _C.__file__,
            "compiler": _C.compiler,
            "openmp": _C.openmp,
            "cuda": _C.cuda or None,
            "architectures": _C.architectures.split(),
            "cpu_path": _C.cpu_path(),
            "cpu_paths": _C.cpu_paths(),
            "dispatch_skipped": dispatch_is_skipped(),
        },
        "devices": {
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "cuda": cuda,
            "bfloat16": [place for place in places if has_bfloat16(torch.device(place))],
        },
    }
    report["problems"] = _problems(report)
    common.say(_table(report))
    return report


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda_devices() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _problems(report: dict[str, Any]) -> list[str]:
    core, devices = report["core"], report["devices"]
    missing = [name for name, version in report["packages"].items() if not version]
    found = [f"{name} is not installed: pip install {name}" for name in missing]
    if not core["openmp"]:
        found.append("the core was built without OpenMP and runs on one thread: install libgomp or libomp and rebuild")
    if devices["cuda"] and not core["cuda"]:
        found.append("a GPU is present but the core has no CUDA kernels: rebuild with nvcc on the PATH (PYWS_CUDA=on)")
    if not core["dispatch_skipped"]:
        found.append("this torch lacks functions that pyws knows: small calls pass through its dispatcher (no fault)")
    if core["cuda"] and not devices["cuda"]:
        found.append("CUDA kernels are built but no GPU or driver is available; the CPU kernels serve (no fault)")
    return found


def _table(report: dict[str, Any]) -> Any:
    rows = [(section, report[section]) for section in ("pyws", "python", "platform", "torchcodec")]
    for section in ("packages", "core", "devices"):
        for name, value in report[section].items():
            shown = ", ".join(value) if isinstance(value, list) else value
            rows.append((name if section == "packages" else f"{section} {name}", shown or "none"))
    rows.append(("problems", "\n".join(report["problems"]) or "none"))
    return table_of(("what", "found"), rows, title="pyws doctor", title_justify="left")
