"""A synthetic data set in the layout of A2D: videos of actors that do something, with true masks of every instance.

Harder than single clips: several actors of different actions may share a video and hide one another, posts stand in
front of them, cut-outs of photographs that are no actors lie about, and the camera moves. Everything is drawn here
from a seed, and is called synthetic in the names of its videos and in its README.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyws.data.synthetic.actors import PAINTERS, Image, paint_clutter, paint_occluder
from pyws.data.synthetic.rendering import SceneConfig, actor_path, camera_path, coarse, paste, scenery, view_of
from pyws.data.tagged.a2d_files import VideoRow, colours, needed_h5py, write_annotation, write_readme, write_videoset
from pyws.data.tagged.label_space import A2D_CODES, A2D_PAIRS
from pyws.data.video.frames import evenly, write_picture
from pyws.errors import DataError, check_fields
from pyws.files import write_lines
from pyws.folders import UNFINISHED, Writer, only_writer
from pyws.progress import track
from pyws.run_manifest import HASHES, seal_whole

DRAWN_ACTIONS = ("flying", "jumping", "rolling", "running", "none")


@dataclass(frozen=True)
class GeneratedConfig:
    """Size and difficulty of the synthetic set.

    Parameters
    ----------
    train
        Videos to learn from
    validation
        Videos to choose a model by
    test
        Videos to measure on
    frames
        Frames of a video
    annotated
        Frames of a video that carry true masks, spread evenly; 0 for all
    height
        Pixels of a frame from top to bottom
    width
        Pixels of a frame from left to right
    pairs
        Codes (10 actor + action, as in A2D) of what is drawn: actors ball, car and cat; actions flying, jumping,
        rolling, running and none
    actor_size
        Least and greatest side of the square around an actor, in pixels
    several
        Share of videos with more than one actor
    max_actors
        Most actors in a video
    clutter
        Most cut-outs of photographs in a scene
    occlusion
        Share of videos with a post in front
    pan
        How far the camera moves to each side, in pixels
    shake
        Standard deviation of the camera's shake from frame to frame, in pixels
    """

    train: int = 60
    validation: int = 12
    test: int = 24
    frames: int = 16
    annotated: int = 0
    height: int = 96
    width: int = 128
    pairs: tuple[int, ...] = (34, 35, 36, 39, 55, 56, 57, 59, 65, 66, 67, 69)
    actor_size: tuple[float, float] = (34.0, 54.0)
    several: float = 0.25
    max_actors: int = 2
    clutter: int = 3
    occlusion: float = 0.25
    pan: float = 4.0
    shake: float = 0.25

    def __post_init__(self) -> None:
        drawn = [code for code in A2D_CODES if A2D_PAIRS[code][0] in PAINTERS and A2D_PAIRS[code][1] in DRAWN_ACTIONS]
        if not self.pairs or not set(self.pairs) <= set(drawn):
            raise ValueError(f"synthetic A2D: pairs must be among {drawn}, got {self.pairs}")
        check_fields(self, "synthetic A2D", ">= 1", "train", "frames", "max_actors")
        check_fields(self, "synthetic A2D", ">= 0", "validation", "test", "annotated", "clutter", "pan", "shake")
        check_fields(self, "synthetic A2D", "in [0, 1]", "several", "occlusion")
        smallest, largest = self.actor_size
        if not 8 <= smallest <= largest or largest + 2 * self.pan > min(self.height, self.width):
            raise ValueError(
                f"synthetic A2D: actor_size must be 8 <= smallest <= largest <= short side - 2 pan of "
                f"{self.width}x{self.height} frames, got {smallest}, {largest}"
            )

    def scene(self) -> SceneConfig:
        """What the drawing functions read."""
        return SceneConfig(
            height=self.height, width=self.width, actor_size=self.actor_size, pan=self.pan, shake=self.shake
        )


@dataclass(frozen=True)
class GeneratedVideo:
    """A synthetic video and its truth.

    ``frames`` (T, H, W, 3) uint8; ``codes`` (N,) A2D code of each actor; ``masks`` (N, T, H, W) bool, what can be seen
    of each.
    """

    frames: Image
    codes: tuple[int, ...]
    masks: NDArray[np.bool_] = field(repr=False)


def draw_video(seed: int, index: int, config: GeneratedConfig = GeneratedConfig()) -> GeneratedVideo:
    """Draw video ``index`` of the synthetic set of ``seed``; as the first actor every pair comes equally often.

    Examples
    --------
    >>> video = draw_video(seed=0, index=5, config=GeneratedConfig(frames=3))
    >>> video.codes, video.frames.shape, video.masks.shape
    ((56,), (3, 96, 128, 3), (1, 3, 96, 128))
    """
    random = np.random.default_rng([seed, 3, index])
    scene = config.scene()
    camera, picture = camera_path(random, config.frames, scene), scenery(random, scene)
    codes = _cast(random, index, config)
    actors = [_Actor.draw(random, code, config, scene) for code in codes]
    things = [_thing(random, paint_clutter(random), config) for _ in range(int(random.integers(config.clutter + 1)))]
    posts = [_post(random, config)] if random.random() < config.occlusion else []

    frames = np.empty((config.frames, config.height, config.width, 3), np.uint8)
    masks = np.empty((len(actors), *frames.shape[:3]), bool)
    for time, shift in enumerate(camera):
        canvas = view_of(picture, shift, scene)
        for thing in things:
            paste(canvas, thing.sprite, thing.path[0], shift, thing.size)
        covers = [paste(canvas, one.sprite, one.path[time], shift, one.size) for one in actors]
        for post in posts:
            covers.append(paste(canvas, post.sprite, post.path[0], shift, post.size))
        frames[time] = coarse(canvas)
        masks[:, time] = _visible(covers)[: len(actors)]
    return GeneratedVideo(frames, codes, masks)


@dataclass(frozen=True)
class _Actor:
    """A sprite, the side of its square, and its pose in each frame (or its one pose, if it stands)."""

    sprite: Image
    size: float
    path: NDArray[np.float64]

    @staticmethod
    def draw(random: np.random.Generator, code: int, config: GeneratedConfig, scene: SceneConfig) -> _Actor:
        size = float(random.uniform(*config.actor_size))
        actor, action = A2D_PAIRS[code]
        sprite = PAINTERS[actor](random)
        return _Actor(sprite, size, actor_path(random, [action] * config.frames, size, scene))


def _cast(random: np.random.Generator, index: int, config: GeneratedConfig) -> tuple[int, ...]:
    """The pair that is due, and in some videos others of another actor or another action."""
    first = config.pairs[index % len(config.pairs)]
    others = [code for code in config.pairs if code != first]
    more = (
        int(random.integers(1, config.max_actors)) if config.max_actors > 1 and random.random() < config.several else 0
    )
    chosen = random.permutation(len(others))[:more]
    return (first, *(others[k] for k in chosen))


def _thing(random: np.random.Generator, sprite: Image, config: GeneratedConfig) -> _Actor:
    """A cut-out anywhere in the scene, turned anyhow."""
    size = float(random.uniform(0.6, 1.1) * np.mean(config.actor_size))
    row, column = random.uniform(0, config.height), random.uniform(0, config.width)
    return _Actor(sprite, size, np.array([[row, column, random.uniform(0, 2 * np.pi), 1.0]]))


def _post(random: np.random.Generator, config: GeneratedConfig) -> _Actor:
    """A post on the lower edge, away from the sides."""
    size = float(random.uniform(0.5, 0.9) * config.height)
    pose = [config.height - size / 2 + 2, random.uniform(0.2, 0.8) * config.width, 0.0, 1.0]
    return _Actor(paint_occluder(random), size, np.array([pose]))


def _visible(covers: list[Image]) -> NDArray[np.bool_]:
    """(layers, H, W): what can be seen of each layer; a pixel belongs to the layer with most of it, the last of equals.

    ``covers`` are fine, 0 or 255, from back to front.
    """
    seen = np.zeros((len(covers) + 1, *covers[0].shape), np.uint8)
    hidden = np.zeros(covers[0].shape, bool)
    for layer in range(len(covers) - 1, -1, -1):
        seen[layer + 1] = np.where(hidden, 0, covers[layer])
        hidden |= covers[layer] > 0
    seen[0] = np.where(hidden, 0, 255)
    shares = np.stack([coarse(layer) for layer in seen])
    front = len(shares) - 1 - shares[::-1].argmax(0)
    return front == np.arange(1, len(shares))[:, None, None]


def write_generated_a2d(
    out: Path,
    seed: int = 0,
    config: GeneratedConfig = GeneratedConfig(),
    quiet: bool = False,
) -> list[VideoRow]:
    """Write the synthetic set of ``seed`` under ``out``, in the layout of A2D (``out/Release``, ``out/list``).

    Frames are png files of ``pngs320H`` (whatever their height), truth is both HDF5 (``Annotations/mat``) and coloured
    png (``Annotations/col``); the README names the pairs that occur.

    Raises
    ------
    DataError : ``out`` already holds a data set, or h5py is not installed
    """
    needed_h5py(out)  # before anything is drawn
    unfinished = out / UNFINISHED

    def begin(writer: Writer, first: bool) -> None:
        if (out / "Release" / "videoset.csv").exists() and not unfinished.exists():
            raise DataError(out, "holds a data set already; choose another folder")
        unfinished.touch()
        (out / HASHES).unlink(missing_ok=True)

    with only_writer(out, entering=begin):
        rows = _draw(out, seed, config, quiet)
        seal_whole(out, out)
        unfinished.unlink()
    return rows


def _draw(out: Path, seed: int, config: GeneratedConfig, quiet: bool) -> list[VideoRow]:
    release = out / "Release"
    subsets = ["train"] * config.train + ["val"] * config.validation + ["test"] * config.test
    rows = []
    table = colours(config.pairs)
    for index in track(range(len(subsets)), "drawing synthetic videos", quiet=quiet):
        name = f"synthetic_{index:04d}"
        video = draw_video(seed, index, config)
        annotated = _annotated(config)
        for time, frame in enumerate(video.frames):
            write_picture(release / "pngs320H" / name / f"{time + 1:05d}.png", frame)
        for time in annotated:
            write_annotation(release / "Annotations", name, time + 1, video.codes, video.masks[:, time], table)
        usage = "test" if subsets[index] == "test" else "train"
        end = f"0:00:{config.frames / config.scene().fps:05.2f}"
        shape = (config.height, config.width, config.frames, len(annotated))
        rows.append(VideoRow(name, video.codes[0], "0:00:00.00", end, *shape, usage=usage))
    for subset in ("train", "val", "test"):
        names = [row.name for row, its in zip(rows, subsets, strict=True) if its == subset]
        frames = [f"{name}/{time + 1:05d}" for name in names for time in _annotated(config)]
        write_lines(out / "list" / f"{subset}.txt", frames)
    write_readme(release / "README", "SYNTHETIC data in the layout of A2D, drawn by pyws; not A2D.", config.pairs)
    write_videoset(release / "videoset.csv", rows)
    return rows


def _annotated(config: GeneratedConfig) -> list[int]:
    return evenly(config.frames, config.annotated or config.frames)
