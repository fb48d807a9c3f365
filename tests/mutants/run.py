#!/usr/bin/env python3
"""Plants the faults of tests/mutants/*.txt one at a time in a copy of the sources and says which tests notice.

python tests/mutants/run.py [--list cuda] [--match TEXT] [--part 1/2] [--sanitize] [--out FILE.json]

Each fault is applied, the module it concerns is built, and the tests of its family run until the first fails. With
--sanitize, what the tests let pass is tried once more with AddressSanitizer and ThreadSanitizer. The last line is the
score; the exit status is 1 where a fault was found by nothing. A run continues where FILE.json ends.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT = 120  # seconds a fault: one that makes a loop endless is found when they are over
SANITIZERS = {"address": "libasan.so", "thread": "libtsan.so"}


@dataclass(frozen=True)
class Mutant:
    """One fault: in ``path``, ``old``, which occurs once, becomes ``new``."""

    path: str
    kind: str
    old: str
    new: str

    @property
    def name(self) -> str:
        """What tells it from all others: lines that both texts have are context and left out."""
        old, new = self.old.split("\n"), self.new.split("\n")
        gone = [line.strip() for line in old if line not in new]
        come = [line.strip() for line in new if line not in old]
        return f"{self.path}: {self.kind}: {' '.join(gone)} -> {' '.join(come)}"

    def applied(self, text: str) -> str:
        """The text with the fault; ValueError where ``old`` does not occur exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path} has {text.count(self.old)} of\n{self.old}\nA fault must name one place.")
        return text.replace(self.old, self.new)


def read_list(path: Path) -> list[Mutant]:
    """The faults of a list: ``== file``, then for each ``@ kind``, the lines ``-old`` and the lines ``+new``."""
    found: list[Mutant] = []
    source = ""
    for block in re.split(r"\n(?===|@)", path.read_text()):
        head, *lines = block.strip("\n").split("\n")
        if head.startswith("=="):
            source = head[2:].strip()
        elif head.startswith("@"):
            old, new = ("\n".join(line[1:] for line in lines if line.startswith(sign)) for sign in "-+")
            found.append(Mutant(source, head[1:].strip(), old, new))
    return found


def all_mutants() -> dict[str, list[Mutant]]:
    return {path.stem: read_list(path) for path in sorted(HERE.glob("*.txt"))}


def tests_of(path: str) -> list[str]:
    """The test files of the family of a source, and which of their tests."""
    if path.startswith("tests/emulator"):
        return ["tests/test_emulator.py"]
    emulated = ["-k", "emulated"] if path.endswith((".cu", ".cuh", "_cuda.h")) else []
    stem = re.sub(r"(_cuda|_simd)?\.(cuh|cu|cpp|h|py)$", "", Path(path).name)
    if path.startswith("pyws/"):
        package = Path("tests", *Path(path).parts[1:-1])
        return [str(each) for each in sorted((ROOT / package).glob("test_*.py"))] or ["tests"]
    names = {each.stem.removeprefix("test_"): each for each in sorted((ROOT / "tests").rglob("test_*.py"))}
    if stem in names:
        return [str(names[stem].relative_to(ROOT)), *emulated]
    family = Path(path).parent.name
    stems = {each.stem for each in (ROOT / "csrc" / family).iterdir()} if family != "common" else set(names)
    chosen = [str(each.relative_to(ROOT)) for name, each in names.items() if name in stems | {family}]
    return [*(chosen or ["tests/ops"]), *emulated]


