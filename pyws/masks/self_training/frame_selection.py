"""Selection of pseudo-annotations to train on (WS^2 section 3.2): composites that the discriminator takes for real, or
that the classifier recognises; of later versions, labels that the model before reproduces.

The selection is kept as ``select/v<i>.jsonl``, one line a frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws.data.csv_table import read_json_lines
from pyws.data.tagged.label_space import IGNORE, shown_ids
from pyws.data.video.frames import Pixels, read_mask
from pyws.errors import check_fields
from pyws.files import write_lines
from pyws.masks.seeds import seed_of
from pyws.masks.self_training.cut_and_paste import Backgrounds, Sample, cut, parts_of
from pyws.masks.self_training.image_ops import as_patches, resample
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.selection_samples import PatchSource, write_samples
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig, score_composites
from pyws.models.classifier import Classifier
from pyws.models.devices import on_device

CLASSIFIER_BATCH = 16
Row = dict[str, Any]  # what is said of a frame
PLACES = 16  # backgrounds drawn for a label; the discriminator sees another one in each epoch, and these again


@dataclass(frozen=True)
class SelectionConfig:
    """How frames are selected.

    Parameters
    ----------
    label_tests
        Tests that a label must pass: either of the two, both, or one alone; none: every frame is selected
    frame_passes
        Labels of a frame that must pass: all of them, or any
    per_component
        Test each connected component of a label in a patch of its own; all of them must pass
    context
        Margin of a patch around the bounding box of its mask, as a share of the box
    min_share
        Minimum share of its patch that a mask must cover
    max_share
        Share of its patch above which a mask is a close shot: its composite shows no seam and would always look real,
        so that the classifier alone tests it
    classifier_threshold
        Minimum softmax of the label's own class for the classifier to pass it
    select_share
        Instead of the threshold: the share of the labels of each class that the classifier passes, those with the
        highest softmax. It tells good masks from bad ones where the class alone is right for nearly all.
    classifier_input
        Input of the classifier: the composite, or the pixels of the mask over the mean colour of its normalisation, as
        where a video has no background
    classifier_size
        Side of the classifier's input, in pixels
    min_per_class
        Minimum number of selected frames of a class: the best scored of those that failed are added
    """

    label_tests: Literal["either", "both", "discriminator", "classifier", "none"] = "either"
    frame_passes: Literal["all", "any"] = "all"
    per_component: bool = False
    context: float = 0.25
    min_share: float = 0.02
    max_share: float = 0.9
    classifier_threshold: float = 0.0
    select_share: float | None = None
    classifier_input: Literal["composite", "masked"] = "composite"
    classifier_size: int = 224
    min_per_class: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_share < self.max_share <= 1:
            raise ValueError(
                f"selection: 0 <= min_share < max_share <= 1 must hold, got {self.min_share}, {self.max_share}"
            )
        check_fields(self, "selection", "in (0, 1]", "select_share")
        check_fields(self, "selection", "in [0, 1]", "classifier_threshold")
        check_fields(self, "selection", ">= 0", "context", "min_per_class")
        check_fields(self, "selection", ">= 1", "classifier_size")
        if self.select_share is not None and not self.uses_classifier:
            raise ValueError(
                f"selection: select_share is of the classifier, which label_tests {self.label_tests!r} leaves out"
            )

    @property
    def uses_discriminator(self) -> bool:
        return self.label_tests in ("either", "both", "discriminator")

    @property
    def uses_classifier(self) -> bool:
        return self.label_tests in ("either", "both", "classifier")


@dataclass
class _Candidate:
    """One label in one frame: its row of the selection, and the patches that the tests need."""

    frame: Frame
    about: dict[str, Any]
    patches: tuple[Tensor, Tensor] | None = None  # real and pasted, uint8, at the input size of the discriminator
    pictured: Tensor | None = None  # input of the classifier
    source: PatchSource | None = None  # what further composites and pictures are made of


@dataclass(frozen=True)
class FrameSelector:
    """Tests the pseudo-annotations of frames.

    Parameters
    ----------
    data : frames and their tags
    folder : pseudo-annotations of one version
    config, discriminator : configuration of the tests
    classifier : classifier of the first stage; may be None where no test uses it
    seed : seed of the backgrounds and of the discriminators
    device : where the networks run
    quiet : no progress
    """

    data: Annotations
    folder: Path
    config: SelectionConfig
    discriminator: DiscriminatorConfig
    classifier: Classifier | None
    seed: int
    device: torch.device
    quiet: bool = True

    def __post_init__(self) -> None:
        if self.config.uses_classifier and self.classifier is None:
            raise ValueError(f"select: label_tests {self.config.label_tests!r} need the classifier of the first stage")

    def select(
        self, frames: Sequence[Frame], pictures: Path | None = None
    ) -> tuple[list[dict[str, Any]], float | None]:
        """Test the pseudo-annotations of frames.

        Parameters
        ----------
        frames : what is tested
        pictures : a folder for pictures of some labels, see :func:`~.selection_samples.write_samples`

        Returns
        -------
        One row a frame, in the order of ``frames``: ``{"video", "frame", "selected", "labels": [...]}``, and
        ``corrected`` where people corrected it, which selects it. Each label, or each ``part`` of it, has the scores
        ``discriminator`` and ``classifier`` (None where it was not tested), the tests that it passed, and why it was
        not tested. And how well the discriminators tell real patches from composites, see
        :class:`~.train_discriminator.CompositeScores`; None where nothing was tested by them.
        """
        config, auc = self.config, None
        by_frame: dict[Frame, list[_Candidate]] = {}
        for video, group in groupby(frames, key=lambda frame: frame.video):
            by_frame |= self._candidates(video, list(group))
        candidates = [one for found in by_frame.values() for one in found]
        if config.select_share is not None:
            _pass_share([one.about for one in candidates], "classifier", config.select_share)
        if config.uses_discriminator:
            auc = self._test_by_discriminator(candidates)
        tested = {frame: [one.about for one in found] for frame, found in by_frame.items()}
        rows = _rows(tested, config, config.label_tests, self.data)
        if pictures is not None and config.label_tests != "none":
            made = ((one.about, one.source, _passes(one.about, config.label_tests)) for one in candidates)
            write_samples(pictures, self.data, [(about, source, passed) for about, source, passed in made if source])
        return rows, auc

    def select_reproduced(self, frames: Sequence[Frame], predictions: Path, share: float) -> list[Row]:
        """Select frames by a model: of each class the ``share`` of the labels that it reproduces best.

        Parameters
        ----------
        frames : what is tested
        predictions : folder of the model's masks

        Returns
        -------
        Rows as of :meth:`select`, a label with ``reproduced``: its IoU with what the model predicts.
        """
        tested: dict[Frame, list[Row]] = {}
        for frame in frames:
            mask, found = self.data.mask(self.folder, frame), read_mask(frame.png(predictions))
            tested[frame] = []
            for label in shown_ids(mask):
                own, same = mask == label, (found == label) & (mask != IGNORE)
                iou = float((own & same).sum() / (own | same).sum())
                tested[frame].append({"label": label, "reproduced": round(iou, 6)})
        _pass_share([about for labels in tested.values() for about in labels], "reproduced", share)
        return _rows(tested, self.config, "reproduced", self.data)

    def _candidates(self, video: str, frames: Sequence[Frame]) -> dict[Frame, list[_Candidate]]:
        """The labels of each frame of a video, with their patches cut and their classifier scores."""
        masks = [self.data.mask(self.folder, frame) for frame in frames]
        present = [shown_ids(mask) for mask in masks]
        if self.config.label_tests == "none":
            return {
                frame: [_Candidate(frame, {"label": label}) for label in labels]
                for frame, labels in zip(frames, present, strict=True)
            }
        everywhere = [frame for frame in self.data.frames if frame.video == video]
        backgrounds = Backgrounds([self.data.mask(self.folder, frame) for frame in everywhere])
        pictures = _Pictures(self.data, everywhere)
        found: dict[Frame, list[_Candidate]] = {}
        for number, (frame, mask, labels) in enumerate(zip(frames, masks, present, strict=True)):
            place, found[frame] = everywhere.index(frame), []
            for one, chosen in _pieces(mask, labels, self.config.per_component):
                random = np.random.default_rng([seed_of(self.seed, video, number), *one.values()])
                sample = cut(pictures, place, chosen, backgrounds, random, self.config.context, PLACES)
                found[frame].append(self._candidate(frame, one, sample, everywhere))
        self._test_by_classifier([one for several in found.values() for one in several])
        return found

    def _candidate(self, frame: Frame, one: dict[str, int], sample: Sample, everywhere: Sequence[Frame]) -> _Candidate:
        """What the tests need of the label, or of the part of it, that ``one`` names."""
        config, share = self.config, float(sample.mask.double().mean())
        about: dict[str, Any] = {**one, "share": round(share, 6), "discriminator": None, "classifier": None}
        if share < config.min_share:
            return _Candidate(frame, {**about, "untested": "small"})
        if share > config.max_share:
            about["untested"] = "close shot"
        elif sample.pasted is None:
            about["untested"] = "no background"
        elif sample.relaxed:
            about["relaxed"] = True
        places = [(everywhere[place.frame], place.square) for place in sample.places]
        source = PatchSource(frame, sample.square, np.packbits(sample.mask.numpy()), places)
        candidate = _Candidate(frame, about, source=source)
        if "untested" not in about and sample.pasted is not None and config.uses_discriminator:
            real, pasted = as_patches(torch.stack([sample.real, sample.pasted]), self.discriminator.patch_size)
            candidate.patches = (real, pasted)
        if self.classifier is not None and config.uses_classifier:
            shown = sample.pasted
            if config.classifier_input == "masked" or shown is None:
                grey = sample.real.new_tensor(self.classifier.mean)[:, None, None]
                shown = torch.where(sample.mask, sample.real, grey)
            candidate.pictured = resample(shown[None], config.classifier_size)[0]
        return candidate

    @torch.no_grad()
    def _test_by_classifier(self, found: Sequence[_Candidate]) -> None:
        """Softmax of the best class of each label, and whether no other class exceeds it; the inputs are released."""
        tested = [one for one in found if one.pictured is not None]
        for start in range(0, len(tested), CLASSIFIER_BATCH):
            assert self.classifier is not None
            batch = tested[start : start + CLASSIFIER_BATCH]
            mean, std = (torch.tensor(one)[:, None, None] for one in (self.classifier.mean, self.classifier.std))
            images = torch.stack([one.pictured for one in batch if one.pictured is not None])
            scores = self.classifier.model(on_device((images - mean) / std, self.device)).softmax(1).double().cpu()
            for one, row in zip(batch, scores, strict=True):
                own = list(self.data.classes[one.about["label"]])
                score = float(row[own].max())
                one.about["classifier"] = round(score, 6)
                one.about["classifier_pass"] = int(row.argmax()) in own and score >= self.config.classifier_threshold
                one.pictured = None

    def _test_by_discriminator(self, candidates: Sequence[_Candidate]) -> float | None:
        """Scores and passes of the composites; returns the discriminators' AUC, None without composites."""
        config = self.discriminator
        tested = [(one, one.patches, one.source) for one in candidates if one.patches is not None and one.source]
        if not tested:
            return None
        real, pasted = (torch.stack([patches[kind] for _, patches, _ in tested]) for kind in (0, 1))
        videos = [one.frame.video for one, _, _ in tested]

        def fresh(epoch: int, chosen: Tensor) -> Tensor:
            made = (tested[index][2] for index in chosen.tolist())  # the first place is that of the scores
            composites = (one.composite(self.data, epoch + 1)[None] for one in made)
            return torch.cat([as_patches(one, config.patch_size) for one in composites])

        scores, auc = score_composites(real, pasted, videos, config, self.seed, self.device, fresh, self.quiet)
        threshold = config.threshold if config.quantile is None else float(scores.quantile(1 - config.quantile))
        for (one, _, _), score in zip(tested, scores.tolist(), strict=True):
            one.about["discriminator"] = round(score, 6)
            one.about["discriminator_pass"] = score >= threshold if config.quantile is not None else score > threshold
        if self.config.uses_classifier and auc < config.min_auc:  # it tells nothing
            for one in candidates:
                one.about["discriminator_pass"] = one.about.get("classifier_pass", False)
        return auc


