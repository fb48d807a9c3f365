"""Stop commands at random: the same one again ends with the files, byte for byte, of a run that nobody disturbed.

    python tests/whole_runs/kill.py --kills 30 --by term [COMMAND ...]

A command runs in a process that is forked off after everything is imported. What stops it comes at a moment, or at a
size, drawn uniformly from what the whole run takes; what resumes it may be stopped too. Of itself:

- kill: SIGKILL
- term, int, hup: SIGTERM, SIGINT and SIGHUP, after which it says in a line that it was stopped; 143, 130 or 129
- disk: a folder of output on a full disk (needs root, to mount a tmpfs), which gets room before the next run
- size: the limit on the size of a file (ulimit -f); both end it with an error that names the file

Not compared: what says how long things took, and pages but of report.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from runs import COMMANDS, words_of, write_inputs

PAGES = {"report.html", "report"}  # what other commands than report write there says how long they took
LEFT_OUT = {"hashes.json", "history.jsonl"}
SECONDS = re.compile(rb'"seconds": [0-9.e-]+')  # in a cell of segments ablate
# These refuse the folder of a run that has ended, which is one that has its hashes.
ONCE = {"data convert", "data synthesize", "data synthesize-a2d", "export coco", "export davis", "export csv"}
AGAIN = 0.3  # how often what resumes a run is killed as well


WAYS = ("kill", "term", "int", "hup", "disk", "size")
PAGE = 4096  # bytes, what a tmpfs counts in
SAYS = Path("says.txt")  # the messages of the latest command
PATIENCE = 60.0  # seconds that a command may take to end once it is told to


def start(words: list[str], largest: int = -1) -> int:
    """Run a command in a forked process, which may write files of so many bytes; its id."""
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        import torch

        from pyws.cli import main

        os.dup2(os.open(SAYS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, -1))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
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
        raise SystemExit(f"pyws {' '.join(words)}: exit status {status}: {SAYS.read_text()}")


def signalled(words: list[str], way: str, after: float) -> tuple[bool, str]:
    """Send a signal to a command after so many seconds; whether it was still running, and what was wrong with its end.

    However slow the machine, no signal but SIGKILL is sent before there is a handler for it.
    """
    number = signal.Signals[f"SIG{way.upper()}"]
    process = start(words)
    while way != "kill" and not handles_signals(process):
        time.sleep(0.001)
    time.sleep(after)
    os.kill(process, number)
    late = threading.Timer(PATIENCE, os.kill, (process, signal.SIGKILL))
    late.start()
    status = end(process)
    late.cancel()
    if way == "kill" or status == 0:
        return status != 0, ""
    lines = SAYS.read_text().splitlines()
    right = status == 128 + number and len(lines) == 1 and "run it again to go on" in lines[0]
    return True, "" if right else f"exit status {status}: {' / '.join(lines[-3:])}"


def handles_signals(process: int) -> bool:
    """Whether a command has begun to handle SIGTERM and SIGHUP, or has ended."""
    facts = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return facts["State"].startswith("Z") or bool(int(facts["SigCgt"], 16) >> (signal.SIGHUP - 1) & 1)


def without_room(words: list[str], way: str, out: str, room: int) -> tuple[bool, str]:
    """Run a command with so many bytes of room; whether that stopped it, and what was wrong with its end."""
    disk = os.path.dirname(out)
    if way == "disk":
        used = os.statvfs(disk)
        resize(disk, (used.f_blocks - used.f_bfree) * PAGE + room // PAGE * PAGE + PAGE)
    status = end(start(words, room if way == "size" else -1))
    if way == "disk":
        resize(disk)
    said = SAYS.read_text()
    right = status == 1 and "Traceback" not in said and "cannot be written: " in said
    return status != 0, "" if right or status == 0 else f"{room} bytes: exit status {status}: {said[-500:]}"


def resize(disk: str, size: int = 1 << 30) -> None:
    """Mount a disk of a size, or give another one to the disk that is there."""
    there = ["-o", f"remount,size={size}"] if os.path.ismount(disk) else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    subprocess.run(["mount", *there, disk], check=True)


def contents(name: str, folder: Path) -> dict[str, bytes]:
    """What a command wrote, by file, less what says how long it took and in which folder."""
    left_out = LEFT_OUT if name.startswith("report") else LEFT_OUT | PAGES
    left_out = left_out | {".run"} if name in ONCE else left_out  # the folder was whole when it was stopped
    plan = "manifest.json" if name == "label" else ""  # minutes
    found = {}
    for path in folder.rglob("*"):
        file = path.relative_to(folder)
        if path.is_file() and not left_out & set(file.parts) and str(file) != plan:
            found[str(file)] = SECONDS.sub(b"", path.read_bytes()).replace(str(folder).encode(), b"OUT")
    if (folder / "hashes.json").is_file():  # which name where the command was run
        found["hashes.json"] = b""
    return found


def differences(name: str, run: str, expected: dict[str, bytes], folder: Path) -> list[str]:
    """A line that names what differs; none where nothing does."""
    found = contents(name, folder)
    names = sorted(each for each in expected.keys() | found.keys() if expected.get(each) != found.get(each))
    return [f"{name}, {run}: {', '.join(names[:5])} differ"] if names else []


def attack(name: str, way: str, kills: int, rng: random.Random, wholes: dict[str, str]) -> list[str]:
    """Stop a command so often; what went wrong."""
    whole = made(name, wholes)
    expected = contents(name, Path(whole))
    timed = out_of("timed", name)
    words = words_of(name, timed, lambda other: made(other, wholes))
    began = time.time()
    finish(words)
    takes = time.time() - began
    written = [path.stat() for path in Path(timed).rglob("*") if path.is_file()]
    sizes = [each.st_size for each in written if each.st_mtime >= began]
    most = {"disk": sum(-(-size // PAGE) * PAGE for size in sizes), "size": max(sizes, default=0)}.get(way, takes)
    hits, attempt, wrong = 0, 0, differences(name, "twice", expected, Path(timed))
    while hits < kills and attempt < 5 * kills + 20:  # ten runs alone may miss by chance
        attempt += 1
        out = out_of(f"{attempt}", name)
        if way == "disk":
            resize(os.path.dirname(out))
        words = words_of(name, out, lambda other: made(other, wholes))
        hit = True
        while hit and hits < kills:
            hit, fault = stop(words, way, out, rng.uniform(0, most))
            hits += hit
            wrong += [f"{name}, run {attempt}: {fault}"] if fault else []
            if rng.random() > AGAIN:
                break
        if name not in ONCE or contents(name, Path(out)) != expected:
            finish(words)
        wrong += differences(name, f"run {attempt}", expected, Path(out))
        if way == "disk":
            subprocess.run(["umount", os.path.dirname(out)], check=True)
    print(
        f"{name}: {hits} times by {way}, {attempt} runs of {takes:.1f} s, {len(expected)} files, {len(wrong)} wrong",
        flush=True,
    )
    return [*wrong, *([f"{name}: only {hits} of {kills} stopped it"] if hits < kills else [])]


def out_of(run: str, name: str) -> str:
    """The folder of output of a command, in a folder of the run, which may be on a disk of its own."""
    place = f"{name.replace(' ', '-')}-{run}"
    os.mkdir(place)
    return f"{place}/out"


def stop(words: list[str], way: str, out: str, amount: float) -> tuple[bool, str]:
    return without_room(words, way, out, int(amount)) if way in ("disk", "size") else signalled(words, way, amount)


def made(name: str, wholes: dict[str, str]) -> str:
    """The folder of an undisturbed run."""
    if name not in wholes:
        out = out_of("whole", name)
        finish(words_of(name, out, lambda other: made(other, wholes)))
        wholes[name] = out
    return wholes[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}; all if left out")
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--by", choices=WAYS, default="kill", help="what stops it")
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
        wrong = [
            each for name in names for each in attack(name, given.by, given.kills, random.Random(given.seed), wholes)
        ]
        os.chdir("/")
    print(*wrong, sep="\n")
    print(f"{len(names)} commands, {given.kills} times each by {given.by}: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
