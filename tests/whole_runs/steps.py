"""Commands that make a new folder, killed at each of their last steps on disk; the next run ends with a whole one.

    python steps.py COMMAND ...

A step makes, renames or removes a file or folder. Prints a line for each stop after which the same command again did
not end with the files, and the hashes, of a run that nobody disturbed.
"""

import os
import sys
import tempfile
from pathlib import Path

import torch
from kill import contents
from runs import words_of, write_inputs

from pyws import cli
from pyws.run_manifest import differences, read_hashes

STEPS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")  # audit events
LAST = 24  # steps before which it dies: those that make it whole


def forked(words, stop_at=0):
    """Run a command in a process that dies before a step; its exit status, and how many steps it had."""
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        with open(reads, "rb") as counted:
            steps = len(counted.read())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), steps
    left = [stop_at]

    def step(event, arguments):
        if event in STEPS:
            os.write(writes, b".")
            left[0] -= 1
            if left[0] == 0:
                os._exit(99)

    sys.addaudithook(step)
    os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os._exit(cli.main(words))


def faults(name, made):
    whole = contents(name, Path(made(name)))
    _, steps = forked(words_of(name, f"{name.replace(' ', '-')}-steps", made))
    for stop_at in range(max(1, steps + 1 - LAST), steps + 1):
        out = f"{name.replace(' ', '-')}-{stop_at}"
        words = words_of(name, out, made)
        status, _ = forked(words, stop_at)
        is_whole = contents(name, Path(out)) == whole
        again, _ = forked(words)
        if (status, again) != (99, 1 if is_whole else 0):
            yield f"{status}, then {again} after step {stop_at} of {steps}: {Path('said.txt').read_text()}"
        wrong = differences(Path(out), read_hashes(out)["files"])
        if wrong or contents(name, Path(out)) != whole:
            yield f"other files after step {stop_at} of {steps}: {wrong}"


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_inputs(Path(folder))
        wholes = {}

        def made(name):
            if name not in wholes:
                wholes[name] = f"whole-{len(wholes)}"
                words = words_of(name, wholes[name], made)
                assert cli.main(words) == 0, name  # everything is imported from now on
            return wholes[name]

        for name in sys.argv[1:]:
            for fault in faults(name, made):
                print(f"{name}: {fault}", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
