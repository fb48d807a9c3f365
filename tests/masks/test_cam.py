"""GradCAM: a context manager over any model, against captum, plain autograd and the analytic form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.masks import GradCAM


class Net3d(nn.Module):
    """A small 3D network; ``inplace`` changes the layer's output after the layer, ``head`` follows the features."""

    def __init__(self, head: nn.Module | None = None, inplace: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 8, 3, padding=1))
        self.relu = nn.ReLU(inplace=inplace)
        self.head = head or nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 5))

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.relu(self.features(clips)))


@pytest.fixture
def net() -> Net3d:
    torch.manual_seed(0)
    return Net3d().eval()


@pytest.fixture
def clips() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 4, 7, 5)


def by_autograd(model: nn.Module, layer: nn.Module, inputs: Tensor, wanted: Tensor) -> Tensor:
    """Eq. 4-5 read from the page: keep the layer's output before anything changes it, differentiate, weigh, add."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    scores = model(inputs)
    handle.remove()
    maps = []
    for column in wanted.unbind(1):
        chosen = scores.gather(1, column[:, None]).sum()
        (grad,) = torch.autograd.grad(chosen, kept[0], retain_graph=True)
        weights = grad.flatten(2).mean(2).reshape(*grad.shape[:2], *[1] * (grad.ndim - 2))
        maps.append(torch.relu((weights * kept[0]).sum(1)))
    return torch.stack(maps, 1).detach()


@pytest.mark.parametrize("layer", ["features.0", "features", "relu"])
@pytest.mark.parametrize("head", ["auto", "autograd"])
def test_equals_autograd_in_3d(net: Net3d, clips: Tensor, layer: str, head: str) -> None:
    wanted = torch.tensor([[0, 4], [2, 2], [3, 1]])
    with GradCAM(net, layer, head) as cam:
        maps = cam(clips, wanted)
    expected = by_autograd(net, net.get_submodule(layer), clips, wanted)
    assert maps.shape == (3, 2, 4, 7, 5)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)
    assert expected.max() > 1e-4  # the comparison is not one of zeros


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "r3d_18"])
def test_equals_captum_on_torchvision(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    import torchvision

    torch.manual_seed(0)
    video = name == "r3d_18"
    factory = torchvision.models.video.r3d_18 if video else torchvision.models.get_model_builder(name)
    model = factory(weights=None, num_classes=7).eval()
    layer = "features" if name == "mobilenet_v2" else "layer4"
    inputs = torch.randn(2, 3, *((4,) if video else ()), 48, 64)
    wanted = torch.tensor([6, 2])
    oracle = captum.LayerGradCam(model, model.get_submodule(layer))
    expected = oracle.attribute(inputs, wanted, relu_attributions=True)[:, 0].detach()
    with GradCAM(model, layer) as cam:
        one, every = cam(inputs, wanted), cam(inputs)
    torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    torch.testing.assert_close(every[torch.arange(2), wanted], expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert expected.max() > 0
    assert every.shape == (2, 7, *expected.shape[1:])


def test_inplace_operation_after_the_layer_does_not_change_its_activations(clips: Tensor) -> None:
    """The activations of "features" are those before the ReLU that overwrites them."""
    torch.manual_seed(0)
    changing, kind = Net3d(inplace=True).eval(), Net3d(inplace=False).eval()
    kind.load_state_dict(changing.state_dict())
    with GradCAM(changing, "features") as cam, GradCAM(kind, "features") as other:
        torch.testing.assert_close(cam(clips, [[0, 1]]), other(clips, [[0, 1]]), rtol=0, atol=0)


def count_backward(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: (calls.append(1), grad(*args, **kwargs))[1])
    return calls


def test_auto_takes_the_analytic_form_where_the_head_is_pool_and_linear(
    net: Net3d, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_backward(monkeypatch)
    with GradCAM(net, "relu") as cam:
        cam(clips)
    assert len(calls) == 1  # the test of the head, not one for each of five classes


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 5)),
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5), nn.Tanh()),
        nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)),
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 5)),
    ],
    ids=["max pool", "tanh", "second relu", "two linear"],
)
def test_auto_is_not_fooled_by_other_heads(head: nn.Module, clips: Tensor) -> None:
    """After a second ReLU the scores are those of pool + linear, the gradients are not."""
    torch.manual_seed(0)
    model = Net3d(head).eval()
    wanted = torch.arange(5).expand(3, 5)
    with GradCAM(model, "relu") as cam:
        torch.testing.assert_close(cam(clips), by_autograd(model, model.relu, clips, wanted), rtol=1e-4, atol=1e-7)


def test_dropout_in_train_mode_is_seen(net: Net3d, clips: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_backward(monkeypatch)
    net.train()
    with GradCAM(net, "relu") as cam:
        cam(clips)
    assert len(calls) == 1 + 5


def test_linear_says_whether_the_head_is(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "relu") as cam:
        for classes in (3, [[3, 0]], [1, 2, 0], None):
            found = cam.linear(clips, classes)
            assert found is not None
            torch.testing.assert_close(found, cam(clips, classes), rtol=1e-4, atol=1e-6)
    other = Net3d(nn.Sequential(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 5))).eval()
    with GradCAM(other, "relu") as cam:
        assert cam.linear(clips, [[3, 0]]) is None
        assert cam.logits is not None
        torch.testing.assert_close(cam.logits, other(clips).detach())
        with pytest.raises(ValueError, match="of classes, got a function"):
            cam.linear(clips, lambda scores: scores[:, 0])
    with pytest.raises(RuntimeError, match="with block"):
        cam.linear(clips, 0)


def test_given_head_needs_no_backward(net: Net3d, clips: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    with GradCAM(net, "relu") as cam:
        expected = cam(clips)
    calls = count_backward(monkeypatch)
    with GradCAM(net, "relu", head=net.head[3]) as cam:
        torch.testing.assert_close(cam(clips), expected)
        torch.testing.assert_close(cam(clips, 2), expected[:, 2])
    assert not calls


def test_convolution_as_head(clips: Tensor) -> None:
    """I3D's head: average pool, 1x1x1 convolution, mean over what is left."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AvgPool3d((1, 7, 5)), nn.Conv3d(8, 5, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    model = Net3d(head).eval()
    wanted = torch.arange(5).expand(3, 5)
    with GradCAM(model, "relu") as cam:
        torch.testing.assert_close(cam(clips), by_autograd(model, model.relu, clips, wanted), rtol=1e-4, atol=1e-7)


