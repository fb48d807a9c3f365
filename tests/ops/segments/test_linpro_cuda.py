"""LinPro on CUDA: the bits of the CPU, and what is left to the host."""

from __future__ import annotations

from dataclasses import fields

import emulation
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws import Segments
from pyws.ops import _library
from pyws.ops.segments import linpro as solver
from pyws.segments import Labels, Status, linpro

OPTIONS = [{}, {"preset": "released"}, {"rows": "mean"}, {"tie_break": "center"}, {"upper": 0.1}]


def on_cpu(monkeypatch: pytest.MonkeyPatch, *arguments, **options) -> Labels:
    with monkeypatch.context() as patch:
        patch.setattr(_library, "BACKEND", _library._HOST)
        return linpro(*arguments, **options)


def assert_same_bits(left: Labels, right: Labels) -> None:
    for field in fields(Labels):
        if field.name != "on_host":
            assert torch.equal(getattr(left, field.name), getattr(right, field.name)), field.name


@pytest.fixture
def card(backend: str) -> str:
    """A backend of CUDA kernels."""
    if not (backend.startswith("emulated") or backend == "cuda"):
        pytest.skip("no CUDA kernels")
    return backend


def groups_of(seed: int, groups: int, most: int, length: int, spread: float) -> list[list[tuple[float, ...]]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(groups):
        n = rng.integers(0, most + 1)
        start = rng.uniform(-5, length + 3, n)
        found.append(list(zip(start, start + rng.uniform(0, spread, n), rng.uniform(-0.2, 1, n), strict=True)))
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(12, 4, 60, 10.0), (8, 9, 200, 20.0), (2, 30, 500, 40.0)])
def test_the_bits_of_the_cpu(shape, options, card, monkeypatch):
    """Lone segments, chains, signed scores, rows that contradict each other, groups of nothing."""
    groups = groups_of(len(options) + shape[0], *shape)
    lengths = torch.tensor([shape[2] + 7 * i for i in range(len(groups))])
    found = linpro(Segments.of(groups), lengths, **options)
    assert_same_bits(found, on_cpu(monkeypatch, Segments.of(groups), lengths, **options))
    if "upper" not in options:
        assert found.on_host.sum() < len(groups) / 2


@pytest.mark.parametrize("options", OPTIONS)
def test_memory_that_holds_anything_has_the_same_bits_on_the_cpu(options, monkeypatch):
    """In the emulator's module arrays begin as NaN and -1, not as zeros or as what the group before left there."""
    groups = [group for shape in [(6, 9, 200, 20.0), (2, 30, 500, 40.0)] for group in groups_of(3, *shape)]
    segments, lengths = Segments.of(groups), torch.tensor([200] * 6 + [500] * 2)
    module = emulation.load()
    before = module.cpu_path()
    with monkeypatch.context() as patch:
        patch.setattr(_library, "BACKEND", _library.KernelBackend(module, "_cpu", lambda: 1))
        found = []
        for path in module.cpu_paths():
            module.set_cpu_path(path)
            found.append(linpro(segments, lengths, **options))
        module.set_cpu_path(before)
    expected = linpro(segments, lengths, **options)
    for each in found:
        assert_same_bits(each, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(OPTIONS))
def test_ties_and_whole_numbers_have_the_bits_of_the_cpu(seed, length, options):
    rng = np.random.default_rng(seed)
    rows = [(int(a), int(a + d), int(q)) for a, d, q in rng.integers(0, (length, 9, 3), (7, 3))]
    groups = [rows, rows[:3], rows[3:]]
    lengths = torch.tensor([length, length, 2 * length])
    host, expected = _library.BACKEND, linpro(Segments.of(groups), lengths, **options)
    _library.BACKEND = _library.KernelBackend(emulation.load(), "_cuda", lambda: seed % 1000)
    try:
        found = linpro(Segments.of(groups), lengths, **options)
    finally:
        _library.BACKEND = host
    assert_same_bits(found, expected)


