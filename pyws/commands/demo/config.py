"""The sizes of the demo, every default on one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyws.data.synthetic.rendering import SceneConfig


@dataclass(frozen=True)
class DemoConfig:
    """What the demo draws, trains and measures."""

    clips: int = 240  # trained on, from tags only
    held_out: int = 48  # the classifier's accuracy is counted on these
    annotated: int = 48  # the first of the clips trained on, which get masks
    frames: int = 16  # frames of a clip
    epochs: int = 20
    batch: int = 8
    learning_rate: float = 8e-3  # the peak of one cycle
    weight_decay: float = 1e-2
    width: int = 16  # channels of the classifier's first layer
    region_area: int = 80  # frame pixels of a superpixel; the spec's 768 at 320x480 for frames of this size
    streams: int = 12
    stream_seconds: float = 48.0
    smoothing: int = 3  # snippets that are averaged before the classifier's head is slid over a stream
    thresholds: tuple[float, ...] = tuple(step / 20 for step in range(1, 19))  # those of proposals
    class_threshold: float = 0.15  # a class whose best eighth of snippets scores less is not looked for
    threads: int = 2  # fixed, since the order of sums depends on it: the same numbers on any number of cores
    scene: SceneConfig = field(default_factory=SceneConfig)
