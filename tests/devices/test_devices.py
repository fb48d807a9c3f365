"""Networks in bfloat16: how far they are from float32, what stays float32, and where it is refused."""

from types import SimpleNamespace

import pytest
import torch

from pyws.masks.cam import GradCAM
from pyws.models import BM, RSKP, STPN, WUM, Averaged, FACNet, TwoStream
from pyws.models.classifiers import build_classifier
from pyws.models.devices import has_bfloat16, on_device, set_precision
from pyws.models.image_networks.deeplab import build_deeplab

CPU = torch.device("cpu")
WIDTH, CLASSES = 64, 3
BACKBONES = {
    "stpn": lambda: STPN(WIDTH, CLASSES),
    "bm": lambda: BM(WIDTH, CLASSES),
    "wum": lambda: WUM(WIDTH, CLASSES, margin=1.0),
    "facnet": lambda: FACNet(WIDTH, CLASSES),
    "rskp": lambda: RSKP(WIDTH, CLASSES),
    "two streams": lambda: TwoStream(STPN(WIDTH // 2, CLASSES), STPN(WIDTH // 2, CLASSES)),
}


def near(one, other, bound=0.01):
    """Within a share of the root mean square, but not the same: else nothing was computed in bfloat16."""
    assert one.dtype == other.dtype == torch.float32
    far = (one - other).norm() / other.norm()
    return 0 < far < bound


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_near_its_float32(name):
    torch.manual_seed(0)
    model = BACKBONES[name]()
    features, lengths = torch.rand(2, 30, WIDTH), torch.tensor([[30], [20]])
    inputs = features, torch.arange(30) < lengths, torch.tensor([[1, 0, 0], [0, 1, 1]]).bool(), 0, torch.tensor([4, 5])
    found = []
    for precision in ("float32", "bfloat16"):
        set_precision(model, precision, CPU)
        model.zero_grad()
        activations, loss = model.loss(*inputs)
        loss.sum().backward()
        gradients = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        found.append((activations.tcam, activations.logits[0][1], loss, gradients))
    for one, other, bound in zip(*found, (0.01, 0.01, 0.01, 0.05), strict=True):
        assert near(other, one, bound)


def test_a_mean_of_backbones_is_as_precise_as_they():
    members = [STPN(WIDTH, CLASSES), STPN(WIDTH, CLASSES)]
    for member in members:
        set_precision(member, "bfloat16", CPU)
    features, mask = torch.rand(1, 9, WIDTH), torch.ones(1, 9, dtype=torch.bool)
    with torch.no_grad():
        each = [member.eval()(features, mask).tcam for member in members]
        assert torch.equal(Averaged(members).eval()(features, mask).tcam, sum(each) / 2)


def test_a_segmentation_network_learns_float32_weights_from_float32_scores():
    torch.manual_seed(0)
    model, images = build_deeplab("small2d", CLASSES, rates=None), torch.rand(2, 3, 33, 40)
    torch.nn.init.normal_(model.branches[0].weight)
    plain = model(images)
    set_precision(model, "bfloat16", CPU)
    scores = model(images)
    assert near(scores, plain)
    assert scores.unique().numel() > 1000  # widened before they are scaled up, not after
    scores.square().mean().backward()
    assert {weight.grad.dtype for weight in model.parameters() if weight.grad is not None} == {torch.float32}


@pytest.mark.parametrize("head", ["auto", "autograd"])
def test_maps_are_float32(head):
    torch.manual_seed(0)
    classifier, images = build_classifier("small2d", 5), torch.rand(2, 3, 32, 40)
    model = classifier.model.eval()
    with GradCAM(model, classifier.layer, head) as cam:
        plain = cam(images, [[1, 4]])
        set_precision(model, "bfloat16", CPU)
        assert near(cam(images, [[1, 4]]), plain)
        assert (cam.linear(images, [[1, 4]]) is None) is False  # the head is found among rounded gradients


def test_autocast_ends_where_a_forward_pass_fails():
    model = torch.nn.Linear(3, 2)
    set_precision(model, "bfloat16", CPU)
    with pytest.raises(RuntimeError):
        model(torch.rand(1, 4))
    assert not torch.is_autocast_enabled("cpu")
    assert model(torch.rand(1, 3)).dtype == torch.float32


def test_what_cannot_be_is_refused(monkeypatch):
    model = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="precision: must be float32 or bfloat16, got 'float16'"):
        set_precision(model, "float16", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ValueError, match="precision: cuda:1 does not compute bfloat16"):
        set_precision(model, "bfloat16", torch.device("cuda:1"))
    set_precision(model, "float32", torch.device("cuda:1"))


@pytest.mark.parametrize("instructions", [(), ("_is_avx512_bf16_supported",), ("_is_amx_tile_supported",)])
def test_a_processor_without_bfloat16_is_warned_of(instructions, monkeypatch, recwarn):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in instructions, raising=False)
    assert has_bfloat16(CPU) is bool(instructions)
    set_precision(torch.nn.Linear(3, 2), "float32", CPU)
    assert not recwarn
    set_precision(torch.nn.Linear(3, 2), "bfloat16", CPU)
    warned = ["no instructions for bfloat16" in str(one.message) for one in recwarn]
    assert warned == ([] if instructions else [True])
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # torch does not promise to have it
    assert has_bfloat16(CPU) is (instructions == ("_is_amx_tile_supported",))


@pytest.mark.parametrize("place", ["cuda", "meta"])
def test_only_values_on_the_host_are_pinned(place: str) -> None:
    """Memory of a card cannot be pinned."""
    values = SimpleNamespace(device=torch.device(place), to=lambda where, **more: (where, more))
    assert on_device(values, torch.device("cuda")) == (torch.device("cuda"), {})  # type: ignore[arg-type]
