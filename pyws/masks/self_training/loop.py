"""Self-training (Algorithm 1 of WS^2): pseudo-annotations and models that improve each other, version by version.

What is written under the folder of a run::

    manifest.json             parameters, hashes, and of each version its counts and scores
    select/v<i>.jsonl         which frames version i trains on, and why; v<i> has pictures of some
    models/v<i>.safetensors   the best model of version i
    pa/v<i>/<video>/<frame>.png    pseudo-annotations, from version 1 on; version 0 is in the folder of the first stage
    soft/v<i>/<video>/<frame>.png  their probabilities, where these are trained on
    predictions/v<i>/<video>/<frame>.png   what the model of version i predicts, as it is
    model.safetensors         the model that the run ends with

A run that was interrupted goes through the algorithm from the top: each step returns at once what the manifest, or a
file, already has, and gives the same files when it is done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pyws.checkpoint import (
    load_into,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    read_latest,
    remove_checkpoint,
    write_checkpoint,
)
from pyws.data.csv_table import read_json_lines
from pyws.data.video.frames import write_mask
from pyws.data.video.optical_flow import check_flow
from pyws.distributed import Group
from pyws.errors import DataError, check_loss, counted
from pyws.files import atomic_write
from pyws.masks.seeds import seed_of
from pyws.masks.self_training.frame_selection import (
    FrameSelector,
    SelectionConfig,
    selected_frames,
    summary,
    write_selection,
)
from pyws.masks.self_training.next_version import NextVersion
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame, digest, split
from pyws.masks.self_training.ric import Criterion
from pyws.masks.self_training.stopping import (
    LoopConfig,
    Version,
    best_epoch,
    epochs_are_enough,
    first_choice,
    returned_version,
    why_stop,
)
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import (
    TrainingConfig,
    make_optimizer,
    predict_frames,
    segmentation_network,
    train_epoch,
)
from pyws.models.classifier import Classifier
from pyws.models.devices import set_precision
from pyws.models.image_networks.deeplab import DeepLabV2
from pyws.progress import Pace, track
from pyws.run_manifest import open_run

Variant = Literal["ws2", "model-s", "baseline"]

FORMAT = ("pyws masks train", 5)  # kind and version of the manifest
MODEL = "pyws masks model"
STATE = "pyws masks training state"
CHOICES = ("ric", "miou_pa", "end")  # the best epoch by the score of that name, or the last one


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Everything that the masks of a run depend on, beside the first stage and the weights.

    Parameters
    ----------
    preset
        Name of the preset that it began from, see :mod:`~.presets`
    """

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    seed: int = 0
    preset: str | None = None


def as_variant(config: SelfTrainingConfig, variant: Variant) -> SelfTrainingConfig:
    """Configuration of a row of the paper's Table 1.

    "ws2": as they are. "model-s": the epoch is chosen by mIoU_PA. "baseline": that, and every frame is trained on.
    """
    loop, selection = config.loop, config.selection
    if variant != "ws2":
        loop = replace(loop, criterion="miou_pa")
    if variant == "baseline":
        selection = replace(selection, label_tests="none", select_share=None)
    return replace(config, loop=loop, selection=selection)


