"""pyws data convert: data sets into the forms that pyws reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions, only_with
from pyws.errors import counted


def convert(
    source: Positional[Path],
    out: Positional[Path],
    on_error: Literal["error", "skip"] = "error",
    suffix: Literal[".npy", ".safetensors"] | None = None,
    videos_per_file: int | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Turn a data set of features into pyws's own layout, or THUMOS14's annotation folder into ActivityNet JSON.

    Pickles in the source are read without running anything that they say. An interrupted conversion goes on.

    Parameters
    ----------
    source
        folder with features in a layout of the literature (*Features.npy with videoname.npy and the others, or
        gt.json with lists and a file for each video), or annotations only: videoname.npy, subset.npy,
        labels_all.npy, labels.npy, segments.npy, duration.npy, Ambiguous_test.txt
    out
        folder to write, new or empty; or for annotations ground truth, .json or .json.gz
    on_error
        stop at a video that cannot be used, or leave it out and say why
    suffix
        suffix of the feature files; left out, .npy, or .safetensors where a file has more than an array: packs, times
        of snippets
    videos_per_file
        features of so many videos in one file: features/pack-00000.safetensors and others, and features/index.jsonl,
        which says what is where; left out, a file for each video

    Examples
    --------
    pyws data convert Thumos14reduced THUMOS14
    pyws data convert Thumos14reduced-Annotations truth.json
    pyws data convert features packed --videos-per-file 1000
    """
    from pyws.data.annotations.activitynet import read_wtalc, write_truth
    from pyws.data.features.packs import check_videos_per_file
    from pyws.data.features.writers import convert_features

    check_videos_per_file(videos_per_file)
    problems: list[str] = []
    if out.name.endswith((".json", ".json.gz")):
        only_with("features", False, suffix=suffix is not None, videos_per_file=videos_per_file is not None)
        truth = read_wtalc(source)
        write_truth(out, truth)
        counts = truth.counts()
    else:
        counts, skipped = convert_features(source, out, on_error, suffix, videos_per_file, common.silent)
        problems = [str(problem) for problem in skipped]
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {counted(videos, 'video')}, {counted(counts['instances'][subset], 'instance')}")
    common.say(
        f"{counts['labels']} labels; tags differ from the annotated labels in {counts['label_mismatches']} videos"
    )
    if counts["videos_without_tags"]:
        common.say(f"without tags: {', '.join(counts['videos_without_tags'])}")
    for problem in problems:
        common.say(f"left out: {problem}")
    return {"out": str(out), **counts, "left_out": problems}
