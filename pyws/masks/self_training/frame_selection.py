"""Which pseudo-annotations are good enough to train on (WS^2 section 3.2): composites that look real, or that the
classifier recognises.

The judgement is kept as ``select/v<i>.jsonl``, one line a frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.frames import Pixels
from pyws.errors import DataError
from pyws.files import atomic_write
from pyws.masks.self_training.cut_and_paste import Backgrounds, Sample, cut, parts_of, resample
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.train_discriminator import JudgeSettings, judge, seed_of
from pyws.models.classifiers import Classifier

CLASSIFIER_BATCH = 16


@dataclass(frozen=True)
class SelectionSettings:
    """Which frames are selected."""

    rule: Literal["either", "both", "disc", "cls", "none"] = "either"
    """What a label must pass: discriminator or classifier, both, one of them alone; none selects every frame."""
    frame_rule: Literal["all", "any"] = "all"
    """How many labels of a frame must pass."""
    per_component: bool = False
    """Judge each connected part of a label by itself, in a patch of its own; all of them must pass."""
    context: float = 0.25
    """Margin of a patch around the box of its mask."""
    least_share: float = 0.02
    """Of its patch that a mask must cover."""
    most_share: float = 0.9
    """Of its patch that a mask may cover."""
    disc_threshold: float = 0.5
    """A composite passes the discriminator above this probability of being real."""
    disc_quantile: float | None = None
    """Instead of disc_threshold: this share of the composites passes, those that look most real."""
    cls_threshold: float = 0.0
    """Least softmax of the label's own class for the classifier to pass it."""
    cls_input: Literal["composite", "masked"] = "composite"
    """What the classifier sees: the composite, or the mask's pixels over grey."""
    cls_size: int = 224
    """Side of what the classifier sees, in pixels."""
    min_per_class: int = 0
    """Frames of a class that are selected at least: the best scored of those that failed are added."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_share < self.most_share <= 1:
            raise ValueError(
                f"selection: 0 <= least_share < most_share <= 1 must hold, got {self.least_share}, {self.most_share}"
            )
        if self.disc_quantile is not None and not 0 < self.disc_quantile <= 1:
            raise ValueError(f"selection: disc_quantile must be in (0, 1], got {self.disc_quantile}")
        if self.context < 0 or self.min_per_class < 0 or self.cls_size < 1:
            raise ValueError("selection: context and min_per_class must be >= 0, and cls_size >= 1")

    @property
    def uses_discriminator(self) -> bool:
        return self.rule in ("either", "both", "disc")

    @property
    def uses_classifier(self) -> bool:
        return self.rule in ("either", "both", "cls")


@dataclass
class _Judgement:
    """What is known of one label in one frame, and the patches of it that the tests need."""

    label: int
    about: dict[str, Any]
    patches: tuple[Tensor, Tensor] | None = None  # real and pasted, uint8, at the size of the discriminator
    pictured: Tensor | None = None  # what the classifier sees


def select(
    data: Annotations,
    folder: Path,
    frames: Sequence[Frame],
    settings: SelectionSettings,
    judging: JudgeSettings,
    classifier: Classifier | None,
    seed: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Judge the pseudo-annotations of frames.

    Parameters
    ----------
    data, folder, frames : what is judged: the masks of ``frames`` in the folder of one version
    settings, judging, classifier : how; the classifier may be None where the rule does not use it
    seed : of backgrounds and discriminators
    device : where the networks run

    Returns
    -------
    One row a frame, in the order of ``frames``: ``{"video", "frame", "selected", "labels": [...]}``; each label, or
    each ``part`` of it, has its scores ``disc`` and ``cls`` (None where it was not tested), what it passed, and why it
    was not tested.
    """
    if settings.uses_classifier and classifier is None:
        raise ValueError(f"select: rule {settings.rule!r} needs the classifier of the first stage")
    rows: list[dict[str, Any]] = []
    judged: list[tuple[Frame, _Judgement]] = []
    for frame, found in _judgements(data, folder, frames, settings, judging, classifier, seed):
        judged += ((frame, one) for one in found)
        rows.append({"video": frame.video, "frame": frame.stem, "labels": [one.about for one in found]})
    if settings.uses_discriminator:
        _ask_discriminator(judged, settings, judging, seed, device)
    for row in rows:
        passed = [_passes(about, settings.rule) for about in row["labels"]]
        row["selected"] = bool(passed) and (all(passed) if settings.frame_rule == "all" else any(passed))
    _fill_classes(rows, settings.min_per_class)
    return rows


