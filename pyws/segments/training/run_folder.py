"""A run, and the folder that it lives in: checkpoints, measurements, pseudo labels."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws.checkpoint import (
    Checkpoint,
    load_into,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    read_latest,
    write_checkpoint,
)
from pyws.data.annotations.corrections import corrections_document
from pyws.data.csv_table import read_json_lines
from pyws.data.features.dataset import FeatureSet
from pyws.distributed import Group
from pyws.errors import DataError, loader_says
from pyws.files import append_line, made_of, write_lines
from pyws.folders import only_writer
from pyws.models import Averaged, Backbone
from pyws.run_manifest import RunManifest, check_same, new_document
from pyws.segments.backbones import FACTS, BuiltBackbone
from pyws.segments.config import TrainConfig
from pyws.segments.detection.timelines import Timelines, write_timelines
from pyws.segments.pseudo_labels import PseudoLabels, write_labels
from pyws.segments.trust import Trust

Record = dict[str, Any]
LAST, BEST, HISTORY, MANIFEST = "last.safetensors", "best.safetensors", "history.jsonl", "run.json"
CHECKPOINT, TRAINING = "pyws segments checkpoint", "pyws segments train"
_FACTS: dict[str, type | tuple[type, ...]] = {
    **FACTS, "config": dict, "snippets_per_second": (int, float), "epoch": int, "shares": list
}  # fmt: skip


def open_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.safetensors`` or ``best.safetensors`` of a run.

    Raises
    ------
    DataError : missing, damaged, or no checkpoint of ``pyws segments train``
    """
    if path.is_dir():
        there = [name for name in (BEST, LAST) if (path / name).is_file()]
        rule = f"give {path / there[0]}" if there else f"it has no {BEST} or {LAST}"
        raise DataError(path, f"must be a checkpoint of a run, found a folder; {rule}")
    return read_checkpoint(path, CHECKPOINT, _FACTS)


@dataclass
class Aside:
    """What stands beside a network that learns from labels of its own, in case they mislead it.

    Parameters
    ----------
    halves : networks that learned from half of the videos and tell by the others whether labels can be trusted
    without : the same run, going on without the labels
    share : how much the network that learns from the labels counts in the mean with that one
    raised : the share of what its scores of videos have above those of that one, by which these are raised
    """

    halves: list[Backbone]
    without: Run
    share: float
    raised: float


@dataclass
class Run:
    """A run as far as it has come.

    Parameters
    ----------
    backbone : what is trained
    config : the schedule stretched to the run
    optimizer : Adam
    epoch : the next one
    latest, previous : the last two rounds of pseudo labels
    best : average mAP of the best evaluation
    trust : what was found of the pseudo labels, where that was asked for
    aside : what stands beside the network that learns from pseudo labels, where the run's own is a mean with it
    history : what was measured in each epoch
    """

    backbone: BuiltBackbone
    config: TrainConfig
    optimizer: torch.optim.Adam
    epoch: int = 0
    latest: PseudoLabels | None = None
    previous: PseudoLabels | None = None
    best: float | None = None
    trust: Trust | None = None
    aside: Aside | None = None
    history: list[Record] = field(default_factory=list)

    @property
    def network(self) -> Backbone:
        """What finds segments: the network that learns, or the mean of it and those aside."""
        if self.aside is None:
            return self.backbone.model
        return Averaged([self.aside.without.backbone.model, self.backbone.model], self.shares, self.raises, self.pool)

    @property
    def shares(self) -> list[float]:
        """How much the networks without labels and with them count; the last alone if none is aside."""
        return [1.0] if self.aside is None else [1 - self.aside.share, self.aside.share]

    @property
    def pool(self) -> list[float]:
        """Weights of the segments of each beside those of their mean; none if the last is alone."""
        if self.aside is None:
            return []
        assert self.config.trust is not None  # which set it aside
        copy, learner = self.config.trust.pool
        return [copy, learner * self.aside.share]

    @property
    def raises(self) -> list[float]:
        """How far each raises the scores of videos of the first."""
        return [0.0] if self.aside is None else [0.0, self.aside.raised]

    def set_aside(self, halves: Sequence[Backbone]) -> None:
        """Keep the networks of the halves, and let a copy of this one go on without the pseudo labels."""
        assert self.trust is not None
        assert self.config.trust is not None
        assert self.config.trust.shares is not None
        model, optimizer = copy.deepcopy((self.backbone.model, self.optimizer))  # the optimizer of the copied weights
        trust = replace(self.trust, adopted=False)
        without = Run(replace(self.backbone, model=model), self.config, optimizer, self.epoch, trust=trust)
        self.aside = Aside(list(halves), without, self.config.trust.shares[0], self.config.trust.shares[0])

    @property
    def lr(self) -> float:
        """The learning rate before the schedule's factors."""
        return self.backbone.optim.lr if self.config.lr is None else self.config.lr

    @property
    def batch(self) -> int:
        """Videos in an optimiser step."""
        return self.backbone.optim.batch if self.config.batch is None else self.config.batch

    def backbone_epoch(self, epoch: int) -> int:
        """The epoch of the backbone's own training, which the run may go through faster or slower."""
        return epoch * self.backbone.optim.epochs // self.config.schedule.backbone_epochs

    @property
    def uses_labels(self) -> bool:
        """Whether pseudo labels are trained on: unless they were found not to be trusted."""
        return self.trust is None or self.trust.adopted

    def fills_memory(self, epoch: int) -> bool:
        """Whether the memory bank is filled at the end of this epoch."""
        moment = self.backbone.model.memory_epoch
        return moment is not None and self.backbone_epoch(epoch) <= moment < self.backbone_epoch(epoch + 1)


