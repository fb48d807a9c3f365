"""pyws data ...: data sets into the forms that pyws reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions


def convert(
    folder: Positional[Path],
    out: Positional[Path],
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Turn the THUMOS14 annotation folder of weakly-supervised work into ActivityNet JSON.

    Pickles in the folder are read without running anything that they say.

    Args:
        folder: holds videoname.npy, subset.npy, labels_all.npy, labels.npy, segments.npy, duration.npy and, where it
            has one, Ambiguous_test.txt
        out: ground truth to write, .json or .json.gz
    """
    from pyws.data.temporal import read_wtalc, write_truth

    truth = read_wtalc(folder)
    write_truth(out, truth)
    counts = truth.counts()
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} videos, {counts['instances'][subset]} instances")
    common.say(
        f"{counts['labels']} labels; tags differ from the annotated labels in {counts['label_mismatches']} videos"
    )
    if counts["videos_without_tags"]:
        common.say(f"without tags: {', '.join(counts['videos_without_tags'])}")
    return {"out": str(out), **counts}
