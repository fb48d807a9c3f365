"""Classifiers of actors and actions, trained from the tags of videos (WS^2 section 3.1): no mask is read.

An actor classifier sees single frames, an action classifier clips; both learn from videos of one actor, or of one
action, alone, since only there every frame must show what the tag says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.checkpoint import (
    load_into,
    load_optimizer,
    optimizer_tensors,
    read_latest,
    remove_checkpoint,
    write_checkpoint,
)
from pyws.data.tagged.dataset import MaskSet, TaggedVideo
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.video.clips import Clip, FrameStore, clips_of
from pyws.data.video.frames import evenly
from pyws.distributed import Group, JoinedLayers
from pyws.errors import DataError, check_fields, check_loss
from pyws.masks.linear_head import L2, features_of, fit_head, set_head
from pyws.models.classifier import Classifier, input_of
from pyws.models.classifiers import build_classifier, load_weights, read_state, save_classifier
from pyws.models.devices import Precision, on_device, set_precision
from pyws.models.video_networks.catalogue import last_layer, replace_head
from pyws.progress import track
from pyws.run_manifest import check_same

What = Literal["actor", "action"]
STATE = "pyws masks classify state"
TESTED_FRAMES = 8  # frames of a video, when frames are classified


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained.

    Parameters
    ----------
    network
        An image classifier of torchvision, efficientnet-lite0, small2d, i3d, s3d, r3d_18, mc3_18, r2plus1d_18 or
        small3d
    epochs
        Passes over the videos
    batch
        Frames or clips of a step
    samples
        Frames or clips that are drawn from each video in an epoch
    frames
        Frames of a clip; 0 for what the network was made for (i3d 64, r3d_18 16)
    short_side
        Short side of the frames, in pixels; 0 for what the network was made for
    crop
        Side of a square that is cut out at a random place; 0 for whole frames
    optimizer
        SGD has momentum 0.9
    lr
        Learning rate of the pretrained layers
    head_lr
        Learning rate of the last layer; of all layers where no weights are given
    weight_decay
        1e-4 for frames and 1e-7 for clips where it is left out
    schedule
        step: a tenth of the rate after two thirds of the epochs; one-cycle: up and down, its peak the rate
    loss
        ce: videos of one tag, softmax; bce: all videos, each class for itself
    precision
        Precision of the forward passes: float32, or bfloat16, see :func:`pyws.models.devices.set_precision`
    frozen_body
        Only the last layer learns, by logistic regression on what the given weights make of a few frames or clips a
        video: minutes, and for few videos. --weight-decay is its l2 term.
    """

    network: str = "resnet50"
    epochs: int = 20
    batch: int = 16
    samples: int = 1
    frames: int = 0
    short_side: int = 0
    crop: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    head_lr: float = 1e-2
    weight_decay: float | None = None
    schedule: Literal["step", "one-cycle"] = "step"
    loss: Literal["ce", "bce"] = "ce"
    precision: Precision = "float32"
    frozen_body: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "masks classify", "> 0", "epochs", "batch", "samples", "lr", "head_lr")
        check_fields(self, "masks classify", ">= 0", "frames", "short_side", "crop", "weight_decay")
        steps = ("epochs", "samples", "crop", "optimizer", "lr", "head_lr", "schedule")
        given = [name for name in steps if getattr(self, name) != getattr(type(self), name)]
        if self.frozen_body and given:
            raise ValueError(f"masks classify: {', '.join(given)}: only without frozen_body, which takes no steps")


@dataclass(frozen=True)
class Example:
    """A video and the classes that it shows, from 0."""

    video: TaggedVideo
    classes: tuple[int, ...]