def copy_sources(folder: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def build(folder: Path, path: str, sanitize: str = "") -> str | None:
    """Build what the fault is in; None, or the compiler's last words."""
    if path.startswith("pyws/"):
        return None
    if path.endswith((".cu", ".cuh", "_cuda.h")) or sanitize or path.startswith("tests/emulator"):
        target = "selftest" if path.startswith("tests/emulator") else "_emulated"
        command = [
            "-c",
            f"import sys; sys.path.insert(0, 'tests'); import emulation; emulation.build('{target}', '{sanitize}')",
        ]
    else:
        command = ["setup.py", "-q", "build_ext", "--inplace"]
    environment = os.environ | {"PYWS_CUDA": "off"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()[-300:]


def _test(folder: Path, arguments: list[str], log: Path) -> None:
    """In a process of its own, forked with torch loaded: what was edited is imported here for the first time."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    os.environ.setdefault("PYWS_SHARED", str(ROOT.parent / "shared"))
    sys.path[:0] = [str(folder), str(folder / "tests")]
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--strict-markers"]
    status = int(pytest.main([*options, *arguments]))
    sys.stdout.flush()
    os._exit(status)


def run_tests(folder: Path, path: str) -> str | None:
    """What noticed the fault: the first failed test, a crash, a hang; None where all passed."""
    log = folder / "test.log"
    process = multiprocessing.get_context("fork").Process(target=_test, args=(folder, tests_of(path), log))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
        return f"tests: no end after {LIMIT} s"
    if process.exitcode == 0:
        return None
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log.read_text(errors="replace"), re.M)
    return f"tests: {failed[0] if failed else f'exit status {process.exitcode}'}"


def run_sanitizers(folder: Path, path: str) -> str | None:
    for name in SANITIZERS:
        if build(folder, path, name) is not None:
            continue
        tests = [part for part in tests_of(path) if part.endswith(".py")]
        selected = ["-x", "-k", f"{'emulated and ' if '-k' in tests_of(path) else ''}not compile and not opcheck"]
        done = subprocess.run(
            [".ci/sanitize", "--only", name, *selected, *tests], cwd=folder, capture_output=True, text=True
        )
        if done.returncode != 0:
            return f"sanitizer: {name}"
    return None


def try_mutant(folder: Path, mutant: Mutant, sanitize: bool) -> str | None:
    source = folder / mutant.path
    before = source.read_text()
    source.write_text(mutant.applied(before))
    try:
        if (words := build(folder, mutant.path)) is not None:
            return f"compiler: {words.splitlines()[-1]}"
        found = run_tests(folder, mutant.path)
        return run_sanitizers(folder, mutant.path) if found is None and sanitize else found
    finally:
        source.write_text(before)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", choices=sorted(all_mutants()), help="one list alone")
    parser.add_argument("--match", default="", help="only faults whose name has this text")
    parser.add_argument("--part", default="1/1", help="the first of two parts: 1/2")
    parser.add_argument("--sanitize", action="store_true", help="try what passes with the sanitizers as well")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.json", help="what found each fault")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    part, parts = map(int, options.part.split("/"))
    lists = all_mutants()
    chosen = lists[options.list] if options.list else [each for mutants in lists.values() for each in mutants]
    chosen = [each for each in chosen if options.match in each.name][part - 1 :: parts]
    results: dict[str, str | None] = json.loads(options.out.read_text()) if options.out.exists() else {}
    import torch  # the children are forked with it  # noqa: F401

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_sources(folder)
        for kind in (".cpp", ".cu"):  # the modules without a fault
            if (words := build(folder, f"csrc/any{kind}")) is not None:
                sys.exit(f"the sources do not build: {words}")
        for number, mutant in enumerate(chosen, 1):
            start = time.monotonic()
            if results.get(mutant.name) is None:
                results[mutant.name] = try_mutant(folder, mutant, options.sanitize)
                options.out.parent.mkdir(exist_ok=True)
                options.out.write_text(json.dumps(results, indent=1))
            seconds = time.monotonic() - start
            print(
                f"{number}/{len(chosen)} {seconds:.0f} s {results[mutant.name] or 'FOUND BY NOTHING'} | {mutant.name}",
                flush=True,
            )
    score = Counter((results[each.name] or "nothing").split(":")[0] for each in chosen)
    print(f"{len(chosen)} faults; found by " + ", ".join(f"{name}: {count}" for name, count in score.most_common()))
    sys.exit(score["nothing"] > 0)


if __name__ == "__main__":
    main()
