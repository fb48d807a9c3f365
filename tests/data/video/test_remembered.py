"""Frames that are read again: decoded once, as they fit, and never those of another file."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from video_files import write_timed_video

from pyws.data.video import frames as module
from pyws.data.video.frames import Pixels, VideoFile, open_frames, write_picture
from pyws.data.video.remembered import REMEMBERED, Remembered

SIZE = 48 * 32 * 3  # bytes of a frame


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Which frames of video files are asked for, pass by pass, with -1 where a pass begins."""
    asked: list[int] = []
    init = VideoFile.__init__

    def counting(self: VideoFile, path: Path) -> None:
        init(self, path)
        read = self._decoder.read

        def noted(indices: Sequence[int]) -> Iterator[Pixels]:
            asked.extend([-1, *indices])
            return read(indices)

        monkeypatch.setattr(self._decoder, "read", noted)

    gc.collect()
    REMEMBERED._pictures.clear()
    monkeypatch.setattr(VideoFile, "__init__", counting)
    yield asked
    REMEMBERED._pictures.clear()


def levels(pictures: Iterator[Pixels]) -> list[int]:
    """The grey level of each frame, which tells its index."""
    return [int(picture[0, 0, 0]) // 4 for picture in pictures]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_timed_video(tmp_path / "clip.mkv", [k / 10 for k in range(12)])


def test_a_video_is_decoded_once(clip: Path, decoded: list[int]) -> None:
    frames = open_frames(clip)
    frames.again.remember(range(12))
    assert levels(frames.read([3, 8])) == [3, 8]
    assert decoded == [-1, *range(12)]
    assert levels(frames.read(range(12))) == list(range(12))
    assert levels(open_frames(clip).read([0, 11])) == [0, 11]  # whoever opens it
    assert decoded == [-1, *range(12)]
    frames.again.forget()
    assert levels(frames.read([0, 11])) == [0, 11]
    assert decoded[13:] == [-1, 0, 11]
    assert REMEMBERED.room() == Remembered().room()


def test_small_sets_are_kept_first(clip: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REMEMBERED, "_most", 5 * SIZE)
    frames = open_frames(clip)
    frames.again.remember(range(12))
    frames.again.remember([1, 2, 9])
    frames.again.remember([2, 5, 6])
    assert levels(frames.read([0, 4])) == [0, 4]
    assert sorted({*decoded} - {-1}) == [0, 1, 2, 4, 5, 6, 9]
    assert REMEMBERED.room() == 0
    decoded.clear()
    assert levels(frames.read([2, 5, 9])) == [2, 5, 9]
    assert decoded == []
    assert levels(frames.read([4, 5])) == [4, 5]
    assert decoded == [-1, 4, 5]
    monkeypatch.setattr(REMEMBERED, "_most", 5 * SIZE - 1)
    frames.again.forget()
    frames.again.remember([1, 2, 9, 10, 11])
    assert levels(frames.read([0])) == [0]
    assert decoded == [-1, 4, 5, -1, 0]


def test_another_file_of_that_name_is_read_anew(clip: Path, decoded: list[int]) -> None:
    frames = open_frames(clip)
    frames.again.remember([1])
    assert levels(frames.read([1])) == [1]
    write_timed_video(clip, [k / 10 for k in range(12)], [200] * 12)
    os.utime(clip, (1, 1))
    assert levels(open_frames(clip).read([1])) == [50]


def test_pictures_of_a_folder_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(5):
        write_picture(tmp_path / "v" / f"{k}.png", np.full((8, 9, 3), 4 * k, np.uint8))
    read, asked = module.read_image, list[str]()
    monkeypatch.setattr(module, "read_image", lambda path: (asked.append(Path(path).stem), read(path))[1])
    frames = open_frames(tmp_path / "v")
    frames.again.remember([1, 3])
    assert levels(frames.read([3, 1, 4])) == [3, 1, 4]
    assert levels(frames.read(range(5))) == list(range(5))
    frames.again.forget()
    assert levels(frames.read([1])) == [1]
    assert asked == ["3", "1", "4", "0", "2", "4", "1"]


def test_frames_are_kept_as_long_as_somebody_wants_them(clip: Path, decoded: list[int]) -> None:
    frames = open_frames(clip)
    frames.again.remember([1])
    assert levels(frames.read([1])) == [1]
    del frames
    gc.collect()
    assert REMEMBERED.room() == Remembered().room()


def test_frames_that_are_kept_cannot_be_changed(clip: Path, decoded: list[int]) -> None:
    frames = open_frames(clip)
    frames.again.remember([1])
    with pytest.raises(ValueError, match="read-only"):
        next(frames.read([1]))[:] = 0
