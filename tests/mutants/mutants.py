"""Planted faults: what a list of them says, and which tests are to notice each.

A list is a text: ``== FILE``, then for each fault ``@ KIND``, the lines that it removes after ``-`` and those that it
adds after ``+``. What cannot change any result carries ``= REASON``; it is kept, so that nobody plants it again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One fault: in the file ``path``, ``old``, which occurs there once, becomes ``new``."""

    path: str
    kind: str
    old: str
    new: str
    equivalent: str = ""  # why no result can change; empty where one can

    @property
    def name(self) -> str:
        """What tells it from all others."""
        words = " ".join(line.strip() for line in self.old.split("\n"))
        changed = " ".join(line.strip() for line in self.new.split("\n"))
        return f"{self.path}: {self.kind}: {words} -> {changed}"

    @property
    def shown(self) -> str:
        """The name without the lines that both texts have."""
        old, new = self.old.split("\n"), self.new.split("\n")
        gone = " ".join(line.strip() for line in old if line not in new)
        come = " ".join(line.strip() for line in new if line not in old)
        return f"{self.path}: {self.kind}: {gone} -> {come}"

    @property
    def emulated(self) -> bool:
        return self.path.endswith((".cu", ".cuh", "_cuda.h"))

    def fits(self, text: str) -> bool:
        return text.count(self.old) == 1 and self.old != self.new

    def applied(self, text: str) -> str:
        """The text with the fault; ValueError where ``old`` does not occur exactly once, or nothing changes."""
        if not self.fits(text):
            raise ValueError(
                f"{self.path} has {text.count(self.old)} times\n{self.old}\nA fault names one place and changes it."
            )
        return text.replace(self.old, self.new)


def read_list(path: Path) -> list[Mutant]:
    """The faults of one list."""
    found: list[Mutant] = []
    source = ""
    for block in re.split(r"\n(?===|@)", path.read_text()):
        head, *lines = block.strip("\n").split("\n")
        if head.startswith("=="):
            source = head[2:].strip()
        elif head.startswith("@"):
            old, new, reason = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+=")
            found.append(Mutant(source, head[1:].strip(), old, new, reason.strip()))
    return found


def all_mutants() -> dict[str, list[Mutant]]:
    """The faults of every list by its name."""
    return {path.stem: read_list(path) for path in sorted(HERE.glob("*.txt"))}


def family_tests(mutant: Mutant) -> list[str]:
    """The arguments of pytest that choose the tests of the family of the file."""
    if mutant.path.startswith("pyws/"):
        return _python_tests(mutant.path)
    emulated = ["-k", "emulated or vast_tensors or test_build"] if mutant.emulated else []
    return [*_kernel_tests(mutant.path), *emulated]


def _kernel_tests(path: str) -> list[str]:
    """Kernel tests of the operations whose sources are in the folder of the file, or include what is there."""
    sources = {each: _text(each) for each in (ROOT / "csrc").glob("*/*.*")}
    folders, more = set(), {Path(path).parent.name}
    while more - folders:
        folders |= more
        more = {
            each.parent.name
            for each, text in sources.items()
            if any(f'#include "{folder}/' in text for folder in folders)
        }
    names = {each.name.split(".")[0] for each in sources if each.parent.name in folders}
    tests = {test.stem.removeprefix("test_"): test for test in _tests() if "ops" in test.parts}
    chosen = [test for name, test in tests.items() if any(name.startswith(each) for each in names)]
    if not path.endswith((".cu", ".cuh", "_cuda.h")):
        chosen += [tests["tails"], *([] if names else [tests["odd_tensors"]])]
    # What is tested of all kernels: their fields, large counts, large tensors, narrow products.
    chosen += [tests["library"], tests["sizes"], tests["vast_tensors"], ROOT / "tests" / "core" / "test_build.py"]
    return [str(test.relative_to(ROOT)) for test in dict.fromkeys(chosen)]


@cache
def _tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def _text(path: Path) -> str:
    """What a file had when it was first read."""
    return path.read_text()


@cache
def _words(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _text(path)))


def _python_tests(path: str) -> list[str]:
    """The doctests of the module, then the tests of its room: first the file of its name, then those that name what it
    defines, then the others; of a command also tests elsewhere that run it.

    A module that is in no room is tested by its own file, or by those that name it.
    """
    module = Path(path).with_suffix("")
    mirrors = [ROOT / "tests" / Path(*module.parts[1:depth]) for depth in range(2, len(module.parts))]
    room = next((each for each in reversed(mirrors) if each.exists()), None)
    public = re.findall(r"^(?:def|class) ([A-Za-z]\w+)", (ROOT / path).read_text(), re.M)
    name = ".".join(module.parts[1:])

    def distance(test: Path) -> int:
        if test.stem.removeprefix("test_") == module.name:
            return 0
        # The text first: the pattern alone takes ten times longer.
        named = name in _text(test) and re.search(rf"\b{name}\b", _text(test))
        return 1 if named or not _words(test).isdisjoint(public) else 2

    far = sorted((distance(test), str(test.relative_to(ROOT)), test) for test in _tests())
    most, command = min(steps for steps, *_ in far), _command(path)
    return [
        path,
        *(name for steps, name, test in far if (room in test.parents if room else steps == most)),
        *(name for _, name, test in far if command and room not in test.parents and command.search(_text(test))),
    ]


def _command(path: str) -> re.Pattern[str] | None:
    """How tests name the command that a module of ``pyws/commands`` is, or is a part of; None of other modules."""
    words = list(Path(path).with_suffix("").parts[2:]) if path.startswith("pyws/commands/") else []
    if len(words) > 1 and f"\ndef {words[0]}(" in (ROOT / "pyws" / "commands" / words[0] / "__init__.py").read_text():
        words = words[:1]  # a command that is a package
    said = [word.rstrip("_").replace("_", "-") for word in words if word != "__init__"]
    if len(said) == 1:
        return re.compile(rf"""[\[(]"{said[0]}", |(?<!from )pyws {said[0]} """)
    return re.compile(r"""["' ]""" + r"""["', ]+""".join(said) + r"\b") if said else None
