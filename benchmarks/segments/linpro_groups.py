"""LinPro on thousands of crowded groups in one go, and how its time grows beside HiGHS's interior-point method.

    python benchmarks/segments/linpro_groups.py --groups 10000 --keep groups.jsonl   # goes on where it was stopped
    python benchmarks/segments/linpro_groups.py --growth 250 500 1000 2000 3000

Groups are of 10 to 3,000 segments at random places, often many deep, whose scores contradict each other. Each is solved
by every preset. What is found is checked by itself: finite labels within their bounds, the residual and the mass that
the labels have, and a status that the certificate carries. The exit status is 1 where one fails.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import torch

import pyws
from pyws.ops import linpro
from pyws.segments import Status

PRESETS = {"paper": {}, "released": {"preset": "released"}, "mean": {"rows": "mean"}}
SMALLEST, LARGEST = 10, 3000


def size_of(rng: np.random.Generator) -> int:
    """Sizes of groups, with density 1/n^2: as many segments are in groups of 10 to 100 as of 100 to 1,000 or more."""
    low, high = 1 / SMALLEST, 1 / (LARGEST + 1)
    return int(1 / rng.uniform(high, low))


def draw(rng: np.random.Generator, n: int) -> tuple[list[tuple[float, float, float]], int]:
    """Segments from a snippet to a third of the video, one to many deep, of random scores."""
    length = int(rng.integers(max(20, n // 4), 4 * n + 50))
    start = rng.uniform(0, length - 2, n)
    end = np.minimum(start + rng.uniform(1, rng.uniform(5, max(6, length / 3)), n), length)
    return list(zip(start.tolist(), end.tolist(), rng.random(n).tolist(), strict=True)), length


def rows_of_w(rows: list[tuple[float, float, float]], length: int, options: dict[str, str]) -> np.ndarray:
    """W (segments, length) by its definition."""
    matrix = np.zeros((len(rows), length))
    for row, (first, last, _) in zip(matrix, rows, strict=True):
        start, end = int(first), int(last)
        if "preset" in options:
            width = 0.0785 * (end - start) ** 0.9
            low, high = int(start - width), min(length - 1, int(end + width + 1))
        else:
            width = 0.25 * (end - start)
            low, high = math.ceil(start - width), min(length, math.ceil(end + width))
        for a, b in ((max(low, 0), start), (end, high)):
            row[a : max(a, b)] = -1
        row[start:end] = 1
        if "rows" in options:
            row[row > 0] /= max(end - start, 1)
            row[row < 0] /= max((row < 0).sum(), 1)
    return matrix


def fault(rows: list[tuple[float, float, float]], length: int, name: str, found: pyws.ops.Labels, group: int) -> str:
    """What is wrong with the answer to a group; empty where nothing is."""
    labels, upper = found.group(group).numpy(), 1.0 if name == "released" else math.inf
    if not np.isfinite(labels).all() or labels.min() < 0 or labels.max() > upper * (1 + 1e-12):
        return "labels are not finite or out of bounds"
    rest = np.abs(np.array([row[2] for row in rows]) - rows_of_w(rows, length, PRESETS[name]) @ labels).sum()
    mass, residual = float(found.objective[group]), float(found.residual[group])
    if abs(rest - residual) > 1e-7 * (1 + residual + mass) or abs(labels.sum() - mass) > 1e-7 * (1 + mass):
        return f"the residual is {rest}, {residual} is said; the mass {labels.sum()}, {mass} is said"
    if int(found.status[group]) != Status.APPROXIMATE and not found.gap[group] <= 1e-6 * (1 + residual + mass):
        return f"the gap is {float(found.gap[group])} and the status {Status(int(found.status[group])).name}"
    return ""


def batch_of_groups(seed: int, first: int, count: int) -> dict[str, Any]:
    """Solve the groups ``first`` to ``first + count`` of a seed by every preset; what became of them."""
    groups = [draw(rng, size_of(rng)) for rng in (np.random.default_rng([seed, first + k]) for k in range(count))]
    segments = pyws.Segments.of([rows for rows, _ in groups])
    lengths = torch.tensor([length for _, length in groups])
    said: dict[str, Any] = {"seed": seed, "first": first, "sizes": [len(rows) for rows, _ in groups], "faults": []}
    for name, options in PRESETS.items():
        began = time.process_time()
        found = linpro(segments, lengths, **options)
        seconds = time.process_time() - began
        for group, (rows, length) in enumerate(groups):
            wrong = fault(rows, length, name, found, group)
            if wrong:
                said["faults"].append(f"group {first + group} of {len(rows)}, {name}: {wrong}")
        relative = (found.gap / (1 + found.residual + found.objective))[found.status != Status.APPROXIMATE]
        gap = float(relative.max()) if len(relative) else 0.0
        said[name] = {"statuses": found.status.tolist(), "cpu seconds": seconds, "largest gap": gap}
    return said


def many_groups(count: int, seed: int, kept: Path, batch: int = 50) -> bool:
    """Solve ``count`` groups by every preset, going on after the batches that are kept; say what became of all."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row["first"]: row for row in rows if row["seed"] == seed}
    for first in range(0, count, batch):
        if first not in done:
            done[first] = batch_of_groups(seed, first, min(batch, count - first))
            with kept.open("a") as file:
                file.write(json.dumps(done[first]) + "\n")
    taken = [done[first] for first in range(0, count, batch)]
    sizes, faults = ([one for row in taken for one in row[field]] for field in ("sizes", "faults"))
    said: dict[str, Any] = {"groups": len(sizes), "segments": sum(sizes), "largest": max(sizes)}
    said["over 1,000"] = sum(n > 1000 for n in sizes)
    for name in PRESETS:
        statuses = [one for row in taken for one in row[name]["statuses"]]
        said[name] = {status.name: statuses.count(status) for status in Status if status in statuses}
        said[name]["cpu seconds"] = round(sum(row[name]["cpu seconds"] for row in taken), 1)
        said[name]["largest gap"] = max(row[name]["largest gap"] for row in taken)
    print(json.dumps({**said, "faults": faults}, indent=1))
    return not faults


