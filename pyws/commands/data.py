"""pyws data ...: data sets into the forms that pyws reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions


def convert(
    source: Positional[Path],
    out: Positional[Path],
    on_error: Literal["error", "skip"] = "error",
    suffix: Literal[".npy", ".safetensors"] = ".npy",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Turn a data set of features into pyws's own layout, or THUMOS14's annotation folder into ActivityNet JSON.

    Pickles in the source are read without running anything that they say. An interrupted conversion goes on.

    Args:
        source: folder with features in a layout of the literature (*Features.npy with videoname.npy and the others, or
            gt.json with lists and a file for each video), or annotations only: videoname.npy, subset.npy,
            labels_all.npy, labels.npy, segments.npy, duration.npy, Ambiguous_test.txt
        out: folder to write, new or empty; or for annotations ground truth, .json or .json.gz
        on_error: stop at a video that cannot be used, or leave it out and say why
        suffix: of the features
    """
    from pyws.data.annotations.activitynet import read_wtalc, write_truth
    from pyws.data.features.writers import convert_features

    problems: list[str] = []
    if out.name.endswith((".json", ".json.gz")):
        truth = read_wtalc(source)
        write_truth(out, truth)
        counts = truth.counts()
    else:
        counts, skipped = convert_features(source, out, on_error, suffix)
        problems = [str(problem) for problem in skipped]
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} videos, {counts['instances'][subset]} instances")
    common.say(
        f"{counts['labels']} labels; tags differ from the annotated labels in {counts['label_mismatches']} videos"
    )
    if counts["videos_without_tags"]:
        common.say(f"without tags: {', '.join(counts['videos_without_tags'])}")
    for problem in problems:
        common.say(f"left out: {problem}")
    return {"out": str(out), **counts, "left_out": problems}


def check(
    source: Positional[Path],
    need_tags: bool = False,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Check a data set and say of every video what is wrong; the exit status is 1 where one is unusable.

    Args:
        source: folder with features, or with tagged videos and masks, in any layout that pyws knows
        need_tags: of features: a video without tags is unusable, as it is for training
    """
    from pyws.data.features.check import check_data_set
    from pyws.data.tagged.layouts import is_mask_set

    if is_mask_set(source):
        return _check_masks(source, common)
    report = check_data_set(source, need_tags, quiet=common.quiet or common.json)
    common.say(f"{source}: layout {report.layout}, {report.snippets_per_second:g} snippets a second")
    for subset, count in report.videos.items():
        common.say(f"{subset or 'no subset'}: {count} videos")
    common.say(
        f"{report.usable} usable, {len(report.classes)} classes, width {report.width}, {report.snippets} snippets"
    )
    for problem in report.problems:
        common.say(f"{'unusable' if problem.fatal else 'odd'}: {problem}")
    return report.to_dict()


def _check_masks(source: Path, common: Common) -> dict[str, Any]:
    from pyws.data.tagged.check import check_mask_set

    report = check_mask_set(source, quiet=common.quiet or common.json)
    common.say(f"{source}: layout {report.layout}, {len(report.labels)} labels")
    for subset, count in report.videos.items():
        common.say(f"{subset or 'no subset'}: {count} videos")
    common.say(f"{report.frames} frames, {report.annotated} with true masks")
    for what, count in report.single.items():
        common.say(f"{count} videos to learn from show one {what}")
    for problem in report.problems:
        common.say(f"{'unusable' if problem.fatal else 'odd'}: {problem}")
    return report.to_dict()


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

    Args:
        out: folder to write, new or empty
        training: videos of the subset training
        test: videos of the subset test
        classes: actions
        width: of the features, even; the first half stands for appearance, the second for motion
        difficulty: 0 to 1; how weak the less salient parts of actions are, how closely context goes with the action,
            how strong the noise is
        snippets: median length of a video
        several: share of the videos with more than one class
        layout: pyws's own, or one of the literature
    """
    from pyws.data.synthetic.features import SyntheticSettings, write_synthetic

    settings = SyntheticSettings(classes, width, difficulty, snippets, several, common.seed)
    counts = write_synthetic(out, settings, training, test, layout)
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} synthetic videos, {counts['instances'][subset]} instances")
    return {"out": str(out), "synthetic": True, **counts}


def watch(
    out: Positional[Path],
    source: Path | None = None,
    streams: int = 8,
    test_subjects: tuple[int, ...] = (8, 9, 10),
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write untrimmed streams joined of real watch recordings (the package seglearn), as a data set of features.

    Args:
        out: folder to write, new or empty
        source: .npz file with X, length, y, subject and y_labels; without it the installed package seglearn is asked
        streams: of each of the ten persons
        test_subjects: persons whose streams are the subset test
    """
    from pyws.data.synthetic.watch_streams import write_watch

    counts = write_watch(out, source, streams, test_subjects, common.seed)
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} streams, {counts['instances'][subset]} instances")
    return {"out": str(out), **counts}
