"""Training a backbone from video tags: by its own losses first, then with pseudo labels of its own (GauFuse)."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyws.data.annotations.activitynet import Instances
from pyws.data.features.dataset import FeatureSet
from pyws.distributed import Group
from pyws.errors import DataError, TrainingError
from pyws.models import Activations, Backbone, Memory
from pyws.models.devices import on_device, set_precision
from pyws.progress import Pace
from pyws.segments.backbones import build_backbone
from pyws.segments.config import BackboneOverrides, TrainConfig
from pyws.segments.detection.inference import activation_maps, average_map, detect
from pyws.segments.detection.timelines import Timelines
from pyws.segments.pseudo_labels import PseudoLabels, known_columns, pseudo_label_round
from pyws.segments.training.batches import Videos, by_length, noise_seeds, steps
from pyws.segments.training.distribution_loss import distribution_loss, targets
from pyws.segments.training.fitting import fitted
from pyws.segments.training.run_folder import Record, Run, RunFolder
from pyws.segments.trust import Share, Trust, mean_there, moments, reach, tag_auc

_HALVES = 1 << 20  # seeds of networks on half of the videos lie this far from the seed of the run


def begin(backbone: str, config: TrainConfig, data: FeatureSet, device: torch.device) -> Run:
    """A run before its first epoch: weights from the seed, the schedule stretched to its epochs."""
    untagged = np.flatnonzero(~data.tags.any(axis=1))
    if len(untagged):
        raise DataError("training", f"every video must have a tag, got none for {data.names[untagged[0]]!r}")
    overrides = config.backbones.get(backbone, BackboneOverrides())
    built = build_backbone(backbone, data.width, data.classes, overrides, config.seed)
    set_precision(built.model.to(device), config.precision, device)
    optim = built.optim
    config = fitted(config, optim, data.width, len(data))
    lr = optim.lr if config.lr is None else config.lr
    adam = torch.optim.Adam(built.model.parameters(), lr, optim.betas, weight_decay=optim.weight_decay, fused=True)
    assert config.epochs is not None
    return Run(built, replace(config, schedule=config.schedule.stretched(config.epochs)), adam)


def train(
    backbone: str,
    config: TrainConfig,
    data: FeatureSet,
    held_out: FeatureSet | None = None,
    out: Path | None = None,
    device: torch.device | str = "cpu",
    group: Group = Group(),  # noqa: B008
    tensorboard: bool = False,
    quiet: bool = True,
) -> Run:
    """Train a backbone on the tags of ``data``.

    Parameters
    ----------
    backbone : a name in :data:`pyws.segments.backbones.BACKBONES`
    config : one of :data:`pyws.segments.config.PRESETS`, or changed from it
    data : the videos to train on; their annotated segments are never looked at
    held_out : videos to evaluate on, with annotated segments
    out : folder of checkpoints, labels and measurements; a run of the same configuration that is there is gone on with
    device : device of the network
    group : the processes of the run, see :func:`pyws.distributed.processes`
    tensorboard : also write scalars for TensorBoard to ``out``
    quiet : show no progress

    Raises
    ------
    DataError : a video without tags, videos to evaluate on without segments, features that cannot be read, a folder of
        another run, or one that a run is writing to
    TrainingError : the loss is no longer finite
    """
    device = torch.device(device)
    videos = Videos(data, device)
    if held_out is not None:
        held_out.check_annotated()
    tests = None if held_out is None else Videos(held_out, device)
    run = begin(backbone, config, data, device)
    schedule = run.config.schedule
    with RunFolder(out, data, group).held(tensorboard) as folder:
        folder.resume(run)
        if run.epoch == schedule.epochs:
            for what, part in (("trained", videos), ("evaluated", tests)):
                if part is not None and folder.lacks_timelines(what):
                    seen = Timelines(part.data)
                    detections(run, part, group, seen)
                    folder.write_timelines(seen, what)
        pace = Pace(f"training {backbone}", steps_left(run, len(data)), quiet=quiet or not group.first)
        for epoch in range(run.epoch, schedule.epochs):
            began = time.perf_counter()
            record = run_epoch(run, videos, epoch, group, pace)
            if run.latest is not None and "labels" in record:
                folder.write_labels(run.latest, epoch, record["labels"])
            last = run.epoch == schedule.epochs
            if tests is not None and (run.epoch % config.evaluate_every == 0 or last):
                seen = Timelines(tests.data)
                record["mAP"] = evaluate(run, tests, group, seen)
                folder.write_timelines(seen, "evaluated")
            if last or "labels" in record:
                seen = Timelines(data)
                detections(run, videos, group, seen)
                folder.write_timelines(seen, "trained")
            record["seconds"] = time.perf_counter() - began
            folder.write_epoch(run, record)
            measured = {"loss": record["loss"], "mAP": record.get("mAP"), "best mAP": run.best}
            pace.show(run.epoch, schedule.epochs, measured)
    run.network.eval()
    return run


def run_epoch(
    run: Run,
    videos: Videos,
    epoch: int,
    group: Group = Group(),  # noqa: B008
    pace: Pace | None = None,
) -> Record:
    """Everything that belongs to an epoch: new pseudo labels where they are due, all videos once, the memory bank."""
    schedule = run.config.schedule
    record: Record = {"epoch": epoch, "lr": run.lr * schedule.rate(epoch)}
    temperature = schedule.temperature(epoch)
    if temperature is not None and run.uses_labels:
        run.previous, run.latest = run.latest, label_round(run, videos, epoch, temperature, group)
        record["labels"] = {"temperature": temperature, **run.latest.statuses()}
        if videos.device.type == "cuda":
            record["labels"]["on_host"] = int(run.latest.on_host.sum())
        if run.config.trust is not None and run.trust is None:
            run.trust, halves = measure_trust(run, run.latest, videos, epoch, temperature, group, pace)
            record |= {"trust": asdict(run.trust), "trust_bounds": asdict(run.config.trust)}
            if run.trust.adopted and run.config.trust.shares is not None:
                run.set_aside(halves)
    record |= learn(run, videos, epoch, group, pace)
    if run.aside is not None:
        without = run.aside.without
        without.latest, without.previous = run.latest, run.previous  # it keeps what people fixed in them
        record["loss_without_labels"] = learn(without, videos, epoch, group, pace)["loss"]
        if temperature is not None or run.epoch == schedule.epochs:
            record["share"] = asdict(weigh(run, videos, group))
    return record


def learn(run: Run, videos: Videos, epoch: int, group: Group, pace: Pace | None) -> Record:
    """All videos once, and the memory bank where it is due."""
    losses = train_epoch(run, videos, epoch, group, pace)
    if run.fills_memory(epoch):
        fill_memory(run, videos, group)
    run.epoch = epoch + 1
    return losses


def steps_left(run: Run, videos: int) -> int:
    """Optimiser steps of the epochs that are left, of the networks that tell whether labels can be trusted too, and of
    the one that goes on without labels, if they may yet be adopted."""
    schedule, config = run.config.schedule, run.config
    each = -(-videos // run.batch)
    count = (schedule.epochs - run.epoch) * each
    if config.trust is None or not schedule.rounds:
        return count
    first = schedule.rounds[0]
    if run.trust is None and run.epoch <= first:
        count += first * sum(-(-half // run.batch) for half in ((videos + 1) // 2, videos // 2))
    if config.trust.shares is not None and run.uses_labels:
        count += (schedule.epochs - max(run.epoch, first)) * each
    return count


def label_round(run: Run, videos: Videos, epoch: int, temperature: float, group: Group) -> PseudoLabels:
    """A round of pseudo labels from the network as it is."""
    rules, built, config = run.config.pseudo_labels, run.backbone, run.config
    if rules.forget:
        built.model.forget()
    noise = (config.seed, -1 - epoch)  # other noise than that of the epoch's training
    with built.for_pseudo_labels() as model:
        return pseudo_label_round(
            model, built.proposals, videos, rules, temperature, config.batch_snippets, group, noise
        )


def measure_trust(
    run: Run,
    labels: PseudoLabels,
    videos: Videos,
    epoch: int,
    temperature: float,
    group: Group,
    pace: Pace | None = None,
) -> tuple[Trust, list[Backbone]]:
    """Compare the first pseudo labels of a run with those of two networks, each trained as long on half of the videos
    and making the pseudo labels of the others; the networks too."""
    data, config = videos.data, run.config
    assert config.trust is not None
    columns: dict[tuple[int, int], Tensor] = {}
    halves: list[Backbone] = []
    for number, (seen, unseen) in enumerate(halves_of(data, config.seed)):
        own = replace(config, epochs=config.schedule.epochs, seed=config.seed + _HALVES + number)
        training, others = (Videos(data.choose(part), videos.device) for part in (seen, unseen))
        half = begin(run.backbone.name, own, training.data, videos.device)
        for past in range(epoch):
            run_epoch(half, training, past, group, pace)
            if pace is not None:
                pace.show(past + 1, epoch, {}, f"half {number + 1} of the videos, epoch")
        halves.append(half.backbone.model.requires_grad_(False))
        found = label_round(half, others, epoch, temperature, group)
        for place, video in enumerate(unseen.tolist()):
            columns |= {(video, label): values for label, values in found.columns(place)}
    known, tags = known_columns(data, config.pseudo_labels.rows), unknown_tags(run, data)
    ours, theirs = (found.of_pairs(known, kept=False) for found in (labels, PseudoLabels.of(columns)))
    return Trust.of(ours, theirs, tags, data.lengths.tolist(), data.classes, config.trust), halves


def halves_of(data: FeatureSet, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The videos of either half and the others; none of a single video. Videos of like tags alternate, so that both
    halves have every class where they can."""
    shuffled = np.random.default_rng([seed, _HALVES]).permutation(len(data))
    order = shuffled[np.lexsort(data.tags[shuffled].T)]
    even, odd = order[0::2], order[1::2]
    return [(even, odd), (odd, even)] if len(odd) else []


