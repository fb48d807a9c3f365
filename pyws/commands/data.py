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


def synthesize(
    out: Positional[Path],
    training: int = 60,
    test: int = 30,
    classes: int = 6,
    width: int = 64,
    difficulty: float = 0.5,
    snippets: int = 120,
    several: float = 0.3,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write a synthetic data set of features with its truth, to try localisation from tags on.

    It is drawn, not measured: see pyws.data.synthetic_features for its definition.

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
    """
    from pyws.data.synthetic_features import SyntheticSettings, write_synthetic

    settings = SyntheticSettings(classes, width, difficulty, snippets, several, common.seed)
    counts = write_synthetic(out, settings, training, test)
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
    from pyws.data.watch import write_watch

    counts = write_watch(out, source, streams, test_subjects, common.seed)
    for subset, videos in counts["videos"].items():
        common.say(f"{subset}: {videos} streams, {counts['instances'][subset]} instances")
    return {"out": str(out), **counts}
