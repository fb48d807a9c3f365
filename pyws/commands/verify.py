"""pyws verify: whether a run is still what its commands wrote, and whether they write the same again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.errors import DataError
from pyws.run_manifest import differences, read_hashes


def verify(
    run: tyro.conf.Positional[Path],
    replay: bool = False,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Compare the files of a run with the hashes that were noted when it ended; name what is missing or changed.

    Works for the folder of every command that writes a manifest. Pages (report.html) are not compared, nor what people
    put beside the features (tags.csv, truth.json). The exit status is 1 where anything differs. A replay does not
    compare what says how long things took: history.jsonl, and manifest.json of pyws label.

    Parameters
    ----------
    run
        Folder of a run.
    replay
        Also run the same commands into a temporary folder, beside that of the run where that can be, and compare what
        they write now.
    common
        Options of every command.

    Examples
    --------
    pyws verify run
    pyws verify run --replay
    """
    document = read_hashes(run)
    files = document["files"]
    wrong = differences(run, files)
    _say(common, wrong, f"{len(files)} files compared")
    result: dict[str, Any] = {"ok": not wrong, "run": str(run), "files": len(files), "differences": wrong}
    if not replay:
        return result
    if not document["commands"]:
        raise DataError(run, "names no command to run again")
    with _beside(run) as out:
        for command in document["commands"]:
            _run_again(run, command, out)
        again = {name: digest for name, digest in files.items() if not _says_times(name, document["commands"])}
        replayed = differences(out, again)
        for name in [name for name in replayed if name not in wrong]:
            if _same_but_for_its_folder(run / name, out / name, run.absolute().name, out.name):
                del replayed[name]
        replayed |= {name: "is new" for name in read_hashes(out)["files"] if name not in files}
    _say(common, replayed, f"{len(again)} files compared with what the same commands write now")
    return {**result, "ok": not wrong and not replayed, "replayed": replayed}


@contextmanager
def _beside(run: Path) -> Iterator[Path]:
    """An empty folder beside a run, from which relative paths lead to the same files; where that cannot be, one that
    TMPDIR places."""
    parent = run.absolute().parent
    writable = os.access(parent, os.W_OK)
    with tempfile.TemporaryDirectory(prefix=".pyws-verify-", dir=parent if writable else None) as folder:
        yield Path(folder)


def _same_but_for_its_folder(before: Path, after: Path, was: str, is_now: str) -> bool:
    """Whether two documents differ in the name of the folder that they lie in only."""
    if before.suffix != ".json" or not (before.is_file() and after.is_file()):
        return False
    return after.read_bytes().replace(is_now.encode(), was.encode()) == before.read_bytes()


def _run_again(run: Path, command: Mapping[str, Any], out: Path) -> None:
    """Run a command in the folder in which it was run, as one process of as many threads, into ``out``.

    Raises
    ------
    DataError : it fails now, or its folder is gone
    """
    place = os.path.relpath(out, command["folder"]) if command.get("relative") else str(out)
    words = [place if word is None else word for word in command["words"]]
    shown = " ".join(words)
    if not Path(command["folder"]).is_dir():
        raise DataError(run, f"was made in {command['folder']}, which is gone: pyws {shown} cannot be run there")
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RANK", "WORLD_SIZE"))}
    alone["OMP_NUM_THREADS"] = str(command["threads"])
    call = [sys.executable, "-P", "-m", "pyws.cli", *words, "--quiet"]
    if sys.version_info < (3, 11):
        call.remove("-P")  # the folder's own files are not modules of ours
    done = subprocess.run(call, cwd=command["folder"], env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
        raise DataError(run, f"pyws {shown} ends with exit status {done.returncode} now: {lines[-1]}")


def _says_times(name: str, commands: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file says how long things took, which differs from run to run."""
    planned = any(command["words"][:1] == ["label"] for command in commands)
    return Path(name).name == "history.jsonl" or (planned and name == "manifest.json")


def _say(common: Common, wrong: Mapping[str, str], what: str) -> None:
    for name, how in wrong.items():
        common.say(f"{name}: {how}")
    common.say(f"{what}, {len(wrong)} differ" if wrong else f"{what}, all are the same")