class _Pictures(Sequence[Pixels]):
    """The frames of a video, read when they are needed."""

    def __init__(self, data: Annotations, frames: Sequence[Frame]) -> None:
        self._data, self.frames = data, frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Any:
        return self._data.picture(self.frames[index])


def _pieces(
    mask: Pixels, labels: Sequence[int], per_component: bool
) -> Iterator[tuple[dict[str, int], NDArray[np.bool_]]]:
    """What is tested of each label: all its pixels, or its connected components one by one."""
    for label in labels:
        if per_component:
            yield from (({"label": label, "part": k}, part) for k, part in enumerate(parts_of(mask == label)))
        else:
            yield {"label": label}, mask == label


def _pass_share(labels: Sequence[Row], test: str, share: float) -> None:
    """Let a test pass this share of the labels of each class, rounded up, by falling score; the first of equals. Labels
    without a score do not count, and labels of score 0 fail."""
    shown = [about for about in labels if about.get(test) is not None]
    for label in {about["label"] for about in shown}:
        own = sorted((about for about in shown if about["label"] == label), key=lambda about: -about[test])
        for rank, about in enumerate(own):
            about[f"{test}_pass"] = rank < math.ceil(share * len(own)) and about[test] > 0


def _passes(about: Row, tests: str) -> bool:
    real, recognised = about.get("discriminator_pass", False), about.get("classifier_pass", False)
    return {
        "either": real or recognised,
        "both": real and recognised,
        "discriminator": real,
        "classifier": recognised,
        "reproduced": about.get("reproduced_pass", False),
        "none": True,
    }[tests]