def test_shapes_of_classes(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "relu") as cam:
        every = cam(clips)
        assert every.shape == (3, 5, 4, 7, 5)
        torch.testing.assert_close(cam(clips, 2), every[:, 2])
        torch.testing.assert_close(cam(clips, [0, 1, 2]), every[[0, 1, 2], [0, 1, 2]])
        torch.testing.assert_close(cam(clips, torch.tensor([[4, 1]])), every[:, [4, 1]])
        torch.testing.assert_close(cam(clips, torch.tensor([[4], [3], [2]])), every[[0, 1, 2], [4, 3, 2]][:, None])


def test_function_of_the_scores(net: Net3d, clips: Tensor) -> None:
    """The gradient of a log-sum-exp is the softmax-weighted sum of its classes' gradients."""
    head = net.head[3]
    with GradCAM(net, "relu") as cam:
        maps = cam(clips, lambda scores: scores[:, [1, 3]].logsumexp(1))
        share = torch.softmax(cam.logits[:, [1, 3]], 1)
        pair = cam(clips, lambda scores: scores[:, :2])
        torch.testing.assert_close(pair, cam(clips, [[0, 1]]))
    weights = share @ head.weight[[1, 3]] / (4 * 7 * 5)
    expected = torch.relu(torch.einsum("bc,bcthw->bthw", weights, net.relu(net.features(clips)))).detach()
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


def test_normalize(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "relu") as cam:
        maps = cam(clips, [[0, 3]], normalize="minmax").flatten(2)
        raw = cam(clips, [[0, 3]]).flatten(2)
    low, high = raw.amin(2, keepdim=True), raw.amax(2, keepdim=True)
    torch.testing.assert_close(maps, torch.where(high > low, (raw - low) / (high - low), 0.0))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_callers_grad_mode(net: Net3d, clips: Tensor, guard: Any) -> None:
    with GradCAM(net, "relu") as cam:
        expected = cam(clips, [[0, 3]])
        with guard():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            torch.testing.assert_close(cam(clips * 1, [[0, 3]]), expected)
            torch.testing.assert_close(cam(clips * 1, 0), expected[:, 0])
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert not expected.requires_grad


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules())


def test_nothing_is_left_behind(net: Net3d, clips: Tensor) -> None:
    net.train()
    net.features.eval()
    modes = [module.training for module in net.modules()]
    with GradCAM(net, "features.2") as cam:
        assert hooks(net) > 0
        first, second = (cam(clips, [[1, 2]]) for _ in range(2))
        assert first.shape == second.shape
        assert net(clips).requires_grad  # an ordinary call in the block trains as ever
    assert hooks(net) == 0
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [module.training for module in net.modules()] == modes


def test_two_forwards_are_equal(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "features.2") as cam:
        assert torch.equal(cam(clips, 1), cam(clips, 1))


def test_hooks_go_after_an_error(net: Net3d, clips: Tensor) -> None:
    with pytest.raises(RuntimeError, match="size"), GradCAM(net, "relu") as cam:
        cam(clips[:, :2], 1)
    assert hooks(net) == 0
    with GradCAM(net, "relu") as cam:
        with pytest.raises(RuntimeError):
            cam(clips[:, :2], 1)
        assert cam(clips, 1).shape == (3, 4, 7, 5)  # a failed call leaves nothing recorded


