"""Candidate segments from activation maps, by hand; and what of them lies within the video."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import feature_sets
import numpy as np
import pytest
import torch

from pyws.data.annotations.activitynet import Instances
from pyws.data.features.time_base import SnippetGrid
from pyws.errors import DataError
from pyws.ragged import Segments
from pyws.segments import PostprocessConfig
from pyws.segments.backbones import build_backbone
from pyws.segments.config import ProposalConfig
from pyws.segments.detection import inference
from pyws.segments.detection.inference import activation_maps, average_map, detect, score
from pyws.segments.detection.postprocess import fuse_detections, postprocess
from pyws.segments.detection.proposals import propose, proposed_classes
from pyws.segments.detection.timelines import Timelines, sources_of
from pyws.segments.pseudo_labels import _snippets
from pyws.segments.snippets.known_classes import segments_of_known_classes
from pyws.segments.training.batches import Videos
from pyws.segments.training.run_folder import open_checkpoint


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


@pytest.fixture
def halved():
    """Videos, and the same with annotations that say that each ends in the middle of its snippets."""
    data = feature_sets.draw(4, "test", seed=1)
    return data, replace(data, truth=replace(data.truth, duration=data.truth.duration / 2))


def rows_of(found):
    return list(zip(found.video.tolist(), found.label.tolist(), found.start, found.end, found.score, strict=True))


def cut(rows, ends):
    """The part of each segment that lies within its video."""
    return [(v, label, start, min(end, ends[v]), score) for v, label, start, end, score in rows if start < ends[v]]


def test_segments_end_with_their_video_and_none_is_left_of_those_beyond(halved):
    data, short = halved
    built, rules, seen = build_backbone("rskp", data.width, data.classes), PostprocessConfig(), Timelines(short)
    proposals = replace(built.proposals, class_threshold=0.0)
    whole, within = (
        detect(built.model, proposals, Videos(one, torch.device("cpu")), rules, 999, seen=(seen,) * (one is short))
        for one in halved
    )
    assert rows_of(within) == cut(rows_of(whole), data.ends / 2)
    assert 0 < len(within) < len(whole)
    shown = [row for one in seen.documents().values() for row in (*one["proposals"], *one["segments"])]
    assert all(start < end for start, end, *_ in shown)


def test_segments_of_known_classes_end_with_their_video(halved, monkeypatch):
    module, draws = "pyws.segments.snippets.known_classes", np.random.default_rng(0)
    scores = {id(one): draws.normal(size=(len(one.array), 5)) for one in halved[0].stored}
    monkeypatch.setattr(f"{module}.scores_of", lambda stored: scores[id(stored)])
    whole, within = (segments_of_known_classes(one, {"run": 2, "jump": 4})[0] for one in halved)
    assert rows_of(within) == cut(rows_of(whole), halved[1].ends)
    assert 0 < len(within) < len(whole)


@pytest.mark.parametrize(
    "manifest",
    [None, {}, [], 1, {"videos": []}, {"videos": {"v": 1}}, {"videos": 1}, {"videos": {"v": {"source": "v.mp4"}}}],
)
def test_the_manifest_of_something_else_says_nothing_of_videos(manifest, tmp_path):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    stored = SimpleNamespace(path=tmp_path / "features" / "v.npy")
    ours = "source" in str(manifest)
    assert sources_of(SimpleNamespace(stored=[stored])) == ({"v": "v.mp4"} if ours else {})


def test_a_folder_without_a_manifest_says_nothing_and_the_others_do(tmp_path):
    stored = [SimpleNamespace(path=tmp_path / name / "features" / "v.npy") for name in "abcd"]
    for name in "abcd":
        (tmp_path / name).mkdir()
        if name in "bd":
            (tmp_path / name / "manifest.json").write_text(json.dumps({"videos": {name: {"source": f"{name}.mp4"}}}))
    assert sources_of(SimpleNamespace(stored=stored)) == {"b": "b.mp4", "d": "d.mp4"}


def test_maps_are_handed_on_as_soon_as_they_are_many(monkeypatch):
    """Whatever is held at once: the same maps, in the same order."""
    data = feature_sets.draw(5)
    built = build_backbone("rskp", data.width, data.classes)
    videos = Videos(data, torch.device("cpu"))
    (whole,) = activation_maps(built.model.eval(), videos, 1, quiet=True)
    monkeypatch.setattr(inference, "_AT_ONCE", 0)
    parts = list(activation_maps(built.model, videos, 1, quiet=True))
    assert len(parts) == 5
    assert [int(video) for part in parts for video in part.videos] == [int(video) for video in whole.videos]
    assert torch.equal(torch.cat([part.tcam for part in parts]), whole.tcam)
    assert torch.equal(torch.cat([part.scores for part in parts]), whole.scores)


def test_nothing_that_is_known_scores_nothing():
    data = feature_sets.draw(3)
    (label, *_), zeros = data.classes, np.zeros(1, np.int64)
    span = (np.array([0.0]), np.array([1.0]), np.array([1.0]))
    assert score(Instances(data.names, ("unheard of",), zeros, zeros, *span), data, "thumos14") is None
    assert average_map(Instances(data.names, ("unheard of",), zeros, zeros, *span), data, "thumos14") == 0.0
    assert score(Instances(data.names, (label,), zeros, zeros, *span), data, "thumos14") is not None


def test_weights_of_fusion_that_detections_do_not_have():
    found = Instances(("v",), ("a",), *(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float, float)))
    with pytest.raises(ValueError, match="fuse_detections: weigh_by must be 'score', got 'inner'"):
        fuse_detections(found, PostprocessConfig(weigh_by="inner"))


def test_backbones_are_known_by_name():
    with pytest.raises(ValueError, match="backbone must be one of rskp, .*, got 'other'"):
        build_backbone("other", 4, ("a",))


def test_the_length_of_a_video_is_known_by_its_grid_or_its_duration():
    with pytest.raises(DataError, match="ground truth: must give the duration of video 'v'"):
        _snippets("v", SnippetGrid(2.0), float("nan"))
    assert [_snippets("v", SnippetGrid(2.0), seconds) for seconds in (0.1, 2.0, 2.6)] == [1, 4, 5]


def test_a_folder_is_no_checkpoint(tmp_path):
    for there, said in (
        ((), "it has no best.safetensors or last.safetensors"),
        (("last",), "give .*/last.safetensors"),
        (("best", "last"), "give .*/best.safetensors"),
    ):
        for name in there:
            (tmp_path / f"{name}.safetensors").touch()
        with pytest.raises(DataError, match=f"must be a checkpoint of a run, found a folder; {said}"):
            open_checkpoint(tmp_path)


def test_scores_are_needed_where_segments_are_of_known_classes(tmp_path):
    data = feature_sets.draw(2)
    with pytest.raises(DataError, match="must have scores: pyws features --scores writes them"):
        segments_of_known_classes(data, {data.classes[0]: 0})
