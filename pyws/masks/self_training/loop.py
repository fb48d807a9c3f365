"""The second stage of WS^2: pseudo-annotations and models that improve each other (Alg. 1), resumable at any point.

What is written under the folder of a run::

    manifest.json             parameters, hashes, and for each version its state, counts and scores
    select/v<i>.jsonl         which frames version i trains on, and why
    models/v<i>.safetensors   the best model of version i
    pa/v<i>/<video>/<frame>.png    pseudo-annotations, from version 1 on; version 0 is in the folder of the first stage
    model.safetensors         the model that the run ends with

A version goes through the states of STATES. Each is written down when it is reached, and what is done between two of
them gives the same files when it is done again: a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pyws import ops
from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.frames import write_mask
from pyws.errors import DataError
from pyws.files import atomic_write, read_json, write_json
from pyws.masks.checkpoint import load_checkpoint, save_checkpoint
from pyws.masks.self_training.frame_selection import SelectionConfig, read_selection, select, summary, write_selection
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame, digest
from pyws.masks.self_training.ric import Criterion
from pyws.masks.self_training.stopping import (
    LoopConfig,
    best_epoch,
    epochs_are_enough,
    first_choice,
    returned_version,
    why_stop,
)
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig, seed_of
from pyws.masks.self_training.train_segmentation import (
    TrainingConfig,
    make_optimizer,
    predict_frames,
    segmentation_network,
    train_epoch,
)
from pyws.models.classifiers import Classifier
from pyws.models.deeplab import DeepLabV2
from pyws.progress import track

Variant = Literal["ws2", "model-s", "baseline"]

FORMAT = "pyws masks train 3"
STATES = ("selecting", "training", "deciding", "predicting", "done")


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Everything that the masks of a run depend on, beside the first stage and the weights."""

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    seed: int = 0


def as_variant(config: SelfTrainingConfig, variant: Variant) -> SelfTrainingConfig:
    """Configuration of a row of the paper's Table 1.

    "ws2": as they are. "model-s": the epoch is chosen by mIoU_PA. "baseline": that, and every frame is trained on.
    """
    loop, selection = config.loop, config.selection
    if variant != "ws2":
        loop = replace(loop, criterion="miou_pa")
    if variant == "baseline":
        selection = replace(selection, rule="none", select_share=None)
    return replace(config, loop=loop, selection=selection)


