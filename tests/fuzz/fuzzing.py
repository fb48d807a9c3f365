"""Coverage-guided fuzzing of the compiled functions (libFuzzer, Debian's clang) and of the parsers (atheris).

    python tests/fuzz/fuzzing.py [--seconds 2 | --inputs 1000000] [--keep] [NAME ...]

Inputs of before (tests/fuzz/corpus, build/fuzz) come first, then new ones. One that fails is kept in build/fuzz as
NAME-crash-..., and told in NAME.log. --keep adds the inputs that reach what the kept ones do not to the corpus.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK, CORPUS = ROOT / "build" / "fuzz", HERE / "corpus"
FOUND = "found.txt"  # inputs of a corpus that were found, one a line in base64
COMPILERS = ["clang++", *(f"clang++-{version}" for version in range(22, 13, -1))]
MOST_KEPT = 120  # inputs of a corpus
Fuzz = Callable[[str, list[str], Path], int]


def build() -> Path | None:
    """The program of the compiled functions; None without clang and its runtime."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        print("fuzz: compiled functions SKIPPED, no clang++ (apt-get install clang)")
        return None
    folder = ROOT / "build" / "fuzzer"
    configure = [
        "cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={compiler}", "-DPYWS_CUDA=off",
        "-DPYWS_FUZZER=ON", "-DPYWS_SANITIZE=address,undefined", f"-DPython_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", folder, "--target", "fuzz_kernels"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"fuzz: the program does not build\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return folder / "tests" / "fuzz" / "kernels" / "fuzz_kernels"


def of_program(program: Path) -> Fuzz:
    """Fuzz a compiled function: options of libFuzzer, and where its words go; the exit status."""

    def fuzz(name: str, options: list[str], log: Path) -> int:
        # What is left in memory when a kernel ends would be the harness's own.
        environment = {**os.environ, "PYWS_FUZZ": name, "ASAN_OPTIONS": "detect_leaks=0"}
        with open(log, "w") as file:
            return subprocess.run([program, *options], stdout=file, stderr=file, env=environment).returncode

    return fuzz


def of_parsers() -> tuple[list[str], Fuzz]:
    """Names of the parsers, and what fuzzes one, in a process that is forked off after everything is imported."""
    import atheris

    sys.path.insert(0, str(HERE))
    with open(WORK / "instrumented.log", "w") as said:  # a line for each module
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        with atheris.instrument_imports(include=["pyws"]):
            import parsers
        os.dup2(kept, 2)

    def fuzz(name: str, options: list[str], log: Path) -> int:
        process = os.fork()
        if process == 0:
            with open(log, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            folder = Path(tempfile.mkdtemp(prefix="pyws-fuzz-"))
            atheris.Setup([name, *options], lambda data: parsers.parse(name, data, folder))
            atheris.Fuzz()  # ends the process
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    return list(parsers.PARSERS), fuzz


def attack(name: str, fuzz: Fuzz, budget: str, longest: int, keep: bool) -> bool:
    """Fuzz one; say what was done. Whether nothing failed."""
    mine, log = WORK / name, WORK / f"{name}.log"
    mine.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyws-fuzz-") as folder:
        before = unpacked(CORPUS / name, Path(folder))
        limits = ["-timeout=20", "-rss_limit_mb=2560", f"-max_len={longest}", "-len_control=10"]
        shown = [f"-artifact_prefix={WORK}/{name}-", "-print_final_stats=1"]
        status = fuzz(name, [str(mine), str(before), budget, *limits, *shown], log)
        said = log.read_text(errors="replace")
        if status:
            rest = [line for line in said.splitlines() if not re.match(r"INFO|#|\s+NEW_FUNC", line)]
            print(f"{name}: FAILED, see {log}", *rest[-20:], sep="\n", flush=True)
            return False
        inputs = re.search(r"number_of_executed_units: *(\d+)", said)
        reached = re.findall(r"cov: (\d+)", said)
        print(f"{name}: {inputs[1] if inputs else 0} inputs, {reached[-1] if reached else 0} edges reached, "
              "none that hurts", flush=True)  # fmt: skip
        if keep:
            pack(name, fuzz, [mine, before], longest)
    return True


def unpacked(corpus: Path, into: Path) -> Path:
    """The kept inputs as files."""
    for file in corpus.iterdir() if corpus.is_dir() else ():
        if file.name != FOUND:
            shutil.copy(file, into)
            continue
        for index, line in enumerate(file.read_text().split()):
            (into / f"found-{index}").write_bytes(base64.b64decode(line))
    return into


def pack(name: str, fuzz: Fuzz, corpora: Sequence[Path], longest: int) -> None:
    """Keep, of all inputs, the shortest that reach the same edges."""
    with tempfile.TemporaryDirectory(prefix="pyws-fuzz-") as folder:
        options = [folder, *map(str, corpora), "-merge=1", "-use_counters=0", f"-max_len={longest}"]
        if fuzz(name, options, WORK / f"{name}.merge.log"):
            raise SystemExit(f"fuzz: {name}: inputs cannot be merged, see {WORK / name}.merge.log")
        found = sorted((path.read_bytes() for path in Path(folder).iterdir()), key=lambda data: (len(data), data))
    seeds = [path.read_bytes() for path in (CORPUS / name).glob("*") if path.name != FOUND]
    lines = [base64.b64encode(data).decode() for data in found[:MOST_KEPT] if data and data not in seeds]
    (CORPUS / name).mkdir(exist_ok=True)
    (CORPUS / name / FOUND).write_text("".join(f"{line}\n" for line in lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of compiled functions and parsers; all if left out")
    parser.add_argument("--seconds", type=int, default=2, help="of each")
    parser.add_argument("--inputs", type=int, help="of each, in the place of a time")
    parser.add_argument("--keep", action="store_true", help="add what was found to tests/fuzz/corpus")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    program = build()
    listed = subprocess.run([program], capture_output=True, text=True).stdout.split() if program else []
    jobs: dict[str, tuple[Fuzz, int]] = {name: (of_program(program), 512) for name in listed} if program else {}
    if not given.names or set(given.names) - set(jobs):
        try:
            import atheris  # noqa: F401
        except ImportError:
            print("fuzz: parsers SKIPPED, atheris is not installed (pip install atheris)")
        else:
            names, fuzz = of_parsers()
            jobs |= dict.fromkeys(names, (fuzz, 8192))
    unknown = set(given.names) - set(jobs)
    if unknown:
        parser.error(f"unknown, or skipped: {', '.join(sorted(unknown))}; there are {', '.join(jobs)}")
    budget = f"-runs={given.inputs}" if given.inputs else f"-max_total_time={given.seconds}"
    whole = [attack(name, *jobs[name][:1], budget, jobs[name][1], given.keep) for name in given.names or jobs]
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
