"""What must hold of the compiled core, whatever it computes."""

from __future__ import annotations

import shutil
import subprocess

import emulation
import pytest
import torch

from pyws.ops import _library

CORE = _library._C


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_objects_of_an_instruction_set_define_no_weak_symbol() -> None:
    # The linker keeps one of several weak definitions: AVX-512 code could land on a machine without it.
    folder = emulation.build("_emulated").parent
    objects = sorted(folder.glob("CMakeFiles/loops_*.dir/csrc/*/*.o"))
    assert len(objects) >= len(CORE.cpu_paths())
    for each in objects:
        weak = [line for line in run("nm", "--demangle", "--defined-only", each).splitlines() if line[17:18] in "WVu"]
        assert not weak, f"{each.parts[-4]} {each.name}: {weak}"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_the_core_loads_without_torch_and_without_a_driver() -> None:
    needed = [line for line in run("readelf", "--dynamic", CORE.__file__).splitlines() if "(NEEDED)" in line]
    assert needed
    assert not [line for line in needed if "torch" in line or "c10" in line or "cuda" in line]


@pytest.mark.skipif(not CORE.cuda, reason="built without CUDA kernels")
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_launch_without_a_driver_names_the_operation() -> None:
    one, five = torch.ones(1), (1,) * 5
    fields = {
        "activations": one, "gradients": one, "shape": five, "activation_strides": five, "gradient_strides": five,
        "minmax": False, "scratch": one, "maps": one,
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="^gradcam3d: CUDA launch failed: "):
        CORE.gradcam3d_cuda(fields, 0)


def test_the_emulated_module_has_what_the_core_has() -> None:
    names = {name for name in dir(emulation.load()) if not name.startswith("_")}
    assert {name for name in dir(CORE) if not name.startswith("_")} <= names
    assert {name for name in names if name.endswith("_cuda")}
