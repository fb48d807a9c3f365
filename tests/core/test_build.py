"""What must hold of the compiled core, whatever it computes."""

from __future__ import annotations

import re
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
    assert {each.parts[-4] for each in objects} >= {f"loops_{path}.dir" for path in CORE.cpu_paths()}
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


NARROW = re.compile(r"static_cast<(?:unsigned|int|(?:std::)?u?int(?:8|16|32)_t)>\(")
SMALL_PRODUCTS = """
background_patches.h: static_cast<std::int32_t>(share * static_cast<double>(side * side))
otsu.h: static_cast<int>((x - bins.low) * scale + A(0.5))
otsu.h: static_cast<int>((x - bins.low) / bins.range * A(kOtsuBins))
otsu.h: static_cast<int>(x * A(kOtsuBins))
slic.cpp: static_cast<int32_t>(k + (slot / 3 - 1) * columns + slot % 3 - 1)
slic.h: static_cast<std::int32_t>((x * scale) >> 20)
slic.h: static_cast<std::int32_t>(((sums.x * 256 + n / 2) / n * scale) >> 28)
slic.h: static_cast<std::int32_t>(((sums.y * 256 + n / 2) / n * scale) >> 28)
slic.h: static_cast<std::int32_t>(116 * unit + 0.5)
slic.h: static_cast<std::int32_t>(16 * unit * 32768)
slic.h: static_cast<std::int32_t>(200 * unit + 0.5)
slic.h: static_cast<std::int32_t>(500 * unit + 0.5)
slic.h: static_cast<std::int32_t>(floor_div(2 * sums.color[i] + n, 2 * n))
slic.h: static_cast<std::int32_t>(within * static_cast<float>(kSlicLevels) + 0.5f)
slic.h: static_cast<std::uint32_t>(x)
slic_simd.cpp: static_cast<int32_t>(found[1][i])
"""


def narrow_products(text: str) -> set[str]:
    """Casts to 32 bits or less of a product, and of its factors."""
    found = set()
    for cast in NARROW.finditer(text):
        depth, end = 1, cast.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        factor = text[end:].startswith(" * ") or text[: cast.start()].endswith(" * ")
        if factor or re.search(r"[\w)\]] \* ", text[cast.end() : end]):
            found.add(" ".join(text[cast.start() : end].split()))
    return found


def test_no_product_is_cast_to_32_bits_but_those_that_are_small() -> None:
    """What is narrowed without a cast is an error where the tests compile the kernels (-Wconversion)."""
    assert narrow_products("p + static_cast<int>(b * pixels); q = static_cast<int>(b) * n;") == {
        "static_cast<int>(b * pixels)", "static_cast<int>(b)",
    }  # fmt: skip
    paths = (emulation.ROOT / "csrc").rglob("*.*")
    found = {f"{path.name}: {cast}" for path in paths for cast in narrow_products(path.read_text())}
    assert found == set(SMALL_PRODUCTS.strip().splitlines())
