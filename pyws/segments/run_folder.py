"""A run, and the folder that it lives in: checkpoints, measurements, pseudo labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws import __version__
from pyws.data.features.dataset import FeatureSet
from pyws.distributed import Group
from pyws.errors import DataError
from pyws.files import atomic_write, only_writer, write_json
from pyws.segments.backbones import Host
from pyws.segments.checkpoint import Checkpoint, load_into, read_checkpoint, write_checkpoint
from pyws.segments.config import TrainConfig
from pyws.segments.pseudo_labels import PseudoLabels, write_labels

Record = dict[str, Any]
LAST, BEST, HISTORY, MANIFEST = "last.safetensors", "best.safetensors", "history.jsonl", "run.json"


@dataclass
class Run:
    """A run as far as it has come.

    Parameters
    ----------
    host : the backbone that is trained
    config : its settings, the schedule stretched to the run
    optimizer : Adam
    epoch : the next one
    latest, previous : the last two generations of pseudo labels
    best : average mAP of the best evaluation
    history : what was measured in each epoch
    """

    host: Host
    config: TrainConfig
    optimizer: torch.optim.Adam
    epoch: int = 0
    latest: PseudoLabels | None = None
    previous: PseudoLabels | None = None
    best: float | None = None
    history: list[Record] = field(default_factory=list)

    @property
    def lr(self) -> float:
        """The learning rate before the schedule's factors."""
        return self.host.recipe.lr if self.config.lr is None else self.config.lr

    @property
    def batch(self) -> int:
        """Videos in an optimiser step."""
        return self.host.recipe.batch if self.config.batch is None else self.config.batch

    def host_epoch(self, epoch: int) -> int:
        """The epoch on the clock of the host's own recipe, which the run may go through faster or slower."""
        return epoch * self.host.recipe.epochs // self.config.schedule.host_epochs

    def fills_memory(self, epoch: int) -> bool:
        """Whether the host's memory bank is filled at the end of this epoch."""
        moment = self.host.recipe.memory_epoch
        return moment is not None and self.host_epoch(epoch) <= moment < self.host_epoch(epoch + 1)


class RunFolder:
    """Where a run writes; nowhere if ``path`` is None. Only the first process of a group writes.

    ``last.safetensors`` is the whole state after the last epoch, ``best.safetensors`` the network of the best
    evaluation, ``run.json`` says what was trained on what, ``history.jsonl`` has a line for each epoch, ``labels/`` the
    generations of pseudo labels, and ``tensorboard/`` the scalars of the history for TensorBoard where wanted.
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
        """Go on with the run that is here, if there is one.

        Raises
        ------
        DataError : a damaged checkpoint, or one of a run with other settings or data; names the first difference
        """
        if self.path is None:
            return
        if (self.path / LAST).exists():
            self._restore(run, read_checkpoint(self.path / LAST))
        self.group.wait()
        if self.group.first:
            write_json(self.path / MANIFEST, {**self._settings(run), **self._data()})
            with atomic_write(self.path / HISTORY) as file:
                file.writelines(map(_line, run.history))

    def write_labels(self, labels: PseudoLabels, epoch: int, settings: Record) -> None:
        """A generation, as ``labels/epoch-0200.safetensors``."""
        if self.path is not None and self.group.first:
            path = self.path / "labels" / f"epoch-{epoch:04}.safetensors"
            write_labels(path, labels, self.data, settings)

    def write_epoch(self, run: Run, record: Record) -> None:
        """The state after an epoch; the network too if it is the best so far."""
        run.history.append(record)
        better = record.get("mAP") is not None and (run.best is None or record["mAP"] > run.best)
        if better:
            run.best = record["mAP"]
        if self.path is None or not self.group.first:
            return
        facts = self._facts(run)
        model = run.host.model.state_dict()
        if better:
            write_checkpoint(self.path / BEST, {"model": model}, facts)
        parts: dict[str, dict[str, Tensor]] = {"model": model, "optimizer": _optimizer_tensors(run)}
        for name, labels in (("latest", run.latest), ("previous", run.previous)):
            if labels is not None:
                parts[name] = labels.tensors()
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:  # before the state that counts the epoch as done
            file.write(_line(record))
        write_checkpoint(self.path / LAST, parts, facts)
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, int | float):
                    self.board.add_scalar(name, value, record["epoch"])
            self.board.flush()

    def _facts(self, run: Run) -> dict[str, Any]:
        return {**self._settings(run), "epoch": run.epoch, "best": run.best}

    def _settings(self, run: Run) -> dict[str, Any]:
        """What another run must agree in to go on with this one."""
        digest = sha256(json.dumps([self.data.names, self.data.lengths.tolist(), self.data.width]).encode())
        return {
            **run.host.facts(),
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
            "versions": {"pyws": __version__, "torch": torch.__version__},
        }

    def _restore(self, run: Run, checkpoint: Checkpoint) -> None:
        for name, value in json.loads(json.dumps(self._settings(run))).items():
            _compare(checkpoint.path, name, value, checkpoint.facts.get(name))
        load_into(run.host.model, checkpoint)
        _load_optimizer(run, checkpoint)
        for name in ("latest", "previous"):
            fields = checkpoint.part(name)
            setattr(run, name, PseudoLabels(**fields) if fields else None)
        run.epoch, run.best = checkpoint.facts["epoch"], checkpoint.facts["best"]
        lines = (checkpoint.path.parent / HISTORY).read_text(encoding="utf-8").splitlines()
        run.history = [json.loads(line) for line in lines[: run.epoch]]


def _compare(path: Path, name: str, wanted: Any, found: Any) -> None:
    """Raise at the first setting in which two runs differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            _compare(path, f"{name}.{key}", wanted.get(key), found.get(key))
    elif wanted != found:
        rule = f"is of another run: {name} was {found!r}, now {wanted!r}; choose another folder, or remove this one"
        raise DataError(path, rule)


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _optimizer_tensors(run: Run) -> dict[str, Tensor]:
    states = run.optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()}


def _load_optimizer(run: Run, checkpoint: Checkpoint) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in checkpoint.part("optimizer").items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = tensor
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": states})


def _board(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard: needs the package tensorboard (pip install tensorboard)") from error
    return SummaryWriter(str(path / "tensorboard"))
