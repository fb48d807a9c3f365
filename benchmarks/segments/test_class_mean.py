"""snippet_classes against numpy.unique of the dense matrix, class_mean against a pair of numpy.bincount."""

import numpy as np
import pytest
import torch

import pyws
from pyws.ops import reference

SIZES = [(200, 5), (750, 19), (5000, 97)]  # snippets, segments of a video


def video(length, count):
    generator = np.random.default_rng(0)
    starts = np.sort(generator.uniform(0, length, count))
    return pyws.Segments.of([[(s, min(s + generator.exponential(12) + 1, length), 1.0) for s in starts]])


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}-{size[1]}")
def test_snippet_classes(race, device, size):
    length, count = size
    segments, lengths = video(length, count).to(device), torch.tensor([length], device=device)
    dense = video(length, count)

    def unique():
        matrix = reference.snippet_rows(dense, length, 0.25, "paper")
        return np.unique(matrix, axis=1, return_inverse=True)[1].ravel()

    def agree(own, peer):
        pairs = set(zip(own.ids.tolist(), peer.tolist(), strict=True))
        assert len(pairs) == len(np.unique(peer)) == len(torch.unique(own.ids))

    race(
        "snippet_classes",
        f"l={length} n={count}",
        {"pyws": lambda: pyws.ops.snippet_classes(segments, lengths), "numpy.unique": unique},
        agree=agree,
    )


@pytest.mark.parametrize("length", [750, 100_000])
def test_class_mean(race, device, length):
    generator = torch.Generator().manual_seed(0)
    classes = length // 10
    values = torch.rand(length, generator=generator)
    ids = torch.randint(0, classes, (length,), generator=generator)
    on_device, ids_on_device = values.to(device), ids.to(device)
    numpy_values, numpy_ids = values.numpy(), ids.numpy()

    def bincount():
        size = np.bincount(numpy_ids, minlength=classes)
        return (np.bincount(numpy_ids, numpy_values, classes) / np.maximum(size, 1))[numpy_ids].astype(np.float32)

    race(
        "class_mean",
        f"l={length} classes={classes}",
        {"pyws": lambda: pyws.ops.class_mean(on_device, ids_on_device, classes), "numpy.bincount": bincount},
        agree=lambda own, peer: np.testing.assert_allclose(own.cpu().numpy(), peer, rtol=1e-6),
        bytes_moved=2 * values.nbytes + ids.nbytes,
    )
