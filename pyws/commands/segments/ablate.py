"""pyws segments ablate: what each part of training with pseudo labels gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions


def ablate(
    out: Positional[Path],
    data: Path | None = None,
    subset: str = "training",
    evaluate: str = "test",
    preset: Literal["pyws", "paper", "released"] = "pyws",
    backbones: tuple[Literal["rskp", "stpn", "bm", "wum", "facnet"], ...] = ("rskp", "stpn", "bm", "wum", "facnet"),
    seeds: int = 5,
    epochs: int = 49,
    lr: float = 3e-3,
    difficulty: float = 0.5,
    videos: int = 60,
    temperatures: tuple[float, ...] = (),
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Train with and without each part of GauFuse, over several seeds; the same command continues what was interrupted.

    Parameters
    ----------
    out
        folder to write: cells/*.json (a result each), settings.json, report.html, report.md
    data
        folder of features; without it synthetic videos are drawn for each seed
    subset
        videos of the folder to train on
    evaluate
        subset with annotated segments to measure on
    preset
        which rules and schedule the parts are taken from
    backbones
        the first goes through all parts, the others with and without all of them
    seeds
        runs from the seeds 0, 1, ...
    epochs
        epochs of every run, over which the preset's schedule is stretched
    lr
        learning rate of every run
    difficulty
        difficulty of synthetic videos, from 0 to 1
    videos
        synthetic training videos; half as many are drawn for the test
    temperatures
        temperatures of the Gaussian fusion in training, a run of the first backbone each, evaluated at seven
        temperatures at test: figure 3 of the paper; more can be added to a folder

    Examples
    --------
    pyws segments ablate tables --data watch
    """
    from pyws.report.ablation import write_ablation_report
    from pyws.segments.ablation import Ablation
    from pyws.segments.ablation import ablate as run_ablation
    from pyws.segments.config import PRESETS

    source = None if data is None else str(data)
    usual = PRESETS[preset].detection
    detection = None if postprocessing == Postprocessing() else postprocessing.over(usual)
    ablation = Ablation(preset, backbones, seeds, epochs, lr, source, subset, evaluate, difficulty, videos, detection,
                        temperatures)  # fmt: skip
    count = run_ablation(ablation, out, common.use_device(), quiet=common.silent)
    tables = write_ablation_report(out)
    common.say(tables)
    common.say(f"{out}: {count} results; report.html and report.md")
    return {"out": str(out), "results": count}
