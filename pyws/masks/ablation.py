"""What the tables of WS^2 are made of: self-training measured against true masks, and means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.dataset import MaskSet
from pyws.data.tagged.label_space import LabelSpace, View
from pyws.data.video.clips import around
from pyws.data.video.frames import Pixels, evenly, open_frames
from pyws.evaluation.semantic import Confusion
from pyws.masks.prediction.action_alignment import ActionAligner, AlignmentConfig, find_instances
from pyws.masks.self_training.frame_selection import selected_frames
from pyws.masks.self_training.loop import CHOICES, SelfTraining
from pyws.masks.self_training.pseudo_annotations import Frame, digest
from pyws.masks.self_training.train_segmentation import predict, predict_frames
from pyws.models.image_networks.deeplab import DeepLabV2

VIEWS: tuple[View, ...] = ("joint", "actor", "action")
TITLES = {"baseline": "Baseline", "model-s": "Model-S", "ws2": "WS2", "paper": "preset paper", "pyws": "preset pyws"}
_SHOWN = 6
CHOSEN = {"ric": "RIC", "miou_pa": "mIoU_PA", "end": "the last epoch"}

Table = dict[str, Any]  # title, columns and rows
Run = dict[str, Any]


class ScoredVideo(NamedTuple):
    """Scored frames of a test video: their masks by a model, those after action alignment, and the true ones."""

    masks: list[Pixels]
    aligned: list[Pixels]
    truth: list[Pixels]


def measure(run: SelfTraining, truth: MaskSet, every: int = 1) -> dict[str, Any]:
    """Scores of a run against true masks.

    Parameters
    ----------
    run : one that is done
    truth : the data set; its subset test is what models are tested on
    every : annotated frames of test videos from one that is scored to the next; those vote in action alignment

    Returns
    -------
    ``versions``: for each, mIoU of its pseudo-annotations over all frames (``full``) and over the ``selected`` ones,
    with their number, of its model on test videos (``test``, and ``aligned`` after action alignment), and of the models
    that each criterion chooses among its epochs (``chosen``); ``validation``, ``test`` and ``aligned``: of the model
    that is returned.
    """
    manifest, space = run.manifest, run.data.space
    versions = []
    for version in manifest["versions"]:
        number = version["version"]
        row: dict[str, Any] = {"version": number}
        marked = run.selection_file(number)
        selected = selected_frames(marked) if marked.is_file() else set()
        for name, frames in (("full", run.training), ("selected", [one for one in run.training if one in selected])):
            masks = (run.data.mask(run.annotations(number), frame) for frame in frames)
            row[name] = {"frames": len(frames), **scores_of(_with_truth(frames, masks, truth), space)}
        if "curve" in version:
            files = [run.model_file(number), *(run.chosen_file(number, choice) for choice in CHOICES)]
            keys = {file: digest([file]) for file in files if file.is_file()}  # two choices may be one epoch
            models = {key: run.read_model(file) for file, key in keys.items()}
            tested = {key: _tested(run, model, truth, every) for key, model in models.items()}
            row |= tested[keys.pop(files[0])]
            row["chosen"] = {
                choice: tested[keys[file]]["test"]
                for choice, file in zip(CHOICES, files[1:], strict=True)
                if file in keys
            }
        versions.append(row)
    model = run.model(manifest["returned"])
    predicted = predict_frames(model, run.data, run.validation, True, run.config.training, run.device)
    masks = (mask.numpy() for _, mask in predicted)
    best = versions[manifest["returned"]]
    return {
        "versions": versions,
        "returned": manifest["returned"],
        "stopped": manifest["stopped"],
        "validation": scores_of(_with_truth(run.validation, masks, truth), space),
        **{name: best[name] for name in ("test", "aligned") if name in best},
    }


def _tested(run: SelfTraining, model: DeepLabV2, truth: MaskSet, every: int) -> dict[str, Any]:
    """Scores on the test videos, and after action alignment where the labels have actions."""
    videos, space = list(scored_videos(run, model, truth, every)), run.data.space
    pairs = [pair for one in videos for pair in zip(one.masks, one.truth, strict=True)]
    found = {"test": scores_of(pairs, space)}
    if space.has_actions:
        aligned = [pair for one in videos for pair in zip(one.aligned, one.truth, strict=True)]
        found["aligned"] = scores_of(aligned, space)
    return found


def _with_truth(frames: Sequence[Frame], masks: Iterable[Pixels], truth: MaskSet) -> Iterator[tuple[Pixels, Pixels]]:
    """Masks beside the true ones, of the frames that have one."""
    videos = {video.name: video for video in truth.videos}
    for frame, mask in zip(frames, masks, strict=True):
        if frame.stem in videos[frame.video].truth:
            yield mask, truth.truth(videos[frame.video], frame.stem)


def scored_videos(run: SelfTraining, model: DeepLabV2, truth: MaskSet, every: int) -> Iterator[ScoredVideo]:
    """Predictions of annotated frames of the subset test, all labels allowed, and their true masks."""
    training, space = run.config.training, run.data.space
    for video in truth.videos:
        if video.subset != "test":
            continue
        frames = open_frames(video.source)
        indices = [index for index, stem in enumerate(frames.stems) if stem in video.truth][::every]
        found = ScoredVideo([], [], [truth.truth(video, frames.stems[index]) for index in indices])
        gap = indices[1] - indices[0] if len(indices) > 1 else 1
        config = AlignmentConfig()
        aligner = ActionAligner(space, config, gap)
        for number, clip in enumerate(around(frames, indices, training.offsets)):
            mask = predict(model, [clip], None, training.short_side, run.device)[0].numpy()
            found.masks.append(mask)
            if space.has_actions:
                instances = find_instances(number, mask, space, config)
                found.aligned.extend(one.mask for one in aligner.add(mask, instances))
        found.aligned.extend(one.mask for one in aligner.finish())
        yield found


def scores_of(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], space: LabelSpace) -> dict[str, Any]:
    """mIoU in percent of masks and true masks, background included, of labels, their actors and their actions.

    The mean is over classes that are predicted or true somewhere; None without frames.
    """
    confusions = {view: Confusion(space.view(view)) for view in (VIEWS if space.has_actions else VIEWS[:1])}
    for mask, true in pairs:
        for view, confusion in confusions.items():
            confusion.add(space.merge(mask, view), space.merge(true, view))
    found = {view: confusion.scores()["miou"] for view, confusion in confusions.items()}
    return {view: None if miou is None else 100 * miou for view, miou in found.items()}


def tables_of(runs: Sequence[Run]) -> list[Table]:
    """Tables 1, 2 and 3 of the paper, and one of criteria, over the seeds of each variant; those that have rows."""
    made = (_variants(runs), _versions(runs), _tests(runs), _criteria(runs))
    return [table for table in made if table["rows"]]


def title_of(run: Run) -> str:
    """What a row is called: the variant, and the first masks where there are several."""
    return f"{TITLES[run['variant']]}{', ' + run['first'] if run.get('first') else ''}"


def _variants(runs: Sequence[Run]) -> Table:
    views = [view for view in VIEWS if view in runs[0]["test"]]
    parts = {"validation": "held out", "test": "test", **({"aligned": "aligned"} if "aligned" in runs[0] else {})}
    rows = [
        [title, str(len(own)), *(_mean([run[part][view] for run in own]) for part in parts for view in views)]
        for title, own in _grouped(runs).items()
    ]
    columns = ["variant", "seeds", *(f"{part}, {view}" for part in parts.values() for view in views)]
    return {"title": "Table 1: mIoU of variants", "columns": columns, "rows": rows}


def _versions(runs: Sequence[Run]) -> Table:
    """Pseudo-annotations by version."""
    rows = []
    for title, number, own in _by_version(runs):
        for part in ("full", "selected"):
            if part == "selected" and title.startswith(TITLES["baseline"]):
                continue
            frames = round(sum(version[part]["frames"] for version in own) / len(own))
            scores = _views([version[part] for version in own])
            rows.append([f"PA.v{number} {title} {part}", f"{frames} ({len(own)})", *scores])
    return _table("Table 2: mIoU of pseudo-annotations by version", ("masks", "frames (seeds)"), rows)


def _tests(runs: Sequence[Run]) -> Table:
    rows = []
    for part, said in (("test", ""), ("aligned", ", aligned")):
        for title, number, versions in _by_version(runs):
            if own := _scored(version.get(part, {}) for version in versions):
                rows.append([f"{title} v{number}{said}", str(len(own)), *_views(own)])
    return _table("Table 3: mIoU of test videos by version", ("model", "seeds"), rows)


def _criteria(runs: Sequence[Run]) -> Table:
    """Models of the same training, by what chose their epoch."""
    rows = []
    for title, number, versions in _by_version(runs):
        for choice, said in CHOSEN.items():
            if own := _scored(version.get("chosen", {}).get(choice, {}) for version in versions):
                rows.append([f"{title} v{number}, by {said}", str(len(own)), *_views(own)])
    return _table("Epochs by criterion: mIoU of test videos, one training each", ("model", "seeds"), rows)


def _scored(scores: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that were measured."""
    return [one for one in scores if one.get("joint") is not None]


