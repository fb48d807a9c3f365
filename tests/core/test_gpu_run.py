""".ci/gpu, as far as it goes without a card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import emulation


def gpu(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, emulation.ROOT / ".ci" / "gpu", "--dry-run", *options]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_a_dry_run_drives_every_kernel_and_says_what_it_skips(tmp_path: Path) -> None:
    emulation.build("_emulated")
    names = "build,kernels,tests,memcheck,racecheck,synccheck,initcheck,demo,benchmarks"
    done = gpu("--out", tmp_path, "--steps", names)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {each["name"]: each["status"] for each in json.loads((tmp_path / "results.json").read_text())["steps"]}
    assert steps.pop("kernels") == "passed"
    assert {"build", "tests", "memcheck", "racecheck", "demo", "benchmarks"} <= set(steps)
    assert set(steps.values()) == {"skipped"}
    assert (tmp_path / "table.md").read_text().count("| skipped |") == len(steps)


def test_where_a_vital_step_fails_what_follows_is_skipped_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    done = gpu("--out", tmp_path, "--wheels", tmp_path, "--steps", "wheels,kernels,segments")
    assert done.returncode == 1, done.stdout + done.stderr
    wheels, kernels, segments = json.loads((tmp_path / "results.json").read_text())["steps"]
    assert (wheels["name"], wheels["status"]) == ("wheels", "failed")
    assert (
        (kernels["status"], kernels["note"])
        == (segments["status"], segments["note"])
        == ("skipped", "wheels did not pass")
    )


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    done = gpu("--out", tmp_path, "--steps", "kernels,nothing")
    assert done.returncode != 0
    assert "no step nothing" in done.stderr
