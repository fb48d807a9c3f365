"""The synthetic clips and streams: seeded, labelled rightly, and moving as their tags say."""

import numpy as np
import pytest

from pyws.data.synthetic.actors import PAINTERS, SPRITE
from pyws.data.synthetic.clips import ACTIONS, ACTORS, make_clip, make_stream
from pyws.data.synthetic.rendering import SceneConfig

SMALL = SceneConfig(height=48, width=64, actor_size=(20.0, 26.0), pan=2.0, shake=0.2)
STILL = SceneConfig(pan=0.0, shake=0.0)


def centres(masks):
    """(T, 2) mean row and column of the actor."""
    return np.array([np.argwhere(mask).mean(0) for mask in masks])


def test_clips_are_seeded():
    first, again, other = make_clip(3, 7, 4, SMALL), make_clip(3, 7, 4, SMALL), make_clip(4, 7, 4, SMALL)
    assert (first.frames == again.frames).all()
    assert (first.masks == again.masks).all()
    assert (first.frames != other.frames).any()


def test_every_pair_of_tags_comes_equally_often():
    pairs = [(clip.actor, clip.action) for clip in (make_clip(0, index, 1, SMALL) for index in range(24))]
    assert {pairs.count((actor, action)) for actor in ACTORS for action in ACTIONS} == {2}


@pytest.mark.parametrize("index", range(12))
def test_the_actor_is_seen_whole_in_every_frame(index):
    clip = make_clip(1, index, 8)
    share = clip.masks.mean((1, 2))
    assert clip.frames.shape == (8, 96, 128, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.masks.dtype == bool
    assert (share > 0.03).all()
    assert (share < 0.3).all()
    assert share.min() > 0.75 * share.max()  # nothing of it leaves the frame


@pytest.mark.parametrize("actor", range(len(ACTORS)))
def test_actions_are_motions(actor):
    """The camera stands still here, so that all motion is the actor's."""
    first = actor * len(ACTIONS)
    travel = {}
    for clip in (make_clip(5, first + action, 16, STILL) for action in range(len(ACTIONS))):
        path = centres(clip.masks)
        travel[clip.action] = np.abs(np.diff(path, axis=0)).mean(0)
        change = np.abs(np.diff(clip.frames.astype(int), axis=0)).max()
        assert (change == 0) == (clip.action == "none")
    assert travel["jumping"][0] > 2 > travel["jumping"][1]
    assert travel["running"][1] > 2 > travel["running"][0]
    assert travel["rolling"].max() < 2


def test_the_mask_is_where_the_actor_moves():
    """With a still camera, pixels far from every mask never change, and most of the moving actor's do."""
    clip = make_clip(2, 2, 8, STILL)  # running
    away = ~clip.masks.any(0)
    away[1:] &= away[:-1]
    away[:-1] &= away[1:]
    away[:, 1:] &= away[:, :-1]
    away[:, :-1] &= away[:, 1:]
    changed = (clip.frames != clip.frames[:1]).any((0, 3))
    assert not changed[away].any()
    assert changed[clip.masks.any(0)].mean() > 0.9


def test_streams_are_seeded_and_their_segments_are_true():
    stream, again = make_stream(0, 1, 24.0, SMALL), make_stream(0, 1, 24.0, SMALL)
    assert (stream.frames == again.frames).all()
    assert stream.segments == again.segments
    assert stream.duration == 24.0
    ends = [0.0]
    for start, end, action in stream.segments:
        assert action in ACTIONS[:-1]
        assert start - ends[-1] >= SMALL.gap_seconds[0] - 1 / SMALL.fps
        assert SMALL.instance_seconds[0] <= end - start <= SMALL.instance_seconds[1]
        ends.append(end)
    assert len(stream.segments) > 1
    assert ends[-1] < stream.duration


def test_a_short_stream_is_rest():
    stream = make_stream(0, 0, 2.0, SMALL)
    assert stream.segments == ()
    assert len(stream.frames) == 16


@pytest.mark.parametrize("actor", ACTORS)
def test_sprites(actor):
    sprite, other = PAINTERS[actor](np.random.default_rng(0)), PAINTERS[actor](np.random.default_rng(1))
    assert sprite.shape == (SPRITE, SPRITE, 4)
    assert set(np.unique(sprite[..., 3])) == {0, 255}
    assert 0.25 < (sprite[..., 3] > 0).mean() < 0.8
    assert len(np.unique(sprite[sprite[..., 3] > 0], axis=0)) > 5  # textured
    assert (sprite != other).any()
