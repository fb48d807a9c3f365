"""Actions of whole actors: instances, their tracks, and a vote along each (WS^2, inference).

A frame shows the actor far more reliably than the action. Each instance of an actor therefore takes the action that
most frames around it predict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.label_space import LabelSpace
from pyws.data.tagged.rle import box_of
from pyws.data.video.frames import Pixels
from pyws.errors import check_fields

EIGHT = np.ones((3, 3), bool)  # neighbours that belong together


@dataclass(frozen=True)
class AlignmentConfig:
    """How instances are found and linked, and how their actions are voted.

    Parameters
    ----------
    radius
        Sampled frames before and after that vote
    vote
        One vote for each frame of the track, one for each pixel, or each pixel's probabilities
    min_area
        Minimum area of an instance, in pixels
    min_share
        Minimum share of the frame that an instance covers
    min_iou
        Minimum IoU of the masks of an instance in two frames
    max_mask_gap
        Maximum distance of two sampled frames whose masks are compared, in frames of the video; beyond it boxes are
    min_box_iou
        Minimum IoU of those boxes
    max_missing
        Maximum number of sampled frames in a row that an instance may be missing from
    """

    radius: int = 5
    vote: Literal["frame", "pixel", "prob"] = "frame"
    min_area: int = 64
    min_share: float = 0.001
    min_iou: float = 0.3
    max_mask_gap: int = 4
    min_box_iou: float = 0.2
    max_missing: int = 1

    def __post_init__(self) -> None:
        check_fields(self, "action alignment", ">= 0", "radius", "min_area", "max_mask_gap", "max_missing")
        check_fields(self, "action alignment", "in [0, 1]", "min_share", "min_iou", "min_box_iou")


class ClassProbabilities(NamedTuple):
    """Class probabilities of each pixel of a frame.

    Parameters
    ----------
    ids : (K,) train ids
    values : (K, H, W) float32
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass
class Instance:
    """A connected piece of one actor in one frame."""

    frame: int
    actor: int
    mask: NDArray[np.bool_]  # (H, W)
    pixels: NDArray[np.int64]  # (actions,) pixels of each action inside
    action_sums: NDArray[np.float64] | None = None  # (actions,) probability of each, summed over the pixels
    track: int = -1
    action: int = 0

    @cached_property
    def area(self) -> int:
        return int(self.pixels.sum())

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right; the last two outside."""
        return box_of(self.mask)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        top, left, bottom, right = self.box
        return slice(top, bottom), slice(left, right)


class AlignedFrame(NamedTuple):
    """A frame whose actions are final.

    Parameters
    ----------
    number : index among the sampled frames
    mask : (H, W) uint8 train ids
    """

    number: int
    mask: Pixels
    instances: list[Instance]


class ActionAligner:
    """Aligns the actions of a video frame by frame; what it keeps in memory does not grow with the video.

    A frame is final ``radius`` frames later, when everything that votes on its actions is known. The background and the
    actors stay as they were; pieces too small for an instance keep their action. Ties go to the action predicted in
    the frame of the instance, then to the one with more pixels, then to the lower one.

    Parameters
    ----------
    space : what the ids mean; only pairs that it has can come out
    config : see :class:`AlignmentConfig`
    gap : frames of the video from one sampled frame to the next

    Examples
    --------
    >>> from pyws.data.tagged.label_space import actor_actions
    >>> space, config = actor_actions([("cat", "running"), ("cat", "eating")]), AlignmentConfig()
    >>> aligner, aligned = ActionAligner(space, config), []
    >>> for number, action in enumerate((1, 2, 1)):
    ...     mask = np.full((10, 10), action, np.uint8)
    ...     aligned += aligner.add(mask, find_instances(number, mask, space, config))
    >>> [int(frame.mask[0, 0]) for frame in (*aligned, *aligner.finish())]
    [1, 1, 1]
    """

    def __init__(self, space: LabelSpace, config: AlignmentConfig = AlignmentConfig(), gap: int = 1) -> None:
        self.space, self.config, self.gap = space, config, gap
        self.tracks = 0
        """Number of tracks so far."""
        self._pairs = space.pairs()
        self._frames = 0
        self._masks: dict[int, Pixels] = {}  # masks of frames that are not final
        self._instances: dict[int, list[Instance]] = {}  # also of earlier frames that still matter

    def add(self, mask: Pixels, instances: list[Instance]) -> Iterator[AlignedFrame]:
        """Take the next frame and its instances (:func:`find_instances`); gives the frame that becomes final."""
        if self.config.vote == "prob" and any(one.action_sums is None for one in instances):
            raise ValueError("ActionAligner: vote 'prob' needs instances that were found with class probabilities")
        index, self._frames = self._frames, self._frames + 1
        self._masks[index], self._instances[index] = mask, instances
        self._link(index)
        if index >= self.config.radius:
            yield self._final(index - self.config.radius)

    def finish(self) -> Iterator[AlignedFrame]:
        """The frames that are left when the video has ended."""
        yield from (self._final(index) for index in sorted(self._masks))

    def _link(self, index: int) -> None:
        """Continue the tracks that overlap best in a frame shortly before; number new ones."""
        current = self._instances[index]
        for back in range(1, min(self.config.max_missing + 1, index) + 1):
            recent = itertools.chain(*(self._instances[k] for k in range(index - back + 1, index + 1)))
            taken = {one.track for one in recent}
            before = [one for one in self._instances[index - back] if one.track not in taken]
            _match(before, current, self.config, self.gap * back)
        for one in current:
            if one.track < 0:
                one.track, self.tracks = self.tracks, self.tracks + 1

    def _final(self, index: int) -> AlignedFrame:
        """Vote on the actions of a frame, and let go what later frames do not need."""
        radius, mask, instances = self.config.radius, self._masks.pop(index).copy(), self._instances[index]
        for one in instances:
            around = range(index - radius, index + radius + 1)
            near = [other for k in around for other in self._instances.get(k, ()) if other.track == one.track]
            one.action = _winner(one, near, self._pairs[one.actor] > 0, self.config.vote)
            mask[one.place][one.mask[one.place]] = self._pairs[one.actor, one.action]
        needed = min(index + 1 - radius, self._frames - self.config.max_missing - 1)
        for old in [k for k in self._instances if k < needed]:
            del self._instances[old]
        return AlignedFrame(index, mask, instances)


def find_instances(
    index: int,
    mask: Pixels,
    space: LabelSpace,
    config: AlignmentConfig,
    probabilities: ClassProbabilities | None = None,
) -> list[Instance]:
    """Connected components of each actor in frame ``index``, large enough, row by row from the top."""
    from scipy import ndimage

    actors, actions = space.merge(mask, "actor"), space.merge(mask, "action")
    smallest, found = max(config.min_area, config.min_share * mask.size), []
    present = np.flatnonzero(np.bincount(actors.ravel(), minlength=len(space.actors))[1 : len(space.actors)]) + 1
    for actor in present.tolist():
        whole = actors == actor
        top, left, bottom, right = box_of(whole)
        labels, _ = ndimage.label(whole[top:bottom, left:right], EIGHT)
        areas, boxes = np.bincount(labels.ravel()), ndimage.find_objects(labels)
        for place in np.flatnonzero(areas[1:] >= smallest).tolist():
            box, inside = boxes[place], np.zeros(mask.shape, bool)
            own = labels[box] == place + 1
            inside[top:bottom, left:right][box] = own
            pixels = np.bincount(actions[top:bottom, left:right][box][own], minlength=len(space.actions))
            found.append(Instance(index, actor, inside, pixels, _action_sums(actor, inside, space, probabilities)))
    return found


def _action_sums(
    actor: int, inside: NDArray[np.bool_], space: LabelSpace, probabilities: ClassProbabilities | None
) -> NDArray[np.float64] | None:
    """(actions,) probability of the actor's pairs, summed over the pixels inside."""
    if probabilities is None:
        return None
    own = np.asarray(space.actor)[probabilities.ids] == actor
    total = probabilities.values[own][:, inside].sum(1, dtype=np.float64)
    return np.bincount(np.asarray(space.action)[probabilities.ids[own]], total, len(space.actions)).astype(np.float64)


