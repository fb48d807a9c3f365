"""Detection mAP at seven thresholds: matching alone, and the whole evaluation, against what others run."""

import detection_peers as peers
import numpy as np
import pytest
import torch

from pyws import Segments
from pyws.data.annotations.activitynet import Instances, Truth
from pyws.evaluation import detection_map
from pyws.ops import match_segments

TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
CLASSES, VIDEOS, INSTANCES = 20, 212, 3358  # as the test subset of THUMOS14


def thumos_like(predictions, seed=0):
    """Columns of truth and predictions, in snippets: one class or two in a video, predictions around the truth."""
    rng = np.random.default_rng(seed)
    classes_of = rng.integers(0, CLASSES, (VIDEOS, 2))
    video = np.sort(rng.integers(0, VIDEOS, INSTANCES))
    label = classes_of[video, (rng.random(INSTANCES) < 0.15).astype(int)]
    start = rng.integers(0, 330, INSTANCES)
    truth = video, label, start, start + rng.integers(2, 16, INSTANCES)
    near = np.sort(rng.integers(0, INSTANCES, predictions))
    start = np.maximum(0, truth[2][near] + rng.integers(-8, 9, predictions))
    end = np.maximum(start + 1, truth[3][near] + rng.integers(-8, 9, predictions))
    return truth, (video[near], label[near], start, end, rng.random(predictions))


def ragged(video, label, start, end, score):
    order = np.argsort(label * VIDEOS + video, kind="stable")
    offsets = np.searchsorted((label * VIDEOS + video)[order], np.arange(CLASSES * VIDEOS + 1))
    columns = [
        torch.from_numpy(np.ascontiguousarray(column[order], dtype=np.float64)) for column in (start, end, score)
    ]
    return Segments(*columns, columns[2], torch.from_numpy(offsets))


def rows_of_class(video, label, start, end, score):
    return [
        [
            (int(v), int(s), int(e), float(x))
            for v, s, e, x in zip(*(f[label == c] for f in (video, start, end, score)), strict=True)
        ]
        for c in range(CLASSES)
    ]


def instances(video, label, start, end, score):
    names = tuple(map(str, range(VIDEOS))), tuple(f"{c:02}" for c in range(CLASSES))
    return Instances(*names, video, label, start.astype(float), end.astype(float), score)


def agree(own, peer):
    np.testing.assert_allclose(own, peer, rtol=1e-9)


# The form of the ActivityNet evaluator takes half a minute on 9,000 predictions, so it runs on a sixth of them.
@pytest.mark.parametrize(
    ("predictions", "goals"),
    [
        (1_500, {"vectorised numpy": 3.0, "ActivityNet form": 1200.0}),
        (9_000, {"vectorised numpy": 3.0, "released": 600.0}),
        (34_000, {"vectorised numpy": 3.0}),
    ],
)
def test_detection_map(race, predictions, goals):
    wanted, found = thumos_like(predictions)
    wanted = (*wanted, np.ones(INSTANCES))
    assert len(np.unique(wanted[1])) == CLASSES
    columns = ragged(*found), ragged(*wanted), torch.arange(0, CLASSES * VIDEOS + 1, VIDEOS)
    lists = rows_of_class(*found), rows_of_class(*wanted)
    table = np.stack([*found[:1], *found[2:]], 1), found[1], np.stack([wanted[0], *wanted[2:4]], 1), wanted[1]
    truth = Truth(instances(*wanted), ("test",) * VIDEOS, np.full(VIDEOS, 400.0), ((),) * VIDEOS)
    detections = instances(*found)
    peer = {
        "vectorised numpy": lambda: peers.vectorised_numpy(*table, TIOUS),
        "released": lambda: peers.released_thumos14(*lists, TIOUS),
        "ActivityNet form": lambda: peers.activitynet_evaluator(*lists, TIOUS),
    }
    case = f"{VIDEOS} videos, {predictions} predictions, 7 thresholds"
    matching = {"pyws": lambda: match_segments(*columns, TIOUS).ap.numpy(), **{name: peer[name] for name in goals}}
    race("match_segments", case, matching, agree=agree, goals=goals)
    whole = {"pyws": lambda: detection_map(detections, truth, snippets_per_second=1.0).ap / 100}
    race("detection_map", case, {**whole, "vectorised numpy": peer["vectorised numpy"]}, agree=agree)
