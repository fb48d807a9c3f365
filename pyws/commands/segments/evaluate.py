"""pyws segments evaluate: detections to scores, and what makes two scores differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions, figures, only_with
from pyws.commands.segments.feature_sets import grids_of

if TYPE_CHECKING:
    from pyws.data.features.time_base import SnippetGrids
    from pyws.evaluation import DetectionScores
    from pyws.evaluation.attribution import Attribution
    from pyws.evaluation.diagnosis import Diagnosis

_SHOWN = 12  # classes and videos in a table; the others are one row


def evaluate(
    predictions: Positional[Path],
    truth: Positional[Path],
    protocol: Literal["thumos14", "thumos14-seconds", "activitynet", "wtalc"] = "thumos14",
    subset: str | None = None,
    tious: tuple[float, ...] | None = None,
    ambiguous: Path | None = None,
    missing_class: Literal["zero", "released"] = "zero",
    snippets_per_second: float | None = None,
    features: Path | None = None,
    foreign: Literal["ignored", "wrong"] = "ignored",
    duplicates: Literal["kept", "dropped"] = "kept",
    explain: tuple[str, ...] = (),
    diagnose: float | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Score detections against ground truth: mean average precision.

    Parameters
    ----------
    predictions
        detections in ActivityNet form, .json or .json.gz
    truth
        ground truth in ActivityNet form (`pyws data convert` makes it of the THUMOS14 files)
    protocol
        thumos14 (snippet grid, ambiguous stretches), activitynet (seconds), thumos14-seconds (activitynet's
        rules with the subset and thresholds of thumos14), or wtalc (as thumos14, but the first truth segment that
        passes is taken, and AP has no envelope)
    subset
        subset of the ground truth; activitynet: validation, the others: test
    tious
        IoU thresholds; thumos14, thumos14-seconds: 0.1 to 0.7, activitynet: 0.5 to 0.95, wtalc: 0.1 to 0.5
    ambiguous
        file of VIDEO START END lines; if not given, what the ground truth lists
    missing_class
        AP 0 for a class without predictions, or as released every mAP 0
    snippets_per_second
        grid of thumos14 and wtalc; if not given, what the predictions note, for each video where they do, or 1.5625,
        with a message; another rate than is noted is an error
    features
        data set of the features that these predictions were made of, in whose time base the videos' snippets are, where
        the predictions note none
    foreign
        predictions in videos that are not evaluated: ignored, or wrong as in the official ActivityNet code
    duplicates
        annotations of one label within a millisecond of an earlier one: kept, or dropped as OpenTAD does
    explain
        what to compare with: other detections (a file), another protocol, and zero or released, one or more
        of these; prints what the difference is made of, by rules, classes and videos
    diagnose
        an IoU threshold; prints which kinds of false positives there are and what they cost, and which instances
        are missed, by length, number in the video and class

    Examples
    --------
    pyws segments evaluate detections.json truth.json --protocol thumos14 --subset test
    """
    from pyws.data.annotations.activitynet import read_noted_detections
    from pyws.data.features.listing import SNIPPETS_PER_SECOND
    from pyws.errors import named_as
    from pyws.evaluation import detection_map
    from pyws.evaluation.detection import PROTOCOLS, rules_of

    found, note = read_noted_detections(predictions)
    rate: float | SnippetGrids = SNIPPETS_PER_SECOND
    on_snippets = [name for name, rules in PROTOCOLS.items() if rules.grid]
    only_with(f"--protocol {', '.join(on_snippets)}", protocol in on_snippets,
              snippets_per_second=snippets_per_second is not None, features=features is not None)  # fmt: skip
    if protocol in on_snippets:
        rate = grids_of(snippets_per_second, note, predictions, found.videos, features)
    with named_as(ground_truth=truth, predictions=predictions):
        scores = detection_map(found, truth, protocol, tious, subset, ambiguous, missing_class, rate, foreign,
                               duplicates)  # fmt: skip
    common.say(_table(scores))
    for name, rule in scores.rules.items():
        common.say(f"{name}: {rule}")
    common.say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in scores.counts.items()))
    ignored = f", ignored {', '.join(scores.ignored_videos)}" if scores.ignored_videos else ""
    common.say(f"videos: SHA-256 of their sorted names {scores.video_hash}{ignored}")
    for hint in scores.hints:
        common.say(f"warning: {hint}")
    document, rules = scores.to_dict(), rules_of(protocol, tious, subset, missing_class, rate, foreign, duplicates)
    if explain:
        from pyws.evaluation.attribution import explain_difference

        other, other_protocol, other_missing = _other(explain, protocol, missing_class)
        others = rules_of(other_protocol, tious, subset, other_missing, rate, foreign, duplicates)
        why = explain_difference(truth, found, rules, other, others, ambiguous)
        for table in _explanation(why):
            common.say(table)
        document["explanation"] = why.to_dict()
    if diagnose is not None:
        from pyws.evaluation.diagnosis import diagnose as find_errors

        errors = find_errors(truth, found, rules, diagnose, ambiguous)
        for table in _diagnosis(errors):
            common.say(table)
        document["diagnosis"] = errors.to_dict()
    return document