def train_classifier(
    data: MaskSet,
    what: What,
    out: Path,
    config: ClassifierConfig = ClassifierConfig(),
    weights: Path | None = None,
    train: Sequence[str] = ("train",),
    test: Sequence[str] = ("test",),
    on_error: Literal["error", "skip"] = "error",
    seed: int = 0,
    device: torch.device | None = None,
    quiet: bool = False,
    group: Group = Group(),  # noqa: B008
) -> dict[str, Any]:
    """Train a classifier of actors or actions and write it to ``out``; an interrupted training goes on.

    Parameters
    ----------
    data : videos and tags
    what : the actor or the action of the tags
    out : .safetensors file to write; ``<out>.training`` keeps the state after each epoch until it is done
    weights : state dict to begin with, of any number of classes; random weights where it is left out
    train, test : subsets to learn from and to count right answers on ("" is a data set without subsets)
    on_error : "error" stops at an unreadable video, "skip" leaves it out and reports it
    group : the processes that train together, see :func:`pyws.distributed.processes`

    Returns
    -------
    Losses of the epochs, share of right answers, numbers of videos, videos left out.

    Raises
    ------
    DataError : no video to learn from, unreadable videos, or the state of a training with another configuration
    """
    device = device or torch.device("cpu")
    labels = names_of(data.space, what)
    if config.frozen_body and weights is None:
        raise ValueError("masks classify: frozen_body needs pretrained weights (--weights default, or a file)")
    classifier, head = _network(config, labels, weights, seed)
    store = FrameStore(classifier.short_side)
    quiet = quiet or not group.first
    failed: dict[str, str] = {}
    learned = _readable(examples_of(data, what, train, config.loss), store, on_error, failed, group, quiet)
    if not learned:
        kind = "with tags" if config.loss == "bce" else f"of one {what}"
        raise DataError(data.root, f"has no video {kind} to learn from in {' and '.join(train) or 'it'}")
    model = classifier.model.to(device)
    fast = classifier
    if config.frozen_body:
        model.eval()
        fast = classifier.for_inference()
    for network in {model, fast.model}:
        set_precision(network, config.precision, device)
    state = out.with_name(out.name + ".training")
    if config.frozen_body:
        losses = _fit(classifier, fast, learned, store, config, device, quiet)  # by every process, to the same head
    else:
        training = _Training(classifier, head, config, learned, seed, device, weights is None, group)
        losses = training.run(store, state, quiet)
    if group.first:
        save_classifier(classifier, out)
    tested = _readable(examples_of(data, what, test, "ce"), store, on_error, failed, group, quiet)
    mine = tested[group.rank :: group.world]
    right = [_is_right(classifier, store, one, device) for one in track(mine, "testing", quiet=quiet or not mine)]
    right = group.gather(right)
    model.cpu()
    if group.first:
        remove_checkpoint(state)
    return {
        "out": str(out),
        "what": what,
        "network": classifier.name,
        "labels": list(labels),
        "losses": [round(loss, 6) for loss in losses],
        "train_videos": len(learned),
        "videos_by_class": {name: sum(k in one.classes for one in learned) for k, name in enumerate(labels)},
        "test_videos": len(tested),
        "accuracy": round(sum(right) / len(right), 6) if right else None,
        "failed": failed,
    }


def names_of(space: LabelSpace, what: What) -> tuple[str, ...]:
    """The classes of a classifier: all actors or all actions, without the background."""
    names = space.view(what)[1:]
    if not names:
        raise ValueError(f"masks classify: the labels have no {what}s, only {', '.join(space.names[1:4])}, ...")
    return names


def examples_of(data: MaskSet, what: What, subsets: Sequence[str], loss: str = "ce") -> list[Example]:
    """Videos of the subsets and their classes; with ``loss="ce"`` only videos of a single class."""
    part = data.space.actor if what == "actor" else data.space.action
    examples = []
    for video in data.videos:
        classes = tuple(dict.fromkeys(part[tag] - 1 for tag in video.tags))
        if video.subset in subsets and (loss == "bce" or len(classes) == 1):
            examples.append(Example(video, classes))
    return examples


