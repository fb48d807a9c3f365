"""match_segments: hand-computed cases, the definition, ties, invariances, and arbitrary contents."""

import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws import Segments
from pyws.ops import _library, match_segments, reference
from pyws.ops.segments.match_segments import _match_segments

pytestmark = pytest.mark.usefixtures("backend")
TIOUS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def random_problem(seed, classes=3, videos=4, predictions=60, truth=20, grid=12):
    """Coarse coordinates and scores, so that ties of score and of IoU are common."""
    generator = torch.Generator().manual_seed(seed)

    def segments(count):
        group = torch.randint(classes * videos, (count,), generator=generator).sort().values
        start = torch.randint(grid, (count,), generator=generator).double()
        end = start + torch.randint(grid // 2, (count,), generator=generator)
        score = torch.randint(-5, 6, (count,), generator=generator) / 10
        offsets = torch.searchsorted(group, torch.arange(classes * videos + 1))
        return Segments(start, end, score.double(), score.double(), offsets)

    return segments(predictions), segments(truth), torch.arange(0, classes * videos + 1, videos)


def one_class(*videos):
    """Segments of one class, from the videos' lists of (start, end, score)."""
    return Segments.of([list(video) for video in videos]), torch.tensor([0, len(videos)])


def assert_same(matched, expected):
    hit, order, ap = expected
    assert torch.equal(matched.hit, hit)
    assert torch.equal(matched.order, order)
    torch.testing.assert_close(matched.ap, ap, rtol=1e-13, atol=0, equal_nan=True)


def test_average_precision_by_hand():
    # Ranking: hit, miss, hit, miss, and one truth never found. Precision at the hits 1 and 2/3; AP = (1 + 2/3) / 3.
    predictions, classes = one_class([(0, 4, 0.9), (20, 24, 0.8), (9, 11, 0.7)], [(50, 60, 0.6)])
    truth, _ = one_class([(0, 4, 1), (9, 11, 1)], [(0, 5, 1)])
    matched = match_segments(predictions, truth, classes, [0.5])
    assert matched.hit[:, 0].tolist() == [True, False, True, False]
    assert matched.ap.item() == pytest.approx((1 + 2 / 3) / 3, rel=1e-15)


def test_more_truths_of_a_video_than_a_warp_has_lanes():
    bounds = [(10 * place, 10 * place + 4, 1 - place / 100) for place in range(70)]
    predictions, classes = one_class(bounds)
    truth, _ = one_class(bounds)
    assert match_segments(predictions, truth, classes, TIOUS).ap.tolist() == [[1.0] * len(TIOUS)]


def test_envelope_lifts_early_precision():
    # Miss, hit, hit: precision 1/2 then 2/3; the envelope gives both hits 2/3.
    predictions, classes = one_class([(40, 41, 0.9), (0, 4, 0.8), (9, 11, 0.7)])
    truth, _ = one_class([(0, 4, 1), (9, 11, 1)])
    assert match_segments(predictions, truth, classes, [0.5]).ap.item() == pytest.approx(2 / 3, rel=1e-15)


def test_each_threshold_matches_on_its_own():
    # The first prediction prefers the second truth (IoU 0.8); at 0.7 the second prediction then has nothing, while at
    # 0.3 it takes the first truth (IoU 0.5).
    predictions, classes = one_class([(0, 10, 0.9), (0, 10, 0.8)])
    truth, _ = one_class([(0, 5, 1), (0, 8, 1)])
    matched = match_segments(predictions, truth, classes, [0.7, 0.3])
    assert matched.hit.tolist() == [[True, True], [False, True]]


def test_equal_iou_takes_the_first_truth():
    # Both truths have IoU 1/2 with the first prediction; only if it takes the first is the other free for the second.
    predictions, classes = one_class([(2, 6, 0.9), (5, 6, 0.8)])
    truth, _ = one_class([(2, 4, 1), (4, 6, 1)])
    matched = match_segments(predictions, truth, classes, [0.5])
    assert matched.hit[:, 0].tolist() == [True, True]


@pytest.mark.parametrize("scores", [(0.5, 0.5, 0.5), (0.0, -0.0, 0.0)])
def test_equal_scores_keep_their_order(scores):
    predictions, classes = one_class([(0, 4, score) for score in scores])
    matched = match_segments(predictions, predictions, classes, [1.0])
    assert matched.order.tolist() == [0, 1, 2]


def test_order_covers_every_sign_and_magnitude():
    scores = [0.0, -1e300, 5e-324, 1e300, -5e-324, 1.0, -1.0, 2.0]
    predictions, classes = one_class([(0, 4, score) for score in scores])
    order = match_segments(predictions, predictions, classes, [0.5]).order.tolist()
    assert [scores[i] for i in order] == sorted(scores, reverse=True)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_predictions_are_ranked_from_every_order(count):
    for scores in itertools.product([0.2, 0.5, 0.9], repeat=count):
        predictions, classes = one_class([(0, 4, score) for score in scores])
        order = match_segments(predictions, predictions, classes, [0.5]).order.tolist()
        assert order == sorted(range(count), key=lambda i: -scores[i])


def test_a_threshold_met_exactly_passes():
    predictions, classes = one_class([(0, 3, 1.0)])
    truth, _ = one_class([(0, 10, 1)])
    assert match_segments(predictions, truth, classes, [0.3, 0.30000000000000004]).hit.tolist() == [[True, False]]


def test_empty_segments_match_nothing():
    predictions, classes = one_class([(3, 3, 1.0)])
    matched = match_segments(predictions, predictions, classes, [0.1])
    assert not matched.hit.any()
    assert matched.ap.item() == 0


def test_classes_without_predictions_or_without_truth():
    predictions = Segments.of([[(0, 4, 0.9)], [], []])
    truth = Segments.of([[], [(0, 4, 1)], []])
    matched = match_segments(predictions, truth, torch.tensor([0, 1, 2, 3]), [0.5])
    assert math.isnan(matched.ap[0, 0])
    assert matched.ap[1, 0] == 0
    assert math.isnan(matched.ap[2, 0])


@pytest.mark.parametrize("classes", [0, 2])
def test_nothing_at_all(classes):
    nothing = Segments.of([[]] * classes)
    matched = match_segments(nothing, nothing, torch.arange(classes + 1), TIOUS)
    assert matched.hit.shape == (0, 7)
    assert matched.order.shape == (0,)
    assert matched.ap.shape == (classes, 7)
    assert match_segments(nothing, nothing, torch.arange(classes + 1), []).ap.shape == (classes, 0)


@functools.cache  # which takes longer than all kernels together
def defined(seed, thresholds):
    return reference.match_segments(*random_problem(seed), thresholds)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_definition(seed):
    assert_same(match_segments(*random_problem(seed), TIOUS), defined(seed, tuple(TIOUS)))


@pytest.mark.parametrize("count", [31, 32, 33, 40, 63, 64])
def test_up_to_sixty_four_thresholds(count):
    thresholds = tuple((k + 1) / 64 for k in range(64))
    hit, order, ap = defined(5, thresholds)
    found = match_segments(*random_problem(5), thresholds[:count])
    assert_same(found, (hit[:, :count], order, ap[:, :count]))


def test_many_predictions_in_one_class_are_ranked_as_a_stable_sort_does():
    predictions, truth, classes = random_problem(3, classes=1, videos=7, predictions=5000, truth=40)
    expected = predictions.score.argsort(descending=True, stable=True)
    assert torch.equal(match_segments(predictions, truth, classes, [0.5]).order, expected)


def test_thread_count_does_not_matter(backend):
    few = backend.startswith("emulated")  # there the number is the order of its threads
    problem = random_problem(0, classes=31, videos=50, predictions=900 if few else 40000, truth=4000, grid=200)
    before = torch.get_num_threads()
    try:
        answers = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            answers.append(match_segments(*problem, TIOUS))
    finally:
        torch.set_num_threads(before)
    for answer in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answer, answers[0], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_same_bits_on_every_backend(seed, monkeypatch):
    problem = random_problem(seed, classes=2, videos=3, predictions=700, truth=70, grid=40)
    found = match_segments(*problem, TIOUS)
    monkeypatch.setattr(_library, "BACKEND", _library.KernelBackend(_library._C, "_cpu", lambda: 1))
    for here, there in zip(found, match_segments(*problem, TIOUS), strict=True):
        assert torch.equal(here.nan_to_num(nan=-1.0), there.nan_to_num(nan=-1.0))


def test_a_class_does_not_depend_on_its_neighbours():
    predictions, truth, classes = random_problem(8)
    matched = match_segments(predictions, truth, classes, TIOUS)
    for c in range(3):
        first, last = int(classes[c]), int(classes[c + 1])

        def part(segments, first=first, last=last):
            chosen = slice(int(segments.offsets[first]), int(segments.offsets[last]))
            fields = [field[chosen] for field in (segments.start, segments.end, segments.score, segments.weight)]
            return Segments(*fields, segments.offsets[first : last + 1] - segments.offsets[first])

        alone = match_segments(part(predictions), part(truth), torch.tensor([0, last - first]), TIOUS)
        assert torch.equal(alone.ap[0], matched.ap[c])


def test_non_contiguous_columns():
    predictions, truth, classes = random_problem(4)
    spread = Segments(*(torch.stack([field, field], 1)[:, 0] for field in
                        (predictions.start, predictions.end, predictions.score, predictions.weight)),
                      predictions.offsets)  # fmt: skip
    assert not spread.start.is_contiguous()
    assert_same(match_segments(spread, truth, classes, TIOUS), match_segments(predictions, truth, classes, TIOUS))


def arguments(problem, thresholds):
    predictions, truth, classes = problem
    return (predictions.start, predictions.end, predictions.score, predictions.offsets, truth.start, truth.end,
            truth.offsets, classes, thresholds)  # fmt: skip


def test_opcheck_and_compile():
    problem = random_problem(1)
    torch.library.opcheck(torch.ops.pyws.match_segments.default, arguments(problem, TIOUS))
    compiled = torch.compile(lambda *a: _match_segments(*a, TIOUS), fullgraph=True, backend="aot_eager")
    assert_same(match_segments(*problem, TIOUS), compiled(*arguments(problem, TIOUS)[:-1]))


def test_bad_input():
    problem = predictions, truth, classes = random_problem(2)
    cases = [
        ((predictions.start, truth, classes, TIOUS), TypeError, "predictions must be pyws.Segments, got Tensor"),
        ((predictions, truth.group(0), classes, TIOUS), ValueError, "must have the same groups, got 12 and 1"),
        ((predictions, truth, classes.int(), TIOUS), TypeError, "class_offsets must be int64, got int32"),
        ((predictions, truth, classes[:-1], TIOUS), ValueError, "class_offsets must end at the number of values 12"),
        ((predictions, truth, torch.tensor([0, 9, 4, 12]), TIOUS), ValueError, "class_offsets must never fall"),
        ((*problem, [0.5, 0.0]), ValueError, r"thresholds must be in \(0, 1\], got 0.0"),
        ((*problem, [math.nan]), ValueError, r"thresholds must be in \(0, 1\], got nan"),
        ((*problem, ["0.5"]), TypeError, "thresholds must be a number, got str"),
        ((*problem, [0.5] * 65), ValueError, "thresholds must be at most 64, got 65"),
    ]  # fmt: skip
    for given_arguments, error, message in cases:
        with pytest.raises(error, match=message):
            match_segments(*given_arguments)


def test_gradients_are_refused():
    predictions, truth, classes = random_problem(2)
    wants = Segments(predictions.start, predictions.end, predictions.score.requires_grad_(), predictions.weight,
                     predictions.offsets)  # fmt: skip
    with pytest.raises(RuntimeError, match="match_segments: not differentiable, but predictions_score requires grad"):
        match_segments(wants, truth, classes, TIOUS)


anything = st.floats(width=64) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, 2.0])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_contents_are_safe(data):
    """The compiled function itself, beneath the checks of Segments: NaN, infinities, ends before starts."""
    groups = data.draw(st.integers(0, 4))

    def ragged(columns):
        sizes = data.draw(st.lists(st.integers(0, 5), min_size=groups, max_size=groups))
        count = sum(sizes)
        values = [data.draw(st.lists(anything, min_size=count, max_size=count)) for _ in range(columns)]
        return *(torch.tensor(v, dtype=torch.float64) for v in values), torch.tensor([0, *sizes]).cumsum(0)

    classes = torch.tensor(sorted([0, groups, *data.draw(st.lists(st.integers(0, groups), max_size=3))]))
    thresholds = data.draw(st.lists(anything, max_size=4))
    predictions, truth = ragged(3), ragged(2)
    hit, order, ap = _match_segments(*predictions, *truth, classes, thresholds)
    assert sorted(order.tolist()) == list(range(len(predictions[0])))
    assert ((ap >= 0) & (ap <= 1) | ap.isnan()).all()
    assert (hit.sum(0) <= len(truth[0])).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 6), min_size=1, max_size=5))
def test_bad_offsets_are_refused_beneath_the_public_function(offsets):
    column, tensor = torch.zeros(4, dtype=torch.float64), torch.tensor(offsets)
    good = offsets[0] == 0 and offsets[-1] == 4 and offsets == sorted(offsets)
    classes = torch.tensor([0, len(offsets) - 1])
    if good:
        _match_segments(column, column, column, tensor, column, column, tensor, classes, [0.5])
    else:
        with pytest.raises(ValueError, match=r"match_segments: predictions.offsets must"):
            _match_segments(column, column, column, tensor, column, column, tensor, classes, [0.5])
