"""Stages that write one file, or one folder, of all videos, parted among processes.

What a shard finds of a unit (a video, or videos that belong together) is a line in ``OUT.parts`` until all are there;
the shard that ends last writes OUT, the same bytes as one process, and removes ``OUT.parts``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyws.commands.common import Common
from pyws.progress import track
from pyws.run_manifest import open_run
from pyws.sharding import Shard

PARTS = ("pyws parts", 1)
AT_ONCE = 64  # units that are worked on before what was found of them is safe on disk

Work = Callable[[Sequence[str]], Mapping[str, Any]]
"""From names of units to what was found of each, as JSON holds it."""


def parts_of(out: Path) -> Path:
    """The folder ``OUT.parts``.

    Examples
    --------
    >>> parts_of(Path("results/fused.json")).name
    'fused.json.parts'
    """
    return out.with_name(f"{out.name}.parts")


def in_parts(
    out: Path,
    shard: Shard,
    parameters: Mapping[str, Any],
    units: Mapping[str, float],
    work: Work,
    write: Callable[[Mapping[str, Any]], dict[str, Any]],
    common: Common,
) -> dict[str, Any]:
    """Work on this process's units, and write the file of all where it is the one that ends.

    Parameters
    ----------
    out : the file or folder
    shard : which process this is
    parameters : everything that the results depend on: shards of other parameters do not mix
    units : names of all units, and about how long each takes; no result depends on which others are worked on with it
    work : does some of the units
    write : given what was found of all units, in their order, writes ``out`` and says what the command returns
    common : how the command speaks

    Raises
    ------
    DataError : ``OUT.parts`` is of a run with other parameters, or another run writes there
    """
    if shard.whole:
        return write(work(list(units)))
    if shard.index > 1 and not shard.share(list(units), units.__getitem__):
        # It may start when the others have ended, and OUT.parts that it made anew would stay.
        common.say(f"shard {shard} has nothing to do: there are {len(units)} parts")
        return {"out": str(out), "shard": str(shard), "missing": 0}
    folder = parts_of(out)
    with open_run(folder, *PARTS, parameters, (), {"videos": {}}, shard=shard, videos=units) as run:
        left = [name for name in run.mine if name not in run.document["videos"]]
        chunks = [left[start : start + AT_ONCE] for start in range(0, len(left), AT_ONCE)]
        for chunk in track(chunks, f"shard {shard}", quiet=common.silent):
            for name, found in work(chunk).items():
                run.put(name, found)
    if run.last and not run.missing:
        document = write({name: run.document["videos"][name] for name in units})
        shutil.rmtree(folder, ignore_errors=True)  # a shard that comes now finds it gone, or makes it anew
        return document
    left_over = f"{len(run.missing)} parts are left to others, or to the next run" if run.missing else "others go on"
    common.say(f"shard {shard} is done; {left_over}")
    return {"out": str(out), "shard": str(shard), "missing": len(run.missing)}
