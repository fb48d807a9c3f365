"""pyws import: what people corrected in other tools, back to where training reads it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, check_options
from pyws.errors import counted


def import_(
    review: tyro.conf.Positional[tuple[Path, ...]],
    into: Path,
    scope: Literal["whole", "marked"] = "whole",
    on_error: Literal["error", "skip"] = "error",
    folder_fps: float | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Bring back what people corrected: segments that are fixed or not there, and masks that are kept as they are.

    Parameters
    ----------
    review
        What the tools export, their contents say which format it is: Label Studio JSON, CVAT XML, FiftyOne temporal
        detections, ActivityNet JSON, CSV, COCO and YouTube-VIS JSON, folders of palette PNG.
    into
        Folder of pyws label, of features, or of pyws masks init or refine: corrections.json of the features and
        corrections of the masks are written there, which pyws segments train and masks train obey.
    scope
        whole: a video that was searched for segments has no others of its tags; marked: only what is marked counts,
        segments of LABEL and stretches of "not LABEL".
    on_error
        What does not fit (unknown videos and labels, frames and times out of range) does: stop before anything is
        written, or be said and left out.
    folder_fps
        Frames a second of folders of frames.
    common
        Options of every command.

    Examples
    --------
    pyws import export.json --into labels
    pyws import annotations.xml --into first
    pyws import segments.csv --into features --scope marked
    """
    from pyws.exchange.applying import apply, find_target
    from pyws.exchange.readers.formats import read_review
    from pyws.folders import only_writer

    if not review:
        raise ValueError("REVIEW: at least one file or folder is needed")
    check_options("> 0", folder_fps=folder_fps)
    target = find_target(into, folder_fps)
    documents = []
    with only_writer(into):
        for path in review:
            done, problems = apply(read_review(path), target, str(path), scope, on_error == "skip")
            for problem in problems:
                common.say(f"left out: {problem}")
            corrected = f"the segments of {counted(done.videos, 'video')} and {counted(done.frames, 'mask')}"
            common.say(f"{path}: corrections of {corrected}")
            documents.append({"file": str(path), **asdict(done), "left_out": problems})
    if not any(one["videos"] or one["frames"] for one in documents):
        common.say("nothing was corrected: of Label Studio's tasks only those with a submitted annotation count")
    return {"into": str(into), "reviews": documents}