def _fit(
    classifier: Classifier,
    fast: Classifier,
    examples: list[Example],
    store: FrameStore,
    config: ClassifierConfig,
    device: torch.device,
    quiet: bool,
) -> list[float]:
    """Fit the last layer alone to what ``fast``, the same for inference, sees; returns the mean loss of its scores."""
    count = len(classifier.labels)
    (_, head), (_, reader) = last_layer(classifier.model, count), last_layer(fast.model, count)
    rows, targets, shares = [], [], []
    for example in track(examples, "features", quiet=quiet):
        seen = features_of(fast, reader, store, example.video, device)
        shown = torch.zeros(len(seen), count)
        shown[:, list(example.classes)] = 1
        rows.append(seen)
        targets.append(shown)
        shares.append(torch.full((len(seen),), 1 / len(seen)))
    features, wanted, weights = torch.cat(rows), torch.cat(targets), torch.cat(shares)
    layer = fit_head(features, wanted, weights, config.loss, L2 if config.weight_decay is None else config.weight_decay)
    set_head(head, layer)
    with torch.no_grad():
        scores = layer(features)
        if config.loss == "bce":
            errors = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(1)
        else:
            errors = -(scores.log_softmax(1) * wanted).sum(1)
    return [float((errors * weights).sum() / weights.sum())]


@dataclass(frozen=True)
class _Draw:
    """A frame or clip that was drawn: where it is cut out, whether it is mirrored, and the shape that this gives."""

    example: Example
    indices: list[int]
    top: int
    left: int
    mirrored: bool
    shape: tuple[int, ...]