def _match(before: list[Instance], current: list[Instance], config: AlignmentConfig, distance: int) -> None:
    """One to one, the best overlap first; ties by the order of the instances."""
    far = distance > config.max_mask_gap
    overlap, min_overlap = (_box_iou, config.min_box_iou) if far else (_mask_iou, config.min_iou)
    scored = [
        (-score, i, j)
        for i, one in enumerate(before)
        for j, other in enumerate(current)
        if one.actor == other.actor and other.track < 0 and (score := overlap(one, other)) >= min_overlap
    ]
    used: set[int] = set()
    for _, i, j in sorted(scored):
        if i not in used and current[j].track < 0:
            used.add(i)
            current[j].track = before[i].track


def _mask_iou(one: Instance, other: Instance) -> float:
    a, b = one.box, other.box
    shared = slice(max(a[0], b[0]), min(a[2], b[2])), slice(max(a[1], b[1]), min(a[3], b[3]))
    both = int(np.count_nonzero(one.mask[shared] & other.mask[shared]))
    return both / (one.area + other.area - both)


def _box_iou(one: Instance, other: Instance) -> float:
    a, b = one.box, other.box
    sides = [max(min(a[2 + k], b[2 + k]) - max(a[k], b[k]), 0) for k in (0, 1)]
    both = sides[0] * sides[1]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)


def _winner(one: Instance, near: list[Instance], valid: NDArray[np.bool_], vote: str) -> int:
    """The action with most votes among those that go with the actor."""
    pixels = np.sum([other.pixels for other in near], 0)
    votes: NDArray[Any] = pixels
    if vote == "frame":
        votes = np.bincount([int(other.pixels.argmax()) for other in near], minlength=len(pixels))
    elif vote == "prob":
        votes = np.sum([other.action_sums for other in near if other.action_sums is not None], 0)
    own = int(one.pixels.argmax())
    candidates = np.flatnonzero(valid)
    return int(max(candidates, key=lambda action: (votes[action], action == own, pixels[action], -action)))
