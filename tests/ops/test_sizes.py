"""Numbers that only size memory: an error of the operation, whatever they are, and never one of the allocator."""

import pytest
import torch

from pyws import ops
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.errors import DataError
from pyws.ops._library import _named
from pyws.ragged import Segments
from pyws.segments import label_videos

LABELS, MASK = torch.zeros(2, 4, 4, dtype=torch.int64), torch.ones(2, 4, 4, dtype=torch.bool)
ONE = Segments.of([[(0, 4, 0.9)]])
IDS = torch.zeros(4, dtype=torch.int64)
CALLS = {
    "superpixel_select": lambda n: ops.superpixel_select(LABELS, MASK, num_superpixels=n),
    "superpixel_vote": lambda n: ops.superpixel_vote(LABELS, LABELS, 1, num_superpixels=n),
    "superpixel_vote.": lambda n: ops.superpixel_vote(LABELS, LABELS, n, num_superpixels=1),
    "superpixel_confusion": lambda n: ops.superpixel_confusion(LABELS, LABELS, LABELS, 1, num_superpixels=n),
    "superpixel_confusion.": lambda n: ops.superpixel_confusion(LABELS, LABELS, LABELS, n),
    "otsu_masks": lambda n: ops.otsu_masks(torch.rand(1, 4, 4), (n, n)),
    "linpro": lambda n: ops.linpro(ONE, torch.tensor([n])),
    "snippet_classes": lambda n: ops.snippet_classes(ONE, torch.tensor([n])),
    "class_mean": lambda n: ops.class_mean(torch.rand(4, 3), IDS, n),
    "class_mean.": lambda n: ops.class_mean(torch.rand(4, 3), IDS, torch.tensor([0, n]), torch.tensor([0, 4])),
}


@pytest.mark.parametrize("number", [2**31 - 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("name", CALLS)
def test_huge_counts_are_an_error_of_the_operation(name, number):
    with pytest.raises(ValueError, match=rf"^{name.rstrip('.')}: .*(must be|must have)"):
        CALLS[name](number)


def test_lack_of_memory_names_the_operation():
    def kernel():
        return torch.empty(2**61, dtype=torch.uint8)

    with pytest.raises(MemoryError, match="^linpro: needs more memory than there is"):
        _named("linpro", kernel)()
    with pytest.raises(RuntimeError, match="another"):
        _named("linpro", lambda: (_ for _ in ()).throw(RuntimeError("another")))()


@pytest.mark.parametrize("duration", [1e12, 1e300])
def test_durations_that_no_video_has(duration):
    truth = read_truth({"database": {"v": {"subset": "test", "duration": duration, "annotations": []}}})
    found = read_detections({"results": {"v": [{"label": "a", "score": 1, "segment": [0, duration]}]}})
    with pytest.raises(DataError, match=r"video 'v' must last at most 16777216 snippets, got a duration of 1e\+"):
        label_videos(found, truth, ["a"])


@pytest.mark.parametrize("large", [1e300, -1e300, 1e12])
def test_large_finite_values_stay_finite(large):
    times = Segments.of([[(0, abs(large), large), (abs(large) / 2, abs(large), large / 2)]])
    for method in ("gaussian", "uniform", "exponential", "t"):
        fused = ops.fuse_segments(times, 0.1, distribution=method)
        assert fused.start.isfinite().all()
        assert fused.score.isfinite().all()
    assert ops.suppress_segments(times, 0.3, sigma=0.5).score.isfinite().all()
    assert ops.linpro(times, torch.tensor([8])).labels.isfinite().all()
    assert ops.match_segments(times, times, torch.tensor([0, 1]), [0.5]).ap.tolist() == [[1.0]]
