"""pyws segments compare: suppression and fusion of the same proposals, settings chosen on other videos."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions, figures
from pyws.commands.segments.feature_sets import grids_of
from pyws.files import write_json
from pyws.progress import track

if TYPE_CHECKING:
    from pyws.data.annotations.activitynet import Instances, Truth
    from pyws.data.features.time_base import SnippetGrids
    from pyws.segments.detection.postprocess import PostprocessConfig

_SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.8)
_HALVES = ("first half", "second half")


@dataclass(frozen=True)
class Trial:
    """One setting, and its mAP (percent) at every IoU threshold on either half of the videos."""

    family: str
    config: PostprocessConfig
    detections: int
    maps: tuple[tuple[float, ...], tuple[float, ...]]

    def average(self, half: int) -> float:
        """Average mAP of a half."""
        return float(np.mean(self.maps[half]))

    @property
    def both(self) -> float:
        """The mean over both halves."""
        return (self.average(0) + self.average(1)) / 2


def compare(
    proposals: Positional[Path],
    truth: Positional[Path],
    out: Positional[Path],
    protocol: Literal["thumos14", "thumos14-seconds", "activitynet", "wtalc"] = "thumos14",
    subset: str | None = None,
    tious: tuple[float, ...] | None = None,
    ious: tuple[float, ...] = (0.1, 0.25, 0.4, 0.5, 0.6),
    temperatures: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2, 0.5, 1.0),
    overlap: Literal["iou", "own"] = "iou",
    snippets_per_second: float | None = None,
    features: Path | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Compare what suppression and fusion make of the same proposals; settings are chosen on one half of the videos.

    The videos are dealt at random into two halves. Of every method the setting with the best average mAP on one half
    is reported on the other, both ways round; beside them stand the settings of `pyws segments fuse` and of preset
    pyws, which these videos did not choose.

    Parameters
    ----------
    proposals
        proposals in ActivityNet form, .json or .json.gz
    truth
        ground truth in ActivityNet form
    out
        folder for report.html, pictures and comparison.json
    protocol
        rules of the evaluation, as in `pyws segments evaluate`
    subset
        subset of the ground truth; the protocol's if not given
    tious
        IoU thresholds of the mAP; the protocol's if not given
    ious
        overlaps above which proposals are one, to try
    temperatures
        temperatures of the fusions, to try
    overlap
        iou, or own (the released rule)
    snippets_per_second
        rate of the features that the proposals were made of; if not given, what the proposals note, for each video
        where they do, or 1.5625, with a message; another rate than is noted is an error
    features
        data set of the features that these proposals were made of, in whose time base the videos' snippets are, where
        the proposals note none

    Examples
    --------
    pyws segments compare proposals.json truth.json study --subset validation
    """
    from pyws.data.annotations.activitynet import read_noted_detections, read_truth
    from pyws.errors import named_as
    from pyws.evaluation.detection import rules_of

    found, note = read_noted_detections(proposals)
    grids = grids_of(snippets_per_second, note, proposals, found.videos, features)
    rules = rules_of(protocol, tious, subset, snippets_per_second=grids)
    with named_as(ground_truth=truth):
        halved = halve(read_truth(truth), rules.subset, common.seed)
    settings = list(settings_to_try(ious, temperatures, overlap))
    trials = [
        run_trial(found, halved, family, options, protocol, rules.tious, grids)
        for family, options in track(settings, "settings", quiet=common.silent)
    ]
    rows = [chosen(trials, family) for family in dict.fromkeys(trial.family for trial in trials)]
    document = {
        "proposals": len(found),
        "protocol": protocol,
        "subset": rules.subset,
        "tious": list(rules.tious),
        "seed": common.seed,
        "methods": rows,
        "trials": [
            {"family": one.family, **asdict(one.config), "detections": one.detections, "mAP": one.maps}
            for one in trials
        ],
    }
    write_json(out / "comparison.json", document)
    _write_report(out, document, trials)
    common.say(_table(rows, rules.tious))
    common.say(f"{out / 'report.html'}")
    return {"out": str(out), **document}


def halve(truth: Truth, subset: str, seed: int) -> Truth:
    """The same truth in which the videos of the subset form two, dealt at random.

    Raises
    ------
    DataError : fewer than two videos with annotations
    """
    from pyws.errors import DataError

    annotated = set(truth.instances.video.tolist())
    videos = [index for index, name in enumerate(truth.subset) if name == subset and index in annotated]
    if len(videos) < 2:
        raise DataError("ground truth", f"subset {subset!r} must have two videos with annotations, got {len(videos)}")
    names = ["" for _ in truth.subset]
    for place, index in enumerate(np.random.default_rng(seed).permutation(videos)):
        names[index] = _HALVES[place % 2]
    return replace(truth, subset=tuple(names))


