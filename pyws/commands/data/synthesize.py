"""pyws data synthesize: synthetic features with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions


def synthesize(
    out: Positional[Path],
    training: int = 60,
    test: int = 30,
    classes: int = 6,
    width: int = 64,
    difficulty: float = 0.5,
    snippets: int = 120,
    several: float = 0.3,
    layout: Literal["native", "wtalc", "split"] = "native",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write a synthetic data set of features with its truth, to try localisation from tags on.

    It is drawn, not measured: see pyws.data.synthetic.features for its definition.

    Parameters
    ----------
    out
        folder to write, new or empty
    training
        videos of the subset training
    test
        videos of the subset test
    classes
        actions
    width
        width of the features, even; the first half stands for appearance, the second for motion
    difficulty
        0 to 1; how weak the less salient parts of actions are, how closely context goes with the action,
        how strong the noise is
    snippets
        median length of a video
    several
        share of the videos with more than one class
    layout
        pyws's own, or one of the literature

    Examples
    --------
    pyws data synthesize watching --training 60 --test 30
    """
    from pyws.data.synthetic.features import SyntheticConfig, write_synthetic

    settings = SyntheticConfig(classes, width, difficulty, snippets, several, common.seed)
    counts = write_synthetic(out, settings, training, test, layout)
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} synthetic videos, {counts['instances'][subset]} instances")
    return {"out": str(out), "synthetic": True, **counts}
