"""Small pictures that are taken while a video is read: how near they are to the times asked for, and how many."""

from __future__ import annotations

import numpy as np
import pytest
from video_files import write_timed_video

from pyws.data.video.decoders import Pixels, PyAV
from pyws.data.video.frames import write_picture
from pyws.data.video.sampled import SampledVideo
from pyws.data.video.thumbnails import Thumbnails


def seen(taken: Thumbnails, times: list[float]) -> list[int]:
    """Show frames of these times, whose levels tell which they are; returns those that were converted."""
    made: list[int] = []

    def pixels(index: int) -> Pixels:
        made.append(index)
        return np.full((2, 3, 3), index, np.int64)

    for index, time in enumerate(times):
        taken.see(time, lambda index=index: pixels(index))
    return made


@pytest.mark.parametrize("said", [0.0, 0.5, 1.0, 30.0])  # what a file says of its length, by its length
@pytest.mark.parametrize("frames", [1, 5, 37, 160, 1000, 4097])
@pytest.mark.parametrize("count", [1, 7, 48])
def test_pictures_are_of_their_times_whatever_a_file_says(frames: int, count: int, said: float) -> None:
    start, rate = 2.5, 25
    taken = Thumbnails(count, 480, said * frames / rate)
    made = seen(taken, [start + k / rate for k in range(frames)])
    asked = [(k + 0.5) * frames / rate / count for k in range(count)]
    found = [int(picture[0, 0, 0]) for picture in taken.at(asked)]
    assert len(taken._taken) <= 4 * count
    late = [time * rate - index for time, index in zip(asked, found, strict=True)]  # frames that passed since
    assert min(late) > -1e-6
    if said <= 1:
        assert max(late) <= max(1, frames / (2 * count) + 1) + 1e-6
    if said == 1:  # no more are converted than are kept
        assert len(made) <= 2 * count + 1


def test_times_that_stand_still_or_go_back_are_left_out() -> None:
    taken = Thumbnails(2, 480)
    seen(taken, [0.0, 1.0, 0.5, 1.0, 2.0])
    assert [int(picture[0, 0, 0]) for picture in taken.at([0.0, 0.7, 1.5, 9.0])] == [0, 0, 3, 4]
    assert Thumbnails(2, 480).at([0.0]) == []


def test_wide_frames_are_made_small_and_others_stay() -> None:
    taken = Thumbnails(2, 20)
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2)  # 50 x 120
    taken.see(0.0, lambda: ramp)
    taken.see(1.0, lambda: ramp[:, :20])
    small, same = taken.at([0.0, 1.0])
    assert small.shape == (8, 20, 3)
    assert np.abs(small[4, :, 0].astype(int) - np.arange(5, 240, 12)).max() <= 2  # means of six columns
    assert np.array_equal(same, ramp[:, :20])


def test_a_video_that_is_sampled_gives_pictures_of_all_its_frames(tmp_path) -> None:
    path = write_timed_video(tmp_path / "v.mkv", [1.5 + k / 10 for k in range(40)], sound=True)
    assert PyAV(path).seconds() == pytest.approx(5.5, abs=0.3)
    video = SampledVideo(path, 1.0)  # four samples
    video.take(10, 480)
    assert len(list(video)) == 4
    assert video.thumbnails is not None
    shown = [int(picture[0, 0, 0]) // 4 for picture in video.thumbnails.at([(k + 0.5) * 0.4 for k in range(10)])]
    assert np.abs(np.array(shown) - np.arange(2, 42, 4)).max() <= 2
    assert len(set(shown)) == 10


def test_a_folder_of_frames_gives_pictures_too(tmp_path) -> None:
    for k in range(40):
        write_picture(tmp_path / "v" / f"{k}.png", np.full((8, 8, 3), 4 * k, np.uint8))
    video = SampledVideo(tmp_path / "v", 1.0, folder_fps=10)
    video.take(4, 480)
    list(video)
    assert video.thumbnails is not None
    assert [int(picture[0, 0, 0]) // 4 for picture in video.thumbnails.at([0.5, 1.5, 2.5, 3.5])] == [5, 15, 25, 35]
