"""The reference of docs/: nothing public and no option is left out; docstrings become reStructuredText."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from pyws import cli
from pyws.commands import usage

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
SUBPACKAGES = ["pyws", *(f"pyws.{package}" for package in ("ops", "segments", "masks", "data", "models", "evaluation"))]
PACKAGES = [*SUBPACKAGES, "pyws.data.features", "pyws.data.tagged"]
PARTS = {"data", "evaluation", "masks", "models", "ops", "report", "segments", "__version__"}


@pytest.fixture
def extension(monkeypatch):
    """Imports what makes pages of docs/ from the code."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    yield importlib.import_module
    for name in ("command_pages", "docstrings", "generated", "module_pages"):
        sys.modules.pop(name, None)


def entries_of_api():
    """(package, name) of what the API pages list."""
    for page in (DOCS / "reference" / "api").glob("*.md"):
        package = None
        for line in page.read_text().splitlines():
            package = line.split()[-1] if ".. currentmodule::" in line else package
            if re.fullmatch(r"   \w+", line):
                yield package, line.strip()


def test_api_lists_all_that_packages_export():
    listed = list(entries_of_api())
    assert len(listed) == len(set(listed))
    listed = {id(getattr(importlib.import_module(package), name)) for package, name in listed}
    for package in map(importlib.import_module, PACKAGES):
        names = set(getattr(package, "__all__", ())) - PARTS
        assert {name for name in names if id(getattr(package, name)) not in listed} == set(), package.__name__


def test_names_that_users_rely_on_stay():
    """What training code imports; whoever renames one of these breaks it."""
    names = {
        "pyws": "Segments ops masks segments models data evaluation",
        "pyws.ops": "gradcam3d gradcam3d_from_head otsu superpixel_select slic propose_segments fuse_segments "
        "suppress_segments",
        "pyws.segments": "linpro Status Labels",
        "pyws.evaluation": "detection_map",
        "pyws.masks": "GradCAM",
        "pyws.models": "RSKP STPN BM WUM FACNet I3D DeepLabV2 PatchDiscriminator",
    }
    for package, several in names.items():
        missing = [name for name in several.split() if not hasattr(importlib.import_module(package), name)]
        assert not missing, f"{package} lacks {', '.join(missing)}"
    groups = {
        "": "demo doctor features label verify",
        "data ": "check convert",
        "config ": "show",
        "masks ": "init train predict evaluate ablate",
        "segments ": "fuse labels train predict evaluate ablate",
    }
    known = {command for group in cli.GROUPS.values() for command in group}
    assert {group + name for group, several in groups.items() for name in several.split()} <= known


def test_reference_has_every_public_function_and_class(extension):
    shown = "\n".join(line for _, lines in extension("module_pages").packages() for line in lines)
    shown = set(re.findall(r"auto(?:class|function):: ([\w.]+)", shown))
    exported = {getattr(importlib.import_module(package), name) for package, name in entries_of_api()}
    exported = {f"{entry.__module__}.{entry.__name__}" for entry in exported}
    for package in SUBPACKAGES[1:]:
        for path in (ROOT / package.replace(".", "/")).rglob("[!_]*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    assert f"{module}.{node.name}" in shown | exported


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_page_has_every_option(name, extension):
    page = "\n".join(extension("command_pages").page(name))
    for option in usage.option_names(cli.load(name)):
        assert re.search(rf"^`(-\w \S+, )?([^`]*, )?{re.escape(option)}\b.*`\n: \S", page, re.MULTILINE), option


def test_docstrings_become_restructuredtext(extension):
    rendered = extension("docstrings").rendered
    lines = ["Sum of *S.", "", "Parameters", "----------", "a, b : (B, *S)", "    float32", "size", "    Its side_."]
    lines += [
        "",
        "Raises",
        "------",
        "TypeError, ValueError : no ``*S``",
        "",
        "Examples",
        "--------",
        ">>> f(*x)",
        "x_",
    ]
    text = "\n".join(line for line in rendered(lines) if line.strip())
    assert text == "\n".join(
        [
            r"Sum of \*S.",
            ":Parameters:",
            "    **a, b**",
            r"        (B, \*S)",
            "        float32",
            "    **size**",
            r"        Its side\_.",
            ":Raises:",
            "    **TypeError, ValueError**",
            "        no ``*S``",
            ".. rubric:: Examples",
            ">>> f(*x)",
            "x_",
        ]
    )