class RunFolder:
    """Where a run writes; nowhere if ``path`` is None. Only the first process of a group writes.

    ``last.safetensors`` is the whole state after the last epoch, ``last.previous.safetensors`` the one before it,
    ``best.safetensors`` the network of the best evaluation, ``run.json`` says what was trained on what,
    ``history.jsonl`` has a line for each epoch, ``labels/`` the rounds of pseudo labels, and ``tensorboard/`` the
    scalars of the history for TensorBoard where wanted.
    """

    def __init__(self, path: Path | None, data: FeatureSet, group: Group) -> None:
        self.path, self.data, self.group = path, data, group
        self.board: Any = None

    @contextmanager
    def held(self, tensorboard: bool = False) -> Iterator[RunFolder]:
        """The folder, in which nobody else writes meanwhile; with scalars for TensorBoard where wanted.

        Raises
        ------
        DataError : another run writes there
        """
        if self.path is None or not self.group.first:
            yield self
            return
        with only_writer(self.path):
            self.board = _board(self.path) if tensorboard else None
            yield self

    def resume(self, run: Run) -> None:
        """Go on with the run that is here, if there is one; from the state before the last where that is damaged.

        Raises
        ------
        DataError : damaged checkpoints, or one of a run with another configuration or other data; names the first
            difference
        """
        if self.path is None:
            return
        saved = read_latest(self.path / LAST, CHECKPOINT, _FACTS)
        if saved is not None:
            self._restore(run, saved)
        self.group.wait()
        if self.group.first:
            document = new_document(TRAINING, 1, self._parameters(run), ["torch", "numpy"], self._data())
            RunManifest(self.path / MANIFEST, document).flush()
            write_lines(self.path / HISTORY, map(_line, run.history))
            rounds = [record for record in run.history if "labels" in record]
            for labels, record in zip((run.latest, run.previous), reversed(rounds), strict=False):
                path = self._labels_path(record["epoch"])
                if labels is not None and not (path.is_file() and Path(f"{path}.json").is_file()):
                    self.write_labels(labels, record["epoch"], record["labels"])

    def write_labels(self, labels: PseudoLabels, epoch: int, settings: Record) -> None:
        """A round, as ``labels/epoch-0200.safetensors``; of a run that goes on the last two are made again."""
        if self.path is not None and self.group.first:
            write_labels(self._labels_path(epoch), labels, self.data, settings)

    def _labels_path(self, epoch: int) -> Path:
        assert self.path is not None
        return self.path / "labels" / f"epoch-{epoch:04}.safetensors"

    def lacks_timelines(self, what: str) -> bool:
        """Whether a file of :meth:`write_timelines` is gone; the same in all processes."""
        return self.path is not None and any(self.group.gather([not self._timelines_path(what).is_file()]))

    def _timelines_path(self, what: str) -> Path:
        assert self.path is not None
        return self.path / "timelines" / f"{what}.json.gz"

    def write_timelines(self, seen: Timelines, what: str) -> None:
        """What the network says of the videos, for the report: ``timelines/WHAT.json.gz``."""
        documents = seen.documents(self.group)
        if self.path is not None and self.group.first:
            write_timelines(self._timelines_path(what), seen.data, documents)

    def write_epoch(self, run: Run, record: Record) -> None:
        """The state after an epoch; the network too if it is the best so far."""
        run.history.append(record)
        better = record.get("mAP") is not None and (run.best is None or record["mAP"] > run.best)
        if better:
            run.best = record["mAP"]
        if self.path is None or not self.group.first:
            return
        facts = {**self._parameters(run), "epoch": run.epoch, "best": run.best}
        facts |= {"shares": run.shares, "raises": run.raises, "pool": run.pool}
        model = run.network.state_dict()
        if better:
            write_checkpoint(self.path / BEST, CHECKPOINT, {"model": model}, facts)
        parts: dict[str, dict[str, Tensor]] = {"model": model, "optimizer": optimizer_tensors(run.optimizer)}
        if run.aside is not None:
            parts["optimizer_without"] = optimizer_tensors(run.aside.without.optimizer)
            parts |= {f"half_{number}": half.state_dict() for number, half in enumerate(run.aside.halves)}
        for name, labels in (("latest", run.latest), ("previous", run.previous)):
            if labels is not None:
                parts[name] = labels.tensors()
        append_line(self.path / HISTORY, _line(record))  # before the state that counts the epoch as done
        write_checkpoint(self.path / LAST, CHECKPOINT, parts, facts, keep_previous=True)
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, int | float):
                    self.board.add_scalar(name, value, record["epoch"])
            self.board.flush()

    def _parameters(self, run: Run) -> dict[str, Any]:
        """What another run must agree in to go on with this one."""
        identity: list[Any] = [self.data.names, self.data.lengths.tolist(), self.data.width]
        if self.data.corrections:
            identity.append(corrections_document(self.data.corrections))
        digest = sha256(json.dumps(identity).encode())
        return {
            **run.backbone.facts(),
            "config": asdict(run.config),
            "data": digest.hexdigest(),
            "snippets_per_second": self.data.snippets_per_second,
        }

    def _data(self) -> dict[str, Any]:
        """What was trained on, and what was wrong with the videos that were not."""
        return {
            "videos": len(self.data.names),
            "snippets": int(self.data.lengths.sum()),
            "subset": self.data.subset,
            "skipped": {problem.video: problem.rule for problem in self.data.skipped},
        }

    def _restore(self, run: Run, checkpoint: Checkpoint) -> None:
        parameters = self._parameters(run)
        check_same(checkpoint.path, {name: checkpoint.facts.get(name) for name in parameters}, parameters)
        run.epoch, run.best = checkpoint.facts["epoch"], checkpoint.facts["best"]
        history = checkpoint.path.parent / HISTORY
        anew = f"or remove {LAST} and last.previous.safetensors to begin anew"
        if not history.is_file():
            rule = f"is gone, which says what the epochs up to {run.epoch} gave; bring it back, {anew}"
            raise DataError(history, rule)
        run.history = read_json_lines(history, "the record of an epoch")[: run.epoch]
        if len(run.history) < run.epoch:
            rule = f"must have a line for each of {run.epoch} epochs, got {len(run.history)}; bring the others back"
            raise DataError(history, f"{rule}, {anew}")
        run.trust = next(
            (made_of(history, "trust", Trust, record["trust"]) for record in run.history if "trust" in record), None
        )
        if len(checkpoint.facts["shares"]) > 1:
            halves = [name for name in ("half_0", "half_1") if checkpoint.part(name)]
            run.set_aside([copy.deepcopy(run.backbone.model).requires_grad_(False) for _ in halves])
            assert run.aside is not None
            for name, half in zip(halves, run.aside.halves, strict=True):
                load_into(half, checkpoint, name)
            run.aside.share, run.aside.raised = (checkpoint.facts[name][-1] for name in ("shares", "raises"))
        load_into(run.network, checkpoint)
        load_optimizer(run.optimizer, checkpoint.part("optimizer"))
        if run.aside is not None:
            load_optimizer(run.aside.without.optimizer, checkpoint.part("optimizer_without"))
        for name in ("latest", "previous"):
            fields = checkpoint.part(name)
            setattr(run, name, PseudoLabels(**fields) if fields else None)


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False)


def _board(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        why = loader_says(error, "tensorboard")
        raise ValueError(f"tensorboard: needs the package tensorboard (pip install tensorboard){why}") from error
    return SummaryWriter(str(path / "tensorboard"))
