"""propose_segments against its definition, hand-computed cases and the released code's numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyws import Segments
from pyws.ops import propose_segments, reference, score_segments
from pyws.ops.segments.propose_segments import RELEASED_THRESHOLDS

LEVELS = [0.1, 0.3, 0.5, 0.9]


def smooth_tcam(lengths, classes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((sum(lengths) + 4, classes), generator=generator, dtype=torch.float64)
    tcam = (noise[:-4] + noise[1:-3] + noise[2:-2] + noise[3:-1]) / 4
    return tcam.to(dtype), torch.tensor([0, *lengths]).cumsum(0)


def rows(segments):
    return torch.stack([segments.start, segments.end, segments.score, segments.weight], 1)


def check_against_reference(tcam, offsets, thresholds, **options):
    segments = propose_segments(tcam, offsets, thresholds, **options)
    expected = reference.propose_segments(tcam, offsets, thresholds, **options)
    assert segments.offsets.diff().tolist() == [len(group) for group in expected]
    flat = torch.tensor([row for group in expected for row in group], dtype=torch.float64).reshape(-1, 4)
    torch.testing.assert_close(rows(segments), flat, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scoring", ["released", "paper"])
def test_proposals_are_their_definition(backend, scoring, dtype):
    tcam, offsets = smooth_tcam([0, 1, 2, 31, 32, 33, 64, 97, 0], 3, dtype)
    for min_length in (1, 2, 5):
        check_against_reference(tcam, offsets, LEVELS, scoring=scoring, min_length=min_length)
    check_against_reference(tcam * 0.05, offsets, list(RELEASED_THRESHOLDS), scoring=scoring)
    check_against_reference(tcam, offsets, [-1.0, 2.0], scoring=scoring)  # one run that is the video; no run at all


def test_every_length_around_a_word(cpu_backend):
    """The last word of a video is padded, whatever is left of it; a run goes on to its end."""
    tcam, offsets = smooth_tcam(range(1, 131), 1)
    check_against_reference(tcam, offsets, LEVELS)
    check_against_reference(tcam, offsets, [0.0], min_length=1)


def test_longer_than_a_tile(backend):
    tcam, offsets = smooth_tcam([1100, 1500], 1)
    check_against_reference(tcam, offsets, LEVELS)
    check_against_reference(tcam, offsets, [0.0], scoring="paper", margin=0.1)
    check_against_reference(tcam, offsets, [0.05, 0.15, 0.25], min_length=70)
    check_against_reference(tcam, offsets, [0.0], min_length=1200)


def test_by_hand(backend):
    tcam = torch.tensor([[0.1, 0.2, 0.9, 0.9, 0.6, 0.6, 0.3, 0.2]], dtype=torch.float64).T
    offsets = torch.tensor([0, 8])
    # released: run [2, 6), inside [2, 7), h = 0.0785 * 4^0.9 = 0.27: one snippet before, none after
    segments = propose_segments(tcam, offsets, [0.5])
    assert (segments.start.item(), segments.end.item()) == (2.0, 7.0)
    assert segments.weight.item() == pytest.approx(3.3 / 5)
    assert segments.score.item() == pytest.approx(3.3 / 5 - 0.2)
    # paper: inside [2, 6), one snippet on each side
    segments = propose_segments(tcam, offsets, [0.5], scoring="paper")
    assert (segments.start.item(), segments.end.item()) == (2.0, 6.0)
    assert segments.weight.item() == pytest.approx(0.75)
    assert segments.score.item() == pytest.approx(0.75 - 0.25)
    assert propose_segments(tcam, offsets, [0.5], scoring="paper", margin=0.0).score.item() == pytest.approx(0.75)


def test_a_value_at_the_threshold_does_not_pass(backend):
    for length in (4, 70):  # fewer than the lanes, and more
        tcam = torch.full((length, 1), 0.5, dtype=torch.float32)
        assert len(propose_segments(tcam, torch.tensor([0, length]), [0.5])) == 0
    # 0.1 in float32 is above 0.1 in float64: the comparison is in float64
    assert len(propose_segments(torch.full((4, 1), 0.1), torch.tensor([0, 4]), [0.1])) == 1


def test_released_thresholds():
    assert len(RELEASED_THRESHOLDS) == 20
    assert RELEASED_THRESHOLDS[0] == 0.001
    assert RELEASED_THRESHOLDS[-1] == 0.039


def test_groups_that_are_not_wanted_at_more_thresholds_than_a_block_has_threads(backend):
    tcam = torch.rand(40, 2, generator=torch.Generator().manual_seed(6))
    levels = torch.linspace(0.01, 0.99, 200).tolist()
    some = propose_segments(tcam, torch.tensor([0, 40]), levels, wanted=torch.tensor([[False, True]]))
    every = propose_segments(tcam, torch.tensor([0, 40]), levels)
    assert some.offsets.tolist() == [0, 0, len(every.group(1))]
    assert torch.equal(some.score, every.group(1).score)


def test_wanted(backend):
    tcam, offsets = smooth_tcam([20, 30], 3)
    wanted = torch.tensor([[True, False, True], [False, False, True]])
    some, every = propose_segments(tcam, offsets, LEVELS, wanted=wanted), propose_segments(tcam, offsets, LEVELS)
    for group, want in enumerate(wanted.flatten().tolist()):
        assert torch.equal(rows(some.group(group)), rows(every.group(group))[: None if want else 0])


def test_many_thresholds(backend):
    tcam, offsets = smooth_tcam([40], 2)
    check_against_reference(tcam, offsets, torch.linspace(0, 1, 255, dtype=torch.float64).tolist())


@pytest.mark.parametrize(("lengths", "classes"), [([], 3), ([0, 0], 2), ([5], 0)])
def test_nothing(backend, lengths, classes):
    tcam, offsets = smooth_tcam(lengths, classes)
    segments = propose_segments(tcam, offsets)
    assert len(segments) == 0
    assert segments.offsets.tolist() == [0] * (len(lengths) * classes + 1)


def test_batches_threads_and_strides_change_nothing(backend):
    lengths = [300, 7, 1500, 64]
    tcam, offsets = smooth_tcam(lengths, 20)
    whole = propose_segments(tcam, offsets, LEVELS)
    for video in range(len(lengths)):
        one = propose_segments(tcam[offsets[video] : offsets[video + 1]], torch.tensor([0, lengths[video]]), LEVELS)
        first, last = whole.offsets[video * 20], whole.offsets[video * 20 + 20]
        assert torch.equal(rows(one), rows(whole)[first:last])
    assert torch.equal(rows(propose_segments(tcam.T.contiguous().T, offsets, LEVELS)), rows(whole))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    threaded = propose_segments(tcam, offsets, LEVELS)
    torch.set_num_threads(before)
    assert torch.equal(rows(threaded), rows(whole))


FIRST_SEEN = {}


@pytest.mark.parametrize("scoring", ["released", "paper"])
def test_same_bits_on_every_backend(backend, scoring):
    tcam, offsets = smooth_tcam([300, 0, 41], 2, torch.float32)
    answer = rows(propose_segments(tcam, offsets, LEVELS, scoring))
    assert torch.equal(answer, FIRST_SEEN.setdefault(scoring, answer))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tcam": torch.zeros(4)}, r"tcam must have 2 dimensions, got shape \(4,\)"),
        ({"tcam": torch.zeros(4, 1, dtype=torch.float16)}, "tcam must be float32 or float64, got float16"),
        ({"tcam": torch.tensor([[0.0], [math.nan], [0.0], [math.inf]])}, "finite, got nan at snippet 1, class 0"),
        ({"tcam": torch.tensor([[0.0], [-math.inf], [0.0], [0.0]])}, "finite, got -inf at snippet 1, class 0"),
        ({"tcam": torch.zeros(4, 1, requires_grad=True)}, "not differentiable, but tcam requires grad"),
        ({"offsets": torch.tensor([0, 3])}, "offsets must end at the number of values 4, got 3"),
        ({"offsets": torch.tensor([0, 4], dtype=torch.int32)}, "offsets must be int64"),
        ({"thresholds": []}, "thresholds must be 1 to 255 numbers, got 0"),
        ({"thresholds": [0.2, 0.1]}, "thresholds must be finite and rise"),
        ({"thresholds": [math.nan]}, "thresholds must be finite and rise"),
        ({"scoring": "gauss"}, "scoring must be one of 'released', 'paper', got 'gauss'"),
        ({"min_length": 0}, "min_length must be an integer >= 1, got 0"),
        ({"margin": -1.0}, "margin must be >= 0, got -1.0"),
        ({"wanted": torch.ones(2, 1, dtype=torch.bool)}, r"wanted must have shape \(1, 1\), got \(2, 1\)"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"tcam": torch.zeros(4, 1), "offsets": torch.tensor([0, 4]), **change}
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"propose_segments: .*{message}"):
        propose_segments(**arguments)


def test_the_first_value_that_is_not_finite_is_named_beyond_a_tile(backend):
    tcam = torch.zeros(5000, 2)
    for bad in (4999, 2900, 1030, 7):
        tcam[bad, 1] = math.nan
        with pytest.raises(ValueError, match=f"finite, got nan at snippet {bad}, class 1"):
            propose_segments(tcam, torch.tensor([0, 5000]))


def test_torch_library_contract():
    tcam, offsets = smooth_tcam([20, 0, 30], 2)
    wanted = torch.tensor([[True, False]] * 3)
    op = torch.ops.pyws.propose_segments.default
    torch.library.opcheck(op, (tcam, offsets, LEVELS, None, None, 2))
    torch.library.opcheck(op, (tcam.float(), offsets, LEVELS, wanted, 0.25, 1))


def test_compile():
    tcam, offsets = smooth_tcam([20, 0, 30], 2)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def total(tcam, offsets):
        return propose_segments(tcam, offsets, LEVELS).score.sum()

    torch.testing.assert_close(total(tcam, offsets), propose_segments(tcam, offsets, LEVELS).score.sum())


@pytest.mark.garbage
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(width=32), max_size=80),
    classes=st.integers(1, 3),
    offsets=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 82), min_size=1, max_size=5),
    thresholds=st.lists(st.floats(width=64), min_size=1, max_size=5),
    min_length=st.integers(-(2**63), 2**63 - 1) | st.integers(1, 4),
)
def test_raw_operator_survives_anything(backend, values, classes, offsets, thresholds, min_length):
    tcam = torch.tensor(values[: len(values) // classes * classes]).reshape(-1, classes)
    try:
        packed, groups = torch.ops.pyws.propose_segments(
            tcam, torch.tensor(offsets), thresholds, None, None, min_length
        )
    except ValueError:
        assert not bool(torch.isfinite(tcam).all())
    else:
        assert packed.shape == (4, groups[-1])


def test_released_numbers(shared):
    with np.load(shared / "golden" / "released_wstal.npz") as golden:
        for case in sorted({key.split("/")[0] for key in golden}):
            tcam = torch.from_numpy(golden[f"{case}/tcam"])[:, None]
            segments = propose_segments(tcam, torch.tensor([0, len(tcam)]))
            torch.testing.assert_close(rows(segments), torch.from_numpy(golden[f"{case}/proposals"]), rtol=0, atol=1e-9)


def test_scores_on_the_same_map_are_those_of_the_proposals():
    torch.manual_seed(5)
    tcam, offsets = torch.rand(60, 1), torch.tensor([0, 25, 25, 60])
    found = propose_segments(tcam, offsets, [0.3, 0.6], "paper", min_length=1, margin=0.7)
    scored = score_segments(found, tcam, offsets, margin=0.7)
    for name in ("start", "end", "score", "weight"):
        torch.testing.assert_close(getattr(scored, name), getattr(found, name), rtol=0, atol=1e-9)
    assert torch.equal(scored.offsets, found.offsets)


def test_scores_by_classes_of_a_video():
    runs = Segments.of([[(1, 3, 0), (0, 4, 0)], [], [(0, 9, 0), (1, 1, 0)]])
    tcam, offsets = torch.rand(7, 2, dtype=torch.float64), torch.tensor([0, 4, 4, 7])
    wanted = torch.tensor([[True, False], [True, True], [False, True]])
    scored = score_segments(runs, tcam, offsets, wanted, margin=0.5)
    assert scored.offsets.tolist() == [0, 2, 2, 2, 2, 2, 4]
    assert scored.end.tolist() == [3, 4, 3, 1]  # cut to the video
    inside = [tcam[1:3, 0].mean(), tcam[:4, 0].mean(), tcam[4:, 1].mean(), torch.tensor(0.0).double()]
    outside = [tcam[[0, 3], 0].mean(), *torch.zeros(3, dtype=torch.float64)]
    torch.testing.assert_close(scored.weight, torch.stack(inside), rtol=0, atol=1e-9)
    torch.testing.assert_close(scored.score, torch.stack(inside) - torch.stack(outside), rtol=0, atol=1e-9)
    alone = score_segments(runs.group(2), tcam[4:], torch.tensor([0, 3]), margin=0.5).group(1)
    assert torch.equal(alone.weight, scored.weight[2:])


def test_a_margin_that_is_a_whole_number_but_for_rounding_is_that_number():
    tcam = torch.rand(100, 1, dtype=torch.float64)
    assert 0.28 * 25 > 7
    scored = score_segments(Segments.of([[(30, 55, 0)]]), tcam, torch.tensor([0, 100]), margin=0.28)
    outside = torch.cat([tcam[23:30, 0], tcam[55:62, 0]]).mean()
    assert float(scored.score) == pytest.approx(float(tcam[30:55, 0].mean() - outside), abs=1e-9)


def test_scoring_refuses_what_does_not_fit():
    runs, tcam = Segments.of([[(1, 3, 0)]]), torch.rand(4, 2)
    with pytest.raises(ValueError, match="score_segments: offsets must have shape"):
        score_segments(runs, tcam, torch.tensor([0, 2, 4]))
    with pytest.raises(ValueError, match="score_segments: margin must be >= 0, got -1"):
        score_segments(runs, tcam, torch.tensor([0, 4]), margin=-1)
    with pytest.raises(RuntimeError, match="score_segments: not differentiable, but tcam requires grad"):
        score_segments(runs, tcam.requires_grad_(), torch.tensor([0, 4]))


def test_the_first_of_many_bad_values_is_named(backend):
    tcam = torch.zeros(300, 2)
    tcam[290, 1] = tcam[8, 0] = tcam[7, 1] = tcam[9, 1] = math.nan
    with pytest.raises(ValueError, match="finite, got nan at snippet 7, class 1"):
        propose_segments(tcam, torch.tensor([0, 300]), LEVELS)