def test_frozen_model(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "relu") as cam:
        expected = cam(clips, [[1, 2]])
    with GradCAM(net.requires_grad_(False), "relu") as cam:
        torch.testing.assert_close(cam(clips, [[1, 2]]), expected)


def test_empty_batch(net: Net3d, clips: Tensor) -> None:
    with GradCAM(net, "relu") as cam:
        assert cam(clips[:0], 1).shape == (0, 4, 7, 5)
        assert cam(clips[:0]).shape == (0, 5, 4, 7, 5)


class Aside(nn.Module):
    """The layer is never run, or runs twice, or the scores do not depend on it."""

    def __init__(self, times: int, used: bool = True) -> None:
        super().__init__()
        self.layer, self.fc, self.times, self.used = nn.Conv2d(3, 3, 1), nn.Linear(3, 2), times, used

    def forward(self, images: Tensor) -> Tensor:
        out = images
        for _ in range(self.times):
            out = self.layer(out)
        return self.fc(functional.adaptive_avg_pool2d(out if self.used else images, 1).flatten(1))


@pytest.mark.parametrize(
    ("model", "layer", "classes", "message"),
    [
        (Aside(1), "layr", 0, r"layer must name a module of the model \(such as layer.*got 'layr'"),
        (Aside(1), nn.ReLU(), 0, "got a ReLU that is not in it"),
        (Aside(0), "layer", 0, "must run once in a forward pass of the model, layer ran 0 x"),
        (Aside(2), "layer", 0, "layer ran 2 x"),
        (Aside(1, used=False), "layer", 0, "no gradient reaches layer"),
        (Aside(1), "fc", 0, r"output of layer fc must be \(B, C, \*S\) float, got shape \(2, 2\)"),
        (Aside(1), "layer", 2, r"classes must be in 0..1, got 2"),
        (Aside(1), "layer", [0, -1], r"classes must be in 0..1, got -1"),
        (Aside(1), "layer", [0, 1, 1], r"for a batch of 2, got shape \(3,\)"),
        (Aside(1), "layer", [[]], r"got shape \(2, 0\)"),
        (Aside(1), "layer", 0.5, "classes must be integers, got float32"),
        (Aside(1), "layer", lambda scores: scores.sum(), r"must return \(2,\) or \(2, K\) scores, got shape \(\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), "0", 0, r"model must be scores \(2, classes\), got shape \(2, 4, 5, 5\)"),
    ],
)
def test_bad_input(model: nn.Module, layer: Any, classes: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message), GradCAM(model, layer) as cam:
        cam(torch.randn(2, 3, 5, 5), classes)
    assert hooks(model) == 0


def test_bad_head(net: Net3d, clips: Tensor) -> None:
    with pytest.raises(ValueError, match="head must be 'auto', 'autograd' or a module, got 'linear'"):
        GradCAM(net, "relu", head="linear")
    with pytest.raises(ValueError, match="head must be linear from 8 to 5"), GradCAM(net, "relu", net.relu) as cam:
        cam(clips, 1)
    with pytest.raises(RuntimeError, match="inside its with block"):
        GradCAM(net, "relu")(clips, 1)
    given = net.head[-1]
    said = "needs gradients: head must be 'auto' or 'autograd'"
    with pytest.raises(ValueError, match=said), GradCAM(net, "relu", given) as cam:
        cam(clips, lambda scores: scores.sum(1))
    with (
        pytest.raises(ValueError, match="GradCAM: layer features: layout: "),
        GradCAM(net, "features", layout=(3, 5)) as cam,
    ):
        cam(clips, 1)


@pytest.mark.parametrize(
    ("layer", "near"),
    [("layer", "layer8, layer7, layer6"), ("nothing", "layer4, layer5, layer6, layer7, layer8")],
)
def test_an_unknown_layer_has_three_near_ones_or_the_last_five(layer: str, near: str) -> None:
    model = nn.ModuleDict({f"layer{index}": nn.ReLU() for index in range(9)})
    with pytest.raises(ValueError, match=rf"\(such as {near}\), got '{layer}'$"):
        GradCAM(model, layer)


def test_a_layer_of_another_model_is_not_found(net: Net3d) -> None:
    for layer in (nn.ReLU(), Net3d().relu):
        with pytest.raises(ValueError, match="layer must be a module of the model, got a ReLU that is not in it"):
            GradCAM(net, layer)
    with GradCAM(net, net.relu) as cam:
        assert cam.layer is net.relu


def test_threads_that_share_a_model_see_their_own_maps_and_scores() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    inputs = [torch.randn(2, 3, 40 + step, 30) for step in range(8)]
    with GradCAM(model, "1") as cam:

        def seen(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            return cam(images, [[0, 3]]), cam.logits

        alone = [seen(images) for images in inputs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(seen, inputs * 4))
    for (maps, logits), (expected, scores) in zip(together, alone * 4, strict=True):
        assert torch.equal(maps, expected)
        assert torch.equal(logits, scores)
