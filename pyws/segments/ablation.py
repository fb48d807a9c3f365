"""Which part of training with pseudo labels gains what: networks that differ in one thing, over several seeds.

For each seed a backbone is warmed up once by its own losses; every variant of training goes on from a copy of that
network, so that variants differ in what follows and in nothing else. Each result is a JSON file: what is there is not
computed again.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyws.data.features.dataset import FeatureSet, open_features
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.errors import DataError
from pyws.files import read_json, write_json
from pyws.folders import only_writer
from pyws.progress import track
from pyws.segments.config import PRESETS, SUPPORT, TrainConfig
from pyws.segments.detection.inference import detect, score
from pyws.segments.detection.postprocess import PostprocessConfig
from pyws.segments.pseudo_labels import PseudoLabels
from pyws.segments.training.batches import Videos
from pyws.segments.training.run_folder import Run
from pyws.segments.training.schedule import SCHEDULES
from pyws.segments.training.train import begin, run_epoch

TRAINING_METHODS = ("nms", "uniform", "exponential", "t", "gaussian")  # what makes segments of proposals in training
METHODS = ("nms", "soft-nms", "uniform", "exponential", "t", "gaussian", "support", "preset")  # at test
AT_TEST = (0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)  # temperatures at test of networks trained for figure 3
_AT = "T="  # begins the names of variants that a temperature tells apart, and of methods
TIOUS = (0.3, 0.5, 0.7)  # shown beside the average over the protocol's thresholds


@dataclass(frozen=True)
class Variant:
    """What follows the warm-up.

    Parameters
    ----------
    labels : how proposals become the segments that LinPro labels; None for no pseudo labels
    delta : train on differences of rounds where the preset does, or where the released code does if the preset
        never does, then as eq. 8 and 9 have it: of labels that sum to the scores, not scaled; otherwise on the latest
        labels throughout
    trust : as far as the preset trusts the labels; otherwise in any case
    temperature : temperature of the fusion in every round, in place of the preset's
    """

    labels: str | None = None
    delta: bool = False
    trust: bool = False
    temperature: float | None = None

    def of(self, preset: TrainConfig, epochs: int) -> TrainConfig:
        """The preset with this variant, its schedule stretched."""
        schedule = preset.schedule
        preset = preset if self.trust else replace(preset, trust=None)
        if self.labels is None:
            schedule = replace(schedule, rounds=(), temperatures=(), targets=())
            return replace(preset, schedule=schedule.stretched(epochs))
        if self.temperature is not None:
            schedule = replace(schedule, temperatures=(self.temperature,) * len(schedule.rounds))
        rules = preset.pseudo_labels
        rules = replace(rules, postprocess=rules.postprocess.with_method(self.labels))
        if not self.delta:
            schedule = replace(schedule, targets=schedule.targets[:1])
        elif not uses_delta(preset):
            schedule = replace(schedule, targets=(*schedule.targets, replace(_DELTA, scale=1.0)))
            rules = replace(rules, rows="sum")
        return replace(preset, schedule=schedule.stretched(epochs), pseudo_labels=rules)


_DELTA = next(target for target in SCHEDULES["released"].targets if target.delta)


def uses_delta(preset: TrainConfig) -> bool:
    """Whether a preset trains on differences of rounds."""
    return any(target.delta for target in preset.schedule.targets)


VARIANTS = {
    "warm-up": None,  # the network that all others go on from
    "longer": Variant(),
    **{method: Variant(method) for method in TRAINING_METHODS},
    "delta": Variant("gaussian", delta=True),
    "trusted": Variant("gaussian", trust=True),
}


def variant_of(name: str) -> Variant | None:
    """A name in :data:`VARIANTS`, or ``T=0.1``: Gaussian fusion at this temperature in training.

    Examples
    --------
    >>> variant_of("T=0.05").temperature
    0.05
    """
    return Variant("gaussian", temperature=float(name.removeprefix(_AT))) if name.startswith(_AT) else VARIANTS[name]


@dataclass(frozen=True)
class Ablation:
    """What is compared.

    Parameters
    ----------
    preset : name in :data:`pyws.segments.config.PRESETS`, one with pseudo labels
    backbones : the first goes through all variants, the others through the warm-up, no labels, and the preset's own
    seeds : 0, 1, ..., of networks, and of the videos where they are synthetic
    epochs, lr : epochs and learning rate of every run
    data : a folder of features; None for synthetic videos
    subset, evaluate : its subsets to train on and to measure on
    difficulty : difficulty of synthetic videos
    videos : synthetic training videos; half as many are drawn for the test
    detection : how candidates become detections at test, in rows of their own; the other rows keep the
        detection of the preset
    temperatures : temperatures of the Gaussian fusion in training, each a variant of the first backbone, evaluated at
        every one of :data:`AT_TEST` (figure 3 of the paper); more can be added to results that are there

    Raises
    ------
    ValueError : a temperature that is not above 0
    """

    preset: str = "pyws"
    backbones: tuple[str, ...] = ("rskp", "stpn", "bm", "wum", "facnet")
    seeds: int = 5
    epochs: int = 49
    lr: float = 3e-3
    data: str | None = None
    subset: str = "training"
    evaluate: str = "test"
    difficulty: float = 0.5
    videos: int = 60
    detection: PostprocessConfig | None = None
    temperatures: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for temperature in self.temperatures:
            if not 0 < temperature < math.inf:
                raise ValueError(f"temperatures must be > 0, got {temperature}")

    @property
    def whole(self) -> str:
        """The variant that the preset trains."""
        preset = PRESETS[self.preset]
        return "delta" if uses_delta(preset) else "gaussian" if preset.trust is None else "trusted"

    def variants(self, backbone: str) -> tuple[str, ...]:
        """Names in :data:`VARIANTS`."""
        if backbone != self.backbones[0]:
            return ("warm-up", "longer", self.whole)
        parts = tuple(name for name in VARIANTS if name != "trusted" or self.whole == name)
        return (*parts, *dict.fromkeys(f"{_AT}{temperature:g}" for temperature in self.temperatures))


def ablate(ablation: Ablation, out: Path, device: torch.device | str = "cpu", quiet: bool = True) -> int:
    """Compute every result that ``out`` lacks: ``cells/BACKBONE-SEED-VARIANT.json``; returns how many there are.

    A result has mAP in percent on the test videos after the last epoch by every method of suppression and fusion,
    and what the last pseudo labels were worth. Annotated segments of training videos serve that measurement alone.

    Raises
    ------
    DataError : ``out`` holds results of another ablation, or another run writes there; the data set lacks a subset or
        annotated segments
    """
    units = list(product(range(ablation.seeds), ablation.backbones))
    if ablation.data is not None:
        _videos(ablation, out, 0)  # what is wrong with them is said before a folder is made
    with only_writer(out):
        _check_same_ablation(out, {**asdict(ablation), "whole": ablation.whole})
        for seed, backbone in track(units, "ablation", quiet=quiet):
            missing = [
                name for name in ablation.variants(backbone) if not cell_path(out, backbone, seed, name).exists()
            ]
            if missing:
                training, test = _videos(ablation, out, seed)
                for name, result in _results(ablation, backbone, seed, missing, training, test, torch.device(device)):
                    where = {"backbone": backbone, "seed": seed, "variant": name}
                    write_json(cell_path(out, backbone, seed, name), {**where, **result})
    return sum(len(ablation.variants(backbone)) for _, backbone in units)


def cell_path(out: Path, backbone: str, seed: int, variant: str) -> Path:
    """Where a result lies."""
    return out / "cells" / f"{backbone}-{seed}-{variant}.json"


def _check_same_ablation(out: Path, settings: dict[str, Any]) -> None:
    """Make sure that what is in the folder belongs to these settings."""
    path = out / "settings.json"
    settings = {**settings, "backbones": list(settings["backbones"])}
    del settings["temperatures"]  # a result does not depend on which others there are
    if path.exists():
        found = read_json(path)
        for name, value in settings.items():
            if found.get(name) != value:
                rule = f"is of another ablation: {name} was {found.get(name)!r}, now {value!r}; choose another folder"
                raise DataError(path, rule)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _videos(ablation: Ablation, out: Path, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """Training and test videos of a seed."""
    folder = Path(ablation.data) if ablation.data is not None else out / "data" / f"seed-{seed}"
    if ablation.data is None and not folder.exists():
        settings = SyntheticConfig(difficulty=ablation.difficulty, seed=seed)
        write_synthetic(folder, settings, ablation.videos, (ablation.videos + 1) // 2)
    training = open_features(folder, ablation.subset, need_tags=True)
    test = open_features(folder, ablation.evaluate)
    for videos in (training, test):
        videos.check_annotated()
    return training, test


def _results(
    ablation: Ablation,
    backbone: str,
    seed: int,
    names: list[str],
    training: FeatureSet,
    test: FeatureSet,
    device: torch.device,
) -> Iterator[tuple[str, dict[str, Any]]]:
    preset = replace(PRESETS[ablation.preset], epochs=ablation.epochs, lr=ablation.lr, seed=seed)
    if ablation.detection is not None:
        preset = replace(preset, detection=ablation.detection)
    videos, tests = Videos(training, device), Videos(test, device)
    warm = begin(backbone, preset, training, device)
    schedule = warm.config.schedule
    began = time.perf_counter()
    _advance(warm, videos, schedule.rounds[0])
    for name in names:
        variant, run = variant_of(name), warm
        if variant is not None:
            run = copy.deepcopy(warm)
            run.config = variant.of(replace(warm.config, schedule=preset.schedule), schedule.epochs)
            _advance(run, videos, schedule.epochs)
        swept = [f"{_AT}{temperature:g}" for temperature in AT_TEST] if name.startswith(_AT) else []
        rules = {method: at_test(method, PRESETS[ablation.preset].detection) for method in (*METHODS[:-1], *swept)}
        scores = {method: _scores(run, tests, config) for method, config in rules.items()}
        scores["preset"] = _scores(run, tests, run.config.detection)
        worth = None if run.latest is None else label_worth(run.latest, training, run.previous)
        seconds, began = time.perf_counter() - began, time.perf_counter()
        trust = None if run.trust is None else asdict(run.trust)
        yield name, {"epochs": run.epoch, "mAP": scores, "labels": worth, "trust": trust, "seconds": seconds}


def _advance(run: Run, videos: Videos, until: int) -> None:
    for epoch in range(run.epoch, until):
        run_epoch(run, videos, epoch)


def _scores(run: Run, tests: Videos, config: PostprocessConfig) -> dict[str, float]:
    """mAP in percent at single thresholds, and on average, by the thresholds of the preset."""
    found = detect(run.network, run.backbone.proposals, tests, config, run.config.batch_snippets)
    scores = score(found, tests.data, run.config.protocol)
    if scores is None:
        return {**{f"{tiou:g}": 0.0 for tiou in TIOUS}, "average": 0.0}
    single = dict(zip(scores.tious, scores.map.tolist(), strict=True))
    return {**{f"{tiou:g}": single[tiou] for tiou in TIOUS}, "average": scores.average}


def at_test(method: str, detection: PostprocessConfig) -> PostprocessConfig:
    """A name in :data:`METHODS` with the settings of a preset: the fusions as published, ranked by the fused score;
    ``T=0.1`` the Gaussian one at a temperature; "support" with the settings that ``pyws segments compare`` chose on
    real proposals; "preset" as it is."""
    if method == "preset":
        return detection
    if method == "support":
        return SUPPORT
    if method.startswith(_AT):
        return replace(at_test("gaussian", detection), temperature=float(method.removeprefix(_AT)))
    return replace(detection, ranking="score", iou_threshold=None, snap=False).with_method(method)


def label_worth(labels: PseudoLabels, data: FeatureSet, previous: PseudoLabels | None = None) -> dict[str, Any]:
    """The percentage of all mass of pseudo labels that lies inside true segments of their class, and how many
    percent of the snippets of those segments got any. With the labels of the round before, the percentage inside of
    what rose and of what fell since then, which is what delta pseudo labels train on.
    """
    inside = _truth_masks(data)
    mass, covered, risen, fallen = np.zeros((4, 2))
    for video in range(len(data)):
        shape = (int(data.lengths[video]), len(data.classes) + 1)
        dense = labels.dense(video, shape)[:, :-1].numpy()
        mass += dense[inside[video]].sum(), dense.sum()
        covered += (dense[inside[video]] > 0).sum(), inside[video].sum()
        if previous is not None:
            change = dense - previous.dense(video, shape)[:, :-1].numpy()
            for total, part in ((risen, change.clip(min=0)), (fallen, -change.clip(max=0))):
                total += part[inside[video]].sum(), part.sum()
    found = {"inside": mass, "covered": covered}
    if previous is not None:
        found |= {"risen_inside": risen, "fallen_inside": fallen}
    shares = {name: 100 * float(some / max(whole, 1e-12)) for name, (some, whole) in found.items()}
    return {**shares, **labels.statuses()}


def _truth_masks(data: FeatureSet) -> list[np.ndarray]:
    """For each video (snippets, classes) bool, whether the class is annotated there."""
    assert data.truth is not None
    masks = [np.zeros((length, len(data.classes)), dtype=bool) for length in data.lengths]
    place = {name: index for index, name in enumerate(data.names)}
    rows = data.truth.instances
    for video, label, start, end in zip(rows.video, rows.label, rows.start, rows.end, strict=True):
        row = place.get(rows.videos[video])
        if row is not None:
            first, last = (round(second * data.rates[row]) for second in (start, end))
            masks[row][first:last, data.classes.index(rows.labels[label])] = True
    return masks