def _rows(tested: Mapping[Frame, list[Row]], config: SelectionConfig, tests: str, data: Annotations) -> list[Row]:
    """A row for each frame, selected where its labels pass."""
    rows = []
    for frame, labels in tested.items():
        passed = [_passes(about, tests) for about in labels]
        selected = bool(passed) and (all(passed) if config.frame_passes == "all" else any(passed))
        rows.append({"video": frame.video, "frame": frame.stem, "labels": labels, "selected": selected})
        if frame in data.corrected:  # whatever the tests say of what people drew
            rows[-1] |= {"selected": True, "corrected": True}
    _fill_classes(rows, config.min_per_class)
    return rows


def _fill_classes(rows: list[dict[str, Any]], min_frames: int) -> None:
    """Select the best scored of the frames that failed, for classes that have fewer than ``min_frames``."""
    labels = sorted({about["label"] for row in rows for about in row["labels"]})
    for label in labels if min_frames else ():
        own = [row for row in rows if any(about["label"] == label for about in row["labels"])]
        missing = min_frames - sum(row["selected"] for row in own)
        failed = sorted((row for row in own if not row["selected"]), key=lambda row: -_score(row, label))
        for row in failed[: max(missing, 0)]:
            row["selected"] = row["added"] = True


def _score(row: Row, label: int) -> float:
    labels = [about for about in row["labels"] if about["label"] == label]
    return max(
        sum(about.get(test) or 0.0 for test in ("discriminator", "classifier", "reproduced")) for about in labels
    )


