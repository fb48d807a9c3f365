"""pytest benchmarks/ [--device cuda] [--threads N] [--clock cpu|thread] [--ratios FILE.json] [--table FILE.md]"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import harness
import pytest
import torch

RESULTS: list[harness.Result] = []
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time, "thread": time.thread_time}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyws")
    group.addoption("--device", default="cpu", help="cpu or cuda; cuda times with CUDA events")
    group.addoption("--threads", type=int, default=1, help="threads of torch and pyws")
    group.addoption(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="on a busy machine, processor time: cpu of all threads, thread of the first, which needs passive waiting",
    )
    group.addoption("--ratios", help="write the results as JSON")
    group.addoption("--table", help="write the ratio table as Markdown")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.exit("--device cuda: no CUDA device is available", returncode=2)
    return chosen


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any, device: torch.device) -> Callable[..., harness.Result]:
    """harness.race on the chosen device and threads; its result joins the table and pytest-benchmark's record."""

    def run(operation: str, case: str, competitors: dict[str, Callable[[], Any]], **options: Any) -> harness.Result:
        with harness.threads(request.config.getoption("--threads")):
            clock = CLOCKS[request.config.getoption("--clock")]
            result = harness.race(operation, case, competitors, device=device, clock=clock, **options)
            RESULTS.append(result)
            benchmark.extra_info.setdefault("races", []).append(asdict(result))
            if benchmark.stats is None:
                benchmark.pedantic(next(iter(competitors.values())), rounds=3, iterations=1)
        return result

    return run


def _row(result: harness.Result) -> list[str]:
    own = next(iter(result.seconds))
    cells = []
    for peer, ratio in result.ratios.items():
        goal = f", goal {result.goals[peer]:g}x" if peer in result.goals else ""
        low, high = result.quartiles[peer]
        cells.append(f"{peer} {ratio:.2f}x [{low:.2f}, {high:.2f}]{goal}")
    limit = "" if result.copy_fraction is None else f"{100 * result.copy_fraction:.0f} %"
    missed = ", ".join(result.short)
    if missed and result.reason:
        missed += f": {result.reason}"
    return [result.operation, result.case, f"{result.seconds[own] * 1e6:.1f}", "; ".join(cells), limit, missed]


HEAD = ["operation", "case", "pyws, us", "times faster than: median [quartiles]", "of copy rate", "short of"]


def _machine(config: pytest.Config) -> str:
    return (
        f"{platform.machine()}, torch {torch.__version__}, {config.getoption('--threads')} thread(s), "
        f"device {config.getoption('--device')}, {config.getoption('--clock')} time"
    )


def _markdown(config: pytest.Config) -> str:
    lines = [f"Measured on {_machine(config)}.", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in _row(result)) + " |" for result in RESULTS]
    return "\n".join(lines) + "\n"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not RESULTS:
        return
    terminalreporter.section(f"ratios: {_machine(config)}")
    for result in RESULTS:
        operation, case, own, peers, limit, missed = _row(result)
        terminalreporter.write_line(f"{operation} {case}: {own} us" + (f", {limit} of the copy rate" if limit else ""))
        terminalreporter.write_line(f"    {peers}" + (f"    ** short of {missed}" if missed else ""))
    if config.getoption("--table"):
        Path(config.getoption("--table")).write_text(_markdown(config))
    if config.getoption("--ratios"):
        document = {"machine": _machine(config), "results": [asdict(result) for result in RESULTS]}
        Path(config.getoption("--ratios")).write_text(json.dumps(document, indent=1))
