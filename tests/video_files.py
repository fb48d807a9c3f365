"""Video files of known frames, and of known timing: every frame is grey then, its level tells its index, its time is
what the test says."""

from fractions import Fraction

import av
import numpy as np

TICKS = 1000  # ticks of a second, as Matroska counts


def write_timed_video(path, times, levels=None, size=(48, 32), sound=False):
    """Frames shown at ``times`` (seconds), with grey levels (4 k mod 240) or those given; ``sound`` from second 0."""
    levels = [4 * k % 240 for k in range(len(times))] if levels is None else levels
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "gray"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        if sound:
            track = container.add_stream("pcm_s16le", rate=8000)
            track.layout = "mono"
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            silence.rate, silence.pts = 8000, 0
            container.mux(track.encode(silence))
            container.mux(track.encode(None))
        for time, level in zip(times, levels, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0]), level, np.uint8), format="gray")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_video(path, frames):
    """Frames (H, W, 3) uint8 RGB, ten a second, as MPEG-4 sees them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def shown(times, grid):
    """Index of the frame on display at each time of the grid."""
    return [max(k for k, time in enumerate(times) if time <= at + 1e-4) for at in grid]