def _views(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """The mean of each view."""
    return [_mean([one.get(view) for one in scores]) for view in VIEWS if view in scores[0]]


def _table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    views = len(rows[0]) - len(columns) if rows else 0
    return {"title": title, "columns": [*columns, *VIEWS[:views]], "rows": rows}


def _grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The seeds of each row, in the order of the runs."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(title_of(run), []).append(run)
    return found


def _by_version(runs: Sequence[Run]) -> Iterator[tuple[str, int, list[Mapping[str, Any]]]]:
    """Each row and version, with what the runs that came to it say of it."""
    for title, own in _grouped(runs).items():
        for number in range(max(len(run["versions"]) for run in own)):
            yield title, number, [run["versions"][number] for run in own if number < len(run["versions"])]


def _mean(values: list[float | None]) -> str:
    """Mean and sample standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.1f}" if len(known) > 1 else ""
    return f"{np.mean(known):.1f}{spread}"


def shown_versions(run: SelfTraining, truth: MaskSet) -> Iterator[tuple[Pixels, list[Pixels]]]:
    """Frames of test videos (H, W, 3), each with the mask by the model of every version and the true one, last: the
    paper's figure 8. One frame a video, its middle annotated one, of at most _SHOWN videos spread evenly."""
    versions = [one["version"] for one in run.manifest["versions"] if "curve" in one]
    models, training = [run.model(number) for number in versions], run.config.training
    videos = [video for video in truth.videos if video.subset == "test" and video.truth]
    for video in (videos[place] for place in evenly(len(videos), _SHOWN)):
        frames = open_frames(video.source)
        annotated = [index for index, stem in enumerate(frames.stems) if stem in video.truth]
        index = annotated[len(annotated) // 2]
        clip = next(around(frames, [index], training.offsets))
        masks = [predict(one, [clip], None, training.short_side, run.device)[0].numpy() for one in models]
        middle = 3 * (training.clip_frames // 2)
        yield clip[..., middle : middle + 3], [*masks, truth.truth(video, frames.stems[index])]