def _diagnosis(found: Diagnosis) -> Iterator[Any]:
    """A table of the errors, and one of the misses by each property."""
    title = f"predictions at IoU {found.tiou:g}, mAP {found.map:.2f}, and mAP gained without the errors of a kind"
    kinds = [(kind, count, f"{found.gains[kind]:+.2f}" if kind in found.gains else "")
             for kind, count in found.kinds.items()]  # fmt: skip
    yield figures(title, ("kind", "predictions", "gain"), kinds, 3)
    for name, groups in (("length", found.lengths), ("instances in the video", found.counts), ("class", found.classes)):
        columns = (name, "instances", "found", "%", "missed, touched", "missed, untouched")
        rows = [
            (group, one.instances, one.found, f"{100 * one.found / one.instances:.1f}", one.touched,
             one.instances - one.found - one.touched)
            for group, one in groups.items()
        ]  # fmt: skip
        yield figures(f"instances by {name}", columns, rows, len(columns))


def _other(words: tuple[str, ...], protocol: str, missing_class: str) -> tuple[Path | None, str, str]:
    """The other file, protocol and rule of missing classes that the words name."""
    from pyws.evaluation.detection import MISSING_CLASS, PROTOCOLS

    other: Path | None = None
    for word in words:
        if word in PROTOCOLS:
            protocol = word
        elif word in MISSING_CLASS:
            missing_class = word
        elif other is None:
            other = Path(word)
        else:
            raise ValueError(f"--explain: must name one file, got {other} and {word}")
    return other, protocol, missing_class


def _explanation(why: Attribution) -> Iterator[Any]:
    """Three tables whose changes add up to the same difference."""
    rows = [(step.what, f"{step.before} -> {step.after}", step.average, step.change) for step in why.steps]
    total = ("together", "", why.other, why.difference)
    yield _changes("rules and predictions, one after the other", ("change", "", "average mAP"), rows, total)
    for kind, pairs in (("class", why.classes), ("video", why.videos)):
        items = list(pairs.items())
        rows = [(name, f"{this:.3f}", other, other - this) for name, (this, other) in items[:_SHOWN]]
        if len(items) > _SHOWN:
            this, other = (sum(pair[side] for _, pair in items[_SHOWN:]) for side in (0, 1))
            rows.append((f"{len(items) - _SHOWN} others", f"{this:.3f}", other, other - this))
        total = ("together", f"{why.this:.3f}", why.other, why.difference)
        yield _changes(f"share of the average mAP by {kind}", (kind, "this", "other"), rows, total)


def _changes(
    title: str,
    names: tuple[str, str, str],
    rows: list[tuple[str, str, float, float]],
    total: tuple[str, str, float, float],
) -> Any:
    cells = [(name, text, f"{number:.3f}", f"{change:+.3f}") for name, text, number, change in (*rows, total)]
    return figures(title, (*names, "difference"), cells[:-1], 2, cells[-1])


def _table(scores: DetectionScores) -> Any:
    rows = [
        (name, *(f"{value:.2f}" for value in (*values, values.mean())))
        for name, values in (*zip(scores.classes, scores.ap, strict=True), ("mAP", scores.map))
    ]
    width = max(len(name) for name in (*scores.classes, "class")) + 9 * len(scores.tious) + 15
    title = f"AP (%), {scores.protocol}, subset {scores.subset}"
    columns = ("class", *(f"{tiou:g}" for tiou in scores.tious), "mean")
    return figures(title, columns, rows[:-1], total=rows[-1], width=width)