class SelfTraining:
    """One run of self-training.

    Parameters
    ----------
    init : folder that ``pyws masks init`` wrote
    out : folder of the run; one that was begun with the same parameters is continued
    config : configuration of all steps
    classifier : classifier of the first stage; None where no test uses it
    backbone_weights : file of pretrained weights for the segmentation network's body; None for random ones
    device : where networks run
    quiet : no progress
    group : the processes that train together; the first one writes what is not parted among them

    Raises
    ------
    DataError : ``init`` is no such folder, or no frame can be held out
    ValueError : neighbours are to agree, and OpenCV is not installed
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
        group: Group = Group(),  # noqa: B008
    ) -> None:
        if "neighbours" in config.loop.disagreement:
            check_flow("dis")
        self.group = group
        self.data = Annotations(init, out / "frames", offsets=config.training.offsets)
        self.out, self.config, self.classifier = out, config, classifier
        self.backbone_weights = backbone_weights
        self.device = device or torch.device("cpu")
        self.quiet = quiet or not group.first
        self.training, self.validation = split(self.data, config.loop, config.seed)
        self.versions: list[Version] = []
        self.manifest: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Algorithm 1, from where the run is; returns the manifest. Numbers are the lines of the paper.

        Raises
        ------
        DataError : ``out`` belongs to another run, no frame of the first version is selected, or a file of the run was
            damaged
        """
        packages = ("torch", "torchvision", "numpy")
        with ExitStack() as opened:
            if self.group.first:
                run = open_run(self.out, *FORMAT, self._parameters(), packages, self._facts(), owned=("models",))
                manifest = opened.enter_context(run)
                self.manifest, self._save_manifest = manifest.document, manifest.flush
                self._forget_what_is_lost()
            begun = self.group.of_first(lambda: self.manifest)  # a copy of what the first process writes
            self.manifest = self.manifest if self.group.first else begun
            self.versions = [Version.read(row) for row in self.manifest["versions"]]
            number, reason = 0, self.manifest.get("stopped")  # 8
            while reason is None:  # 9
                version = self._version(number)
                if not self._select(version):  # 10
                    reason = f"no frame of version {number} is selected"
                    break
                self._train(version)  # 11 to 17
                reason = why_stop([one.document() for one in self.versions[: number + 1]], self.config.loop)  # 19
                if reason is None:
                    self._predict(version)  # 18
                    number += 1
            self._return(reason)  # 20
            self._show_predictions(self.manifest["returned"])
        return self.manifest

    def _forget_what_is_lost(self) -> None:
        """Files that were removed, as the error about a damaged one says, are made again, the same ones."""
        lost = "returned" in self.manifest and not (self.out / "model.safetensors").is_file()
        for row in self.manifest["versions"]:
            number = row["version"]
            if "best_epoch" in row and not self.model_file(number).is_file():
                del row["best_epoch"], row["curve"]
                lost = True
            if "selection" in row and not self.selection_file(number).is_file():
                del row["selection"]
                lost = True
        if lost:
            for key in ("stopped", "returned", "model_sha256"):
                self.manifest.pop(key, None)

    def _train(self, version: Version) -> None:
        """The inner loop, lines 11 to 17: train until the criterion no longer rises; keep the best epoch's model."""
        if version.best_epoch is not None:
            self._remove_state(version)
            return
        training, data, frames, held_out = self.config.training, self.data, *self._frames(version.number)
        count = len(self.training) if training.equal_steps else None
        seed = seed_of(self.config.seed, "train", version.number)
        model, optimizer = self._start(version, seed)
        first = first_choice(training.max_epoch, self.config.loop.choose_after)
        steps = -(-(count or len(frames)) // training.batch)
        left = (training.max_epoch - len(version.curve)) * steps
        left += (self.config.loop.max_versions - version.number - 1) * training.max_epoch * steps
        pace = Pace(f"training version {version.number}", left, "at most", self.quiet)
        for epoch in self._epochs(version, first):  # 12, 17
            folder = self.annotations(version.number)
            loss = train_epoch(  # 13
                model, optimizer, data, folder, frames, training, epoch, seed, self.device, count, pace, self.group
            )
            check_loss(loss, f"masks train, version {version.number}", epoch)
            scores = self._score(model, held_out, version.number)  # 14
            version.curve.append({"epoch": epoch, "loss": loss, **scores})
            if self.group.first:
                self._keep(version, model, optimizer, first)
            measured = {"loss": loss, "RIC": scores["ric"], "mIoU_PA": scores["miou_pa"]}
            pace.show(epoch + 1, training.max_epoch, measured)
        version.best_epoch = best_epoch([row["score"] for row in version.curve], first)
        self._save()
        self._remove_state(version)
        self.group.wait()  # for the model, which every process reads

    def _keep(self, version: Version, model: DeepLabV2, optimizer: torch.optim.SGD, first: int) -> None:
        """Write the model if the last epoch is the best, and the state to go on from."""
        scores = {self.model_file(version.number): [row["score"] for row in version.curve]}
        if self.config.loop.keep_choices:
            for choice in CHOICES:
                file = self.chosen_file(version.number, choice)
                scores[file] = [row.get(choice, row["epoch"]) for row in version.curve]
        parts, last = {"model": model.state_dict()}, len(version.curve) - 1
        for file, of_epochs in scores.items():
            if best_epoch(of_epochs, first) == last:  # 15
                write_checkpoint(file, MODEL, parts, {"version": version.number, **version.curve[-1]})  # 16
        state = {**parts, "optimizer": optimizer_tensors(optimizer)}
        write_checkpoint(self._state(version.number), STATE, state, {"curve": version.curve}, keep_previous=True)

    def _remove_state(self, version: Version) -> None:
        if self.group.first:
            remove_checkpoint(self._state(version.number))

    def _epochs(self, version: Version, first: int) -> Iterator[int]:
        """The epochs that are left, until the criterion no longer rises."""
        loop = self.config.loop
        while len(version.curve) < self.config.training.max_epoch:
            if epochs_are_enough([row["score"] for row in version.curve[first:]], loop.patience, loop.tolerance):
                return
            yield len(version.curve)

    def _version(self, number: int) -> Version:
        """The version as the manifest has it, or a new one; its pseudo-annotations must be those that it began with."""
        folder = self.annotations(number)
        if number == len(self.versions):
            self.versions.append(Version(number, self.data.digest(folder)))
            self._save()
        version = self.versions[number]
        if version is self.versions[-1] and self.data.digest(folder) != version.pa_sha256:
            raise DataError(folder, f"changed since version {number} began; start again in another folder")
        return version

    def _select(self, version: Version) -> bool:
        """Select frames to train on, and to score on if that is asked for; False where none passes."""
        path = self.selection_file(version.number)
        if version.selection is None:
            version.selection = self.group.of_first(lambda: self._selected(version, path))
            self._save()
        if self._frames(version.number)[0]:
            return True
        if version.number > 0:
            return False
        tests = self.config.selection.label_tests
        rows = read_json_lines(path, "a row of a selection", ("labels",))
        empty = sum(not row["labels"] for row in rows)
        said = f"no frame passes label_tests {tests!r}: {empty} of {counted(len(rows), 'frame')} have no mask"
        raise DataError(path, f"{said}; look at the masks, use other tests, or min_per_class")

    def _selected(self, version: Version, path: Path) -> dict[str, Any]:
        """Select frames and write them; their counts."""
        config, number = self.config, version.number
        seed, folder = seed_of(config.seed, "select", number), self.annotations(number)
        tests = (config.selection, config.discriminator, self.classifier)
        selector = FrameSelector(self.data, folder, *tests, seed, self.device, self.quiet)
        frames, auc = [*self.training, *(self.validation if config.loop.select_validation else ())], None
        if number > 0 and config.loop.reproduced_share is not None:
            rows = selector.select_reproduced(frames, self.predictions(number - 1), config.loop.reproduced_share)
        else:
            rows, auc = selector.select(frames, path.with_suffix(""))
        write_selection(path, rows)
        return {**summary(rows, self.data.space.names), "discriminator_auc": auc}

    def _predict(self, version: Version) -> None:
        """Write the next version of the pseudo-annotations, those of its frames that are not there yet."""
        number, loop = version.number, self.config.loop
        if number + 1 < len(self.versions):
            return
        if loop.reproduced_share is not None:
            self._show_predictions(number)
            return
        model = self.model(number)
        old, new = self.annotations(number), self.annotations(number + 1)
        mine = self.data.frames[self.group.rank :: self.group.world]
        missing = [frame for frame in mine if not frame.png(new).is_file()]
        for frame in [frame for frame in missing if frame in self.data.corrected]:
            write_mask(frame.png(new), self.data.mask(old, frame))  # what people drew stays
        missing = [frame for frame in missing if frame not in self.data.corrected]
        found = NextVersion(model, self.data, loop, self.config.training, self.device)
        for frame in track(missing, f"masks of version {number + 1}", len(missing), self.quiet):
            before = self.data.mask(old, frame)
            annotation = found.annotation(frame, before)
            write_mask(frame.png(self.predictions(number)), found.predict(frame).mask)
            if loop.soft_labels and annotation is not before:
                self.data.write_soft_labels(new, frame, found.soft_labels(frame))
            write_mask(frame.png(new), annotation)
        self.group.wait()

    def _return(self, reason: str) -> None:
        """Choose the model that the run ends with."""
        if "returned" in self.manifest:
            return
        trained = [version.document() for version in self.versions if version.best_epoch is not None]
        number = returned_version(trained, self.config.loop)
        if self.group.first:
            with atomic_write(self.out / "model.safetensors", "wb") as file:
                file.write(self.model_file(number).read_bytes())
        self.manifest |= {"stopped": reason, "returned": number, "model_sha256": digest([self.model_file(number)])}
        self._save()

    def _show_predictions(self, number: int) -> None:
        """Write what the model of a version predicts, where no next version was made of it."""
        folder, mine = self.predictions(number), self.data.frames[self.group.rank :: self.group.world]
        missing = [frame for frame in mine if not frame.png(folder).is_file()]
        training, constrain = self.config.training, self.config.loop.constrain_labels
        model = self.model(number) if missing else None
        masks = predict_frames(model, self.data, missing, constrain, training, self.device) if model else ()
        for frame, mask in track(masks, f"predictions of version {number}", len(missing), self.quiet or not missing):
            write_mask(frame.png(folder), mask.numpy())
        self.group.wait()

    # What the steps share

    def predictions(self, version: int) -> Path:
        """Folder of what the model of a version predicts."""
        return self.out / "predictions" / f"v{version}"

    def annotations(self, version: int) -> Path:
        """Folder of the pseudo-annotations of a version."""
        first = version == 0 or self.config.loop.reproduced_share is not None
        return self.data.folder / "pa/v0" if first else self.out / "pa" / f"v{version}"

    def model_file(self, version: int) -> Path:
        """File of the best model of a version."""
        return self.out / "models" / f"v{version}.safetensors"

    def model(self, version: int) -> DeepLabV2:
        """The best model of a version, in eval mode."""
        return self.read_model(self.model_file(version))

    def chosen_file(self, version: int, choice: str) -> Path:
        """File of the model of the epoch that one of CHOICES chose, which ``keep_choices`` keeps."""
        return self.out / "models" / f"v{version}-by-{choice}.safetensors"

    def read_model(self, file: Path) -> DeepLabV2:
        """A model that the run wrote, in eval mode."""
        model = segmentation_network(self.config.training, self.data.space)
        load_into(model, read_checkpoint(file, MODEL))
        set_precision(model.to(self.device), self.config.training.precision, self.device)
        return model.eval()

    def _start(self, version: Version, seed: int) -> tuple[DeepLabV2, torch.optim.SGD]:
        """The network and its optimizer after the epochs that are done, whose curve the version takes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = segmentation_network(self.config.training, self.data.space, self.backbone_weights)
        if self.config.loop.start == "previous" and version.number > 0:
            load_into(model, read_checkpoint(self.model_file(version.number - 1), MODEL))
        saved = read_latest(self._state(version.number), STATE, {"curve": list})
        if saved is not None:
            load_into(model, saved)
            version.curve = saved.facts["curve"]
        set_precision(model.to(self.device), self.config.training.precision, self.device)
        optimizer = make_optimizer(model, self.config.training)
        if saved is not None:
            load_optimizer(optimizer, saved.part("optimizer"))
        self.group.wait()  # the first process will write another state
        return model, optimizer

    def _frames(self, number: int) -> tuple[list[Frame], list[Frame]]:
        """Frames to train on and to score on."""
        selected = selected_frames(self.selection_file(number))
        held_out = list(self.validation)
        if self.config.loop.select_validation:
            held_out = [frame for frame in held_out if frame in selected] or held_out
        return [frame for frame in self.training if frame in selected], held_out

    def _score(self, model: DeepLabV2, frames: Sequence[Frame], number: int) -> dict[str, Any]:
        """RIC and its parts against the pseudo-annotations of this version, and mIoU_PA against the first version."""
        loop = self.config.loop
        classes, weight = len(self.data.space), loop.rii_weight
        now, first = (
            Criterion(classes, weight=weight, include_background=loop.include_background, binary=loop.binary)
            for _ in range(2)
        )
        foreground, mine = False, frames[self.group.rank :: self.group.world]
        masks = predict_frames(model, self.data, mine, loop.constrain_labels, self.config.training, self.device)
        for frame, mask in masks:
            foreground |= bool(mask.any())
            labels = self.data.superpixels_of(frame)[None]
            now.add(mask[None], self._mask(number, frame), labels)
            if number > 0:
                first.add(mask[None], self._mask(0, frame), labels)
        foreground = any(self.group.gather([foreground]))
        for criterion in (now, first) if number > 0 else (now,):
            criterion.join(self.group)
        fixed = first if number > 0 else now
        scores, against_first = now.scores(), fixed.scores().miou_pa
        found = {
            "rii": scores.rii,
            "miou_pa": scores.miou_pa,
            "ric": scores.ric,
            "spread": now.spread()[loop.criterion],
            "miou_pa_v0": against_first,
            "miou_pa_v0_spread": fixed.spread()["miou_pa"],
            "ric_v0": against_first + loop.rii_weight * scores.rii,
            "foreground": foreground,
        }
        return {**found, "score": found[loop.criterion]}

    def _mask(self, number: int, frame: Frame) -> Tensor:
        return torch.tensor(self.data.mask(self.annotations(number), frame))[None]

    def selection_file(self, version: int) -> Path:
        """File that says which frames a version is trained on, and why."""
        return self.out / "select" / f"v{version}.jsonl"

    def _state(self, version: int) -> Path:
        return self.out / "models" / f"v{version}-last.safetensors"

    def _save(self) -> None:
        """Write the versions into the manifest."""
        self.manifest["versions"] = [version.document() for version in self.versions]
        if self.group.first:
            self._save_manifest()

    def _parameters(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        return {
            **asdict(self.config),
            "init": self.data.parameters,
            "backbone_sha256": digest([self.backbone_weights]) if self.backbone_weights else None,
            "classifier": self.classifier.name if self.classifier else None,
        }

    def _facts(self) -> dict[str, Any]:
        """What readers of the manifest need beside the parameters."""
        return {
            "init": str(self.data.folder),
            "label_space": self.data.space.document(),
            "frames": {"training": len(self.training), "validation": len(self.validation)},
            "validation": [list(frame) for frame in self.validation],
            "versions": [],
        }