def _judgements(
    data: Annotations,
    folder: Path,
    frames: Sequence[Frame],
    settings: SelectionSettings,
    judging: JudgeSettings,
    classifier: Classifier | None,
    seed: int,
) -> Iterator[tuple[Frame, list[_Judgement]]]:
    """The labels of each frame, with the patches cut and the classifier asked, video by video."""
    for video, group in groupby(frames, key=lambda frame: frame.video):
        several = list(group)
        masks = [data.mask(folder, frame) for frame in several]
        present = [[int(label) for label in np.unique(mask) if label not in (0, IGNORE)] for mask in masks]
        if settings.rule == "none":
            yield from ((f, [_Judgement(k, {"label": k}) for k in ks]) for f, ks in zip(several, present, strict=True))
            continue
        backgrounds = Backgrounds(masks)
        pictures = _Pictures(data, several)
        found = [
            [
                _prepare(pictures, i, one, chosen, backgrounds, settings, judging.patch_size, seed_of(seed, video, i))
                for label in labels
                for one, chosen in _pieces(label, mask == label, settings.per_component)
            ]
            for i, (mask, labels) in enumerate(zip(masks, present, strict=True))
        ]
        if classifier is not None and settings.uses_classifier:
            _ask_classifier([one for labels in found for one in labels], data, settings, classifier)
        yield from zip(several, found, strict=True)


class _Pictures(Sequence[Pixels]):
    """The frames of a video, read when they are needed."""

    def __init__(self, data: Annotations, frames: Sequence[Frame]) -> None:
        self._data, self._frames = data, frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return self._data.picture(self._frames[index])


def _pieces(label: int, mask: NDArray[np.bool_], per_component: bool) -> list[tuple[dict[str, int], NDArray[np.bool_]]]:
    """What is judged of a label: all its pixels, or its parts one by one."""
    if not per_component:
        return [({"label": label}, mask)]
    return [({"label": label, "part": number}, part) for number, part in enumerate(parts_of(mask))]


def _prepare(
    pictures: Sequence[Pixels],
    index: int,
    one: dict[str, int],
    chosen: NDArray[np.bool_],
    backgrounds: Backgrounds,
    settings: SelectionSettings,
    size: int,
    seed: int,
) -> _Judgement:
    """Cut out the pixels ``chosen`` of what ``one`` names."""
    label = one["label"]
    rng = np.random.default_rng([seed, *one.values()])
    sample = cut(pictures, index, chosen, backgrounds, rng, settings.context)
    share = float(sample.mask.double().mean())
    about: dict[str, Any] = {**one, "share": round(share, 6), "disc": None, "cls": None}
    if not settings.least_share <= share <= settings.most_share:
        return _Judgement(label, {**about, "untested": "small" if share < settings.least_share else "large"})
    if sample.pasted is None:
        about["untested"] = "no background"
    elif sample.relaxed:
        about["relaxed"] = True
    patches = None
    if sample.pasted is not None and settings.uses_discriminator:
        both = resample(torch.stack([sample.real, sample.pasted]), size)
        real, pasted = (both * 255).round().clamp(0, 255).to(torch.uint8)
        patches = (real, pasted)
    pictured = resample(_for_classifier(sample, settings.cls_input)[None], settings.cls_size)[0]
    return _Judgement(label, about, patches, pictured if settings.uses_classifier else None)


def _for_classifier(sample: Sample, kind: str) -> Tensor:
    if kind == "composite" and sample.pasted is not None:
        return sample.pasted
    grey = sample.real.new_tensor(IMAGE_MEAN)[:, None, None]
    return torch.where(sample.mask, sample.real, grey)


IMAGE_MEAN = (0.485, 0.456, 0.406)  # of ImageNet: what a normalised picture has as zero


