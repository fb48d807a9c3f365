"""pyws data watch: streams joined of real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions


def watch(
    out: Positional[Path],
    source: Path | None = None,
    streams: int = 8,
    test_subjects: tuple[int, ...] = (8, 9, 10),
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write untrimmed streams joined of real watch recordings (the package seglearn), as a data set of features.

    Parameters
    ----------
    out
        folder to write, new or empty
    source
        .npz file with X, length, y, subject and y_labels; without it the installed package seglearn is asked
    streams
        streams of each of the ten persons
    test_subjects
        persons whose streams are the subset test

    Examples
    --------
    pyws data watch streams --source seglearn_watch_f32.npz
    """
    from pyws.data.synthetic.watch_streams import write_watch

    counts = write_watch(out, source, streams, test_subjects, common.seed)
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} streams, {counts['instances'][subset]} instances")
    return {"out": str(out), **counts}
