"""pyws data check: what is wrong with a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.feature_sets import say_doubts
from pyws.errors import counted


def check(
    source: Positional[Path],
    need_tags: bool = False,
    annotations: Path | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Check a data set and say of every video what is wrong; the exit status is 1 where one is unusable.

    Parameters
    ----------
    source
        folder with features, or with tagged videos and masks, in any layout that pyws knows
    need_tags
        with features: a video without tags is unusable, as it is for training
    annotations
        with features: file of ground truth in place of the folder's own: in the form of ActivityNet, BSN or G-TAD, or a
        table of segments

    Examples
    --------
    pyws data check THUMOS14
    """
    from pyws.data.features.check import check_data_set
    from pyws.data.tagged.layouts import is_mask_set

    if annotations is None and is_mask_set(source):
        return _check_masks(source, common)
    report = check_data_set(source, need_tags, common.silent, annotations)
    low, high = (f"{rate:g}" for rate in report.rates)
    rate = f"{low if low == high else f'{low} to {high}'} snippets a second"
    common.say(f"{source}: layout {report.layout}, {'rescaled' if report.rescaled else rate}")
    for subset, count in report.videos.items():
        common.say(f"{subset or 'no subset'}: {counted(count, 'video')}")
    common.say(
        f"{report.usable} usable, {len(report.classes)} classes, width {report.width}, {report.snippets} snippets"
    )
    for problem in report.problems:
        common.say(f"{'unusable' if problem.fatal else 'odd'}: {problem}")
    say_doubts(report.doubts)
    return report.to_dict()


def _check_masks(source: Path, common: Common) -> dict[str, Any]:
    from pyws.data.tagged.check import check_mask_set

    report = check_mask_set(source, quiet=common.silent)
    common.say(f"{source}: layout {report.layout}, {counted(len(report.labels), 'label')}")
    for subset, count in report.videos.items():
        common.say(f"{subset or 'no subset'}: {counted(count, 'video')}")
    common.say(f"{counted(report.frames, 'frame')}, {report.annotated} with true masks")
    for what, count in report.single.items():
        common.say(f"{counted(count, 'video')} to learn from show one {what}")
    for problem in report.problems:
        common.say(f"{'unusable' if problem.fatal else 'odd'}: {problem}")
    return report.to_dict()