def unknown_tags(run: Run, data: FeatureSet) -> np.ndarray:
    """(videos, classes) bool: tags whose labels people did not fix, which say something about the networks."""
    tags = data.tags.copy()
    for pair in known_columns(data, run.config.pseudo_labels.rows):
        tags[pair] = False
    return tags


def weigh(run: Run, videos: Videos, group: Group) -> Share:
    """How much the network that learns from labels counts: networks that never saw a video compare its maps with those
    of the network without labels."""
    aside, config, data = run.aside, run.config, videos.data
    assert aside is not None
    assert config.trust is not None
    assert run.trust is not None
    networks = [run.backbone.model.eval(), aside.without.backbone.model.eval()]
    tags = unknown_tags(run, data)
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    reaches: tuple[list[float], list[float]] = ([], [])
    for half, (_, unseen) in zip(aside.halves, halves_of(data, config.seed), strict=True):
        batches = by_length(unseen.tolist(), data.lengths, config.batch_snippets)[group.rank :: group.world]
        each = [
            activation_maps(network, videos, config.batch_snippets, batches=batches)
            for network in (half.eval(), *networks)
        ]
        for parts in zip(*each, strict=True):
            for kept, part in zip(reaches, parts[1:], strict=True):
                kept += reach(part, run.backbone.proposals, tags[part.videos])
            maps = (part.by_video(len(data.classes)) for part in parts)
            scores = torch.stack([part.scores[:, : len(data.classes)] for part in parts[1:]], 1).cpu().numpy()
            for video, theirs, ours, plain, said in zip(parts[0].videos, *maps, scores, strict=True):
                pairs = ((ours, theirs), (plain, theirs), (ours, plain))
                found.append((video, np.stack([moments(*pair) for pair in pairs]), said))
    found = sorted(group.gather(found), key=lambda one: one[0])
    ours, plain = (mean_there(np.sort(group.gather(each))) for each in reaches)  # one sum in any number of processes
    order = [video for video, _, _ in found]
    said = np.array([scores for _, _, scores in found]).reshape(-1, 2, len(data.classes))  # there may be no video
    known = tag_auc(said[:, 0], data.tags[order]), tag_auc(said[:, 1], data.tags[order])
    sums = np.array([each for _, each, _ in found])
    share = Share.of(sums, tags[order], run.trust.agreement, config.trust, (ours, plain), known)
    aside.share, aside.raised = share.value, share.raised
    if share.value and found:
        means = [
            part
            for maps in activation_maps(run.network.eval(), videos, config.batch_snippets, group)
            for part in reach(maps, run.backbone.proposals, tags[maps.videos])
        ]
        share = share.with_mean(mean_there(np.sort(group.gather(means))), config.trust)
        aside.share, aside.raised = share.value, share.raised
    return share


