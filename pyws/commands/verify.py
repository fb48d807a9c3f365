"""pyws verify: whether a run is still what its commands wrote, and whether they write the same again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.commands.usage import UsageError
from pyws.errors import DataError, printable
from pyws.files import walk
from pyws.run_manifest import HASHES, Word, differences, place_of, read_hashes


def verify(
    run: tyro.conf.Positional[Path],
    replay: bool = False,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Compare what a command wrote with the hashes that were noted when it ended; name what is missing or changed.

    Works for every folder and every file that a command writes. Pages (report.html) are not compared, nor what people
    put beside the features (tags.csv, truth.json). The exit status is 1 where anything differs. A replay does not
    compare what says how long things took: history.jsonl, and manifest.json of pyws label.

    Parameters
    ----------
    run
        Folder of a run, or a file that a command wrote.
    replay
        Also run the same commands into a temporary folder, beside the run where that can be, and compare what they
        write now.
    common
        Options of every command.

    Examples
    --------
    pyws verify run
    pyws verify run --replay
    pyws verify detections.json
    """
    document = read_hashes(run)
    files, place = document["files"], place_of(run)
    wrong = differences(place, files)
    _say(common, wrong, f"{len(files)} files compared")
    result: dict[str, Any] = {"ok": not wrong, "run": str(run), "files": len(files), "differences": wrong}
    if not replay:
        return result
    if not document["commands"]:
        raise DataError(run, "names no command to run again")
    with _beside(run) as again_in:
        # Other results of the same commands lie beside this one, and not beside the run.
        beside = any(isinstance(word, list) for command in document["commands"] for word in command["words"])
        out = again_in / run.absolute().name if run.is_file() or beside else again_in
        new = out.parent if run.is_file() else out
        for command in document["commands"]:
            if "--into" in command["words"]:
                _bring(place, new, files)
            _run_again(run, command, out, again_in)
        again = {name: digest for name, digest in files.items() if not _says_times(name, document["commands"])}
        replayed = differences(new, again)
        for name in [name for name in replayed if name not in wrong]:
            if _same_but_for(place / name, new / name, place.absolute().name, new.name):
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


def _bring(place: Path, into: Path, less: Collection[str]) -> None:
    """Link what a command that works within a folder finds there and no command wrote."""
    for parent, _, names in walk(place):
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(place)
            if str(name) not in less and path.name != HASHES and not os.path.lexists(into / name):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).symlink_to(path.absolute())


_SECONDS = re.compile(rb'"seconds": [0-9.e-]+')


def _same_but_for(before: Path, after: Path, was: str, is_now: str) -> bool:
    """Whether two documents differ only in the name of the folder that they lie in, and in seconds that things took."""
    if before.suffix != ".json" or not (before.is_file() and after.is_file()):
        return False
    documents = (after.read_bytes().replace(is_now.encode(), was.encode()), before.read_bytes())
    return len({_SECONDS.sub(b"", raw) for raw in documents}) == 1


def _run_again(run: Path, command: Mapping[str, Any], out: Path, within: Path) -> None:
    """Run a command in the folder in which it was run, as one process of as many threads, into ``out``, and nowhere but
    ``within`` a folder.

    Raises
    ------
    DataError : it fails now, its folder is gone, or it is no command that writes there alone
    """
    words = words_into(command, out)
    shown = printable(" ".join(words))
    if not Path(command["folder"]).is_dir():
        raise DataError(run, f"was made in {command['folder']}, which is gone: pyws {shown} cannot be run there")
    check_words(run, command, words, within)
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RANK", "WORLD_SIZE"))}
    alone["OMP_NUM_THREADS"] = str(command["threads"])
    call = [sys.executable, "-c", _PROGRAM, *words, "--quiet"]
    done = subprocess.run(call, cwd=command["folder"], env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
        raise DataError(run, f"pyws {shown} ends with exit status {done.returncode} now: {lines[-1]}")


# The folder's own files are not modules of ours (-P of Python 3.11).
_PROGRAM = "import sys; sys.path[:] = filter(None, sys.path); from pyws.cli import main; sys.exit(main())"


def check_words(run: Path, command: Mapping[str, Any], words: Sequence[str], within: Path) -> None:
    """Raise DataError where a document of hashes, which anybody may have written, names a command that writes anywhere
    but ``within`` a folder, or none that makes a result."""
    from pyws import cli

    rule = f"must name commands that write into this run alone, got pyws {printable(' '.join(words))}"
    name, rest = cli.split(list(words))
    if name is None or any(word.partition("=")[0] in ("--config", "--set") for word in rest):
        raise DataError(run, rule)
    try:
        arguments = cli.parse(name, rest)
    except UsageError as error:
        raise DataError(run, f"{rule}: {error}") from error
    results = cli.results_of(cli.load(name), arguments)
    places = [Path(os.path.abspath(Path(command["folder"], path))) for path in results.values()]
    if not places or not all(place.is_relative_to(within.absolute()) for place in places):
        raise DataError(run, rule)


def words_into(command: Mapping[str, Any], out: Path) -> list[str]:
    """The words of a command, whose results go to ``out`` and beside it."""

    def spelled(word: Word) -> str:
        if isinstance(word, str):
            return word
        path = out if word is None else out.with_name(word[0])
        return os.path.relpath(path, command["folder"]) if command.get("relative") else str(path)

    return [spelled(word) for word in command["words"]]


def _says_times(name: str, commands: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file says how long things took, which differs from run to run."""
    planned = any(command["words"][:1] == ["label"] for command in commands)
    return Path(name).name == "history.jsonl" or (planned and name == "manifest.json")


def _say(common: Common, wrong: Mapping[str, str], what: str) -> None:
    for name, how in wrong.items():
        common.say(f"{name}: {how}")
    common.say(f"{what}, {len(wrong)} differ" if wrong else f"{what}, all are the same")
