"""A seed gives the data that the figures of the documentation were measured on: every draw, its range and its order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyws.data.synthetic.a2d import GeneratedConfig, draw_video
from pyws.data.synthetic.actors import PAINTERS, paint_clutter, paint_occluder
from pyws.data.synthetic.clips import make_clip, make_stream
from pyws.data.synthetic.features import SyntheticConfig, SyntheticWorld
from pyws.data.synthetic.watch_streams import BACKGROUND, WatchRecordings, join_stream


def figures(*arrays: Any) -> list[float]:
    """The mean of each array, and the means of the first halves of its dimensions: what was drawn elsewhere, or in
    another order, has others. A rounding that differs by one level of a pixel changes them by less than a percent."""
    found = []
    for values in (np.asarray(array, float) for array in arrays):
        halves = [values.take(range(size // 2), axis).mean() for axis, size in enumerate(values.shape) if size > 1]
        found += [float(values.mean()), *map(float, halves)]
    return found


def test_a_video_of_features() -> None:
    world = SyntheticWorld(SyntheticConfig(classes=4, width=16, snippets=60, several=0.5, difficulty=0.5))
    video = world.video("training", 2)
    assert video.instances.tolist() == [[0, 11, 19], [0, 36, 44], [3, 52, 60]]
    known = [0.1476, 0.1504, 0.2017, 1.1385, 0.9688, 10.1972, 11.043]
    assert figures(video.features, video.parts, world.typical_length) == pytest.approx(known, rel=1e-3)


def test_lengths_of_classes_spread_over_all_that_is_said() -> None:
    lengths = SyntheticWorld(SyntheticConfig(classes=3000, width=2, snippets=60)).typical_length
    assert 4 <= lengths.min() < 4.02
    assert 15.9 < lengths.max() <= 16
    assert np.exp(np.log(lengths).mean()) == pytest.approx(8, rel=0.03)


@pytest.mark.parametrize(
    ("index", "known"),
    [
        (0, [124.289, 123.409, 134.643, 116.458, 149.431, 0.154, 0.154, 0.103, 0.005]),
        (6, [75.031, 74.226, 92.739, 65.719, 120.813, 0.09, 0.09, 0.019, 0.003]),
        (10, [63.188, 63.397, 48.048, 53.436, 59.703, 0.134, 0.134, 0.04, 0.116]),
    ],
)
def test_a_clip(index: int, known: list[float]) -> None:
    clip = make_clip(0, index, 4)
    assert figures(clip.frames, clip.masks) == pytest.approx(known, rel=5e-3, abs=6e-4)


def test_a_stream() -> None:
    stream = make_stream(0, 1, 16.0)
    assert (stream.actor, stream.segments) == ("cat", ((2.5, 7.75, "rolling"), (9.125, 11.75, "running")))
    assert figures(stream.frames) == pytest.approx([92.475, 92.471, 88.729, 88.889, 101.773], rel=5e-3)


@pytest.mark.parametrize(
    ("index", "codes", "known"),
    [
        (1, (35, 65), [103.42, 103.332, 104.768, 103.673, 107.7, 0.06, 0.06, 0.059, 0.088, 0.089]),
        (3, (39, 56), [103.783, 103.398, 95.991, 111.059, 107.763, 0.08, 0.088, 0.079, 0.016, 0.088]),
    ],
)
def test_a_video_in_the_layout_of_a2d(index: int, codes: tuple[int, ...], known: list[float]) -> None:
    video = draw_video(0, index, GeneratedConfig(frames=3, several=0.9, occlusion=0.9))
    assert video.codes == codes
    assert figures(video.frames, video.masks) == pytest.approx(known, rel=5e-3, abs=6e-4)


def test_in_a_video_that_has_others_there_is_one_at_least() -> None:
    config = GeneratedConfig(frames=1, height=40, width=56, actor_size=(16.0, 24.0), several=1.0, max_actors=3)
    counts = [len(draw_video(0, index, config).codes) for index in range(30)]
    assert set(counts) == {2, 3}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ball", [117.92, 117.56, 117.515, 98.132]),
        ("car", [61.213, 40.173, 59.906, 30.418]),
        ("cat", [73.727, 66.086, 64.796, 65.048]),
        ("clutter", [54.764, 74.331, 50.716, 43.829]),
        ("post", [45.043, 44.585, 43.788, 36.788]),
    ],
)
def test_a_sprite(name: str, known: list[float]) -> None:
    paint = {**PAINTERS, "clutter": paint_clutter, "post": paint_occluder}[name]
    assert figures(paint(np.random.default_rng(0))) == pytest.approx(known, rel=5e-3)


def test_a_stream_of_recordings() -> None:
    signals = tuple(np.arange(6000.0).reshape(1000, 6) + 6000 * number for number in range(8))
    recordings = WatchRecordings(signals, ("PEN", "ABD", *BACKGROUND[:2]) * 2, (1,) * 8)
    stream = join_stream(recordings, 1, np.random.default_rng(3))
    excerpts = [("PEN", 182, 442), ("ROW", 442, 1002), ("ABD", 1002, 1350), ("TRAP", 1350, 1856), ("PEN", 1856, 2221)]
    assert stream.excerpts == (("ROW", 0, 182), *excerpts, ("TRAP", 2221, 2542))
    assert figures(stream.signal) == pytest.approx([28171.43, 29881.43, 28169.93])