def settings_to_try(
    ious: Sequence[float], temperatures: Sequence[float], overlap: Literal["iou", "own"]
) -> Iterator[tuple[str, PostprocessConfig]]:
    """The family of each setting, and the setting; the last two are families of one, what ``pyws segments fuse`` and
    ``train`` do where nothing is asked for."""
    from pyws.segments.config import PRESETS
    from pyws.segments.detection.postprocess import FUSIONS, PostprocessConfig

    yield "none", PostprocessConfig("none")
    for iou in ious:
        yield "nms", PostprocessConfig("nms", iou_threshold=iou, overlap=overlap)
    for sigma in _SIGMAS:
        yield "soft-nms", PostprocessConfig("soft-nms", sigma=sigma, overlap=overlap)
    for name, snap, ranking in (("", False, "score"), (", snapped", True, "score"), (", by support", True, "support")):
        for method in FUSIONS:
            for iou in ious:
                for temperature in temperatures[:1] if method == "uniform" else temperatures:
                    config = PostprocessConfig(method, temperature, iou, overlap, snap=snap, ranking=ranking)
                    yield method + name, config
    yield "as fuse does", PostprocessConfig()
    yield "as preset pyws does", PRESETS["pyws"].detection


def run_trial(
    found: Instances, halved: Truth, family: str, config: PostprocessConfig, protocol: str, tious: Sequence[float],
    snippets_per_second: float | SnippetGrids,
) -> Trial:  # fmt: skip
    """Fuse with one setting and evaluate on both halves."""
    from pyws.evaluation import detection_map
    from pyws.segments import fuse_detections

    fused = fuse_detections(found, config, snippets_per_second)
    scores = [
        detection_map(fused, halved, protocol, tious, half, snippets_per_second=snippets_per_second) for half in _HALVES
    ]
    maps = tuple(tuple(score.map.tolist()) for score in scores)
    return Trial(family, config, len(fused), (maps[0], maps[1]))


def chosen(trials: Sequence[Trial], family: str) -> dict[str, Any]:
    """A row of the table: the setting that each half chooses, and what it gives on the other."""
    own = [trial for trial in trials if trial.family == family]
    picks = [max(own, key=lambda trial, half=half: trial.average(half)) for half in (0, 1)]  # type: ignore[misc]
    held_out = np.mean([picks[0].maps[1], picks[1].maps[0]], axis=0)
    return {
        "method": family,
        "chosen": [_asked(pick.config) for pick in picks],
        "held_out": [picks[0].average(1), picks[1].average(0)],
        "mAP": held_out.tolist(),
        "average": float(held_out.mean()),
        "detections": [pick.detections for pick in picks],
    }


def _asked(config: PostprocessConfig) -> dict[str, Any]:
    """What a setting says beside its method."""
    usual = {one.name: one.default for one in fields(config)}
    return {name: value for name, value in asdict(config).items() if name != "method" and value != usual[name]}


def _said(options: Mapping[str, Any]) -> str:
    short = {"iou_threshold": "IoU", "temperature": "T", "sigma": "sigma"}
    return " ".join(f"{name} {options[key]:g}" for key, name in short.items() if key in options) or "-"


def _columns(rows: Sequence[Mapping[str, Any]], tious: Sequence[float]) -> tuple[list[str], list[list[str]]]:
    names = ["method", "chosen on 1st, 2nd half", "on 2nd", "on 1st", *(f"{tiou:g}" for tiou in tious), "mean"]
    cells = [
        [
            row["method"],
            ", ".join(dict.fromkeys(_said(options) for options in row["chosen"])),
            *(f"{value:.2f}" for value in (*row["held_out"], *row["mAP"], row["average"])),
        ]
        for row in rows
    ]
    return names, cells


def _table(rows: Sequence[Mapping[str, Any]], tious: Sequence[float]) -> Any:
    names, cells = _columns(rows, tious)
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    title = "mAP (%) on videos that did not choose the setting"
    return figures(title, names, cells, 2, width=sum(widths) + 3 * len(widths) + 4)


def _write_report(out: Path, document: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    from pyws.report.page.html import Picture, Section, Table, write_html
    from pyws.report.timelines import draw_lines

    over = {"iou": ("iou_threshold", "overlap above which proposals are one"),
            "temperature": ("temperature", "temperature (log10)")}  # fmt: skip
    for name, (key, label) in over.items():
        lines = _best_over(trials, key)
        if name == "temperature":
            lines = {family: ([math.log10(x) for x in xs], ys) for family, (xs, ys) in lines.items()}
        draw_lines(out / f"{name}.png", lines, label, "average mAP (%)", from_zero=False)
    names, cells = _columns(document["methods"], document["tious"])
    caption = (
        "Mean AP in percent at each IoU threshold, mean of both halves, each with the setting the other half chose."
    )
    pictures = [Picture(out / f"{name}.png", f"Best over the other setting, over the {label}.")
                for name, (_, label) in over.items()]  # fmt: skip
    lead = f"{document['proposals']} proposals, protocol {document['protocol']}, subset {document['subset']}."
    write_html(out / "report.html", "Suppression and fusion of the same proposals", lead,
               [Section("Held-out mAP", tables=[Table(names, cells, caption)], pictures=pictures)])  # fmt: skip


def _best_over(trials: Sequence[Trial], key: str) -> dict[str, tuple[list[float], list[float]]]:
    """For NMS and each fusion: the values of one setting, and the best mean of both halves at each."""
    best: dict[str, dict[float, float]] = {}
    for trial in trials:
        value = getattr(trial.config, key)
        if value is not None and "," not in trial.family.removesuffix(", by support") and " does" not in trial.family:
            values = best.setdefault(trial.family, {})
            values[value] = max(values.get(value, 0.0), trial.both)
    return {family: (sorted(values), [values[x] for x in sorted(values)]) for family, values in best.items()}