def test_what_couples_too_much_goes_to_the_host_alone(card, monkeypatch):
    """Rows without labels, and more rows than a warp's memory holds, beside two groups that stay."""
    contradiction = [(0, 10, 0.1), (2, 6, 0.5)]
    chain = [(3.0 * i, 3.0 * i + 5, 0.5) for i in range(400)]
    groups = [[(0, 4, 0.5)], contradiction, [(0, 4, 0.6), (2, 6, 0.6)], chain]
    segments, lengths = Segments.of(groups), torch.tensor([9, 10, 9, 1210])
    found = linpro(segments, lengths, margin=0.0)
    assert found.on_host.tolist() == [False, True, False, True]
    assert found.status.tolist()[:3] == [Status.OPTIMAL, Status.RELAXED, Status.OPTIMAL]
    assert_same_bits(found, on_cpu(monkeypatch, segments, lengths, margin=0.0))


def test_known_labels_go_to_the_host(card, monkeypatch):
    segments, lengths = Segments.of([[(0, 4, 0.5)], [(0, 4, 0.5), (2, 6, 0.4)]]), torch.tensor([6, 7])
    known = torch.full((13,), torch.nan, dtype=torch.float64)
    known[8] = 0.125
    found = linpro(segments, lengths, known=known)
    assert found.on_host.tolist() == [False, True]
    assert found.labels[8] == 0.125
    assert_same_bits(found, on_cpu(monkeypatch, segments, lengths, known=known))


def test_what_couples_goes_to_the_host_where_no_tableau_may_be_made(card, monkeypatch):
    """As on the CPU, where a limit of no entries leaves what couples to the solver that always answers."""
    segments, lengths = Segments.of([[(0, 4, 0.6)], [(0, 4, 0.6), (2, 6, 0.6)]]), torch.tensor([9, 9])
    rule = solver._rule("paper", 0.0, None, None, None)
    found = solver._solve(segments, lengths, rule, entry_limit=0)
    assert found.on_host.tolist() == [False, True]
    with monkeypatch.context() as patch:
        patch.setattr(_library, "BACKEND", _library._HOST)
        assert_same_bits(found, solver._solve(segments, lengths, rule, entry_limit=0))


@pytest.mark.usefixtures("cpu_backend")
def test_nothing_of_the_cpu_is_on_the_host():
    rows = [(0, 10, 0.1), (2, 6, 0.5)]
    assert linpro(Segments.of([rows, [], rows]), torch.tensor([10, 5, 10])).on_host.tolist() == [False] * 3


def test_a_segment_reaches_over_more_rows_than_a_warp_has_lanes(card, monkeypatch):
    """Sixty segments that meet one long segment alone are one component with it."""
    group = [(0, 500, 50.0), *((8 * i, 8 * i + 4, 0.5) for i in range(60))]
    segments, lengths = Segments.of([group]), torch.tensor([500])
    found = linpro(segments, lengths, margin=0.0)
    assert found.components.tolist() == [1]
    assert found.on_host.tolist() == [True]
    assert_same_bits(found, on_cpu(monkeypatch, segments, lengths, margin=0.0))


def test_components_of_more_rows_than_a_warp_has_lanes_stay_on_the_card(card, monkeypatch):
    """Beyond a warp's lanes rows are counted, and bands of the matrix are eliminated, to the last one."""
    groups = [[(3.0 * i, 3.0 * i + reach, 0.5) for i in range(n)] for n, reach in ((33, 5), (40, 5), (70, 5), (36, 8))]
    segments, lengths = Segments.of(groups), torch.tensor([130, 150, 230, 130])
    found = linpro(segments, lengths, margin=0.0)
    assert found.components.tolist() == [1, 1, 1, 1]
    assert found.on_host.tolist() == [False] * 4
    assert_same_bits(found, on_cpu(monkeypatch, segments, lengths, margin=0.0))


@pytest.mark.parametrize("rows_met", [8, 16, 24, 32])
def test_bands_that_are_full_to_their_last_row(rows_met, card, monkeypatch):
    """Bands are as wide as the CPU's vectors: only where so many rows meet is the last one more than zeros."""
    rng = np.random.default_rng(rows_met)
    spans = [(2 * i, 2 * (i + rows_met)) for i in range(40)]
    labels = rng.uniform(0, 1, spans[-1][1])
    group = [(start, end, labels[start:end].sum()) for start, end in spans]
    segments, lengths = Segments.of([group]), torch.tensor([len(labels)])
    found = linpro(segments, lengths, margin=0.0)
    assert found.status.tolist() == [Status.OPTIMAL]
    assert found.on_host.tolist() == [False]
    assert_same_bits(found, on_cpu(monkeypatch, segments, lengths, margin=0.0))
