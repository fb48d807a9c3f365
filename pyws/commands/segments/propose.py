"""pyws segments propose: activation maps or frame scores of any network to candidate segments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions, only_with
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.errors import DataError, counted

if TYPE_CHECKING:
    from pyws.data.features.time_base import SnippetGrid
    from pyws.segments.detection.maps import MapFiles


def propose(
    maps: Positional[Path],
    out: Positional[Path],
    classes: tuple[str, ...] = (),
    background: str | None = None,
    snippets_per_second: float | None = None,
    truth: Path | None = None,
    only_tags: bool = False,
    activation: Literal["none", "sigmoid", "softmax"] = "none",
    thresholds: tuple[float, ...] | None = None,
    class_threshold: float | None = None,
    upsample: int = 1,
    min_length: int = 1,
    scoring: Literal["paper", "released"] = "paper",
    margin: float | None = None,
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Turn activation maps or frame scores of any network into proposals, and with --method into detections.

    Parameters
    ----------
    maps
        (snippets, classes) of each video: maps of `pyws segments predict --maps`, labels of `pyws segments labels`,
        other safetensors, .npz, HDF5 or pickles with an array for each video, .npy or .csv of one, or a folder
    out
        proposals to write in ActivityNet form, .json or .json.gz
    classes
        classes of the columns, in their order, where the file does not name them; or a text file with one a line
    background
        one of the classes, which is not proposed
    snippets_per_second
        rows of a map in a second (of frame scores the frames), where the file does not say; without it a map
        spans the duration that --truth gives
    truth
        annotations in ActivityNet form, of which durations and tags are used
    only_tags
        propose the tags of a video in --truth only
    activation
        function that the values go through first: none, or for logits sigmoid or softmax
    thresholds
        thresholds of the maps; 0.05, 0.10, ... 0.95 if not given, for maps in [0, 1]
    class_threshold
        propose a class where the video's score reaches this (where the file has none: the mean of the highest
        eighth of the snippets); all classes if not given
    upsample
        interpolate so many times as many positions first; bounds may then lie between snippets
    min_length
        least length of a proposal, in snippets
    scoring
        paper, or released: where the outside of a segment lies, whose mean is subtracted from the mean inside
    margin
        width of the outside on either side, in lengths of the segment; with --scoring paper; 0.25 if not given

    Examples
    --------
    pyws segments propose scores.npz proposals.json --classes jump run --snippets-per-second 25
    """
    from dataclasses import asdict

    import numpy as np
    import torch

    from pyws.data.annotations.activitynet import read_truth, results_of, write_results
    from pyws.data.features.time_base import SnippetGrid
    from pyws.progress import track
    from pyws.segments.config import ProposalConfig
    from pyws.segments.detection.maps import ACTIVATIONS, THRESHOLDS, open_maps, segments_of
    from pyws.segments.detection.postprocess import PostprocessConfig

    only_with("--truth", truth, only_tags=only_tags)
    only_with("--scoring paper", scoring == "paper", margin=margin is not None)
    config = postprocessing.over(PostprocessConfig("none"))
    rules = ProposalConfig(
        class_threshold=-np.inf if class_threshold is None else class_threshold, thresholds=thresholds or THRESHOLDS,
        upsample=upsample, min_length=min_length, scoring=scoring,
        margin=ProposalConfig.margin if margin is None else margin,
    )  # fmt: skip
    found = open_maps(maps, _named(classes))
    _check_maps(maps, found, background, snippets_per_second)
    known = None if truth is None else read_truth(truth)
    tags = {} if known is None else dict(zip(known.instances.videos, known.tags, strict=True))
    results: dict[str, Any] = {}
    highest, grids = -np.inf, {}
    for video in track(list(found.stored), "proposals", quiet=common.silent):
        one = found.read(video, snippets_per_second, known)
        values = ACTIVATIONS[activation](torch.from_numpy(one.values)).numpy()
        if thresholds is None and not 0 <= values.min() <= values.max() <= 1:
            rule = f"the map of {video!r} must be in [0, 1], got {values.min():g} to {values.max():g}"
            raise DataError(maps, f"{rule}: name the --activation of logits, or --thresholds")
        highest = max(highest, float(values.max()))
        wanted = np.array([label != background and (not only_tags or label in tags.get(video, ()))
                           for label in found.classes])  # fmt: skip
        grids[video] = SnippetGrid.of_edges(one.edges)
        one = type(one)(values, one.edges, one.scores)
        results |= results_of(segments_of(video, one, found.classes, rules, config, wanted))
    settings = {"tool": "pyws segments propose", "maps": maps.name, "activation": activation, "background": background,
                "only_tags": only_tags, **_noted(grids),
                "proposals": {name: getattr(rules, name) for name in _RULES}, **asdict(config)}  # fmt: skip
    settings["proposals"]["class_threshold"] = class_threshold
    write_results(out, results, settings)
    count = sum(map(len, results.values()))
    common.say(f"{out}: {counted(count, 'segment')} in {counted(len(results), 'video')}")
    if not count:
        common.say(f"warning: the highest value is {highest:g}, the lowest threshold {min(rules.thresholds):g}")
    return {"out": str(out), "videos": len(results), "segments": count, "settings": settings}


def _check_maps(path: Path, found: MapFiles, background: str | None, snippets_per_second: float | None) -> None:
    if background is not None and background not in found.classes:
        raise DataError(path, f"--background must be one of {', '.join(found.classes)}, got {background!r}")
    if snippets_per_second is not None and found.edges:
        raise DataError(path, "says when its snippets are: leave out --snippets-per-second")


def _noted(grids: Mapping[str, SnippetGrid]) -> dict[str, Any]:
    """The rate that all videos have from their start on, by which others set their grid; else the grid of each."""
    from pyws.data.features.time_base import SnippetGrids

    rates = [(one.snippets or 0) / (one.end - one.start) for one in grids.values()]
    low, high = min(rates), max(rates)
    if high - low <= 1e-6 * high and max(abs(one.offset) * high for one in grids.values()) < 1e-6:
        return SnippetGrids(low).note()
    return {**SnippetGrids(low, grids).note(), "snippets_per_second": None}


def _named(classes: tuple[str, ...]) -> list[str]:
    """The classes, or those that a text file lists."""
    from pyws.files import read_lines

    if len(classes) == 1 and Path(classes[0]).is_file():
        return read_lines(classes[0])
    return list(classes)


_RULES = ("class_threshold", "thresholds", "upsample", "min_length", "scoring", "margin")
