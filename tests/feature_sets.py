"""Small data sets of features in memory, and as a folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyws.data.annotations.activitynet import read_truth, write_truth
from pyws.data.features.dataset import FeatureSet
from pyws.data.features.files import write_features
from pyws.files import read_json, write_json

CLASSES = ("jump", "run", "swim")
RATE = 25 / 16


@dataclass(frozen=True)
class InMemory:
    """Features that lie in memory instead of a file."""

    array: np.ndarray

    def shape(self):
        return self.array.shape

    def read(self):
        return self.array


def draw(videos=12, subset="training", seed=0, width=8, shortest=20, longest=60):
    """Videos of one class each, whose instances differ from the background by a direction of the class."""
    rng = np.random.default_rng([seed, len(subset)])
    directions = np.random.default_rng(7).standard_normal((len(CLASSES), width))
    database, stored, tags = {}, [], np.zeros((videos, len(CLASSES)), dtype=bool)
    lengths = rng.integers(shortest, longest, videos)
    for video, length in enumerate(lengths):
        features = 0.5 * rng.standard_normal((length, width))
        label, annotations, start = video % len(CLASSES), [], 3
        while start + 8 < length:
            end = start + int(rng.integers(4, 8))
            features[start:end] += directions[label]
            annotations.append({"label": CLASSES[label], "segment": [start / RATE, end / RATE]})
            start = end + int(rng.integers(6, 12))
        tags[video, label] = True
        record = {"subset": subset, "duration": length / RATE, "tags": [CLASSES[label]], "annotations": annotations}
        database[f"{subset}_{video:02}"] = record
        stored.append(InMemory(np.maximum(features, 0).astype(np.float32)))
    truth = read_truth({"database": database})
    return FeatureSet(
        tuple(database), CLASSES, tags, lengths, width, RATE, truth, subset, stored=tuple(stored)
    )  # fmt: skip


def write(folder, *sets):
    """The sets as one data set in the native layout."""
    database = {}
    for one in sets:
        write_truth(folder / "truth.json", one.truth)
        database.update(read_json(folder / "truth.json")["database"])
        for name, stored in zip(one.names, one.stored, strict=True):
            write_features(folder / "features" / f"{name}.npy", stored.array)
    write_json(folder / "truth.json", {"database": database})
    return folder
