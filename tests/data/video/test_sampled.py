"""Frames at a steady rate from videos of known timing, and the times of snippets."""

import numpy as np
import pytest
from video_files import shown, write_timed_video

from pyws import DataError
from pyws.data.features.files import SafetensorsFile, write_snippets
from pyws.data.features.time_base import TimeBase
from pyws.data.video import sampled
from pyws.data.video.frames import write_picture
from pyws.data.video.sampled import SampledVideo

NTSC = [round(k * 1001 / 30) / 1000 for k in range(61)]  # 29.97 frames a second, in Matroska's milliseconds
VARIABLE = [0, 0.04, 0.08, 0.5, 0.52, 0.54, 1.4, 1.44]
LATE = [1.5 + k / 25 for k in range(30)]


def levels(video):
    return [int(pixels[0, 0, 0]) for pixels in video]


@pytest.mark.parametrize("fps", [10, 15, 25, 30, 60])
@pytest.mark.parametrize(("times", "sound"), [(NTSC, False), (VARIABLE, False), (LATE, True), ([0.0], False)])
def test_the_frame_on_display_is_taken(tmp_path, times, sound, fps):
    path = write_timed_video(tmp_path / "v.mkv", times, sound=sound)
    video = SampledVideo(path, fps)
    found = levels(video)
    assert video.start == pytest.approx(times[0], abs=1e-3)
    assert times[-1] < video.end < times[-1] + 0.2
    grid = [video.start + k / fps for k in range(len(found))]
    assert found == [4 * k % 240 for k in shown(times, grid)]
    assert video.end - 1 / fps - 1e-3 <= grid[-1] < video.end


def test_an_offset_leaves_out_the_start(tmp_path):
    path = write_timed_video(tmp_path / "v.mkv", NTSC)
    video = SampledVideo(path, 10, offset=0.55)
    grid = [0.55 + k / 10 for k in range(15)]
    assert levels(video) == [4 * k % 240 for k in shown(NTSC, grid)]
    assert video.start == 0
    with pytest.raises(DataError, match="ends .* after its start, before --offset"):
        list(SampledVideo(path, 10, offset=30))


def test_folders_need_their_rate(tmp_path):
    for k in range(6):
        write_picture(tmp_path / "v" / f"{k}.png", np.full((8, 8, 3), 10 * k, np.uint8))
    assert levels(SampledVideo(tmp_path / "v", 5, folder_fps=10)) == [0, 20, 40]
    with pytest.raises(DataError, match=r"have no times: give their rate \(--folder-fps\)"):
        SampledVideo(tmp_path / "v", 5)
    with pytest.raises(DataError, match="found neither"):
        SampledVideo(tmp_path / "none", 5)
    with pytest.raises(ValueError, match="must be > 0"):
        SampledVideo(tmp_path / "v", 0, folder_fps=10)
    # Rounded times may miss the end by 0.1 ms: what is left there is no sample.
    assert levels(SampledVideo(tmp_path / "v", 5, offset=0.6 - 1.1e-4, folder_fps=10)) == [50]
    with pytest.raises(DataError, match="before --offset"):
        list(SampledVideo(tmp_path / "v", 5, offset=0.6 - 1e-4, folder_fps=10))


def times(starts, window, start, end):
    spans = np.stack([starts, np.minimum(starts + window, end)], 1)
    return TimeBase(spans, starts + window / 2, start, end, {})


def test_places_of_snippets_that_follow_one_another_are_their_starts():
    base = times(1.5 + np.arange(4) * 0.64, 0.64, 1.5, 4.0)
    np.testing.assert_allclose(base.seconds(np.arange(4)), 1.5 + 0.64 * np.arange(4))
    assert base.seconds(np.array([4.0, 9.0])).tolist() == [4.0, 4.0]
    assert base.seconds(np.array([-1.0])) == 1.5
    assert base.rate == pytest.approx(1 / 0.64)


def test_places_and_seconds_are_inverse():
    base = times(np.arange(9) * 0.5, 2.0, 0.0, 5.7)
    places = np.linspace(0, 9, 50)
    np.testing.assert_allclose(base.snippets(base.seconds(places)), places, atol=1e-9)
    assert base.seconds(np.array([4.0])) == 0.5 * 4 + 0.75  # halfway between the middles of snippets 3 and 4


@pytest.mark.parametrize(
    ("seconds", "note", "message"),
    [
        ([[0.0, 1.0]], {}, "must say fps, window"),
        ([[0.0, 1.0]], {"fps": 0}, "must have the start and end of each snippet"),
        ([[0.0, 1.0]], {"end": -1}, "must have the start and end of each snippet"),
        ([[1.0, 0.0]], {"fps": 4}, "must have the start and end of each snippet"),
        ([[0.0, np.nan]], {"fps": 4}, "must have the start and end of each snippet"),
        ([0.0], {"fps": 4}, "must have the start and end of each snippet"),
    ],
)
def test_times_that_cannot_be(tmp_path, seconds, note, message):
    whole = {"fps": 4, "window": 4, "stride": 4, "start": 0, "end": 1, "first": 0} | note if note else {}
    path = tmp_path / "v.safetensors"
    write_snippets(path, {"features": np.zeros((1, 3), np.float32), "seconds": np.array(seconds)}, whole)
    with pytest.raises(DataError, match=message):
        SafetensorsFile(path).times()


def test_times_that_ask_for_more_samples_than_there_may_be_frames_are_refused(tmp_path):
    path = write_timed_video(tmp_path / "gap.mkv", [0, 0.04, 90_000])
    assert sum(1 for _ in SampledVideo(path, 0.1)) == 9001
    with pytest.raises(
        DataError, match=r"gap.mkv: must have at most 1000000 samples at 25 a second, got a frame until"
    ):
        next(one for k, one in enumerate(SampledVideo(path, 25)) if k > 1)


def test_as_many_samples_as_are_allowed_and_no_more(tmp_path, monkeypatch):
    for k in range(6):
        write_picture(tmp_path / "v" / f"{k}.png", np.full((8, 8, 3), 10 * k, np.uint8))
    monkeypatch.setattr(sampled, "MAX_FRAMES", 6)
    assert len(levels(SampledVideo(tmp_path / "v", 10, folder_fps=10))) == 6
    assert len(levels(SampledVideo(tmp_path / "v", 10.5, offset=0.05, folder_fps=10))) == 6
    with pytest.raises(DataError, match="must have at most 6 samples at 10.5 a second"):
        levels(SampledVideo(tmp_path / "v", 10.5, folder_fps=10))  # the seventh is at 0.571 s of 0.6


def test_a_sample_at_the_time_of_a_frame_shows_that_frame(tmp_path):
    """Times that are not whole numbers in binary: rounding shows no frame twice and leaves none out."""
    for k in range(60):
        write_picture(tmp_path / "v" / f"{k:02}.png", np.full((2, 2, 3), 4 * k, np.uint8))
    assert levels(SampledVideo(tmp_path / "v", 30, folder_fps=30)) == [4 * k for k in range(60)]
    assert levels(SampledVideo(tmp_path / "v", 10, folder_fps=30)) == [12 * k for k in range(20)]
