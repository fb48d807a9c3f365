"""The pictures of a video file: torchcodec where it is installed and decodes the whole file, PyAV otherwise."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.errors import DataError

Pixels = NDArray[np.uint8]

MAX_PIXELS = 64 * 1024 * 1024  # of one frame; an 8K frame has 33 million
MAX_FRAMES = 1_000_000  # of one video; nine hours at 30 frames a second

# Containers that hold their own frames. Playlists (hls, concat, dash), which name other files to read, are not here.
_CONTAINERS = "avi,asf,flv,gif,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,ogg"


class PyAV:
    """Decodes a file from its start, frame by frame. Nothing but the file itself is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Raise DataError unless the container holds its own frames, and the first of them is not too large."""
        with closing(self._decode()) as frames:
            next(frames, None)

    def count(self) -> int:
        """How many frames the file has; it is decoded from start to end."""
        return sum(1 for _ in self._decode())

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices, which must rise."""
        wanted = iter(indices)
        target = next(wanted, None)
        with closing(self._decode()) as frames:
            while target is not None:
                for index, frame in frames:
                    if index == target:
                        yield _upright(frame)
                        break
                else:
                    raise DataError(self.path, f"changed while it was read: frame {target} is gone")
                target = next(wanted, None)

    def _decode(self) -> Generator[tuple[int, Any], None, None]:
        import av

        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        count, promised, cut_off, last = 0, 0, False, None
        try:
            with av.open(f"file:{self.path.resolve()}", options=options) as container:
                if not container.streams.video:
                    raise DataError(self.path, "has no video stream")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                promised = stream.frames
                check_size(self.path, stream.width, stream.height)
                for frame in container.decode(stream):
                    check_size(self.path, frame.width, frame.height)
                    if count == MAX_FRAMES:
                        raise DataError(self.path, f"must have at most {MAX_FRAMES} frames")
                    yield count, frame
                    count, last = count + 1, frame
                cut_off = _is_cut_off(promised, count) and not _reaches_the_end(last, stream)
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if error.errno == errno.EINVAL and not count:  # what FFmpeg says of a container that is not on the list
                reason = f"its container must be one of {_CONTAINERS.replace(',', ', ')}"
            raise DataError(self.path, f"cannot be decoded after {count} frames: {reason}") from error
        if cut_off:
            raise DataError(self.path, f"is truncated: its header says {promised} frames, {count} can be decoded")


class Torchcodec:
    """Decodes a file from the nearest key frame on, so that a few frames of a long video take little time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> int | None:
        """How many frames the file has; None where torchcodec is not installed or does not decode all of them.

        It gives up on the last frame of files whose packets have no time stamps (AVI with B-frames, say). PyAV looks at
        the container first: torchcodec cannot be told to open nothing but the file.
        """
        if _video_decoder() is None:
            return None
        PyAV(self.path).check()
        try:
            decoder = self._open()
            for index in range(min(len(decoder), MAX_FRAMES + 1)):
                decoder.get_frame_at(index)
        except (RuntimeError, IndexError, ValueError):
            return None
        whole = len(decoder) <= MAX_FRAMES and not _is_cut_off(decoder.metadata.num_frames_from_header, len(decoder))
        return len(decoder) if whole else None

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices."""
        try:
            decoder = self._open()
            for index in indices:
                yield decoder.get_frame_at(index).data.numpy()
        except (RuntimeError, IndexError, ValueError) as error:
            raise DataError(self.path, f"changed while it was read: {str(error).splitlines()[0]}") from error

    def _open(self) -> Any:
        decoder = _video_decoder()
        assert decoder is not None
        return decoder(os.fspath(self.path.resolve()), dimension_order="NHWC", num_ffmpeg_threads=0)


def open_decoder(path: Path) -> tuple[PyAV | Torchcodec, int]:
    """What decodes the file, and the number of its frames.

    Raises
    ------
    DataError : the file is unreadable, truncated, a playlist, has no picture, or is beyond MAX_PIXELS or MAX_FRAMES
    """
    pyav, torchcodec = PyAV(path), Torchcodec(path)
    count = torchcodec.count()
    return (pyav, pyav.count()) if count is None else (torchcodec, count)


def torchcodec_version() -> str:
    """For ``pyws doctor``: the version and the FFmpeg it found, or why PyAV decodes everything."""
    if _video_decoder() is None:
        return "not installed, or without its FFmpeg libraries: PyAV decodes videos"
    import torchcodec

    return f"{torchcodec.__version__} with FFmpeg {torchcodec.ffmpeg_major_version}"


@cache
def _video_decoder() -> Any:
    """torchcodec's decoder, or None. Its wheels bring no FFmpeg and fail to load where the system has none."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError):
        return None
    return VideoDecoder


def _upright(frame: Any) -> Pixels:
    """A frame of PyAV as RGB, turned as its file says (phones write such files), which torchcodec does by itself."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _is_cut_off(promised: int | None, count: int) -> bool:
    """Headers miscount by a frame or two (edit lists, packed B-frames); a file cut off loses far more."""
    return promised is not None and promised - count > max(2, promised // 20)


def _reaches_the_end(last: Any, stream: Any) -> bool:
    """Whether PyAV's last frame stands where the stream ends: AVI counts the frames that a recorder dropped as well."""
    known = last is not None and last.dts is not None and stream.duration
    return bool(known and last.dts >= 0.95 * stream.duration - 2)


def check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Raise DataError where a frame of that size is beyond MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise DataError(path, f"must have at most {MAX_PIXELS} pixels a frame, got {width}x{height}")
