"""The lists of planted faults stay alive: each names one place of today's sources, and tests that are to notice it."""

from __future__ import annotations

import sys

import emulation
import pytest

sys.path.insert(0, str(emulation.ROOT / "tests" / "mutants"))
from mutants import Mutant, all_mutants, family_tests, read_list

LISTS = all_mutants()


@pytest.mark.parametrize("name", LISTS)
def test_nearly_every_fault_names_one_place(name: str) -> None:
    """A change of a line that a list names needs no change of the list at once; renew the lost ones when it fails."""
    lost = []
    for mutant in LISTS[name]:
        text = (emulation.ROOT / mutant.path).read_text() if (emulation.ROOT / mutant.path).exists() else ""
        if not mutant.fits(text):
            lost.append(mutant.shown)
        elif mutant.path.endswith(".py"):
            compile(mutant.applied(text), mutant.path, "exec")
    assert len(lost) <= len(LISTS[name]) // 10, lost


def test_there_are_enough_faults_of_every_language_and_no_two_are_the_same() -> None:
    faults = [mutant for mutants in LISTS.values() for mutant in mutants]
    assert len({mutant.name for mutant in faults}) == len(faults)
    living = [mutant for mutant in faults if not mutant.equivalent]
    assert sum(mutant.emulated for mutant in living) >= 150
    assert sum(mutant.path.endswith((".cpp", ".h")) and not mutant.emulated for mutant in living) >= 60
    assert sum(mutant.path.endswith(".py") for mutant in living) >= 60


def test_every_fault_has_tests_that_are_there() -> None:
    for path in {mutant.path for mutants in LISTS.values() for mutant in mutants}:
        if not (emulation.ROOT / path).exists():
            continue
        files = [part for part in family_tests(Mutant(path, "", "", "")) if "/" in part]
        assert files
        assert [name for name in files if not (emulation.ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("path", "elsewhere"),
    [
        ("pyws/commands/masks/train.py", "tests/masks/test_self_training.py"),
        ("pyws/commands/segments/predict.py", "tests/many_machines/test_segment_stages.py"),
        ("pyws/commands/data/synthesize_a2d.py", "tests/data/synthetic/test_synthetic_a2d.py"),
        ("pyws/commands/import_.py", "tests/exchange/test_import_from_tools.py"),
    ],
)
def test_a_command_is_tested_wherever_it_is_run(path: str, elsewhere: str) -> None:
    chosen = family_tests(Mutant(path, "", "", ""))
    assert elsewhere in chosen
    assert any(name.startswith("tests/commands/") for name in chosen)
    assert "tests/ops/segments/test_linpro.py" not in chosen


def test_a_list_says_what_changes_and_why_it_may_not_matter(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("== a.cu\n@ guard\n-  if (x < y) {\n-    f();\n+  if (x <= y) {\n+    f();\n= y is never x\n")
    (mutant,) = read_list(path)
    assert mutant == Mutant("a.cu", "guard", "  if (x < y) {\n    f();", "  if (x <= y) {\n    f();", "y is never x")
    assert mutant.shown == "a.cu: guard: if (x < y) { -> if (x <= y) {"
    assert mutant.applied("1\n  if (x < y) {\n    f();\n") == "1\n  if (x <= y) {\n    f();\n"
    with pytest.raises(ValueError, match="2 times"):
        mutant.applied(f"{mutant.old}\n{mutant.old}")