def train_epoch(run: Run, videos: Videos, epoch: int, group: Group, pace: Pace | None = None) -> Record:
    """All videos once: the gradient of a step is the sum over its videos, in whatever batches and processes."""
    model, config = run.backbone.model, run.config
    model.train()
    for parameters in run.optimizer.param_groups:
        parameters["lr"] = run.lr * config.schedule.rate(epoch)
    losses = torch.zeros(2, dtype=torch.float64, device=videos.device)
    labels = trusted_labels(run, videos)
    for order in steps(config.seed, epoch, len(videos), run.batch):
        run.optimizer.zero_grad()
        memories: list[Memory] = []
        mine = sorted(order.tolist(), key=lambda video: (-videos.data.lengths[video], video))[group.rank :: group.world]
        for batch in by_length(mine, videos.data.lengths, config.batch_snippets):
            activations, own, distribution = batch_losses(run, videos, batch, epoch, *labels)
            (own.sum() + distribution.sum()).backward()
            losses += torch.stack([own.detach().sum(), distribution.detach().sum()])
            memories += model.memories(activations, torch.tensor(batch), videos.tags[batch])
        join_gradients(run, len(order), group)
        run.optimizer.step()
        if pace is not None:
            pace.step()
        model.remember(group.gather(memories))
    group.add([losses])
    own_mean, distribution_mean = (losses / len(videos)).tolist()
    if not math.isfinite(own_mean + distribution_mean):
        means = f"{own_mean} + {distribution_mean}"
        raise TrainingError(f"training {run.backbone.name}: loss must be finite, got {means} in epoch {epoch}")
    return {"loss": own_mean, "distribution_loss": distribution_mean}


