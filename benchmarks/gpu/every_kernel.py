"""Runs every CUDA launcher once on small inputs and compares with the CPU: --device cuda or emulated.

A launcher of the compiled core that no case reaches is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws import Segments, ops
from pyws.ops import _library

TESTS = Path(__file__).resolve().parent.parent.parent / "tests"
G = torch.Generator().manual_seed(0)
MAPS = torch.rand(2, 3, 8, 9, generator=G)
IMAGES = torch.rand(2, 3, 37, 53, generator=G)
LABELS = torch.arange(37 * 53).reshape(37, 53).div(60, rounding_mode="floor").int().repeat(2, 1, 1)
MASKS = torch.rand(2, 37, 53, generator=G) < 0.3
START = torch.rand(60, generator=G, dtype=torch.float64) * 80
SCORES = torch.rand(2, 60, generator=G, dtype=torch.float64)
OFFSETS = torch.tensor([0, 25, 25, 60])
CLIP = torch.randn(2, 2, 33, 4, 7, 9, generator=G)


def segments(to: Callable[[Tensor], Tensor]) -> Segments:
    return Segments(*map(to, (START, START + 15, SCORES[0], SCORES[1], OFFSETS)))


def find_patches(to: Callable[[Tensor], Tensor]) -> list[Tensor]:
    integral = ops.integral_image(to(MASKS))
    frames, sides = to(torch.tensor([0, 1, 1])), to(torch.tensor([1, 3, 5]))
    counts = ops.count_patches(integral, frames, sides, 0.1)
    return [counts, ops.find_patches(integral, frames, sides, counts // 2, 0.1)]


def solve_linpro(to: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Groups that the card solves, lone segments and chains, and one that it leaves to the host."""
    end, offsets = START + 3, torch.tensor([0, 8, 20, 60])
    chains = Segments(*map(to, (START, end, SCORES[0], SCORES[1], offsets)))
    found = ops.linpro(chains, to(torch.tensor([99, 99, 20])), tie_break="center")
    assert found.on_host.tolist() in ([False] * 3, [False, False, True])  # the CPU has no host
    return [found.labels, found.objective, found.residual, found.status, found.components]


CASES: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "gradcam3d": lambda to: ops.gradcam3d(to(CLIP[0]), to(CLIP[1]), "minmax"),
    "otsu": lambda to: ops.otsu(to(MAPS)),
    "otsu_masks": lambda to: ops.otsu_masks(to(MAPS), (37, 53)),
    "slic": lambda to: ops.slic(to(IMAGES), 13),
    "superpixel_select": lambda to: ops.superpixel_select(to(LABELS), to(MASKS), 0.3, 0.05, beta_on="component"),
    "superpixel_confusion": lambda to: ops.superpixel_confusion(
        to(LABELS), to(MASKS.long()), to(LABELS.long() % 2), 2, 0.3, 0.2
    ),
    "superpixel_vote": lambda to: ops.superpixel_vote(to(LABELS), to(MASKS.long()), 2, 0.3),
    "background_patches": find_patches,
    "propose_segments": lambda to: ops.propose_segments(to(SCORES.T.contiguous()), to(OFFSETS)),
    "fuse_segments": lambda to: ops.fuse_segments(segments(to), 0.25, 0.1),
    "suppress_segments": lambda to: ops.suppress_segments(segments(to), 0.4),
    "match_segments": lambda to: ops.match_segments(
        segments(to), segments(to), to(torch.tensor([0, 2, 3])), [0.3, 0.5, 0.7]
    ),
    "linpro": solve_linpro,
    "snippet_classes": lambda to: ops.snippet_classes(segments(to), to(torch.tensor([99, 5, 99]))),
    "class_mean": lambda to: ops.class_mean(to(SCORES.T.contiguous()), to(torch.arange(60) % 4), 4),
}  # fmt: skip


def tensors(result: Any) -> list[Tensor]:
    """All tensors of a result, in order."""
    if isinstance(result, Tensor):
        return [result.cpu()]
    parts = vars(result).values() if hasattr(result, "__dict__") else result
    return [each for part in parts if not isinstance(part, (int, float, str, type(None))) for each in tensors(part)]


class Recorder:
    """A compiled module that notes which of its CUDA launchers are called."""

    def __init__(self, module: Any) -> None:
        self.module, self.called = module, set[str]()

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_cuda"):
            self.called.add(name)
        return getattr(self.module, name)

    def not_called(self) -> list[str]:
        return sorted({name for name in dir(self.module) if name.endswith("_cuda")} - self.called)


def emulated_kernels() -> Recorder:
    """The emulated kernels, put in the place of the CPU's from here on."""
    sys.path.insert(0, str(TESTS))
    import emulation

    recorder = Recorder(emulation.load())
    _library.BACKEND = _library.KernelBackend(recorder, "_cuda", lambda: 0)  # type: ignore[arg-type]
    return recorder


def cuda_kernels() -> Recorder:
    _library._C = Recorder(_library._C)
    return _library._C


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    device = parser.parse_args().device
    expected = {name: tensors(case(lambda tensor: tensor)) for name, case in CASES.items()}
    kernels = cuda_kernels() if device == "cuda" else emulated_kernels()
    for name, case in CASES.items():
        found = tensors(case(lambda tensor: tensor.cuda() if device == "cuda" else tensor))
        assert len(found) == len(expected[name]) > 0, name
        for left, right in zip(found, expected[name], strict=True):
            torch.testing.assert_close(left, right, msg=lambda text, name=name: f"{name}: {text}")
        print(f"{name} agrees with the CPU", flush=True)
    if missing := kernels.not_called():
        sys.exit(f"no case reaches {', '.join(missing)}")
    print(f"{len(CASES)} operations ran on {device}")


if __name__ == "__main__":
    main()
