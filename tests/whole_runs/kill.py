"""SIGKILL at random moments: the same command again ends with the files, byte for byte, of a run that nobody disturbed.

    python tests/whole_runs/kill.py --kills 30 [COMMAND ...]

A command runs in a process that is forked off after everything is imported, and is killed at a moment drawn uniformly
from the time that the whole run takes; what resumes it may be killed too. Not compared: what says how long things
took, and pages but of report.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from runs import COMMANDS, words_of, write_inputs

PAGES = {"report.html", "report"}  # what other commands than report write there says how long they took
LEFT_OUT = {"hashes.json", "history.jsonl"}
SECONDS = re.compile(rb'"seconds": [0-9.e-]+')  # in a cell of segments ablate
ONCE = {"data convert", "export coco", "export davis", "export csv"}  # refuse the folder of a run that has ended
AGAIN = 0.3  # how often what resumes a run is killed as well


def start(words: list[str]) -> int:
    """Run a command in a forked process; its id."""
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        import torch

        from pyws.cli import main

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        status = main(words)
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(process: int) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def finish(words: list[str]) -> None:
    status = end(start(words))
    if status:
        raise SystemExit(f"pyws {' '.join(words)}: exit status {status}")


def killed(words: list[str], after: float) -> bool:
    """Run a command and kill it after so many seconds; whether it was still running."""
    process = start(words)
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    return end(process) == -signal.SIGKILL


def contents(name: str, folder: Path) -> dict[str, bytes]:
    """What a command wrote, by file, less what says how long it took and in which folder."""
    left_out = LEFT_OUT if name.startswith("report") else LEFT_OUT | PAGES
    plan = "manifest.json" if name == "label" else ""  # minutes
    found = {}
    for path in folder.rglob("*"):
        file = path.relative_to(folder)
        if path.is_file() and not left_out & set(file.parts) and str(file) != plan:
            found[str(file)] = SECONDS.sub(b"", path.read_bytes()).replace(folder.name.encode(), b"OUT")
    return found


def differences(name: str, run: str, expected: dict[str, bytes], folder: Path) -> list[str]:
    """A line that names what differs; none where nothing does."""
    found = contents(name, folder)
    names = sorted(each for each in expected.keys() | found.keys() if expected.get(each) != found.get(each))
    return [f"{name}, {run}: {', '.join(names[:5])} differ"] if names else []


def attack(name: str, kills: int, rng: random.Random, wholes: dict[str, str]) -> list[str]:
    """Kill a command so often; what went wrong."""
    whole = made(name, wholes)
    expected = contents(name, Path(whole))
    timed = f"timed-{whole}"
    words = words_of(name, timed, lambda other: made(other, wholes))
    began = time.monotonic()
    finish(words)
    takes = time.monotonic() - began
    hits, attempt, wrong = 0, 0, differences(name, "twice", expected, Path(timed))
    while hits < kills and attempt < 5 * kills:
        attempt += 1
        out = f"{whole}-{attempt}"
        words = words_of(name, out, lambda other: made(other, wholes))
        hit = True
        while hit and hits < kills:
            hit = killed(words, rng.uniform(0, takes))
            hits += hit
            if rng.random() > AGAIN:
                break
        if hit or name not in ONCE:
            finish(words)
        wrong += differences(name, f"run {attempt}", expected, Path(out))
    print(
        f"{name}: {hits} kills, {attempt} runs of {takes:.1f} s, {len(expected)} files, {len(wrong)} runs differ",
        flush=True,
    )
    return [*wrong, *([f"{name}: only {hits} of {kills} kills hit it"] if hits < kills else [])]


def made(name: str, wholes: dict[str, str]) -> str:
    """The folder of an undisturbed run."""
    if name not in wholes:
        out = f"whole-{name.replace(' ', '-')}"
        finish(words_of(name, out, lambda other: made(other, wholes)))
        wholes[name] = out
    return wholes[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}; all if left out")
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    unknown = set(given.commands) - set(COMMANDS)
    if unknown or given.kills < 1:
        parser.error(f"--kills must be >= 1, and commands of {', '.join(COMMANDS)}")
    for module in ("torch", "skimage.segmentation", "scipy.optimize", "torchvision", "av", "tyro", "rich.console"):
        importlib.import_module(module)  # before the forks, which then start at once
    with tempfile.TemporaryDirectory(prefix="pyws-kill-") as folder:
        os.chdir(folder)
        process = os.fork()
        if not process:
            write_inputs(Path(folder))
            os._exit(0)
        end(process)
        wholes: dict[str, str] = {}
        names = given.commands or list(COMMANDS)
        wrong = [each for name in names for each in attack(name, given.kills, random.Random(given.seed), wholes)]
        os.chdir("/")
    print(*wrong, sep="\n")
    print(f"{len(names)} commands, {given.kills} kills each: {'files differ' if wrong else 'all files are the same'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
