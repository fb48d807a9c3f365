"""The direction of dependencies, and that importing pyws stays light."""

import ast
import re
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

import pyws

PACKAGE = Path(pyws.__file__).parent
ROOT = Path(__file__).parent.parent
MAX_FILES = 12
SOURCES = {".py", ".h", ".cuh", ".cpp", ".cu", ".md", ".txt", ".toml", ".csv", ".json"}
SUBPACKAGES = {"ops", "masks", "segments", "models", "data", "evaluation", "report", "exchange", "commands"}
BASE = {"_C", "checkpoint", "distributed", "errors", "files", "folders", "pickles", "progress", "ragged"}
BASE |= {"run_manifest", "sharding"}
ALLOWED = {
    "checkpoint": {"errors", "files", "pickles"},
    "distributed": {"errors", "sharding"},
    "errors": set(),
    "files": {"errors"},
    "folders": {"errors", "files", "sharding"},
    "pickles": set(),
    "progress": {"errors"},
    "ragged": set(),
    "run_manifest": {"errors", "files", "folders", "sharding"},
    "sharding": set(),
    "ops": {"_C", "errors", "ragged"},
    "models": BASE | {"ops"},
    "data": BASE | {"ops"},
    "evaluation": BASE | {"ops", "data"},
    "report": BASE | {"data"},
    "exchange": BASE | {"data", "report"},
    "masks": BASE | {"ops", "models", "data", "evaluation"},
    "segments": BASE | {"ops", "models", "data", "evaluation"},
    "commands": BASE | SUBPACKAGES | {"cli", "settings"},
    "cli": {"errors", "commands", "run_manifest", "settings", "sharding"},
    "__main__": {"cli"},
    "settings": {"errors", "files"},
}


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """The packages of pyws that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("pyws.")}
    return found & (SUBPACKAGES | BASE | {"cli", "settings"})


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    package = package_of(path)
    assert imports_of(path) - {package} <= ALLOWED[package]


def test_import_is_light():
    code = (
        "import sys, torch, time; before = set(sys.modules); start = time.perf_counter(); import pyws; "
        "print(*(set(sys.modules) - before))"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torchvision", "matplotlib", "scipy", "skimage", "highspy", "av", "PIL", "rich", "tyro"}
    assert not heavy & {module.split(".")[0] for module in modules}


CHANGING = {"Target", "Reviewed", "Instance", "_Candidate", "Version", "Seen", "Aside", "Run"}


def test_dataclasses_stay_as_they_are_made():
    """But for those that are filled step by step."""
    changing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if ast.unparse(decorator).startswith("dataclass") and "frozen=True" not in ast.unparse(decorator):
                    changing.add(node.name)
    assert changing == CHANGING


def test_every_public_name_is_there_at_its_first_use():
    assert set(pyws.__all__) >= pyws._PACKAGES
    for name in set(pyws.__all__) - {"DataError", "PywsError", "__version__"}:
        assert pyws.__getattr__(name).__name__ in (name, f"pyws.{name}")


def test_no_file_is_too_long():
    long = {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 500}
    assert long == {}


def modules_imported_by(path: Path, names: set[str]) -> set[str]:
    """The modules among ``names`` that a file imports, anywhere in it; ``from pyws import data`` is the package."""
    found, tree = set(), ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []  # nothing is imported there when the program runs
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & names) or {node.module}
    return found & names


def test_no_import_circles():
    """Imports inside functions count too; what a package's own __init__ gathers does not, nor types alone."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    left = {name: modules_imported_by(path, set(names)) - {name} for name, path in names.items()}
    for name, path in names.items():
        if path.name == "__init__.py":
            left[name] = {other for other in left[name] if not other.startswith(name + ".")}
    while free := [name for name, imported in left.items() if not imported]:
        for name in free:
            del left[name]
        left = {name: imported & set(left) for name, imported in left.items()}
    assert left == {}


def test_every_test_file_has_a_name_of_its_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not [name for name in names if names.count(name) > 1]  # pytest collects one of them


def test_no_folder_of_tests_has_a_name_that_pytest_passes_over(request):
    """As build, dist and venv: it collects nothing there, and says nothing."""
    folders = {path.parent for top in request.config.getini("testpaths") for path in (ROOT / top).rglob("test_*.py")}
    names = {name for folder in folders for name in folder.relative_to(ROOT).parts}
    over = request.config.getini("norecursedirs")
    assert "build" in over
    assert not [name for name in names if any(fnmatch(name, pattern) for pattern in over)]


@pytest.mark.parametrize("top", ["pyws", "csrc", "tests", "benchmarks", "docs"])
def test_no_folder_has_too_many_files(top):
    """A dozen: more, and there are two subjects. A package's ``__init__`` and ``__main__`` do not count."""
    folder = ROOT / top
    files = (
        path for path in folder.rglob("*") if path.suffix in SOURCES and path.name not in ("__init__.py", "__main__.py")
    )
    files = (path for path in files if not {"_build", "generated"} & set(path.parts))
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in files)
    assert counts
    assert {name: count for name, count in counts.items() if count > MAX_FILES} == {}


def test_the_map_has_every_folder():
    """CONTRIBUTING.md has a line for each, but for what is described as a whole; and names none that is not there."""
    rows = re.findall(r"^\| (`.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    named = set(re.findall(r"([\w.]+)/`", "\n".join(rows)))
    kernels = {path.parent for path in (ROOT / "csrc").glob("*/*.h") if path.stem == path.parent.name}
    whole = [PACKAGE / name for name in ("commands", "exchange", "report")]
    folders = {path.parent for top in ("pyws", "csrc") for path in (ROOT / top).rglob("*.*") if path.suffix in SOURCES}
    for folder in folders - kernels:
        described = any(parent in whole for parent in folder.parents)
        assert described or folder.name in named | {"pyws", "csrc", "data", "models", "ops", "masks"}, folder
    everything = {
        path.name for top in ("pyws", "csrc", "docs", "tests", "benchmarks") for path in (ROOT / top).rglob("*")
    }
    assert named - {"docs", "tests", "benchmarks"} <= everything
