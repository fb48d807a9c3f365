"""One convention of docstrings, numpydoc, and plain sentences: subject, verb, term."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = {"Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "Examples"}
MODULES = sorted(path for path in (ROOT / "pyws").rglob("*.py"))


def documented(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
            yield node, text


def section(text: str, title: str) -> str:
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)", text, re.M | re.S)
    return found[1] if found else ""


def arguments(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Names of a function's arguments, or of what makes an instance of a class."""
    if isinstance(node, ast.ClassDef):
        made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if not made:
            return {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
        node = made[0]
    every = node.args
    rest = [one for one in (every.vararg, every.kwarg) if one]
    return {one.arg for one in [*every.posonlyargs, *every.args, *every.kwonlyargs, *rest]}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_numpydoc(path):
    for node, text in documented(path):
        for title, line in re.findall(r"^(\w[\w ]*)\n(-{3,})$", text, re.M):
            assert title in SECTIONS, f"{node.name}: {title}"
            assert len(title) == len(line), f"{node.name}: {title}"
        if isinstance(node, ast.ClassDef):
            strings = [
                one for one in node.body[1:] if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
            ]
            assert not strings, f"{node.name}: fields are described under Parameters"
        assert not re.search(r"^\s*(:param|:return|Args:|Arguments:|Returns:|Raises:)", text, re.M), node.name
        entries = [line.split(" : ")[0] for line in section(text, "Parameters").splitlines() if line[:1].strip()]
        names = {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}
        assert names <= arguments(node), f"{node.name} has no {', '.join(sorted(names - arguments(node)))}"


@pytest.mark.parametrize("folder", ["pyws", "csrc", "tests", "benchmarks"])
def test_descriptions_name_what_they_describe(folder):
    """``size : of the frame`` leaves the reader to find out what of the frame; a line that goes on may begin so."""
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh") and path != Path(__file__):
            lost = re.findall(r'^.*(?:\w : of |"""Of |\S[ \t]*# of |\S[ \t]*// of ).*$', path.read_text(), re.M)
            assert not lost, f"{path}: {lost[0]}"
