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
    ask = _library._nobody_watches

    def asked(arguments):
        answers.append(not ask(arguments))
        return not answers[-1]

    monkeypatch.setattr(_library, "_nobody_watches", asked)
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
