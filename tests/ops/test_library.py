"""How operations are called: through torch's dispatcher whenever something there wants to see the call."""

import subprocess
import sys

import emulation
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from pyws.ops import _library, class_mean, gradcam3d

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
