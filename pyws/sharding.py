"""Which videos this process works on where several processes, on one machine or many, part a stage between them.

The rule is the same for every stage over videos. The processes do not talk to each other: each sorts all videos by
their size, gives the largest to whoever has least so far, and takes its own. What a process wrote is kept in the
folder that all write into, so that one that was killed is taken up by the next run, of as many processes as it likes.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
_FRAME_BYTES = 1 << 16  # size of a folder of frames beside video files: only the order depends on it


@dataclass(frozen=True)
class Shard:
    """One of the processes that part a stage between them.

    Parameters
    ----------
    index : which one, from 1
    count : how many there are

    Examples
    --------
    >>> str(Shard(2, 3)), Shard().whole
    ('2/3', True)
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"shard: must be I/N with 1 <= I <= N, got {self.index}/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def whole(self) -> bool:
        """Whether this process works alone."""
        return self.count == 1

    def share(self, items: Sequence[Item], size: Callable[[Item], float]) -> list[Item]:
        """The items of this process, longest first; all of them as they come where it works alone.

        Every item belongs to exactly one of the ``count`` shards. The largest goes to the shard that has least so far,
        the first of equals, so that the shards end at about the same time.

        Examples
        --------
        >>> sizes = {"a": 1, "b": 5, "c": 4, "d": 2}
        >>> Shard(1, 2).share(list(sizes), sizes.get), Shard(2, 2).share(list(sizes), sizes.get)
        (['b', 'a'], ['c', 'd'])
        """
        if self.whole:
            return list(items)
        sizes = [size(item) for item in items]
        loads = [(0.0, 0, index) for index in range(1, self.count + 1)]
        mine = []
        for place in sorted(range(len(items)), key=lambda place: (-sizes[place], place)):
            load, items_so_far, index = heapq.heappop(loads)
            heapq.heappush(loads, (load + sizes[place], items_so_far + 1, index))
            if index == self.index:
                mine.append(items[place])
        return mine


WHOLE = Shard()


def this_shard(given: str | None = None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that this process is.

    Parameters
    ----------
    given : "I/N", I from 1; what the environment says does not count then
    environment : where it is not given, RANK and WORLD_SIZE of torchrun, or else SLURM_PROCID and SLURM_NTASKS of
        srun, within SLURM_ARRAY_TASK_ID, _COUNT, _MIN and _STEP of a Slurm array: 3 array tasks of 2 processes each
        are 6 shards

    Raises
    ------
    ValueError : no such shard; the ids of an array that are not evenly spaced

    Examples
    --------
    >>> this_shard("2/3"), this_shard(None, {})
    (Shard(index=2, count=3), Shard(index=1, count=1))
    >>> this_shard(None, {"RANK": "1", "WORLD_SIZE": "2"})
    Shard(index=2, count=2)
    >>> this_shard(None, {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"})
    Shard(index=3, count=4)
    """
    if given is not None:
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given, re.ASCII)
        if found is None:
            raise ValueError(f"--shard: must be I/N with 1 <= I <= N, such as 2/3, got {given!r}")
        return _numbered("--shard", int(found[1]), int(found[2]))
    array, process = _of_array(environment), _of_processes(environment)
    return Shard((array.index - 1) * process.count + process.index, array.count * process.count)


def place_by_torchrun(environment: Mapping[str, str] = os.environ) -> Shard:
    """This process among those that torchrun started, by RANK and WORLD_SIZE.

    Raises
    ------
    ValueError : no whole numbers, or no such rank

    Examples
    --------
    >>> place_by_torchrun({}), place_by_torchrun({"RANK": "0", "WORLD_SIZE": "2"})
    (Shard(index=1, count=1), Shard(index=1, count=2))
    """
    if "WORLD_SIZE" not in environment:
        return WHOLE
    rank, world = (number_in(environment, name, 0) for name in ("RANK", "WORLD_SIZE"))
    return _numbered("RANK of WORLD_SIZE", rank + 1, world)


def _of_processes(environment: Mapping[str, str]) -> Shard:
    """Among the processes that torchrun or srun started."""
    if "WORLD_SIZE" in environment:
        return place_by_torchrun(environment)
    # A batch script has the variables of the first task, though nothing started the others.
    in_batch_script = "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
    if "SLURM_PROCID" not in environment or in_batch_script:
        return WHOLE
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    return _numbered(f"SLURM_PROCID of {tasks}", number_in(environment, "SLURM_PROCID", 0) + 1,
                     number_in(environment, tasks, 1))  # fmt: skip


def _of_array(environment: Mapping[str, str]) -> Shard:
    """Among the tasks of a Slurm array."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return WHOLE
    task = number_in(environment, "SLURM_ARRAY_TASK_ID", 0)
    first, count, step = (
        number_in(environment, f"SLURM_ARRAY_TASK_{name}", default)
        for name, default in (("MIN", 0), ("COUNT", 1), ("STEP", 1))
    )
    if count == 1:
        return WHOLE
    place, rest = divmod(task - first, max(step, 1))
    if rest or not 0 <= place < count:
        raise ValueError(
            f"SLURM_ARRAY_TASK_ID: the ids of the array must be evenly spaced, got {task} of {count} from {first} in"
            f" steps of {step}; say --shard I/N"
        )
    return Shard(place + 1, count)


def _numbered(what: str, index: int, count: int) -> Shard:
    if count < 1:
        raise ValueError(f"{what}: must be of at least one process, got {count}")
    if not 1 <= index <= count:
        start = 1 if what == "--shard" else 0
        raise ValueError(f"{what}: must be one of {start}..{count - 1 + start}, got {index - 1 + start} of {count}")
    return Shard(index, count)


def number_in(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    """A whole number that a variable of the environment says.

    Raises
    ------
    ValueError : it says something else, or more than 9 digits

    Examples
    --------
    >>> number_in({"LOCAL_RANK": "3"}, "LOCAL_RANK")
    3
    """
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{name}: must be a whole number >= 0, got {text!r}")
    return int(text)


def size_of_video(path: str | os.PathLike[str]) -> int:
    """About how large a video is, without opening it: the bytes of a file, or the frames of a folder; 0 if missing.

    Examples
    --------
    >>> size_of_video("no-such-video.mp4")
    0
    """
    try:
        return len(os.listdir(path)) * _FRAME_BYTES if Path(path).is_dir() else os.stat(path).st_size
    except OSError:
        return 0
