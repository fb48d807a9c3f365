"""What the ids in masks mean: background, then objects or pairs of an actor and an action."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.frames import read_mask
from pyws.errors import DataError

IGNORE = 255  # pixels that count neither for nor against anything
BACKGROUND = "background"
View = Literal["joint", "actor", "action"]

A2D_ACTORS = ("adult", "baby", "ball", "bird", "car", "cat", "dog")
A2D_ACTIONS = ("climbing", "crawling", "eating", "flying", "jumping", "rolling", "running", "walking", "none")
# 10 * actor + action, both counted from 1, of the pairs that A2D has.
A2D_CODES = (
    11, 12, 13, 15, 16, 17, 18, 19, 21, 22, 26, 28, 29, 34, 35, 36, 39, 41, 43, 44, 45, 46, 48, 49, 54, 55, 56, 57, 59,
    61, 63, 65, 66, 67, 68, 69, 72, 73, 75, 76, 77, 78, 79,
)  # fmt: skip
A2D_PAIRS = {
    10 * i + k: (actor, action) for i, actor in enumerate(A2D_ACTORS, 1) for k, action in enumerate(A2D_ACTIONS, 1)
}
"""Actor and action of every code that A2D's rule gives, whether it has the pair or not."""
YOUTUBE_OBJECTS = ("aeroplane", "bird", "boat", "car", "cat", "cow", "dog", "horse", "motorbike", "train")


def read_ids(path: str | os.PathLike[str], count: int) -> NDArray[np.uint8]:
    """The mask of a file, (H, W) ids below ``count``, or 255.

    Raises
    ------
    DataError : as :func:`pyws.data.video.frames.read_mask`, or another id
    """
    ids = read_mask(path)
    strange = ids[(ids >= count) & (ids != IGNORE)]
    if strange.size:
        raise DataError(path, f"ids must be 0..{count - 1} or {IGNORE}, got {strange.max()}")
    return ids


def shown_ids(mask: NDArray[Any]) -> list[int]:
    """The ids that a mask shows, in order, without the background and what is ignored."""
    return [one for one in np.unique(mask).tolist() if one not in (0, IGNORE)]


def numbered(mask: NDArray[np.uint8], ids: Sequence[int]) -> NDArray[np.uint8]:
    """Ids of a mask to 1, 2, ... in their order, and 0 for all others.

    Examples
    --------
    >>> mask = np.array([[0, 7, 3, 9]], np.uint8)
    >>> numbered(mask, [7, 3]).tolist(), with_ids(numbered(mask, [7, 3]), [7, 3]).tolist()
    ([[0, 1, 2, 0]], [[0, 7, 3, 0]])
    """
    table = np.zeros(256, np.uint8)
    table[list(ids)] = np.arange(1, len(ids) + 1)
    return table.take(mask)


def with_ids(numbers: NDArray[np.uint8], ids: Sequence[int]) -> NDArray[np.uint8]:
    """A mask of numbers to the ids that these have, the first of which is that of 1; see :func:`numbered`."""
    if len(ids) == 1:
        return numbers * np.uint8(ids[0])
    return np.array([0, *ids], np.uint8).take(numbers)


@dataclass(frozen=True)
class LabelSpace:
    """The train ids 0..C-1 of masks; id 0 is the background, and 255 in a mask is ignored.

    Parameters
    ----------
    names : name of each id, e.g. "cat-jumping"; the first is "background"
    actor, action : index of each id's actor and action into ``actors`` and ``actions``, 0 for the background. Where
        ids are objects, every action is 0
    actors, actions : their names; the first of each is "background"

    Raises
    ------
    ValueError : the parts do not fit together, or there are more ids than an 8-bit mask holds

    Examples
    --------
    >>> space = a2d()
    >>> len(space), space.names[1], space.id_of("cat", "jumping"), len(space.actors), len(space.actions)
    (44, 'adult-climbing', 32, 8, 10)
    >>> space.merge(np.array([0, 1, 32, 255]), "actor").tolist()
    [0, 1, 6, 255]
    >>> object_labels(["dog", "cat"]).names
    ('background', 'dog', 'cat')
    """

    names: tuple[str, ...]
    actor: tuple[int, ...]
    action: tuple[int, ...]
    actors: tuple[str, ...]
    actions: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= IGNORE or len(self.actor) != count or len(self.action) != count:
            raise ValueError(f"LabelSpace: must have 1..{IGNORE} ids with an actor and an action each, got {count}")
        for title, ids, names in (("actor", self.actor, self.actors), ("action", self.action, self.actions)):
            if not names or ids[0] != 0 or min(ids) < 0 or max(ids) >= len(names):
                raise ValueError(f"LabelSpace: {title} of each id must be in 0..{len(names) - 1}, got {ids}")
        for title, names in (("names", self.names), ("actors", self.actors), ("actions", self.actions)):
            if len(set(names)) != len(names) or names[0] != BACKGROUND:
                raise ValueError(f"LabelSpace: {title} must differ and start with {BACKGROUND!r}, got {names}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_actions(self) -> bool:
        """Whether ids are pairs of an actor and an action."""
        return len(self.actions) > 1

    def id_of(self, actor: str, action: str | None = None) -> int:
        """The train id of an object, or of a pair; ValueError names what is not in the space."""
        name = actor if action is None else f"{actor}-{action}"
        if name not in self.names[1:]:
            raise ValueError(f"{name!r} is not among the labels: {', '.join(self.names[1:])}")
        return self.names.index(name)

    def pairs(self) -> NDArray[np.int64]:
        """(actors, actions) train id of each pair, 0 where the two do not go together."""
        table = np.zeros((len(self.actors), len(self.actions)), np.int64)
        table[self.actor, self.action] = np.arange(len(self))
        return table

    def view(self, what: View) -> tuple[str, ...]:
        """Names of the ids that :meth:`merge` gives."""
        return {"joint": self.names, "actor": self.actors, "action": self.actions}[what]

    def merge(self, ids: NDArray[Any], what: View) -> NDArray[np.uint8]:
        """Train ids to ids of the actor or the action alone; what is not an id of the space becomes 255."""
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self)] = {"joint": range(len(self)), "actor": self.actor, "action": self.action}[what]
        return table[ids if ids.dtype == np.uint8 else np.where((ids >= 0) & (ids < 256), ids, IGNORE)]

    def document(self) -> dict[str, list[Any]]:
        """As JSON."""
        return {name: list(getattr(self, name)) for name in ("names", "actor", "action", "actors", "actions")}

    @staticmethod
    def read(document: Any, path: Any) -> LabelSpace:
        """From JSON; DataError names ``path`` where it is no label space."""
        try:
            fields = {name: tuple(document[name]) for name in ("names", "actor", "action", "actors", "actions")}
            if not all(isinstance(index, int) for name in ("actor", "action") for index in fields[name]):
                raise ValueError("actor and action must be integers")
            return LabelSpace(**fields)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(path, f"must hold a label space: {error}") from error


