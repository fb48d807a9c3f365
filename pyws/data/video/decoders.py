"""The pictures of a video file: torchcodec where it is installed and decodes the whole file, PyAV otherwise."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyws.errors import DataError
from pyws.files import bound, check_regular

Pixels = NDArray[np.uint8]

MAX_PIXELS = bound("PYWS_MAX_PIXELS", 64 << 20)  # pixels of one frame; an 8K frame has 33 million
_FFMPEG_PIXELS = (2**31 - 1) // 8  # av_image_check_size2
MOST_NARROW = 32  # the long side of a frame by its short side
_LAST = 8  # frames at the end that torchcodec must decode; it is there that it gives up
MAX_FRAMES = bound("PYWS_MAX_FRAMES", 1_000_000)  # frames of one video; nine hours at 30 frames a second

# Containers that hold their own frames. Playlists (hls, concat, dash), which name other files to read, are not here.
_CONTAINERS = "avi,asf,flv,gif,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,ogg"


@dataclass(frozen=True)
class Stamps:
    """When the frames of a stream are shown, from its packets alone.

    Parameters
    ----------
    frames : rising time stamps, one a frame, in units of the stream
    keys : rising time stamps of the key frames among them, where decoding can begin
    """

    frames: tuple[int, ...]
    keys: tuple[int, ...]

    def key_before(self, index: int) -> int:
        """The index of the last key frame at or before a frame."""
        key = self.keys[bisect_right(self.keys, self.frames[index]) - 1]
        return bisect_left(self.frames, key)


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame: when it is shown, and for how long, in seconds."""

    time: float
    lasts: float
    frame: Any
    to_rgb: Callable[[Any], Pixels]

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, upright."""
        return self.to_rgb(self.frame)


class Header(NamedTuple):
    """What a video file says of itself, without a frame being decoded; 0 seconds where it does not say."""

    seconds: float
    frames: int
    height: int
    width: int


class PyAV:
    """Decodes a file frame by frame. Nothing but the file itself is opened.

    Where packets tell which frame each holds, frames are counted without decoding them, and a frame that is far ahead
    is sought from the key frame before it. Where they do not (B-frames in AVI, streams that begin between key frames),
    the file is decoded from its start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._origin = 0.0  # seconds at which the file starts, by its own clock
        self._rate = 0.0  # frames a second that the header says

    def header(self) -> Header:
        """What the file says of itself."""
        import av

        with self._open() as (container, stream):
            if not stream.width * stream.height:  # FFmpeg found none that it takes, or has read too little to know
                next(container.decode(stream), None)
            seconds = float((container.duration or 0) / av.time_base)
            frames = stream.frames or max(1, round(seconds * self._rate))
            return Header(seconds, frames, stream.height, stream.width)

    def seconds(self) -> float:
        """About how long the pictures last, as the file says; 0 where it does not."""
        import av

        with self._open() as (container, stream):
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return float((container.duration or 0) / av.time_base)

    def timed(self) -> Iterator[TimedFrame]:
        """Every frame with its time, in seconds since the file starts; a stream may start later than the file.

        Frames without a time follow one another at the rate that the header says.
        """
        last, to_rgb = None, _ToRGB()
        with closing(self._decode()) as frames:
            for _, frame in frames:
                step = 1 / self._rate if self._rate else 0.04
                time = last + step if frame.time is None and last is not None else (frame.time or 0.0) - self._origin
                lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else step
                yield TimedFrame(time, lasts, frame, to_rgb)
                last = time

    def times(self) -> list[float]:
        """Seconds since the file starts at which each frame is first shown; decoded where the packets do not tell."""
        if not self.stamps:
            return [one.time for one in self.timed()]
        with self._open() as (_, stream):
            return [float(stamp * stream.time_base) - self._origin for stamp in self.stamps.frames]

    def count(self) -> int:
        """How many frames the file has; decoded from start to end where the packets do not tell."""
        return len(self.stamps.frames) if self.stamps else sum(1 for _ in self._decode())

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices, which must rise."""
        frames, at, sought, to_rgb = self._decode(), -1, False, _ToRGB()
        try:
            for target in indices:
                first = self.stamps.key_before(target) if self.stamps and target < len(self.stamps.frames) else 0
                if first > at + 1:
                    frames.close()
                    frames, sought = self._decode(first), True
                at, frame = _forward(frames, target)
                if at != target and sought:  # the container's index leads elsewhere (AVI with B-frames)
                    frames.close()
                    self.stamps, sought = None, False
                    frames = self._decode()
                    at, frame = _forward(frames, target)
                if at != target:
                    raise DataError(self.path, f"changed while it was read: frame {target} is gone")
                yield to_rgb(frame)
        finally:
            frames.close()

    @cached_property
    def stamps(self) -> Stamps | None:
        """None where time stamps are missing or repeated, or decoding the end of the file fails or gives others."""
        import av

        with self._open() as (container, stream):
            packets = [packet for packet in container.demux(stream) if packet.size]
            if len(packets) > MAX_FRAMES:
                raise DataError(self.path, f"must have at most {MAX_FRAMES} frames")
            odd = any(packet.pts is None or packet.is_corrupt or packet.is_discard for packet in packets)
            if odd or not packets or not packets[0].is_keyframe:
                return None
            frames = tuple(sorted(packet.pts for packet in packets))
            keys = tuple(sorted(packet.pts for packet in packets if packet.is_keyframe))
            if len(set(frames)) < len(frames) or frames[0] != packets[0].pts:
                return None
            if _is_cut_off(stream.frames, len(frames)):
                return None  # decoding says how many are left
            try:
                container.seek(keys[-1], stream=stream)
                end = [frame.pts for frame in container.decode(stream)]
            except av.FFmpegError:  # what is there before may be needed, such as the size of the pictures
                return None
            known = [stamp for stamp in end if stamp is not None and stamp >= keys[-1]]
            whole = None not in end and known == list(frames[bisect_left(frames, keys[-1]) :])
            return Stamps(frames, keys) if whole else None

    def _decode(self, first: int = 0) -> Generator[tuple[int, Any], None, None]:
        """(index, frame) from a key frame on; of the whole file, it is checked that all is there."""
        count, last = first, None
        with self._open() as (container, stream):
            promised = stream.frames
            if first and self.stamps:
                container.seek(self.stamps.frames[first], stream=stream)
            for frame in container.decode(stream):
                if first and self.stamps:
                    if frame.pts is None or frame.pts < self.stamps.frames[first]:
                        continue  # frames before the key frame that the container's index did not skip
                    count = bisect_left(self.stamps.frames, frame.pts)
                check_frame(self.path, frame.width, frame.height)
                if count == MAX_FRAMES:
                    raise DataError(self.path, f"must have at most {MAX_FRAMES} frames")
                yield count, frame
                count, last = count + 1, frame
            cut_off = _is_cut_off(promised, count) and not _reaches_the_end(last, stream)
        if cut_off:
            raise DataError(self.path, f"is truncated: its header says {promised} frames, {count} can be decoded")

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The container and its stream of pictures; errors of FFmpeg within the block name the file."""
        import av

        # For the container alone: PyAV before 17.1 crashes on options of streams that MPEG files show later (.mpg).
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        stream = None
        try:
            check_regular(self.path)
            # A title that is no UTF-8 is no reason to refuse the pictures; PyAV 19 takes any and has no such argument.
            titles: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
            with av.open(f"file:{os.path.realpath(self.path)}", container_options=options, **titles) as container:
                if not container.streams.video:
                    raise DataError(self.path, "has no video stream")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise DataError(self.path, "is of a codec that this FFmpeg has no decoder for")
                stream.thread_type = "AUTO"
                self._origin = (container.start_time or 0) / av.time_base
                self._rate = float(stream.average_rate or 0)
                check_frame(self.path, stream.width, stream.height)
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if error.errno == errno.EINVAL and stream is None:  # what FFmpeg says of a container not on the list
                reason = f"its container must be one of {_CONTAINERS.replace(',', ', ')}"
            elif error.errno == errno.EINVAL and stream is not None and not stream.width * stream.height:
                reason = f"its pictures have no size that FFmpeg takes, which is at most {_FFMPEG_PIXELS} pixels or so"
            raise DataError(self.path, f"cannot be decoded: {reason}") from error