def by_highs(rows: list[tuple[float, float, float]], length: int, options: dict[str, str]) -> tuple[float, float]:
    """Least residual and then least mass by HiGHS's interior-point method, in the sparsest form: sums up to each place
    where a column of W changes, which rise; a row of W is a few of them."""
    matrix = rows_of_w(rows, length, options)
    breaks = np.concatenate([[0], np.flatnonzero((matrix[:, 1:] != matrix[:, :-1]).any(0)) + 1])
    steps = matrix[:, breaks]
    steps = np.concatenate([steps[:, :-1] - steps[:, 1:], steps[:, -1:]], axis=1)  # W g = steps @ cumsum(g)
    n, m = steps.shape
    upper = np.diff(np.append(breaks, length)) if "preset" in options else np.full(m, highspy.kHighsInf)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = m + 2 * n, n + m
    lp.col_cost_ = np.concatenate([np.zeros(m), np.ones(2 * n)])
    lp.col_lower_ = np.concatenate([np.full(m, -highspy.kHighsInf), np.zeros(2 * n)])
    lp.col_upper_ = np.full(m + 2 * n, highspy.kHighsInf)
    scores = np.array([row[2] for row in rows])
    lp.row_lower_, lp.row_upper_ = np.concatenate([scores, np.zeros(m)]), np.concatenate([scores, upper])
    at, of = np.nonzero(steps)
    index, value = [], []
    for row in range(n):
        mine = of[np.searchsorted(at, row) : np.searchsorted(at, row + 1)]
        index.append([*mine, m + row, m + n + row])
        value.append([*steps[row, mine], 1.0, -1.0])
    index += [[0], *([k - 1, k] for k in range(1, m))]
    value += [[1.0], *([-1.0, 1.0] for _ in range(1, m))]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *map(len, index)])
    lp.a_matrix_.index_, lp.a_matrix_.value_ = np.concatenate(index), np.concatenate(value)
    solver = highspy.Highs()
    for option, value_ in (("output_flag", False), ("solver", "ipm"), ("run_crossover", "off"), ("threads", 1)):
        solver.setOptionValue(option, value_)
    solver.passModel(lp)
    solver.run()
    residual = solver.getInfo().objective_function_value
    slack = np.arange(m, m + 2 * n, dtype=np.int32)
    solver.addRow(-highspy.kHighsInf, residual + 1e-7 * (1 + residual), 2 * n, slack, np.ones(2 * n))
    solver.changeColsCost(m + 2 * n, np.arange(m + 2 * n, dtype=np.int32), np.eye(1, m + 2 * n, m - 1)[0])
    solver.run()
    return residual, solver.getInfo().objective_function_value


def growth(sizes: list[int], repeats: int) -> None:
    """Processor seconds of both for groups of these sizes; pyws breaks ties besides, which HiGHS does not."""
    for name, options in PRESETS.items():
        for n in sizes:
            own, peer, apart = [], [], []
            for seed in range(repeats):
                rows, length = draw(np.random.default_rng([seed, n]), n)
                began = time.process_time()
                found = linpro(pyws.Segments.of([rows]), torch.tensor([length]), **options)
                middle = time.process_time()
                residual, _ = by_highs(rows, length, options)
                peer.append(time.process_time() - middle)
                own.append(middle - began)
                apart.append((float(found.residual) - residual) / (1 + residual))
            said = {"preset": name, "n": n, "pyws": np.median(own), "highs ipm": np.median(peer)}
            print(json.dumps({**said, "residual above theirs": max(apart)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("linpro_groups.jsonl"), help="what was solved already")
    parser.add_argument("--growth", type=int, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    growth(given.growth, given.repeats)
    sys.exit(0 if not given.groups or many_groups(given.groups, given.seed, given.keep) else 1)