def object_labels(names: Iterable[str]) -> LabelSpace:
    """A space of objects without actions: ids 1, 2, ... in the order of ``names``."""
    every = (BACKGROUND, *names)
    return LabelSpace(every, tuple(range(len(every))), (0,) * len(every), every, (BACKGROUND,))


def youtube_objects() -> LabelSpace:
    """The ten objects of YouTube-Objects."""
    return object_labels(YOUTUBE_OBJECTS)


def actor_actions(pairs: Sequence[tuple[str, str]]) -> LabelSpace:
    """A space of pairs: ids 1, 2, ... in the order of ``pairs``, actors and actions in the order they come.

    Examples
    --------
    >>> space = actor_actions([("cat", "running"), ("dog", "running"), ("cat", "eating")])
    >>> space.names
    ('background', 'cat-running', 'dog-running', 'cat-eating')
    >>> space.actors, space.actor, space.action
    (('background', 'cat', 'dog'), (0, 1, 2, 1), (0, 1, 1, 2))
    """
    actors = tuple(dict.fromkeys(actor for actor, _ in pairs))
    return _of_pairs(pairs, actors, tuple(dict.fromkeys(action for _, action in pairs)))


def a2d(codes: Sequence[int] = A2D_CODES) -> LabelSpace:
    """A2D's pairs: train id k + 1 is the k-th of the sorted codes; actors and actions keep A2D's order.

    Raises
    ------
    ValueError : a code that no pair of A2D's seven actors and nine actions has
    """
    for code in codes:
        if code not in A2D_PAIRS:
            raise ValueError(f"a2d: codes must be 10 * actor (1..7) + action (1..9), got {code}")
    pairs = [A2D_PAIRS[code] for code in sorted(set(codes))]
    actors = tuple(name for name in A2D_ACTORS if any(actor == name for actor, _ in pairs))
    return _of_pairs(pairs, actors, tuple(name for name in A2D_ACTIONS if any(action == name for _, action in pairs)))


def _of_pairs(pairs: Sequence[tuple[str, str]], actors: tuple[str, ...], actions: tuple[str, ...]) -> LabelSpace:
    return LabelSpace(
        (BACKGROUND, *(f"{actor}-{action}" for actor, action in pairs)),
        (0, *(1 + actors.index(actor) for actor, _ in pairs)),
        (0, *(1 + actions.index(action) for _, action in pairs)),
        (BACKGROUND, *actors),
        (BACKGROUND, *actions),
    )


def a2d_table(space: LabelSpace) -> NDArray[np.uint8]:
    """(256,) train id of each A2D code: 0 stays background, codes that ``space`` has not become 255.

    Examples
    --------
    >>> a2d_table(a2d())[[0, 11, 79, 14, 200]].tolist()
    [0, 1, 43, 255, 255]
    """
    table = np.full(256, IGNORE, np.uint8)
    table[0] = 0
    for index, code in enumerate(a2d_codes(space)):
        table[code] = index
    return table


def a2d_codes(space: LabelSpace) -> tuple[int, ...]:
    """The A2D code of each train id, 0 for the background."""
    codes = {"-".join(pair): code for code, pair in A2D_PAIRS.items()}
    return (0, *(codes[name] for name in space.names[1:]))