def _forward(frames: Iterator[tuple[int, Any]], target: int) -> tuple[int, Any]:
    """The first of the frames at or behind a target; (-1, None) where there is none."""
    return next(((index, frame) for index, frame in frames if index >= target), (-1, None))


class Torchcodec:
    """Decodes a file from the nearest key frame on, so that a few frames of a long video take little time.

    Attributes
    ----------
    device : where files are decoded, "cpu" or a GPU; what it does not take the CPU decodes, with a warning
    """

    device = "cpu"

    def __init__(self, path: Path, packets: PyAV | None = None) -> None:
        self.path = path
        self._packets = packets or PyAV(path)

    def count(self) -> int | None:
        """How many frames the file has; None where torchcodec is not installed or does not decode all of them.

        It misplaces or loses frames of files whose packets do not tell which frame each holds (AVI with B-frames, say),
        so that it serves only where PyAV finds that they do, and has to agree about their number.
        """
        if _video_decoder() is None:
            return None
        stamps = self._packets.stamps
        if stamps is None:
            return None
        try:
            decoder = self._open()
            for index in range(max(0, len(decoder) - _LAST), len(decoder)):
                decoder.get_frame_at(index)
        except (RuntimeError, IndexError, ValueError):
            return None
        return len(decoder) if len(decoder) == len(stamps.frames) else None

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices."""
        try:
            decoder = self._open()
            for index in indices:
                yield decoder.get_frame_at(index).data.cpu().numpy()
        except (RuntimeError, IndexError, ValueError) as error:
            raise DataError(self.path, f"changed while it was read: {str(error).splitlines()[0]}") from error

    def _open(self) -> Any:
        decoder = _video_decoder()
        assert decoder is not None
        path, options = os.path.realpath(self.path), {"dimension_order": "NHWC", "num_ffmpeg_threads": 0}
        if self.device != "cpu":
            try:
                opened = decoder(path, device=self.device, **options)
                opened.get_frame_at(0)  # some refuse only here
            except RuntimeError as error:
                reason = str(error).strip().split("\n")[0]
                warnings.warn(f"{self.path}: decoded on the CPU, not on {self.device}: {reason}", stacklevel=2)
            else:
                return opened
        return decoder(path, **options)


def open_decoder(pyav: PyAV) -> tuple[PyAV | Torchcodec, int]:
    """What decodes the file that PyAV reads, and the number of its frames.

    Raises
    ------
    DataError : the file is unreadable, truncated, a playlist, has no picture, or is beyond MAX_PIXELS or MAX_FRAMES
    """
    torchcodec = Torchcodec(pyav.path, pyav)
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


class _ToRGB(threading.local):
    """PyAV's conversion of the frames of a file to RGB, upright; of each thread its own, kept while frames are alike.

    One for each frame would be made ready, with threads, for each. One that is kept goes by frames before it where
    these had other colours, before PyAV 17 in any case.
    """

    def __init__(self) -> None:
        import av

        self._keeps = int(av.__version__.split(".")[0]) >= 17
        self._kind: tuple[Any, ...] = ()
        self._kept: Any = None

    def __call__(self, frame: Any) -> Pixels:
        """(H, W, 3) uint8, turned as the file says (phones write such files), which torchcodec does by itself."""
        pixels = self._converted(frame).to_ndarray() if self._keeps else frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

    def _converted(self, frame: Any) -> Any:
        colours = frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries
        kind = frame.format.name, frame.width, frame.height, *colours
        if kind != self._kind:
            from av.video.reformatter import VideoReformatter

            self._kind, self._kept = kind, VideoReformatter()
        return self._kept.reformat(frame, format="rgb24", threads=1)


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


def check_frame(path: str | os.PathLike[str], width: int, height: int) -> None:
    """As :func:`check_size`, and for a frame that is so narrow that networks, which see it at a short side of hundreds
    of pixels, would make it vast.

    Examples
    --------
    >>> check_frame("strip.avi", 4096, 2)
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: strip.avi: must have sides of at most 32 to 1 in a frame, got 4096x2
    """
    check_size(path, width, height)
    if max(width, height) > MOST_NARROW * min(width, height) > 0:
        raise DataError(path, f"must have sides of at most {MOST_NARROW} to 1 in a frame, got {width}x{height}")
