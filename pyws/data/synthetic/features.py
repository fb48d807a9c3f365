"""Synthetic features of untrimmed videos: what makes temporal localisation from tags hard, with the truth known.

Nothing here is a measurement of video. The first half of the width stands for appearance (RGB), the second for motion
(flow). A video is a row of snippets, and each snippet is the rectified sum of

* a *scene* that lasts for some time, one of eight that all videos share;
* inside an instance of a class, its *action*: at full strength in the salient core, and weaker and mixed with a motion
  that all classes share in the parts around it, so that the core alone tells the class (incomplete localisation);
* outside instances, the *context* of a class, a pattern of appearance only: beside its instances, and in stretches of
  its own. It goes with the tag without being the action (context confusion), and now and then with other tags, as a
  pitch without a throw does; were it never to, no tag could tell it from the action;
* an appearance of the whole video, a variation of the instance, and noise that changes slowly.

``difficulty`` moves three numbers at once, linearly from 0 to 1: the strength of the weak parts from 0.9 to 0.3, the
chance of context on a side of an instance from 0 to 1, and the noise from 0.5 to 1.5. Lengths of videos and instances,
and how many classes share a video, follow THUMOS14 in kind: log-normal, a third of the time action, mostly one tag.
Noise grows with the root of the width, so that a snippet tells as much at every width.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.writers import FeatureVideo, write_data_set
from pyws.errors import check_fields

SCENES = 8
BACKGROUND, CONTEXT, WEAK, SALIENT = range(4)  # what a snippet shows
_MIN_SNIPPETS = 32
_STRENGTH = 0.5  # strength of all features, which puts values in the range of I3D


@dataclass(frozen=True)
class SyntheticConfig:
    """What is drawn.

    Parameters
    ----------
    classes : number of actions
    width : width of the features, even
    difficulty : in [0, 1], see the module
    snippets : median length of a video
    several : share of the videos with more than one class
    seed : seed of everything; a video depends on the seed, its subset and its number, not on how many there are
    """

    classes: int = 6
    width: int = 64
    difficulty: float = 0.5
    snippets: int = 120
    several: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "synthetic features", ">= 1", "classes")
        check_fields(self, "synthetic features", ">= 2", "width")
        if self.width % 2:
            raise ValueError(f"synthetic features: width must be even, got {self.width}")
        check_fields(self, "synthetic features", f">= {_MIN_SNIPPETS}", "snippets")
        check_fields(self, "synthetic features", "in [0, 1]", "difficulty", "several")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(f"action{number:02d}" for number in range(self.classes))


@dataclass(frozen=True, eq=False)
class SyntheticVideo:
    """One video.

    Parameters
    ----------
    name : says that it is synthetic
    features : (snippets, width) float32
    instances : (instances, 3) int64: class, first snippet, last snippet + 1, in the order of time
    parts : (snippets,) int64: BACKGROUND, CONTEXT, WEAK or SALIENT
    """

    name: str
    features: np.ndarray
    instances: np.ndarray
    parts: np.ndarray

    @property
    def tags(self) -> tuple[int, ...]:
        """The classes that occur."""
        return tuple(np.unique(self.instances[:, 0]).tolist())

    def record(self, subset: str, classes: tuple[str, ...]) -> dict[str, Any]:
        """The video as ActivityNet JSON has it."""
        annotations = [
            {"label": classes[label], "segment": [start / SNIPPETS_PER_SECOND, end / SNIPPETS_PER_SECOND]}
            for label, start, end in self.instances.tolist()
        ]
        tags = [classes[tag] for tag in self.tags]
        duration = len(self.features) / SNIPPETS_PER_SECOND
        return {"subset": subset, "duration": duration, "tags": tags, "annotations": annotations}


class SyntheticWorld:
    """The patterns that all videos of a seed share.

    Examples
    --------
    >>> world = SyntheticWorld(SyntheticConfig(classes=3, width=16))
    >>> video = world.video("training", 0)
    >>> video.name, video.features.shape[1], bool((video.features >= 0).all())
    ('synthetic_training_00000', 16, True)
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config
        generator = np.random.default_rng([config.seed, 0])
        half, width, classes = config.width // 2, config.width, config.classes
        self.action = generator.normal(size=(classes, width))
        motion = np.concatenate([np.zeros(half), np.sqrt(2) * generator.normal(size=half)])
        self.weak = 0.6 * self.action + 0.8 * motion
        appearance = np.sqrt(2) * generator.normal(size=(classes + SCENES, half))
        still = np.concatenate([appearance, np.zeros_like(appearance)], axis=1)
        self.context, self.scene = still[:classes], still[classes:]
        self.typical_length = np.exp(generator.uniform(np.log(4), np.log(16), size=classes))

    def videos(self, subset: str, count: int) -> Iterator[SyntheticVideo]:
        """The first ``count`` videos of a subset."""
        return (self.video(subset, number) for number in range(count))

    def video(self, subset: str, number: int) -> SyntheticVideo:
        """One video."""
        config = self.config
        generator = np.random.default_rng([config.seed, 1, *subset.encode(), number])
        longest = 8 * config.snippets
        length = int(np.clip(generator.lognormal(np.log(config.snippets), 0.6), _MIN_SNIPPETS, longest))
        instances = self._instances(generator, length)
        parts, shown = self._context(generator, length, instances)
        features = 0.6 * self.scene[_scenes(generator, length)]
        inside = shown >= 0
        features[inside] += self.context[shown[inside]]
        for label, start, end in instances.tolist():
            core = _core(generator, end - start)
            parts[start:end] = np.where(core, SALIENT, WEAK)
            weak = (0.9 - 0.6 * config.difficulty) * self.weak[label]
            variation = 0.3 * generator.normal(size=config.width)
            strength = generator.uniform(0.8, 1.2)
            features[start:end] += strength * (np.where(core[:, None], self.action[label], weak) + variation)
        features += 0.3 * generator.normal(size=config.width)
        noise = (0.5 + config.difficulty) * np.sqrt(config.width / 64)
        features += noise * _slow_noise(generator, length, config.width)
        features = (_STRENGTH * np.maximum(features, 0)).astype(np.float32)
        return SyntheticVideo(f"synthetic_{subset}_{number:05d}", features, instances, parts)

    def _instances(self, generator: np.random.Generator, length: int) -> np.ndarray:
        """Instances of one to three classes that do not overlap, with at least one snippet between them."""
        config = self.config
        several = 1 + int(generator.random() < config.several)
        several += int(several == 2 and generator.random() < 0.2)
        tags = generator.permutation(config.classes)[:several]
        wanted = generator.uniform(0.15, 0.45) * length
        labels: list[int] = []
        lengths: list[int] = []
        while len(labels) < len(tags) or sum(lengths) < wanted:
            label = int(tags[len(labels)] if len(labels) < len(tags) else generator.choice(tags))
            drawn = generator.lognormal(np.log(self.typical_length[label]), 0.5)
            labels.append(label)
            lengths.append(int(np.clip(drawn, 2, length // 8)))
        order = generator.permutation(len(labels))
        spare = length - sum(lengths) - len(labels) - 1
        gaps = 1 + generator.multinomial(spare, generator.dirichlet(np.ones(len(labels) + 1)))
        size, label_of = np.array(lengths)[order], np.array(labels)[order]
        start = np.cumsum(gaps[:-1]) + np.cumsum(size) - size
        return np.stack([label_of, start, start + size], axis=1)

    def _context(
        self, generator: np.random.Generator, length: int, instances: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each snippet shows without the actions, and the class whose context it shows, or -1."""
        config = self.config
        shown = np.full(length, -1)
        tags = set(instances[:, 0].tolist())
        for label in range(config.classes):
            chance = 0.9 if label in tags else 0.15
            for _ in range(generator.poisson(2) if generator.random() < chance else 0):
                start, size = generator.integers(length), int(np.clip(generator.lognormal(np.log(8), 0.5), 2, 40))
                shown[start : start + size] = label
        for label, start, end in instances.tolist():
            sizes = generator.uniform(0.5, 1.5, size=2) * (end - start)
            before, after = np.where(generator.random(2) < config.difficulty, np.ceil(sizes), 0).astype(int)
            shown[max(0, start - before) : start] = label
            shown[end : end + after] = label
        for _, start, end in instances.tolist():
            shown[start:end] = -1
        return np.where(shown >= 0, CONTEXT, BACKGROUND), shown


def _scenes(generator: np.random.Generator, length: int) -> np.ndarray:
    """A scene for each snippet: two alternate, as shots of a place do, each for 10 to 40 snippets."""
    pair = generator.permutation(SCENES)[:2]
    shots = np.repeat(np.arange(length), generator.integers(10, 41, size=length))[:length]
    return pair[shots % 2]


def _core(generator: np.random.Generator, length: int) -> np.ndarray:
    """Which snippets of an instance are salient: one run of 30 to 60 % of it, at least one snippet."""
    size = max(1, round(generator.uniform(0.3, 0.6) * length))
    start = generator.integers(length - size + 1)
    places = np.arange(length)
    return (places >= start) & (places < start + size)


def _slow_noise(generator: np.random.Generator, length: int, width: int) -> np.ndarray:
    """Unit-variance noise in which neighbours correlate by a half."""
    noise = generator.normal(size=(length, width))
    for row in range(1, length):
        noise[row] = 0.5 * noise[row - 1] + np.sqrt(0.75) * noise[row]
    return noise


def write_synthetic(
    folder: str | os.PathLike[str],
    config: SyntheticConfig,
    training: int = 60,
    test: int = 30,
    layout: str = "native",
) -> dict[str, Any]:
    """Write a data set with the subsets ``training`` and ``test`` in a layout of :func:`write_data_set`.

    Returns its counts.

    Raises
    ------
    DataError : the folder is not new or empty
    ValueError : no videos
    """
    if min(training, test) < 0 or training + test == 0:
        raise ValueError(f"synthetic features: videos must be at least one, got {training} and {test}")
    world = SyntheticWorld(config)
    subsets = {"training": training, "test": test}
    drawn = ((subset, video) for subset, count in subsets.items() for video in world.videos(subset, count))
    videos = (_to_write(video, video.record(subset, config.names)) for subset, video in drawn)
    about = {
        "snippets_per_second": SNIPPETS_PER_SECOND,
        "classes": list(config.names),
        "synthetic": True,
        "description": f"SYNTHETIC features, no video: {config}",
    }
    return write_data_set(folder, videos, about, {"synthetic": asdict(config), **subsets}, layout=layout)


def _to_write(video: SyntheticVideo, record: dict[str, Any]) -> FeatureVideo:
    return FeatureVideo(video.name, record, video.features.shape, lambda: video.features)
