"""pyws report: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro

from pyws.commands.common import Common, CommonOptions


def report(
    run: tyro.conf.Positional[Path],
    truth: Path | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write the report of a run: one page that opens from disk. Works at any time, also while the run goes on.

    Every command that makes a run writes the same page when it ends.

    Parameters
    ----------
    run
        Folder of a run or of pyws demo, or the file that pyws segments predict, fuse, labels or pyws masks classify
        wrote.
    truth
        What to compare with: a folder of true masks VIDEO/FRAME.png, or true segments in ActivityNet form.
    common
        Options of every command.

    Examples
    --------
    pyws report run
    pyws report masks --truth DAVIS/Annotations/480p
    """
    from pyws.commands.demo import report as demo
    from pyws.report.run import write_report

    page = demo.write_report(run) if demo.is_demo(run) else write_report(run, truth, common.silent)
    common.say(f"{page}: open it in a browser")
    return {"report": str(page)}