class _Training:
    """One training run, whose every random draw is a function of the seed and the epoch."""

    def __init__(
        self,
        classifier: Classifier,
        head: list[Tensor],
        config: ClassifierConfig,
        examples: list[Example],
        seed: int,
        device: torch.device,
        fresh: bool,
        group: Group,
    ) -> None:
        self.classifier, self.config, self.examples = classifier, config, examples
        self.seed, self.device, self.group = seed, device, group
        self._shapes: dict[Path, tuple[int, ...]] = {}
        body_lr = config.head_lr if fresh else config.lr
        ids = {id(parameter) for parameter in head}
        body = [parameter for parameter in classifier.model.parameters() if id(parameter) not in ids]
        groups = [{"params": body, "lr": body_lr}, {"params": head, "lr": config.head_lr}]
        decay = config.weight_decay
        if decay is None:
            decay = 1e-7 if classifier.frames else 1e-4
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(groups, momentum=0.9, weight_decay=decay)
            if config.optimizer == "sgd"
            else torch.optim.AdamW(groups, weight_decay=decay)
        )
        draws = len(examples) * config.samples
        self.steps = -(-draws // config.batch)
        self.schedule: Any = (
            torch.optim.lr_scheduler.StepLR(self.optimizer, max(1, self.steps * config.epochs * 2 // 3))
            if config.schedule == "step"
            else torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, [body_lr, config.head_lr], total_steps=self.steps * config.epochs
            )
        )

    def run(self, store: FrameStore, state: Path, quiet: bool) -> list[float]:
        """Train all epochs, or those that are left; returns the mean loss of each."""
        losses = self._resume(state)
        self.group.wait()
        self.classifier.model.train()
        for epoch in track(range(len(losses), self.config.epochs), "training from tags", quiet=quiet):
            losses.append(self._epoch(store, epoch))
            check_loss(losses[-1], "masks classify", epoch)
            if self.group.first:
                self._keep(state, losses)
        self.classifier.model.eval()
        return losses

    def _epoch(self, store: FrameStore, epoch: int) -> float:
        random = np.random.default_rng([self.seed, 5, epoch])
        torch.manual_seed(int(random.integers(1 << 62)))
        order = random.permutation(np.repeat(np.arange(len(self.examples)), self.config.samples))
        total = torch.zeros((), dtype=torch.float64, device=self.device)  # read once: no step waits for the GPU
        with JoinedLayers(self.classifier.model, self.group) as layers:
            for start in range(0, len(order), self.config.batch):
                chosen = [self.examples[index] for index in order[start : start + self.config.batch]]
                self.optimizer.zero_grad()
                for inputs, targets, rows in self._groups(store, chosen, random):
                    layers.rows = rows
                    inputs, targets = (on_device(one, self.device) for one in (inputs, targets))
                    with input_of(self.classifier.name, inputs):
                        logits = self.classifier.model(inputs)
                    loss = self._loss(logits, targets)
                    (loss / len(chosen)).backward()
                    total += loss.detach()
                self.group.add_gradients(self.classifier.model)
                self.optimizer.step()
                self.schedule.step()
        return sum(self.group.gather([float(total)])) / len(order)

    def _groups(
        self, store: FrameStore, chosen: list[Example], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """This process's rows of the batch, parted by the size of the frames: inputs, targets (B, classes), and how
        many rows all processes have. Each process draws for all rows, so that how many there are changes nothing."""
        by_shape: dict[tuple[int, ...], list[_Draw]] = {}
        for example in chosen:
            drawn = self._draw(store, example, random)
            by_shape.setdefault(drawn.shape, []).append(drawn)
        for shape, rows in by_shape.items():
            mine = rows[self.group.rank :: self.group.world]
            targets = torch.zeros(len(mine), len(self.classifier.labels))
            for row, drawn in enumerate(mine):
                targets[row, list(drawn.example.classes)] = 1
            yield (
                torch.cat([torch.empty(0, *shape[1:]), *(self._cut(store, drawn) for drawn in mine)]),
                targets,
                len(rows),
            )

    def _draw(self, store: FrameStore, example: Example, random: np.random.Generator) -> _Draw:
        """A random frame or clip of the video, to be cut and mirrored at random."""
        classifier, source = self.classifier, example.video.source
        shown, top, left, crop = example.video.shown(store.length(source)), 0, 0, self.config.crop
        if classifier.frames:
            real = min(len(shown), classifier.frames)
            start = shown.start + int(random.integers(len(shown) - real + 1))
            indices = Clip(start, real, classifier.frames).indices()
        else:
            indices = [shown[int(random.integers(len(shown)))]]
        if source not in self._shapes:
            self._shapes[source] = tuple(self._inputs(store, source, indices).shape)
        shape = self._shapes[source]
        if crop:
            top, left = (int(random.integers(max(side - crop, 0) + 1)) for side in shape[-2:])
            shape = (*shape[:-2], *(min(side, crop) for side in shape[-2:]))
        return _Draw(example, indices, top, left, bool(random.random() < 0.5), shape)

    def _inputs(self, store: FrameStore, source: Path, indices: list[int]) -> Tensor:
        """Frames as the network takes them, (1, 3, ...)."""
        pictures = store.frames(source, indices)
        return self.classifier.prepare(
            pictures[None] if self.classifier.frames else pictures, self.classifier.short_side
        )

    def _cut(self, store: FrameStore, drawn: _Draw) -> Tensor:
        """What was drawn."""
        inputs = self._inputs(store, drawn.example.video.source, drawn.indices)
        if self.config.crop:
            inputs = inputs[..., drawn.top :, drawn.left :][..., : self.config.crop, : self.config.crop]
        if tuple(inputs.shape) != drawn.shape:
            raise DataError(drawn.example.video.source, "must have frames of one size")
        return inputs.flip(-1) if drawn.mirrored else inputs

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.config.loss == "bce":
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / targets.shape[1]
        return functional.cross_entropy(logits, targets, reduction="sum")

    def _about(self) -> dict[str, Any]:
        videos = [example.video.name for example in self.examples]
        return {**asdict(self.config), "labels": list(self.classifier.labels), "seed": self.seed, "videos": videos}

    def _keep(self, path: Path, losses: list[float]) -> None:
        """Write the state after an epoch."""
        tensors = {"model": self.classifier.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        # Schedules set the rates and momenta of the groups, and step from those that they set last.
        groups = [{key: group[key] for key in group if key != "params"} for group in self.optimizer.param_groups]
        facts = {"about": self._about(), "losses": losses, "schedule": self.schedule.state_dict(), "groups": groups}
        write_checkpoint(path, STATE, tensors, facts, keep_previous=True)

    def _resume(self, path: Path) -> list[float]:
        """Go on from the state of an earlier training; returns the losses of its epochs."""
        saved = read_latest(path, STATE, {"about": dict, "losses": list, "schedule": dict, "groups": list})
        if saved is None:
            return []
        check_same(path, saved.facts["about"], self._about())
        load_into(self.classifier.model, saved)
        load_optimizer(self.optimizer, saved.part("optimizer"))
        for group, kept in zip(self.optimizer.param_groups, saved.facts["groups"], strict=True):
            group.update({key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()})
        self.schedule.load_state_dict(saved.facts["schedule"])
        return list(saved.facts["losses"])


def _network(
    config: ClassifierConfig, labels: tuple[str, ...], weights: Path | None, seed: int
) -> tuple[Classifier, list[Tensor]]:
    """The network with a last layer for the labels, and the parameters of that layer."""
    torch.manual_seed(seed)
    if weights is None:
        classifier = build_classifier(config.network, len(labels))
        head = list(last_layer(classifier.model, len(labels))[1].parameters())
    else:
        state = read_state(weights)
        classes = len(state[next(reversed(state))])
        classifier = build_classifier(config.network, classes)
        load_weights(classifier.model, state, config.network, weights)
        head = list(replace_head(classifier.model, classes, len(labels)).parameters())
    frames = (config.frames or classifier.frames) if classifier.frames else 0
    short_side = config.short_side or classifier.short_side or 224
    return replace(classifier, labels=labels, frames=frames, short_side=short_side), head


def _readable(
    examples: list[Example],
    store: FrameStore,
    on_error: Literal["error", "skip"],
    failed: dict[str, str],
    group: Group,
    quiet: bool,
) -> list[Example]:
    """Examples whose video can be read; the errors of the others are put into ``failed``.

    With "error" videos are only opened, and one that is damaged further on stops the run where it is read. With "skip"
    all frames are read once, by all processes together: what one of them cannot read none may draw.
    """
    if on_error == "error":
        for example in examples:
            example.video.shown(store.length(example.video.source))
        return examples
    errors = []
    for example in track(examples[group.rank :: group.world], "reading videos", quiet=quiet):
        try:
            store.check(example.video.source, example.video.shown(store.length(example.video.source)))
        except DataError as error:
            errors.append((example.video.name, str(error)))
    wrong = dict(group.gather(errors))
    failed |= {example.video.name: wrong[example.video.name] for example in examples if example.video.name in wrong}
    return [example for example in examples if example.video.name not in wrong]


@torch.inference_mode()
def _is_right(classifier: Classifier, store: FrameStore, example: Example, device: torch.device) -> bool:
    """Whether the class with the highest mean score, over frames or clips, is the class of the video."""
    shown = example.video.shown(store.length(example.video.source))
    if classifier.frames:
        parts = [[shown[index] for index in clip.indices()] for clip in clips_of(len(shown), classifier.frames)]
    else:
        parts = [[shown[place]] for place in evenly(len(shown), TESTED_FRAMES)]
    total = torch.zeros(len(classifier.labels))
    for indices in parts:
        pictures = store.frames(example.video.source, indices)
        inputs = classifier.prepare(pictures[None] if classifier.frames else pictures, classifier.short_side)
        with input_of(classifier.name, inputs):
            total += classifier.model(on_device(inputs, device))[0].cpu()
    return int(total.argmax()) == example.classes[0]
