"""Candidate segments from activation maps, by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from pyws.ragged import Segments
from pyws.segments import PostprocessConfig
from pyws.segments.config import ProposalConfig
from pyws.segments.detection.postprocess import postprocess
from pyws.segments.detection.proposals import propose, proposed_classes


def test_segments_of_the_wanted_classes_are_proposed():
    config = ProposalConfig(class_threshold=0.3, or_best=True, thresholds=(0.5,), margin=0.5, outer_weight=0.6,
                    video_weight=0.2)  # fmt: skip
    tcam = torch.tensor([[0.1, 0, 0], [0.9, 0, 0], [0.7, 0, 0.9], [0.3, 0, 0], [0, 0.6, 0.9], [0, 0.8, 0]])
    scores = torch.tensor([[0.5, 0.2], [0.1, 0.25]])
    offsets = torch.tensor([0, 4, 6])
    assert proposed_classes(config, scores).tolist() == [[True, False], [False, True]]
    found = propose(config, tcam, offsets, scores)
    assert found.offsets.tolist() == [0, 1, 1, 1, 2]
    np.testing.assert_allclose(found.score, [0.8 - 0.6 * 0.2 + 0.2 * 0.5, 0.7 + 0.2 * 0.25], rtol=1e-6)
    assert (found.start.tolist(), found.end.tolist()) == ([1, 0], [3, 2])


def test_runs_of_the_actionness_are_proposed_for_every_wanted_class():
    config = ProposalConfig(class_threshold=0.3, thresholds=(0.5,), actionness_thresholds=(0.4, 0.8), margin=0.5,
                    min_length=2, outer_weight=0.5)  # fmt: skip
    tcam = torch.tensor([[0.5, 0.25], [0.0, 0.5], [0.25, 1.0], [0.0, 0.25], [0.9, 0.0], [0.7, 0.0]])
    actionness = torch.tensor([0.3, 0.5, 0.9, 0.0, 0.9, 0.9])
    scores = torch.tensor([[0.5, 0.4], [0.6, 0.2]])
    found = propose(config, tcam, torch.tensor([0, 4, 6]), scores, actionness)
    assert found.offsets.tolist() == [0, 1, 2, 5, 5]  # the map's own run of the second video comes first
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == [(1, 3), (1, 3), (0, 2), (0, 2), (0, 2)]
    np.testing.assert_allclose(found.weight, [0.125, 0.75, 0.8, 0.8, 0.8], rtol=1e-6)
    outside = torch.tensor([0.25, 0.25, 0, 0, 0])
    torch.testing.assert_close(found.score, found.weight - 0.5 * outside)


def test_scores_of_actionness_runs_do_not_depend_on_the_batch():
    generator = torch.Generator().manual_seed(3)
    tcam, actionness = torch.rand(90, 4, generator=generator), torch.rand(90, generator=generator)
    config = ProposalConfig(class_threshold=0.0, thresholds=(2.0,), actionness_thresholds=(0.2, 0.5), margin=0.3)
    scores, cuts = torch.ones(3, 4), [0, 40, 55, 90]
    together = propose(config, tcam, torch.tensor(cuts), scores, actionness).score
    apart = [
        propose(config, tcam[a:b], torch.tensor([0, b - a]), scores[:1], actionness[a:b]).score
        for a, b in pairwise(cuts)
    ]
    assert len(together) > 60
    assert torch.equal(together, torch.cat(apart))


def test_thresholds_of_the_actionness_need_the_scoring_of_the_paper():
    with pytest.raises(ValueError, match="proposals: actionness_thresholds need scoring 'paper', got 'released'"):
        ProposalConfig(actionness_thresholds=(0.5,), scoring="released")


def test_fused_segments_of_equal_support_stay_in_their_order():
    """By falling score, although each is added up to the same support; more than a sort that is not stable keeps."""
    start = torch.arange(500, dtype=torch.float64) * 10
    half = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(64).round() / 256
    offsets = torch.tensor([0, 2, 1000])  # pairs of equal segments, of scores that add up to 1
    pairs = Segments(*(torch.stack(two, 1).flatten() for two in ((start, start), (start + 5, start + 5),
                     (0.5 + half, 0.5 - half))), torch.ones(1000).double(), offsets)  # fmt: skip
    plain, _ = postprocess(pairs, PostprocessConfig("gaussian", 1.0, 0.5))
    ranked, _ = postprocess(pairs, PostprocessConfig("gaussian", 1.0, 0.5, ranking="support"))
    assert ranked.score.unique().tolist() == [1.0]
    assert torch.equal(ranked.start, plain.start)
    assert torch.equal(ranked.offsets, plain.offsets)


def test_support_adds_up_scores_above_zero():
    start, score = torch.tensor([0.0, 0.0, 0.0]).double(), torch.tensor([0.75, 0.5, -0.5]).double()
    alike = Segments(start, start + 5, score, torch.ones(3).double(), torch.tensor([0, 3]))
    support, _ = postprocess(alike, PostprocessConfig("gaussian", 1.0, 0.5, ranking="support"))
    assert support.score.tolist() == [1.25]
    saturated, _ = postprocess(alike, PostprocessConfig("gaussian", 1.0, 0.5, ranking="saturated"))
    assert saturated.score.tolist() == pytest.approx([1 - np.exp(-1.25)])


def test_a_class_at_the_threshold_is_proposed():
    config = ProposalConfig(class_threshold=0.5, or_best=False)
    assert proposed_classes(config, torch.tensor([[0.5, 0.49]])).tolist() == [[True, False]]
