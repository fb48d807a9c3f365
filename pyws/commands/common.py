"""What every command shares: its common options, and how it speaks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import tyro

from pyws.errors import DataError, keeps, printable, printing, shown
from pyws.sharding import Shard

if TYPE_CHECKING:
    from pyws.data.video.optical_flow import FlowMethod, FlowName
    from pyws.models.image_networks.raft import Raft


@dataclass(frozen=True)
class Common:
    """Options of every command.

    Parameters
    ----------
    json
        Print one JSON document on standard output and nothing else there
    seed
        Seed of everything random; the same seed gives the same numbers
    device
        cpu, cuda, cuda:1, ...; auto takes a GPU where there is one
    quiet
        No progress and no tables
    """

    json: bool = False
    seed: int = 0
    device: str = "auto"
    quiet: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed: must be at least 0 and less than 2^63, got {self.seed}")

    @property
    def silent(self) -> bool:
        """Whether nothing is said to a person."""
        return self.json or self.quiet

    def say(self, text: Any) -> None:
        """Print text or a rich table for a person; silent with --json or --quiet."""
        if not self.silent:
            from rich.console import Console

            console = Console(highlight=False, soft_wrap=True, markup=False)
            console.on_broken_pipe = _nobody_reads  # type: ignore[method-assign]  # rich's own ends the process
            with printing():
                console.print(shown(text) if isinstance(text, str) else text)

    def use_device(self) -> Any:
        """Have videos decoded on the device that the option means, where torchcodec can; returns that device."""
        import torch

        from pyws.data.video.decoders import Torchcodec

        if self.device == "auto":
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        else:
            device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"--device: no CUDA device is available, got {self.device}")
        Torchcodec.device = str(device)
        return device


ALSO_WRITTEN = "also written"
"""Annotation of a parameter that names a result beside ``out``."""


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], **options: Any) -> Any:
    """A table for :meth:`Common.say`; ``options`` are those of ``rich.table.Table``."""
    from rich.table import Table

    table = Table(*columns, **options)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Sequence[object]) -> Iterator[str]:
    return (shown(str(cell)) for cell in row)


def figures(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    texts: int = 1,
    total: Sequence[object] = (),
    width: int | None = None,
) -> Any:
    """A table of figures for :meth:`Common.say`.

    Parameters
    ----------
    title : written above it
    columns, rows : the first ``texts`` columns to the left, the others to the right
    texts : columns of text
    total : a last row, below a line
    width : characters, however narrow the terminal; no cell is wrapped then
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, width=width)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < texts else "right", no_wrap=width is not None)
    for row in rows:
        table.add_row(*_cells(row))
    if total:
        table.add_section()
        table.add_row(*_cells(total))
    return table


def only_with(what: str, there: object, **options: object) -> None:
    """Refuse options that would do nothing.

    Parameters
    ----------
    what : what they need
    there : whether it is there
    options : by their names, with underscores, whether they were given

    Examples
    --------
    >>> only_with("--data", False, subset=True)
    Traceback (most recent call last):
        ...
    ValueError: --subset: only with --data
    """
    given = [f"--{name.replace('_', '-')}" for name, is_given in options.items() if is_given]
    if given and not there:
        raise ValueError(f"{', '.join(given)}: only with {what}")


def check_options(rule: str, **options: float | None) -> None:
    """Refuse numbers that break a rule of :func:`pyws.errors.check_fields`; None stands for a default.

    Examples
    --------
    >>> check_options("> 0", folder_fps=0.0)
    Traceback (most recent call last):
        ...
    ValueError: --folder-fps: must be > 0, got 0.0
    """
    for name, value in options.items():
        if value is not None and not keeps(value, rule):
            raise ValueError(f"--{name.replace('_', '-')}: must be {rule}, got {value}")


def flow_of(flow: FlowName, raft_weights: str, common: Common) -> FlowMethod | Raft:
    """What finds optical flow: a method of OpenCV, which must be here, or RAFT with the weights of --raft-weights."""
    from pyws.data.video.optical_flow import check_flow

    if flow == "raft_small" or flow == "raft_large":
        from pyws.models.image_networks.raft import load_raft
        from pyws.models.pretrained.weights import RANDOM

        if raft_weights == RANDOM:
            raise ValueError(f"--raft-weights: flow needs trained weights, got {raft_weights}")
        return load_raft(flow, raft_weights, common.use_device())
    only_with("--flow raft_small or raft_large", False, raft_weights=raft_weights != "default")
    check_flow(flow)
    return flow


def say_left_out(common: Common, videos: Mapping[str, Mapping[str, Any]]) -> None:
    """Say of each video that could not be used what was wrong, as its entry in a manifest has it."""
    for name, video in videos.items():
        if "error" in video:
            common.say(f"left out: {printable(name)}: {video['error']}")


def check_some_done(out: Path, videos: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise DataError where every video was left out: a command that made nothing has failed.

    Examples
    --------
    >>> check_some_done(Path("out"), {"a": {"error": "a.mp4: has no video stream"}})
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: out: no video could be used, such as a.mp4: has no video stream
    """
    errors = [video["error"] for video in videos.values() if "error" in video]
    if errors and len(errors) == len(videos):
        raise DataError(out, f"no video could be used, such as {errors[0]}")


def checked_videos(
    videos: Sequence[Path], on_error: str, common: Common, timed: bool = False, folder_fps: float | None = None
) -> list[Path]:
    """Videos whose results go by their names; with "skip" those are left out that have the name of one before them.

    Raises
    ------
    DataError : with "error", what :func:`pyws.data.video.headers.check_videos` refuses
    """
    from pyws.data.video.headers import check_videos
    from pyws.data.video.sources import twins_of

    if on_error == "error":
        check_videos(videos, timed=timed, folder_fps=folder_fps)
    twins = twins_of(videos)
    for path, other in twins.items():
        common.say(f"left out: {printable(path)} is called as {printable(other)} is, and results go by names")
    return [path for path in videos if path not in twins]


def say_doubts(common: Common, videos: Mapping[str, Mapping[str, Any]], mine: Collection[str]) -> None:
    """Say what is doubtful about the masks of videos that this process made, as their entries in a manifest have it."""
    for name, video in videos.items():
        if name not in mine or "report" not in video:
            continue
        doubts = list(video.get("warnings", ()))
        if video["report"]["refined_empty"] == len(video["sampled"]):
            doubts.append("without any mask")
        for doubt in doubts:
            common.say(f"warning: {printable(name)}: {doubt}")


def of_shard(
    document: dict[str, Any], shard: Shard, missing: Sequence[str], last: bool, common: Common
) -> dict[str, Any]:
    """What a command returns that parts its videos among shards.

    Parameters
    ----------
    document : manifest of all videos that are done
    shard : this process
    missing : names of the videos that are not
    last : whether no other shard is at work

    Returns
    -------
    The document alone where everything is done and nobody else says so, which is what a single process returns; else
    with ``shard`` and ``missing``, names of videos that other shards, or the next run, have to do.
    """
    if shard.whole or (last and not missing):
        return document
    left = f"{len(missing)} videos are left to others, or to the next run" if missing else "others are at work"
    common.say(f"shard {shard} is done; {left}")
    return {**document, "shard": str(shard), "missing": list(missing)}


def _nobody_reads() -> NoReturn:
    raise BrokenPipeError


CommonOptions = Annotated[Common, tyro.conf.arg(name="")]