class SelfTraining:
    """One run of the second stage.

    Parameters
    ----------
    init : what ``pyws masks init`` wrote
    out : the folder of the run; one that was begun with the same parameters is continued
    config : of all steps
    classifier : of the first stage; None where the selection rule does not ask it
    backbone_weights : of the segmentation network's body, None for random ones
    device : where networks run
    quiet : no progress

    Raises
    ------
    DataError : ``init`` is no such folder, ``out`` belongs to another run, or no frame can be held out
    """

    def __init__(
        self,
        init: Path,
        out: Path,
        config: SelfTrainingConfig,
        classifier: Classifier | None = None,
        backbone_weights: Path | None = None,
        device: torch.device | None = None,
        quiet: bool = False,
    ) -> None:
        self.data = Annotations(init, out / "frames")
        self.out, self.config, self.classifier = out, config, classifier
        self.backbone_weights = backbone_weights
        self.device = device or torch.device("cpu")
        self.quiet = quiet
        self.training, self.validation = split(self.data, config.loop, config.seed)
        self.manifest = self._open_manifest()

    def run(self) -> dict[str, Any]:
        """Go on until the outer loop stops; returns the manifest.

        Raises
        ------
        DataError : no frame of the first version is selected, or a file of the run was damaged
        """
        steps = {
            "selecting": self._select,
            "training": self._train,
            "deciding": self._decide,
            "predicting": self._predict,
        }
        while (version := self.manifest["versions"][-1])["state"] != "done":
            self._check_annotations(version)
            steps[version["state"]](version)
            write_json(self.out / "manifest.json", self.manifest)
        return self.manifest

    def annotations(self, version: int) -> Path:
        """Folder of the pseudo-annotations of a version."""
        return self.data.folder / "pa/v0" if version == 0 else self.out / "pa" / f"v{version}"

    # The states

    def _select(self, version: dict[str, Any]) -> None:
        """Judge every frame that may be trained on, or scored on if that is asked for."""
        number = version["version"]
        frames = [*self.training, *(self.validation if self.config.loop.select_validation else ())]
        rows, auc = select(
            self.data,
            self.annotations(number),
            frames,
            self.config.selection,
            self.config.discriminator,
            self.classifier,
            seed_of(self.config.seed, "select", number),
            self.device,
        )
        write_selection(self._selection(number), rows)
        version["selection"] = {**summary(rows, self.data.space.names), "discriminator_auc": auc}
        if any(row["selected"] for row in rows[: len(self.training)]):
            version["state"] = "training"
        elif number > 0:
            self._finish(f"no frame of version {number} is selected")
        else:
            raise DataError(
                self._selection(number),
                f"no frame passes the selection rule {self.config.selection.rule!r}; use another, or min_per_class",
            )

    def _train(self, version: dict[str, Any]) -> None:
        """Train until the criterion no longer rises; the model of the best epoch is kept."""
        number, loop = version["version"], self.config.loop
        frames, held_out = self._frames(number)
        seed = seed_of(self.config.seed, "train", number)
        model, optimizer, curve = self._start(number, seed)
        first = first_choice(self.config.training.max_epoch, loop.choose_after)
        for epoch in track(range(self.config.training.max_epoch), f"version {number}", quiet=self.quiet):
            if epoch < len(curve):
                continue
            if epochs_are_enough([row[loop.criterion] for row in curve[first:]], loop.patience, loop.tolerance):
                break
            folder = self.annotations(number)
            config = self.config.training
            count = len(self.training) if config.equal_steps else None
            loss = train_epoch(model, optimizer, self.data, folder, frames, config, epoch, seed, self.device, count)
            curve.append({"epoch": epoch, "loss": loss, **self._score(model, held_out, number)})
            if best_epoch([row[loop.criterion] for row in curve], first) == epoch:
                save_checkpoint(self.model_file(number), model, None, {"version": number, **curve[-1]})
            save_checkpoint(self._last(number), model, optimizer, {"curve": curve})
        best = best_epoch([row[loop.criterion] for row in curve], first)
        version["curve"], version["best_epoch"] = curve, best
        version["best_score"], version["spread"] = curve[best][loop.criterion], curve[best]["spread"]
        version |= {key: curve[best][key] for key in ("miou_pa_v0", "miou_pa_v0_spread", "foreground")}
        version["state"] = "deciding"

    def _decide(self, version: dict[str, Any]) -> None:
        """Stop, or go on to the next version."""
        self._last(version["version"]).unlink(missing_ok=True)
        reason = why_stop(self.manifest["versions"], self.config.loop)
        if reason is None:
            version["state"] = "predicting"
        else:
            self._finish(reason)

    def _predict(self, version: dict[str, Any]) -> None:
        """Write the next version of the pseudo-annotations, those of its frames that are not there yet."""
        number, loop = version["version"], self.config.loop
        model = self.model(number)
        old, new = self.annotations(number), self.annotations(number + 1)
        missing = [frame for frame in self.data.frames if not frame.png(new).is_file()]
        masks = predict_frames(
            model, self.data, missing, loop.constrain_labels, self.config.training.short_side, self.device
        )
        for frame, mask in track(masks, f"masks of version {number + 1}", len(missing), self.quiet):
            if loop.refine_pa:
                mask = ops.superpixel_vote(self.data.labels(frame)[None], mask[None], len(self.data.space)).classes[0]
            ids = mask.numpy()
            if loop.empty == "keep" and not ids.any():
                ids = self.data.mask(old, frame)
            if loop.disagreement == "ignore":
                ids = np.where(ids == self.data.mask(self.annotations(0), frame), ids, IGNORE)
            write_mask(frame.png(new), ids)
        version["state"] = "done"
        self.manifest["versions"].append(self._new_version(number + 1))

    def _finish(self, reason: str) -> None:
        """Choose the model that the run ends with."""
        trained = [version for version in self.manifest["versions"] if "best_score" in version]
        number = returned_version(trained, self.config.loop)
        with atomic_write(self.out / "model.safetensors", "wb") as file:
            file.write(self.model_file(number).read_bytes())
        self.manifest["versions"][-1]["state"] = "done"
        self.manifest |= {"stopped": reason, "returned": number, "model_sha256": digest([self.model_file(number)])}

    # What the states share

    def model_file(self, version: int) -> Path:
        return self.out / "models" / f"v{version}.safetensors"

    def model(self, version: int) -> DeepLabV2:
        """The best model of a version, in eval mode."""
        model = self._untrained()
        load_checkpoint(self.model_file(version), model)
        return model.to(self.device).eval()

    def _untrained(self, weights: Path | None = None) -> DeepLabV2:
        return segmentation_network(self.config.training, self.data.space, weights)

    def _start(self, number: int, seed: int) -> tuple[DeepLabV2, torch.optim.SGD, list[dict[str, Any]]]:
        """The network, its optimizer and the scores of the epochs that are done."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._untrained(self.backbone_weights)
        if self.config.loop.start == "previous" and number > 0:
            load_checkpoint(self.model_file(number - 1), model)
        model.to(self.device)
        optimizer = make_optimizer(model, self.config.training)
        if not self._last(number).is_file():
            return model, optimizer, []
        return model, optimizer, load_checkpoint(self._last(number), model, optimizer)["curve"]

    def _frames(self, number: int) -> tuple[list[Frame], list[Frame]]:
        """Frames to train on and to score on."""
        selected = {
            Frame(row["video"], row["frame"]) for row in read_selection(self._selection(number)) if row["selected"]
        }
        held_out = list(self.validation)
        if self.config.loop.select_validation:
            held_out = [frame for frame in held_out if frame in selected] or held_out
        return [frame for frame in self.training if frame in selected], held_out

    def _score(self, model: DeepLabV2, frames: Sequence[Frame], number: int) -> dict[str, Any]:
        """RIC and its parts against the pseudo-annotations of this version, and mIoU_PA against the first one's."""
        loop = self.config.loop
        now, first = (
            Criterion(
                len(self.data.space),
                weight=loop.rii_weight,
                include_background=loop.include_background,
                binary=loop.binary,
            )
            for _ in range(2)
        )
        foreground = False
        masks = predict_frames(
            model, self.data, frames, loop.constrain_labels, self.config.training.short_side, self.device
        )
        for frame, mask in masks:
            foreground |= bool(mask.any())
            labels = self.data.labels(frame)[None]
            now.add(mask[None], self._mask(number, frame), labels)
            if number > 0:
                first.add(mask[None], self._mask(0, frame), labels)
        fixed = first if number > 0 else now
        scores, against_first = now.scores(), fixed.scores().miou_pa
        return {
            "rii": scores.rii,
            "miou_pa": scores.miou_pa,
            "ric": scores.ric,
            "spread": now.spread()[loop.criterion],
            "miou_pa_v0": against_first,
            "miou_pa_v0_spread": fixed.spread()["miou_pa"],
            "ric_v0": against_first + loop.rii_weight * scores.rii,
            "foreground": foreground,
        }

    def _mask(self, number: int, frame: Frame) -> Tensor:
        return torch.tensor(self.data.mask(self.annotations(number), frame))[None]

    def _selection(self, version: int) -> Path:
        return self.out / "select" / f"v{version}.jsonl"

    def _last(self, version: int) -> Path:
        return self.out / "models" / f"v{version}-last.safetensors"

    def _new_version(self, number: int) -> dict[str, Any]:
        pa = self.data.digest(self.annotations(number))
        return {"version": number, "state": STATES[0], "pa_sha256": pa}

    def _check_annotations(self, version: dict[str, Any]) -> None:
        folder = self.annotations(version["version"])
        if self.data.digest(folder) != version["pa_sha256"]:
            raise DataError(folder, f"changed since version {version['version']} began; start again in another folder")

    def _open_manifest(self) -> dict[str, Any]:
        parameters = {
            **asdict(self.config),
            "init": self.data.parameters,
            "backbone_sha256": digest([self.backbone_weights]) if self.backbone_weights else None,
            "classifier": self.classifier.name if self.classifier else None,
        }
        path = self.out / "manifest.json"
        if path.is_file():
            return read_run(path, json.loads(json.dumps(parameters)))
        if (self.out / "models").exists():
            raise DataError(self.out, "holds models but no manifest.json; choose another folder")
        manifest = {
            "format": FORMAT,
            "parameters": json.loads(json.dumps(parameters)),
            "packages": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")},
            "init": str(self.data.folder),
            "label_space": self.data.space.document(),
            "frames": {"training": len(self.training), "validation": len(self.validation)},
            "validation": [list(frame) for frame in self.validation],
            "versions": [self._new_version(0)],
        }
        write_json(path, manifest)
        return manifest


