"""How operations are called: through torch's dispatcher whenever something there wants to see the call."""

import functools
import math
import subprocess
import sys
from contextlib import nullcontext

import emulation
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from pyws import Segments, ops
from pyws.commands.common import CommonOptions
from pyws.commands.doctor import doctor
from pyws.ops import _library, class_mean, gradcam3d, otsu

MAPS = torch.ones(1, 2, 3)
IDS = torch.tensor([0, 1, 0])


@pytest.fixture
def dispatched(monkeypatch):
    """The calls that went through the dispatcher, by their answers to the question."""
    answers = []
    ask = _library.can_skip_dispatch

    def asked(arguments):
        answers.append(not ask(arguments))
        return not answers[-1]

    monkeypatch.setattr(_library, "can_skip_dispatch", asked)
    return answers


def test_a_plain_call_goes_straight_to_the_kernel(dispatched):
    for context in (torch.enable_grad(), torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")):
        with context:
            gradcam3d(MAPS, MAPS)
    assert dispatched == [False] * 4


def test_whoever_watches_sees_the_operator(dispatched):
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(MAPS)
        assert gradcam3d(fake, fake).shape == (1, 3)
    assert type(gradcam3d(fake, fake)) is type(fake)
    graph = make_fx(lambda x: gradcam3d(x, x))(MAPS).graph
    with torch.autograd.profiler.profile() as profile:
        gradcam3d(MAPS, MAPS)
    assert dispatched == [True] * 4
    assert "pyws::gradcam3d_maps" in [event.key for event in profile.key_averages()]
    assert torch.ops.pyws.gradcam3d_maps.default in [node.target for node in graph.nodes]


def test_gradients_are_not_lost(dispatched):
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    class_mean(values, IDS, 2)[0].backward()
    assert values.grad.tolist() == [0.5, 0.0, 0.5]
    assert dispatched[0]


def test_vmap_is_seen(dispatched):
    batch = torch.arange(12.0).reshape(2, 1, 2, 3)
    expected = torch.stack([gradcam3d(maps, maps) for maps in batch])
    assert torch.equal(torch.vmap(lambda maps: gradcam3d(maps, maps))(batch), expected)
    assert dispatched[-1]


def test_views_that_negate_are_resolved(dispatched):
    view = torch._neg_view(-MAPS)
    assert torch.equal(gradcam3d(view, view), gradcam3d(MAPS, MAPS))
    assert dispatched == [True, False]


def test_zeros_without_memory_get_it(dispatched):
    zeros = torch._efficientzerotensor((2, 4, 5))
    assert not ops.otsu_masks(zeros, (3, 4)).masks.any()
    assert dispatched == [True]


def test_offsets_may_be_a_view_that_negates():
    offsets = torch._neg_view(-torch.tensor([0, 4]))
    tcam = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    found, expected = (ops.propose_segments(tcam, each, [0.5]) for each in (offsets, offsets.resolve_neg()))
    assert torch.equal(found.start, expected.start)
    assert len(found.start)


@pytest.mark.skipif(bool(emulation.SANITIZE), reason="sanitizers reserve all addresses")
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_cannot_be_had_is_an_error(threads):
    program = f"""
import resource, torch, pyws.ops
torch.set_num_threads({threads})
pyws.ops.gradcam3d(torch.ones(2, 2000, 2000), torch.ones(2, 2000, 2000))  # threads have started
labels, mask = torch.zeros(2, 7000, 7000, dtype=torch.int32), torch.zeros(2, 7000, 7000, dtype=torch.bool)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 98_000_000 + 50_000_000,) * 2)  # the answer fits, its scratch does not
try:
    pyws.ops.superpixel_select(labels, mask)
except MemoryError:
    print("MemoryError")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("MemoryError\n", 0), done.stderr


def fuse_fields(**changed):
    values = torch.zeros(3, dtype=torch.float64)
    numbers = torch.zeros(4, dtype=torch.int64)
    fields = {
        "start": values, "end": values, "score": values, "weight": values, "offsets": numbers, "groups": 0, "total": 0,
        "overlap": "iou", "iou_threshold": 0.5, "distribution": "gaussian", "temperature": 1, "dof": 1.0,
        "scratch": values, "packed": values, "packed_offsets": numbers, "membership": numbers,
    }  # fmt: skip
    return {name: value for name, value in {**fields, **changed}.items() if value is not ...}


def test_the_compiled_function_takes_its_fields_by_name():
    fields = fuse_fields(packed_offsets=torch.tensor([7]))
    _library.launch("fuse_segments", torch.device("cpu"), dict(reversed(fields.items())))
    assert fields["packed_offsets"].tolist() == [0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"end": torch.zeros(3)}, "fuse_segments: end must be float64, got float32"),
        ({"offsets": torch.zeros(4, dtype=torch.int32)}, "fuse_segments: offsets must be int64, got int32"),
        (
            {"end": torch.zeros(3, dtype=torch.complex64)},
            "end must be a tensor of a type that is known, got torch.complex64",
        ),
        ({"end": None}, "'NoneType' object has no attribute 'dtype'"),
        ({"groups": 1.5}, "integer"),
        ({"iou_threshold": "much"}, "must be real number, not str"),
        ({"overlap": "dice"}, "fuse_segments: overlap must be 'iou' or 'own', got 'dice'"),
        ({"overlap": 1}, "fuse_segments: overlap must be 'iou' or 'own', got 1"),
        ({"end": ...}, "fuse_segments: takes start, end, score, .*; got .'start', 'score'"),
        ({"end": ..., "ends": 1}, "fuse_segments: end is missing"),
    ],
)
def test_a_wrong_field_is_an_error_and_no_misread(changed, message):
    with pytest.raises((TypeError, AttributeError), match=message):
        _library.launch("fuse_segments", torch.device("cpu"), fuse_fields(**changed))


def call_every_launcher(device=None):
    """On the CPU; ``device`` is where torch makes tensors meanwhile of which nothing else is said."""
    segments = Segments.of([[(0, 4, 0.5), (2, 6, 0.4)], [(1, 3, 0.2)]])
    lengths, maps = torch.tensor([8, 8]), torch.rand(1, 4, 4)
    labels, masks = torch.arange(16).view(1, 4, 4) // 4, maps > 0.5
    classes, frames, one = masks.to(torch.uint8), torch.tensor([0]), torch.tensor([1])
    images, tcam, bounds, counts = torch.rand(1, 3, 4, 4), torch.rand(16, 2), torch.tensor([0, 8, 16]), torch.arange(3)
    with torch.device(device) if device else nullcontext():
        _call_every_launcher(segments, lengths, maps, labels, masks, classes, frames, one, images, tcam, bounds, counts)


def _call_every_launcher(segments, lengths, maps, labels, masks, classes, frames, one, images, tcam, bounds, counts):
    ops.gradcam3d(maps[None], maps[None])
    ops.otsu(maps)
    ops.otsu_masks(maps, (5, 6))
    ops.slic(images, 4, mask=masks)
    ops.superpixel_select(labels, masks)
    ops.superpixel_vote(labels, classes, 2, 0.3)
    ops.superpixel_confusion(labels, classes, classes, 2)
    torch.ops.pyws.drop_components(masks, 0.1)
    integral = ops.integral_image(masks)
    ops.find_patches(integral, frames, one, ops.count_patches(integral, frames, one, 1.0) - 1, 1.0)
    ops.propose_segments(tcam, bounds)
    ops.fuse_segments(segments)
    ops.suppress_segments(segments)
    ops.snippet_classes(segments, lengths)
    ops.class_mean(tcam[:3], IDS, 2)
    ops.linpro(segments, lengths)
    ops.match_segments(segments, segments, counts, [0.5])


def test_memory_is_where_the_arguments_are(monkeypatch):
    """Whatever device torch would take by itself: on a card all that a kernel gets is there."""
    backend, elsewhere = _library.BACKEND, {}
    call = backend.call

    def launched(name, fields):
        there = {field: value for field, value in fields.items() if isinstance(value, torch.Tensor)}
        elsewhere[name] = [field for field, value in there.items() if value.device.type != "cpu"]
        return None if elsewhere[name] else call(name, fields)

    monkeypatch.setattr(backend, "call", launched)
    monkeypatch.setattr(_library, "can_skip_dispatch", lambda arguments: True)  # within, no device would be usual
    call_every_launcher("meta")
    assert len(elsewhere) > 15
    assert {name: fields for name, fields in elsewhere.items() if fields} == {}


def wrong_values(value):
    if isinstance(value, torch.Tensor):
        return [value.to(torch.int32 if value.dtype == torch.int8 else torch.int8)]
    kinds = {bool: [1, None], int: [1.5, 2**64, None], float: ["much", None], str: ["nonsense", 0, None]}
    return kinds[type(value)] if type(value) in kinds else [(*value, 1), value[:-1], list(value)] if value else [5]


def test_no_launcher_takes_what_its_contract_does_not_name(device_backend, monkeypatch):
    """Types of tensors and numbers, choices, sizes of tuples, fields that are missing or too many."""
    backend, seen = _library.BACKEND, {}
    call = backend.call
    monkeypatch.setattr(backend, "call", lambda name, fields: (seen.setdefault(name, fields), call(name, fields))[1])
    call_every_launcher()
    assert {f"{name}{backend.suffix}" for name in seen} == {
        name for name in dir(backend.module) if name.endswith(backend.suffix)
    }
    refused = pytest.raises((TypeError, ValueError, OverflowError, AttributeError))
    for name, fields in seen.items():
        wrong = [{**fields, field: each} for field, value in fields.items() for each in wrong_values(value)]
        for changed in [*wrong, {**fields, "more": 1}, dict([*fields.items()][1:])]:
            with refused:
                call(name, changed)
    if backend.suffix == "_cuda":
        for changed in ({"scratch": None}, {"memory": None}, {"known": torch.zeros(16, dtype=torch.float64)}):
            with pytest.raises(ValueError, match="linpro: "):
                call("linpro", {**seen["linpro"], **changed})


@pytest.mark.parametrize("count", [1, 20])
def test_types_that_are_too_few_or_too_many_are_refused(count):
    with pytest.raises(ValueError, match="set_dtypes: one object for each"):
        _library._C.set_dtypes([torch.float32] * count)


@pytest.mark.parametrize("lacks", ["_dispatch_tls_local_include_set", "_len_torch_function_stack", "DispatchKeySet"])
def test_without_private_functions_of_torch_the_dispatcher_serves(monkeypatch, dispatched, lacks):
    expected = gradcam3d(MAPS, MAPS)
    torch._dynamo.reset()  # is loaded while nothing is missing
    monkeypatch.delattr(torch._C, lacks)
    monkeypatch.setattr(_library, "_torch", _library._private_functions())
    assert not _library.dispatch_is_skipped()
    assert any("this torch lacks functions" in problem for problem in doctor(CommonOptions(quiet=True))["problems"])
    assert torch.equal(gradcam3d(MAPS, MAPS), expected)
    assert dispatched == [False, True]


ROWS, BOUNDS = torch.rand(5, dtype=torch.float64), torch.tensor([0, 5])
LABELS, MASK = torch.zeros(1, 2, 3, dtype=torch.int32), torch.ones(1, 2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gradcam3d", (MAPS, MAPS[..., :1]), "gradients must have the shape of activations"),
        ("gradcam3d_maps", (MAPS, MAPS.double(), True), "gradients must be float32, got float64"),
        ("otsu", (torch.rand(2, 0),), "maps must have 1 to 2.31 - 1 positions each"),
        ("otsu_masks", (MAPS, 0, 5), r"size\[0\] must be in 1"),
        ("integral_image", (LABELS,), "masks must be bool, got int32"),
        ("count_patches", (LABELS, BOUNDS, BOUNDS[:1], 0.0), "sides must have shape"),
        ("find_patches", (LABELS, BOUNDS, BOUNDS, BOUNDS[:1], 0.0), "ranks must have shape"),
        ("fuse_segments", (ROWS, ROWS[:1], ROWS, ROWS, BOUNDS, "iou", 0.5, "t", 1.0, 1.0), "end must have shape"),
        ("fuse_segments", (ROWS, ROWS, ROWS, ROWS, BOUNDS, "iou", 0.5, "x", 1.0, 1.0), "distribution must be one of"),
        ("suppress_segments", (ROWS, ROWS, ROWS, ROWS, BOUNDS[:0], "own", 0.5, 0.0, 0.0), "offsets must have shape"),
        ("propose_segments", (ROWS, BOUNDS, [0.5], None, None, 2), "tcam must have 2 dimensions"),
        ("propose_segments", (ROWS[:, None], BOUNDS, [0.5] * 256, None, None, 2), "thresholds must be 1 to 255"),
        (
            "match_segments",
            (ROWS, ROWS, ROWS, BOUNDS, ROWS, ROWS, BOUNDS[:1], BOUNDS, [0.5]),
            "truth.offsets must have",
        ),
        ("superpixel_select", (LABELS, MASK[..., :1], 0.5, 0.4, "iou", 3), "mask must have shape"),
        ("superpixel_select", (LABELS, MASK, 0.5, 0.4, "iou", -1), "num_superpixels must be in 0"),
        ("superpixel_vote", (LABELS, LABELS, 0, 0.5, 255, 3), "num_classes must be in 1"),
        (
            "superpixel_vote",
            (LABELS, LABELS, 2**20, 0.5, 255, 2**11),
            "num_classes must be below 2..31, got 2048 . 1048576",
        ),
        ("superpixel_confusion", (LABELS, LABELS, LABELS, 2**30, 0.5, 0.5, 255, 3), "must be below 2..31"),
        ("drop_components", (LABELS, 0.5), "masks must be bool"),
        ("superpixel_confusion", (LABELS, LABELS, LABELS.long(), 2, 0.5, 0.5, 255, 3), "annotation must be int32"),
        ("slic", (torch.rand(1, 3, 4, 4), None, 0.0, 10.0, 2, 0.5), "segments must be in 1..16"),
        ("slic", (torch.rand(1, 3, 4, 4), MASK, 2.0, 10.0, 2, 0.5), "mask must have shape"),
    ],
)
def test_operators_check_what_would_hurt(name, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(torch.ops.pyws, name)(*arguments)


NUMBERS = torch.tensor([0.0, 1.0], dtype=torch.float64)
NONE, TWO = torch.zeros(0, dtype=torch.int64), torch.tensor([0, 2])
LENGTHS = torch.tensor([4])
RULES = ("paper", 0.25, math.inf, False, False, 1 << 20)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, NONE, LENGTHS, None, *RULES), "offsets must have shape .groups.1,."),
        ("linpro", (NUMBERS, NUMBERS[:1], NUMBERS, TWO, LENGTHS, None, *RULES), "end must have shape .2."),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS.float(), TWO, LENGTHS, None, *RULES), "score must be float64"),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, TWO, NONE, None, *RULES), "lengths must have shape .1."),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, TWO, LENGTHS * 2**40, None, *RULES), "lengths must be 2..30 or less"),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, TWO, LENGTHS, None, "iou", *RULES[1:]), "geometry must be one of"),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, TWO, LENGTHS, NUMBERS.float(), *RULES), "known must be float64"),
        ("linpro", (NUMBERS, NUMBERS, NUMBERS, TWO, LENGTHS, None, "paper", math.nan, *RULES[2:]), "margin must be"),
        ("propose_segments", (torch.rand(4, 2), TWO * 2, [0.5], None, math.nan, 1), "margin must be >= 0, got nan"),
        ("snippet_classes", (NUMBERS, NUMBERS, NONE, LENGTHS, 0, 0.25), "offsets must have shape"),
        ("snippet_classes", (NUMBERS, NUMBERS, TWO, LENGTHS * 2**40, 0, 0.25), "lengths must be 2..30 or less"),
        ("snippet_classes", (NUMBERS, NUMBERS, TWO, LENGTHS, 7, 0.25), "geometry must be in 0.."),
        ("class_mean", (NUMBERS, TWO[:1], None, None, 2), "class_ids must have shape .2."),
        ("class_mean", (NUMBERS, TWO, TWO, None, 2), "class_offsets and offsets must be given together"),
        ("class_mean", (NUMBERS, TWO, NONE, NONE, 2), "offsets must have shape"),
        ("class_mean", (NUMBERS, TWO, None, None, 2**40), "classes times columns must be 2..30 or less"),
        ("class_mean", (NUMBERS, TWO, None, None, -1), "classes must be >= 0"),
    ],
)
def test_operators_on_segments_check_what_would_hurt(name, arguments, message):
    test_operators_check_what_would_hurt(name, arguments, f"{name}: {message}")


@pytest.mark.parametrize("name", sorted({one.name for one in torch._C._jit_get_all_schemas() if "pyws::" in one.name}))
def test_no_operator_takes_none_for_a_tensor(name):
    """Torch does, for any argument that is a tensor."""
    operator = getattr(torch.ops.pyws, name.removeprefix("pyws::")).default
    needed = [one for one in operator._schema.arguments if one.type.kind() == "TensorType"]
    values = {"bool": True, "int": 1, "SymInt": 1, "float": 0.5, "str": "", "List[float]": [0.5]}
    others = [values.get(str(one.type)) for one in operator._schema.arguments[len(needed) :]]
    if len(needed) > 1:
        with pytest.raises(TypeError, match=f"{needed[1].name} must be a tensor, got None"):
            operator(torch.zeros(1), *[None] * (len(needed) - 1), *others)


class Seen(TorchDispatchMode):
    """The arguments with which each operator of pyws was called first."""

    def __init__(self):
        super().__init__()
        self.arguments = {}

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        if operator.namespace == "pyws":
            self.arguments.setdefault(operator, arguments)
        return operator(*arguments, **(named or {}))


def wrong_tensors(name, place, value):
    yield from (value.to(torch.complex64), value.to(torch.int16), value.to("meta"))
    if value.dtype == torch.int64 and name != "labels":
        yield value.int()
    if name != "maps":  # there may be any number of those
        yield value[None, None, None]
    if place and name != "offsets":
        yield value[:-1]


def test_no_operator_takes_a_tensor_of_another_kind():
    """Another type, more axes, fewer entries than the first argument has, another device: of each argument in turn."""
    with Seen() as seen:
        call_every_launcher()
    assert len(seen.arguments) > 15
    for operator, arguments in seen.arguments.items():
        for place, value in enumerate(arguments):
            if isinstance(value, torch.Tensor):
                name = operator._schema.arguments[place].name
                for wrong in wrong_tensors(name, place, value):
                    with pytest.raises((TypeError, ValueError, NotImplementedError)):
                        operator(*arguments[:place], wrong, *arguments[place + 1 :])
                        pytest.fail(f"{operator}: {name} may be {wrong.dtype} {tuple(wrong.shape)} on {wrong.device}")


def test_offsets_that_change_after_the_check_do_no_harm():
    offsets = torch.tensor([-(2**62), 2**62, 3])
    scratch = torch.empty(_library._C.match_segments_scratch(5, 5), dtype=torch.int64)
    hit, order, ap = torch.zeros(5, 1, dtype=torch.bool), torch.zeros(5, dtype=torch.int64), torch.zeros(2, 1).double()
    _library.launch("match_segments", torch.device("cpu"), {
        "start": ROWS, "end": ROWS + 1, "score": ROWS, "offsets": offsets, "truth_start": ROWS, "truth_end": ROWS + 1,
        "truth_offsets": offsets, "class_offsets": offsets, "thresholds": ROWS[:1], "predictions": 5, "truths": 5,
        "groups": 2, "classes": 2, "threshold_count": 1, "scratch": scratch, "hit": hit, "order": order, "ap": ap,
    })  # fmt: skip
    assert hit.sum() <= 5


def test_forward_mode_is_right_or_refused():
    activations, gradients = (torch.rand(2, 3, 4, 5, dtype=torch.float64) for _ in range(2))
    one, other = (torch.rand(2, 3, 4, 5, dtype=torch.float64) for _ in range(2))
    for normalize in (None, "minmax"):
        call = functools.partial(gradcam3d, normalize=normalize)
        maps, tangent = torch.func.jvp(call, (activations, gradients), (one, other))
        step = 1e-6
        rise = call(activations + step * one, gradients + step * other) - call(
            activations - step * one, gradients - step * other
        )
        torch.testing.assert_close(tangent, rise / (2 * step), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(maps, call(activations, gradients))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(activations[0], one[0])
        assert forward_ad.unpack_dual(gradcam3d(dual, gradients[0])).tangent is not None
        for refused in (lambda: otsu(dual), lambda: class_mean(dual[0, 0], torch.zeros(5, dtype=torch.int64), 1)):
            with pytest.raises(RuntimeError, match="has no forward-mode derivative, but .* carries a tangent"):
                refused()
        assert otsu(gradients[0]).shape == (3,)


def test_vmap_serves_every_function_of_fixed_shape():
    labels, masks = torch.randint(0, 4, (3, 2, 4, 5)), torch.rand(3, 2, 4, 5) > 0.5
    maps, frames = torch.rand(3, 2, 4, 5), torch.rand(3, 2, 3, 4, 5)
    integral, queries = torch.stack([ops.integral_image(mask) for mask in masks]), torch.tensor([[1]] * 3)
    for call, arguments in (
        (ops.otsu, (maps,)),
        (lambda x: ops.otsu_masks(x, (8, 9)), (maps,)),
        (lambda x: ops.slic(x, 4), (frames,)),
        (ops.integral_image, (masks,)),
        (ops.count_patches, (integral, queries, queries)),
        (ops.find_patches, (integral, queries, queries, queries)),
        (lambda x, y: ops.superpixel_select(x, y, num_superpixels=4), (labels, masks)),
        (lambda x, y: ops.superpixel_vote(x, y, 4, num_superpixels=4), (labels, labels)),
        (lambda x, y: ops.superpixel_confusion(x, y, y, 4, num_superpixels=4), (labels, labels)),
    ):
        batched = torch.vmap(call)(*arguments)
        alone = [call(*one) for one in zip(*arguments, strict=True)]
        many = isinstance(batched, tuple)
        for k, field in enumerate(batched if many else (batched,)):
            assert torch.equal(field, torch.stack([answer[k] if many else answer for answer in alone]))


def test_vmap_of_ragged_batches_is_refused():
    segments = Segments(ROWS, ROWS + 1, ROWS, ROWS, BOUNDS)
    for op, call in (
        ("propose_segments", lambda x: ops.propose_segments(x, BOUNDS).start),
        ("fuse_segments", lambda x: ops.fuse_segments(segments).start + x),
        ("suppress_segments", lambda x: ops.suppress_segments(segments).start + x),
        ("linpro", lambda x: ops.linpro(segments, torch.tensor([5])).objective + x),
        ("match_segments", lambda x: ops.match_segments(segments, segments, torch.tensor([0, 1]), [0.5]).ap + x),
    ):
        with pytest.raises(RuntimeError, match=f"^{op}: takes ragged batches as they are"):
            torch.vmap(call)(torch.rand(2, 5, 1))


@pytest.mark.parametrize("dynamic", [False, True])
def test_ragged_operations_compile_with_their_defaults(dynamic):
    torch._dynamo.reset()

    def total(tcam, offsets):
        found = ops.propose_segments(tcam, offsets)
        return ops.suppress_segments(ops.fuse_segments(found)).score.sum()

    compiled = torch.compile(total, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for length in (30, 41):
        tcam, offsets = torch.rand(length, 2) * 0.05, torch.tensor([0, 11, length])
        torch.testing.assert_close(compiled(tcam, offsets), total(tcam, offsets))


def test_vmap_is_seen_around_and_inside_other_transforms():
    seen = []

    def ask(x):
        seen.append(_library.in_vmap())
        return x.sum()

    torch.func.grad(ask)(MAPS)
    torch.vmap(torch.func.grad(ask))(MAPS)
    torch.func.grad(lambda x: torch.vmap(ask)(x).sum())(MAPS)
    assert seen == [False, True, True]