def summary(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Counts of a selection: frames, and labels by what they passed, over all and for each class."""
    labels = [about for row in rows for about in row["labels"]]
    of_class: dict[str, dict[str, int]] = {}
    for row in rows:
        for label in dict.fromkeys(about["label"] for about in row["labels"]):
            counts = of_class.setdefault(names[label], {"frames": 0, "selected": 0})
            counts["frames"] += 1
            counts["selected"] += row["selected"]
    passed = [(about.get("discriminator_pass", False), about.get("classifier_pass", False)) for about in labels]
    return {
        "frames": len(rows),
        "selected": sum(row["selected"] for row in rows),
        "empty": sum(not row["labels"] for row in rows),
        "labels": len(labels),
        "by_discriminator_only": passed.count((True, False)),
        "by_classifier_only": passed.count((False, True)),
        "by_both": passed.count((True, True)),
        "reproduced": sum(about.get("reproduced_pass", False) for about in labels),
        "untested": sum("untested" in about for about in labels),
        "classes": of_class,
    }


def write_selection(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One JSON document a line."""
    write_lines(path, (json.dumps(row, allow_nan=False) for row in rows))


def read_selection(path: Path) -> list[dict[str, Any]]:
    """What :func:`write_selection` wrote.

    Raises
    ------
    DataError : missing, or a line is no row of a selection
    """
    return read_json_lines(path, "a row of a selection", ("video", "frame", "labels", "selected"))


def selected_frames(path: Path) -> set[Frame]:
    """The frames that a selection takes."""
    return {Frame(row["video"], row["frame"]) for row in read_selection(path) if row["selected"]}
