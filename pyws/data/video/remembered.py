"""Frames that a job reads again, kept from the first time on: its video is then decoded once, not by every stage."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pyws.data.video.decoders import Pixels

MOST_BYTES = 512 * 2**20  # all frames that are kept at once
Place = tuple[tuple[str, int, int], int]  # a video as it lies on the disk, and the index of a frame
Shown = Callable[[int], Sequence[Sequence[int]]]
"""Which of so many frames are read again when a job has gone over them, in several sets: see :class:`ReadAgain`."""


def nothing_again(count: int) -> Sequence[Sequence[int]]:
    """No frame of ``count`` is read again."""
    return ()


class Remembered:
    """Pictures by their place; several threads may use it at once.

    Parameters
    ----------
    most : bytes of all pictures together
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._pictures: dict[Place, Pixels] = {}
        self._lock = threading.Lock()

    def room(self) -> int:
        """Bytes that are left."""
        with self._lock:
            return self._most - sum(picture.nbytes for picture in self._pictures.values())

    def keep(self, place: Place, picture: Pixels) -> None:
        """Keep a picture, which must not be changed any more."""
        picture.setflags(write=False)
        with self._lock:
            self._pictures[place] = picture

    def get(self, place: Place) -> Pixels | None:
        """A picture that is kept."""
        with self._lock:
            return self._pictures.get(place)

    def forget(self, video: tuple[str, int, int]) -> None:
        """Drop the pictures of a video."""
        with self._lock:
            for place in [place for place in self._pictures if place[0] == video]:
                del self._pictures[place]


REMEMBERED = Remembered()  # one for the process: whoever opens a video again finds its frames


class ReadAgain:
    """What a video knows of frames that are read again.

    Of the sets of frames that :meth:`remember` names, the small ones first, those are kept that fit.

    Parameters
    ----------
    path : the file or folder
    """

    def __init__(self, path: Path) -> None:
        facts = path.stat()
        self._video = os.path.realpath(path), facts.st_size, facts.st_mtime_ns
        self.sets: list[frozenset[int]] = []
        self._kept: frozenset[int] | None = None

    def remember(self, indices: Iterable[int]) -> None:
        """Keep these frames, all or none, from when they are decoded until :meth:`forget` or the end of this object."""
        if not self.sets:
            weakref.finalize(self, REMEMBERED.forget, self._video)
        self.sets.append(frozenset(indices))
        self._kept = None

    def forget(self) -> None:
        """Drop all frames of this video, whoever has them kept."""
        self.sets, self._kept = [], None
        REMEMBERED.forget(self._video)

    def wanted(self, size: int) -> frozenset[int]:
        """The frames to keep, each of so many bytes."""
        if self._kept is None:
            room, self._kept = REMEMBERED.room(), frozenset()
            for one in sorted(self.sets, key=len):
                together = self._kept | one
                self._kept = together if len(self.missing(together)) * size <= room else self._kept
        return self._kept

    def keep(self, index: int, picture: Pixels) -> None:
        """Keep a frame, if it is wanted."""
        if self.sets and index in self.wanted(picture.nbytes):
            REMEMBERED.keep((self._video, index), picture)

    def missing(self, indices: frozenset[int]) -> frozenset[int]:
        """Those of some frames that are not kept."""
        return frozenset(index for index in indices if REMEMBERED.get((self._video, index)) is None)

    def kept(self, indices: Sequence[int]) -> list[Pixels | None]:
        """Frames that are kept, None for others."""
        return [REMEMBERED.get((self._video, index)) for index in indices]