def read_run(path: Path, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """The manifest of a run.

    Parameters
    ----------
    path : RUN/manifest.json
    parameters : what the run must have been made with; None for anything

    Raises
    ------
    DataError : missing, damaged, or of a run with other parameters; it names the first that differs
    """
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not manifest.get("versions"):
        raise DataError(path, f"must be a manifest of format {FORMAT!r}")
    for key, value in _flat(parameters or {}):
        was = dict(_flat(manifest["parameters"])).get(key)
        if was != value:
            raise DataError(path.parent, f"holds a run with {key} {was}, not {value}; choose another folder")
    return manifest


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def split(data: Annotations, loop: LoopConfig, seed: int) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and to score on.

    Whole videos are held out: those of the data set's own subset "val", or else some that the seed draws such that
    every tag keeps a video to train on.

    Raises
    ------
    DataError : no video, or no frame, can be spared
    """
    if loop.validation == "frames":
        held_out = _every_so_many(data.frames, loop.validation_share)
    else:
        own = {frame for frame in data.frames if data.subsets[frame.video] == "val"}
        held_out = own or _whole_videos(data, loop.validation_share, seed)
    if not held_out or len(held_out) == len(data.frames):
        raise DataError(data.folder, f"has no {loop.validation} to spare for scoring; use --validation frames")
    return tuple(frame for frame in data.frames if frame not in held_out), tuple(
        frame for frame in data.frames if frame in held_out
    )


def _every_so_many(frames: Sequence[Frame], share: float) -> set[Frame]:
    """Frames spread evenly over each video."""
    found = set()
    for _, group in groupby(frames, key=lambda frame: frame.video):
        several = list(group)
        count = round(share * len(several)) or int(len(several) > 1)
        found |= {several[int((k + 0.5) * len(several) / count)] for k in range(count)}
    return found


def _whole_videos(data: Annotations, share: float, seed: int) -> set[Frame]:
    names = sorted(data.tags)
    wanted = max(1, round(share * len(names)))
    left = Counter(tag for name in names for tag in data.tags[name])
    chosen: set[str] = set()
    for index in np.random.default_rng(seed_of(seed, "validation")).permutation(len(names)):
        tags = data.tags[names[index]]
        if len(chosen) < wanted and all(left[tag] > 1 for tag in tags):
            chosen.add(names[index])
            left.subtract(tags)
    return {frame for frame in data.frames if frame.video in chosen}
