"""Where the time of a run on the generated set goes: stage 1, the second stage and inference under cProfile.

    python benchmarks/masks_profile.py [WORK]

draws 24 small videos, trains the small classifiers, and profiles `pyws masks init`, `train` and `predict`. Time is that
of the processor. Own time is told apart by where the code is: compiled (torch, NumPy, Pillow, pyws._C) or Python. A
loop over pixels or superpixels in Python would show as own time of a function of pyws, or as more calls a frame than
there are steps in the pipeline.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# Loaded before, so that reading libraries is not counted.
import matplotlib.pyplot
import scipy.ndimage
import torch
import torch._dynamo
import torchvision

from pyws.cli import main

LOADED = (matplotlib.pyplot, scipy.ndimage, torch._dynamo, torchvision)

SMALL = ["--short-side", "96", "--quiet"]
LEARNED = [*SMALL, "--epochs", "4", "--batch", "8", "--optimizer", "adamw", "--head-lr", "5e-3"]
RUN = "--backbone small2d --crop 64 --batch 4 --lr 0.02 --max-epoch 6 --max-versions 2 --outer-tolerance 0 "
RUN += "--discriminator.width 8 --discriminator.steps 20 --classifier-size 96 --quiet"


def run(*words: object) -> None:
    if main([str(word) for word in words]) != 0:
        raise SystemExit(f"failed: {words}")


def stages(work: Path) -> dict[str, tuple[list[object], int]]:
    """The commands that are profiled, and the frames that each works on; what they need is made first."""
    data, actor, action = work / "set", work / "actor.safetensors", work / "action.safetensors"
    if not (data / "Release/videoset.csv").exists():
        run("data", "synthesize-a2d", data, "--train", 24, "--validation", 0, "--test", 4, "--quiet")
        run("masks", "classify", data, "-o", actor, "--what", "actor", "--network", "small2d", *LEARNED)
        run("masks", "classify", data, "-o", action, "--what", "action", "--network", "small3d", *LEARNED)
    frames = sorted((data / "Release/pngs320H").iterdir())[-4:]
    init = ["masks", "init", "--data", data, "--subset", "train", "-o", work / "init", "--actor-classifier", actor]
    init += ["--action-classifier", action, "--region-area", 80, "--quiet"]
    weights = ["--weights", actor, "--classifier-weights", actor]
    return {
        "init": (init, 24 * 4),
        "train": (["masks", "train", work / "init", "-o", work / "run", *weights, *RUN.split()], 24 * 4),
        "predict": (["masks", "predict", work / "run", *frames, "-o", work / "masks", "--quiet"], 4 * 16),
    }


def profiled(words: Sequence[object]) -> pstats.Stats:
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    run(*words)
    profile.disable()
    return pstats.Stats(profile)


def report(stage: str, stats: pstats.Stats, frames: int) -> None:
    """Shares of own time by kind of code, and the functions of pyws with the most of it."""
    rows = [(place, calls, own) for place, (_, calls, own, _, _) in stats.stats.items()]  # type: ignore[attr-defined]
    total = sum(own for _, _, own in rows)
    of_pyws = sorted((row for row in rows if "/pyws/" in row[0][0]), key=lambda row: -row[2])
    compiled = sum(own for (file, _, _), _, own in rows if file == "~")
    own = sum(row[2] for row in of_pyws)
    print(f"\n| {stage}: {1e3 * total / frames:.1f} ms a frame | own time | calls a frame |\n|---|---|---|")
    print(f"| compiled code | {compiled / total:.1%} | |")
    print(f"| Python of pyws | {own / total:.1%} | |")
    print(f"| Python of libraries | {(total - compiled - own) / total:.1%} | |")
    for (file, _, name), calls, seconds in of_pyws[:6]:
        print(f"| `{file.split('/pyws/')[-1]}: {name}` | {seconds / total:.1%} | {calls / frames:.1f} |")
    built_in = sorted((row for row in rows if row[0][0] == "~"), key=lambda row: -row[2])[:5]
    for (_, _, name), calls, seconds in built_in:
        print(f"| {name.strip('<>')} | {seconds / total:.1%} | {calls / frames:.1f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    for stage, (words, frames) in stages(folder).items():
        report(stage, profiled(words), frames)