def trusted_labels(run: Run, videos: Videos) -> tuple[PseudoLabels | None, PseudoLabels | None]:
    """The last two rounds as they are trained on: where they are not to be trusted, what people fixed in the last."""
    if run.latest is None or run.uses_labels:
        return run.latest, run.previous
    known = known_columns(videos.data, run.config.pseudo_labels.rows)
    return (run.latest.of_pairs(known) if known else None), None


def batch_losses(
    run: Run, videos: Videos, batch: list[int], epoch: int, latest: PseudoLabels | None, previous: PseudoLabels | None
) -> tuple[Activations, Tensor, Tensor]:
    """Activations of a batch, (B,) losses of the backbone and (B,) weighted distribution losses.

    Parameters
    ----------
    latest, previous : pseudo labels of the training set, see :func:`trusted_labels`
    """
    config, model = run.config, run.backbone.model
    features, mask = videos.batch(batch)
    seeds = noise_seeds(config.seed, epoch, batch)
    activations, own = model.loss(features, mask, videos.tags[batch], run.backbone_epoch(epoch), seeds)
    goal = config.schedule.target(epoch)
    if goal is None or latest is None:
        return activations, own, torch.zeros_like(own)
    shape = activations.logits[0][1].shape
    overrides = run.backbone.overrides
    goals = targets(goal, latest, previous, batch, (shape[1], shape[2]), overrides.background)
    goals, lengths = (on_device(one, videos.device) for one in (goals, mask.sum(1)))
    loss = distribution_loss(activations.logits, goals, lengths, config.log_floor)
    return activations, own, overrides.loss_weight * config.schedule.loss_weight(epoch) * loss


def join_gradients(run: Run, videos: int, group: Group) -> None:
    """The gradient of a step over all processes, summed or averaged as the backbone is optimised, clipped."""
    weights = [weight for weight in run.backbone.model.parameters() if weight.requires_grad]
    group.add_gradients(run.backbone.model)
    if run.backbone.optim.average:
        torch._foreach_div_([weight.grad for weight in weights if weight.grad is not None], videos)
    if run.config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(weights, run.config.clip_norm)


def fill_memory(run: Run, videos: Videos, group: Group) -> None:
    """Give the memory bank what every training video has to offer, seen in evaluation mode."""
    model = run.backbone.model
    model.eval()
    memories: list[Memory] = []
    batches = by_length(range(len(videos)), videos.data.lengths, run.config.batch_snippets)
    for batch in batches[group.rank :: group.world]:
        with torch.no_grad():
            activations = model(*videos.batch(batch))
        memories += model.memories(activations, torch.tensor(batch), videos.tags[batch])
    model.remember(group.gather(memories))


def evaluate(run: Run, tests: Videos, group: Group, seen: Timelines | None = None) -> float:
    """Average mAP of the network as it is."""
    return average_map(detections(run, tests, group, seen), tests.data, run.config.protocol, run.config.tious)


def detections(run: Run, videos: Videos, group: Group, seen: Timelines | None = None) -> Instances:
    """The segments that the network as it is finds."""
    built, config = run.backbone, run.config
    shown = () if seen is None else (seen,)
    return detect(run.network, built.proposals, videos, config.detection, config.batch_snippets, group, seen=shown)
