"""Frames of video files: torchcodec and PyAV give the same ones; PyAV serves where torchcodec gives up."""

import itertools
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from av.video import reformatter
from video_files import write_timed_video

from pyws import DataError
from pyws.commands.common import Common
from pyws.data.video import decoders
from pyws.data.video.decoders import PyAV, Torchcodec, open_decoder
from pyws.data.video.frames import open_frames
from pyws.report.movies import write_video

needs_torchcodec = pytest.mark.skipif(
    decoders._video_decoder() is None, reason="torchcodec or the FFmpeg libraries it needs are not installed"
)


def pictures(count, height=48, width=64):
    """Smooth pictures, so that compression keeps them, each brighter than the one before; the upper left is red."""
    ramp = np.linspace(0, 60, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    found = [np.clip(ramp + 6 * index, 0, 255).repeat(3, 2).astype(np.uint8) for index in range(count)]
    for picture in found:
        picture[: height // 2, : width // 2, 1:] = 0
    return found


def write(path, frames, times=None, **options):
    """A video of ten frames a second, or of frames at ``times``, hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate, stream.gop_size = "yuv420p", 4_000_000, 5
        tick = Fraction(1, 100 if times else 10)
        stream.codec_context.time_base = tick
        for time, picture in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def close(one, other, levels):
    return one.shape == other.shape and np.abs(one.astype(int) - other).max() <= levels


@needs_torchcodec
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_both_decoders_give_the_same_frames(tmp_path, name):
    path = write(tmp_path / name, pictures(20))
    one, other = PyAV(path), Torchcodec(path)
    assert one.count() == other.count() == 20
    for indices in (range(20), [0, 7, 19], [13], []):
        pairs = list(zip(one.read(indices), other.read(indices), strict=True))
        assert len(pairs) == len(indices)
        assert all(close(left, right, 2) for left, right in pairs)


@pytest.mark.parametrize("version", ["15.0.0", "18.1.0", "19.0.2"])
def test_videos_are_opened_with_arguments_that_the_version_of_pyav_has(tmp_path, monkeypatch, version):
    open_, of_titles = av.open, {"metadata_encoding", "metadata_errors"}  # which PyAV 19 took away
    known = {"file", "mode", "format", "container_options", "buffer_size", "timeout", "io_open", "hwaccel"}
    known |= of_titles if version < "19" else {"options"}  # with which PyAV before 17.1 crashes on .mpg

    def open_of_version(*arguments, **options):
        assert options.keys() <= known
        return open_(*arguments, **{name: options[name] for name in options.keys() - of_titles})

    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(av, "open", open_of_version)
    assert write_video(tmp_path / "clip.mp4", pictures(3)) == PyAV(tmp_path / "clip.mp4").count() == 3


@needs_torchcodec
def test_frames_at_uneven_times_are_the_frames_in_their_order(tmp_path):
    frames = pictures(12)
    path = write(tmp_path / "uneven.mp4", frames, times=[0, 1, 2, 30, 31, 70, 90, 91, 92, 93, 300, 301])
    video = open_frames(path)
    assert isinstance(video._decoder, Torchcodec)
    assert len(video) == 12
    assert all(close(found, frame, 24) for found, frame in zip(video.read(range(12)), frames, strict=True))


def test_frames_that_a_recorder_dropped_are_no_truncation(tmp_path):
    path = write(tmp_path / "dropped.avi", pictures(30), times=list(range(0, 300, 10)))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 200  # the header counts every hundredth of a second
    assert len(open_frames(path)) == 30
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"dropped.avi: is truncated"):
        open_frames(path)


@pytest.mark.parametrize("decoder", [PyAV, pytest.param(Torchcodec, marks=needs_torchcodec)])
def test_frames_are_turned_as_the_file_says(tmp_path, decoder):
    path = write(tmp_path / "phone.mp4", pictures(3))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: the matrix stands after 40 bytes of the box
    assert struct.unpack_from(">9i", content, matrix) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, matrix, 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)  # a quarter clockwise
    path.write_bytes(content)
    (frame,) = decoder(path).read([1])
    assert frame.shape == (64, 48, 3)
    red = frame[..., 0].astype(int) - frame[..., 1] > 5
    assert red[:30, 26:].mean() > 0.9  # the upper left has become the upper right
    assert red[36:].mean() < 0.1


@needs_torchcodec
def test_pyav_decodes_what_torchcodec_gives_up_on(tmp_path):
    path = write(tmp_path / "bframes.avi", pictures(20), bf="2")
    assert Torchcodec(path).count() is None  # no time stamps in AVI, and so none on the last frame
    decoder, count = open_decoder(PyAV(path))
    assert isinstance(decoder, PyAV)
    assert count == 20


class OnGpu:
    """torchcodec's decoder: of files named new.mp4 and late.mp4 its GPU takes neither; it says so at once, or late."""

    opened: ClassVar[list] = []

    def __init__(self, path, dimension_order, num_ffmpeg_threads, device="cpu"):
        self.name, self.device = Path(path).name, device
        if device != "cpu" and self.name == "new.mp4":
            raise RuntimeError("Unsupported device: cuda:0\nsomewhere in C++")
        self.opened.append((self.name, device))

    def __len__(self):
        return 5

    def get_frame_at(self, index):
        if self.device != "cpu" and self.name == "late.mp4":
            raise RuntimeError("codec without hardware decoding")
        return SimpleNamespace(data=torch.full((2, 2, 3), index, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("name", "reason"), [("old.mp4", None), ("new.mp4", "Unsupported device: cuda:0$"), ("late.mp4", "codec without")]
)
def test_the_gpu_decodes_what_it_can(tmp_path, monkeypatch, name, reason):
    monkeypatch.setattr(decoders, "_video_decoder", lambda: OnGpu)
    monkeypatch.setattr(OnGpu, "opened", [])
    monkeypatch.setattr(Torchcodec, "device", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Common(device="cuda:0").use_device().type == "cuda"
    path = write(tmp_path / name, pictures(5))
    with (
        pytest.warns(UserWarning, match=rf"{name}: decoded on the CPU, not on cuda:0: {reason}")
        if reason
        else nullcontext()
    ):
        found = list(Torchcodec(path).read([1, 4]))
    assert [frame.max() for frame in found] == [1, 4]
    assert OnGpu.opened[-1] == (name, "cpu" if reason else "cuda:0")
    assert Common(device="cpu").use_device().type == Torchcodec.device == "cpu"


@pytest.mark.parametrize("name", ["cut.mp4", "list.m3u8", "other.txt"])
def test_no_decoder_sees_what_pyav_refuses(tmp_path, monkeypatch, name):
    def never(*arguments, **options):
        raise AssertionError(f"opened {arguments[0]}")

    monkeypatch.setattr(decoders, "_video_decoder", lambda: never)
    whole = write(tmp_path / "whole.mp4", pictures(5)).read_bytes()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nwhole.mp4\n"
    contents = {"cut.mp4": whole[:200], "list.m3u8": playlist, "other.txt": b"words"}
    (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(DataError, match=f"{name}: cannot be decoded"):
        open_frames(tmp_path / name)


def test_truncated_file_is_named_whoever_decodes(tmp_path):
    path = write(tmp_path / "long.avi", pictures(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"long.avi: is truncated: its header says 60 frames, \d+ can be decoded"):
        open_frames(path)


@pytest.mark.parametrize("decoder", [PyAV, pytest.param(Torchcodec, marks=needs_torchcodec)])
def test_file_that_shrinks_while_it_is_read(tmp_path, decoder):
    path = write(tmp_path / "clip.mp4", pictures(4))
    with pytest.raises(DataError, match="clip.mp4: changed while it was read"):
        list(decoder(path).read([0, 9]))


@pytest.mark.parametrize(("name", "bf"), [("clip.mp4", "0"), ("clip.mkv", "2"), ("clip.avi", "2"), ("clip.mpg", "0")])
def test_a_frame_that_is_sought_is_the_one_that_decoding_gives(tmp_path, name, bf):
    path = write(tmp_path / name, pictures(23), bf=bf)
    every = [one.pixels() for one in PyAV(path).timed()]
    assert PyAV(path).count() == len(every)
    for indices in ([0], [22], [4, 5], [9, 21], [3, 13, 14, 22], range(23)):
        found = list(PyAV(path).read(indices))
        assert all(np.array_equal(one, every[index]) for one, index in zip(found, indices, strict=True))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mpg", "clip.ts"])
def test_decoding_from_a_key_frame_begins_with_it(tmp_path, name):
    """Also where the index of the container leads to a frame before it."""
    video = PyAV(write(tmp_path / name, pictures(23)))
    assert [next(video._decode(first))[0] for first in (5, 10, 20)] == [5, 10, 20]


def test_an_index_that_leads_elsewhere_is_followed_once(tmp_path, monkeypatch):
    """It lost seven frames behind each key frame; from then on the file is decoded from its start."""
    path, begun, usual = write(tmp_path / "clip.mp4", pictures(40)), [], PyAV._decode

    def decode(self, first=0):
        begun.append(first)
        yield from (pair for pair in usual(self, first) if not first or pair[0] >= first + 7)

    every = [one.pixels() for one in PyAV(path).timed()]
    monkeypatch.setattr(PyAV, "_decode", decode)
    found = list(PyAV(path).read([0, 22, 38]))
    assert begun == [0, 20, 0]
    assert all(np.array_equal(one, every[at]) for one, at in zip(found, [0, 22, 38], strict=True))


def test_frames_of_real_clips_are_those_that_decoding_gives(shared):
    clips = [path for path in sorted((shared / "data" / "action_clips").iterdir()) if path.suffix in (".avi", ".mp4")]
    assert clips
    for path in clips:
        every = [one.pixels() for one in PyAV(path).timed()]
        frames = open_frames(path)
        indices = sorted({*range(3, len(frames), 17), len(frames) - 1})
        assert len(frames) == len(every)
        assert all(close(one, every[at], 2) for one, at in zip(frames.read(indices), indices, strict=True)), path


def test_few_frames_of_a_long_video_decode_few_frames(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", pictures(40))
    decoded, upright = [], PyAV._decode

    def counted(self, first=0):
        for pair in upright(self, first):
            decoded.append(pair[0])
            yield pair

    monkeypatch.setattr(PyAV, "_decode", counted)
    decoder = PyAV(path)
    assert decoder.count() == 40
    assert decoded == []
    assert len(list(decoder.read([11, 33]))) == 2
    assert decoded == [10, 11, 30, 31, 32, 33]  # from the key frames, five apart


def test_a_glance_takes_key_frames_that_are_near(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", pictures(40))  # ten a second, key frames five apart
    monkeypatch.setattr(decoders, "_video_decoder", lambda: None)
    frames, decoded, forward = open_frames(path), [], decoders._forward
    monkeypatch.setattr(decoders, "_forward", lambda pairs, at: decoded.append(at) or forward(pairs, at))
    found = frames.glance([0.65, 0.85, 0.86, 3.35, 9.0], slack=0.2)
    assert decoded == [5, 8, 33, 39]  # 0.6 s is 0.1 s after a key frame, 0.8 s and 3.3 s are 0.3 s after one
    assert all(
        close(one, every, 2) for one, every in zip(found[:2] + found[3:], frames.read([5, 8, 33, 39]), strict=True)
    )


def test_a_title_that_is_no_utf8_does_not_matter(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "MARKED"
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in pictures(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    raw = path.read_bytes()
    assert b"MARKED" in raw
    path.write_bytes(raw.replace(b"MARKED", b"\xe9\xff\xfe\xe9\xff\xfe"))
    assert PyAV(path).count() == 3
    assert len(open_frames(path)) == 3


def test_an_unknown_codec_is_an_error_of_the_file(tmp_path):
    path = write(tmp_path / "clip.avi", pictures(3))
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZ9Z").replace(b"fmp4", b"zz9z"))
    with pytest.raises(DataError, match=r"clip.avi: is of a codec that this FFmpeg has no decoder for"):
        open_frames(path)


def test_pictures_without_a_size_that_ffmpeg_takes_are_an_error_that_says_so(tmp_path):
    path, size = tmp_path / "vast.gif", b"\xff\xff\xff\xff"
    path.write_bytes(b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\x02\x02L\x01\0;")
    for read in (PyAV(path).header, lambda: open_frames(path)):
        with pytest.raises(
            DataError, match=r"vast.gif: cannot be decoded: its pictures have no size that FFmpeg takes"
        ):
            read()


def test_frames_that_change_their_size_midway_are_decoded_from_the_start(tmp_path):
    path, time = tmp_path / "grows.ts", 0
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        larger = av.CodecContext.create("mpeg2video", "w")
        larger.height, larger.width, larger.pix_fmt, larger.framerate = 96, 128, "yuv420p", Fraction(10)
        larger.time_base = Fraction(1, 10)
        for encoder, size in ((stream.codec_context, (48, 64)), (larger, (96, 128))):
            packets = []
            for picture in pictures(10, *size):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base, time = time, Fraction(1, 10), time + 1
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, Fraction(1, 10)
                container.mux(packet)
    frames = open_frames(path)
    sizes = [picture.shape[:2] for picture in frames.read(range(len(frames)))]
    assert sizes[0] == (48, 64)
    assert sizes[-1] == (96, 128)
    assert len(sizes) >= 18


def frames_of_many_kinds():
    """Interleaved sizes, formats and colour ranges."""
    rng = np.random.default_rng(0)
    for height, width in ((48, 64), (36, 96), (48, 64)):  # at 38 FFmpeg makes 10 bits in several ways
        picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), format="rgb24")
        for name in ("yuv420p", "gray", "yuv444p10le", "yuvj420p", "rgb24"):
            yield picture.reformat(format=name)
        for colorspace, color_range in ((1, 1), (5, 2), (9, 1)):  # BT.709, BT.601 in full range, BT.2020
            frame = picture.reformat(format="yuv420p")
            frame.colorspace, frame.color_range = colorspace, color_range
            yield frame


def test_one_conversion_serves_frames_of_any_kind():
    """In two threads at once and in any order, each frame as a conversion of its own would give it."""
    wanted = [frame.to_ndarray(format="rgb24") for frame in frames_of_many_kinds()]
    assert len({pixels.tobytes() for pixels in wanted}) > 12  # ranges and colour spaces matter
    to_rgb = decoders._ToRGB()

    def wrong(seed):
        frames = list(frames_of_many_kinds())
        order = np.random.default_rng(seed).integers(0, len(frames), 60).repeat(2)
        return [(seed, i) for i in order if not np.array_equal(to_rgb(frames[i]), wanted[i])]

    with ThreadPoolExecutor(2) as pool:
        assert list(itertools.chain(*pool.map(wrong, range(20)))) == []


@pytest.mark.parametrize(("version", "kept"), [("16.1.0", False), ("17.0.0", True), ("18.1.0", True)])
def test_a_conversion_is_kept_while_frames_are_alike(monkeypatch, version, kept):
    made = []

    class Reformatter:
        def __init__(self):
            made.append([])

        def reformat(self, frame, **options):
            made[-1].append(options)
            return frame.reformat(format="rgb24")

    frames = list(frames_of_many_kinds())
    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(reformatter, "VideoReformatter", Reformatter)
    to_rgb = decoders._ToRGB()
    for index in (0, 0, 1, 1, 1, 8, 0):
        assert to_rgb(frames[index]).shape == (frames[index].height, frames[index].width, 3)
    assert list(map(len, made)) == ([2, 3, 1, 1] if kept else [])
    assert all(options == {"format": "rgb24", "threads": 1} for options in itertools.chain(*made))


@pytest.mark.parametrize(("sound", "first"), [(False, 0.0), (True, 1.5)])
def test_times_count_from_the_start_of_the_file(tmp_path, sound, first):
    """By the stamps of packets as by decoding; pictures may start after the sound."""
    path = write_timed_video(tmp_path / "late.mkv", [1.5 + k / 25 for k in range(20)], sound=sound)
    video = PyAV(path)
    assert video.stamps is not None
    assert video.stamps.frames[0] > 0
    assert video.times() == pytest.approx([first + k / 25 for k in range(20)], abs=2e-3)
    assert [one.time for one in PyAV(path).timed()] == pytest.approx(video.times())


def test_a_file_of_sound_alone_has_no_pictures(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match=r"a\.mkv: has no video stream"):
        PyAV(tmp_path / "a.mkv").count()


def test_frames_of_a_video_are_bounded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", pictures(4))
    monkeypatch.setattr(decoders, "MAX_FRAMES", 4)
    assert PyAV(path).count() == 4
    assert sum(1 for _ in PyAV(path)._decode()) == 4
    monkeypatch.setattr(decoders, "MAX_FRAMES", 3)
    for use in (PyAV(path).count, lambda: list(PyAV(path)._decode())):
        with pytest.raises(DataError, match=r"a\.mkv: must have at most 3 frames"):
            use()


def test_times_are_decoded_where_no_packet_tells_them(tmp_path):
    decoder = PyAV(write(tmp_path / "a.mkv", pictures(6)))
    told = decoder.times()
    decoder.stamps = None
    assert decoder.times() == pytest.approx(told)
    assert told == pytest.approx([k / 10 for k in range(6)], abs=0.002)