@torch.no_grad()
def _ask_classifier(
    found: list[_Judgement], data: Annotations, settings: SelectionSettings, classifier: Classifier
) -> None:
    """The softmax of the best class of each label, and whether no other class is above it; pictures are let go."""
    tested = [one for one in found if one.pictured is not None]
    weight = next(classifier.model.parameters())
    mean, std = (weight.new_tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    for start in range(0, len(tested), CLASSIFIER_BATCH):
        batch = tested[start : start + CLASSIFIER_BATCH]
        images = torch.stack([one.pictured for one in batch if one.pictured is not None]).to(weight.device)
        scores = classifier.model((images - mean) / std).softmax(1).double().cpu()
        for one, row in zip(batch, scores, strict=True):
            own = list(data.classes[one.label])
            score = float(row[own].max())
            one.about["cls"] = round(score, 6)
            one.about["cls_pass"] = int(row.argmax()) in own and score >= settings.cls_threshold
            one.pictured = None


def _ask_discriminator(
    judged: list[tuple[Frame, _Judgement]],
    settings: SelectionSettings,
    judging: JudgeSettings,
    seed: int,
    device: torch.device,
) -> None:
    tested = [(frame, one, one.patches) for frame, one in judged if one.patches is not None]
    if not tested:
        return
    real, pasted = (torch.stack([patches[kind] for _, _, patches in tested]) for kind in (0, 1))
    scores = judge(real, pasted, [frame.video for frame, _, _ in tested], judging, seed, device)
    threshold = settings.disc_threshold
    if settings.disc_quantile is not None:
        threshold = float(scores.quantile(1 - settings.disc_quantile))
    for (_, one, _), score in zip(tested, scores.tolist(), strict=True):
        one.about["disc"] = round(score, 6)
        one.about["disc_pass"] = score >= threshold if settings.disc_quantile is not None else score > threshold


def _passes(about: dict[str, Any], rule: str) -> bool:
    disc, cls = about.get("disc_pass", False), about.get("cls_pass", False)
    return {"either": disc or cls, "both": disc and cls, "disc": disc, "cls": cls, "none": True}[rule]


def _fill_classes(rows: list[dict[str, Any]], least: int) -> None:
    """Select the best scored of the frames that failed, for classes that have fewer than ``least``."""
    labels = sorted({about["label"] for row in rows for about in row["labels"]})
    for label in labels if least else ():
        own = [row for row in rows if any(about["label"] == label for about in row["labels"])]
        missing = least - sum(row["selected"] for row in own)
        failed = sorted((row for row in own if not row["selected"]), key=lambda row: -_score(row, label))
        for row in failed[: max(missing, 0)]:
            row["selected"] = row["added"] = True


def _score(row: dict[str, Any], label: int) -> float:
    return max((about["disc"] or 0.0) + (about["cls"] or 0.0) for about in row["labels"] if about["label"] == label)


def summary(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Counts of a selection: frames, and labels by what they passed, over all and for each class."""
    labels = [about for row in rows for about in row["labels"]]
    of_class: dict[str, dict[str, int]] = {}
    for row in rows:
        for label in dict.fromkeys(about["label"] for about in row["labels"]):
            counts = of_class.setdefault(names[label], {"frames": 0, "selected": 0})
            counts["frames"] += 1
            counts["selected"] += row["selected"]
    passed = [(about.get("disc_pass", False), about.get("cls_pass", False)) for about in labels]
    return {
        "frames": len(rows),
        "selected": sum(row["selected"] for row in rows),
        "empty": sum(not row["labels"] for row in rows),
        "labels": len(labels),
        "by_disc_only": passed.count((True, False)),
        "by_cls_only": passed.count((False, True)),
        "by_both": passed.count((True, True)),
        "untested": sum("untested" in about for about in labels),
        "classes": of_class,
    }


def write_selection(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One JSON document a line."""
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_selection(path: Path) -> list[dict[str, Any]]:
    """What :func:`write_selection` wrote.

    Raises
    ------
    DataError : missing, or a line is no row of a selection
    """
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({key: row[key] for key in ("video", "frame", "labels", "selected")} | row)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(path, f"line {number}: must be a row of a selection") from error
    return rows
