"""for_inference: the same outputs as the plain network, whatever it does with its tensors."""

import itertools

import pytest
import torch
from torch import nn

from pyws.models import fused_convolution
from pyws.models.fused_convolution import FusedConvolution, can_fuse
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite, SameConv2d
from pyws.models.inference import for_inference
from pyws.models.video_networks.i3d import I3D


def trained(model):
    """In eval mode, with statistics and scales as training leaves them: none is that of a new layer."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 4)
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


def norms(model):
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (lambda: EfficientNetLite(7), (40, 51)),
        (lambda: EfficientNetLite(7, output_stride=8, variant=1), (33, 40)),
        (lambda: I3D(4), (16, 36, 40)),
    ],
)
def test_same_outputs_without_batch_norm(model, size):
    torch.manual_seed(1)
    plain = trained(model())
    fast = for_inference(plain, (3, *size))
    assert norms(plain) > 0
    assert norms(fast) == 0
    inputs = torch.randn(2, 3, *size)
    kept = inputs.clone()
    with torch.no_grad():
        expected, found = plain(inputs), fast(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(inputs, kept)


def test_networks_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    plain = trained(models.densenet121(num_classes=3))  # a norm before each convolution, and one after some
    fast = for_inference(plain, (3, 64, 64), "features")
    assert 0 < norms(fast) < norms(plain)
    images = torch.rand(2, 3, 70, 64)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), plain(images), rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """The output of the convolution, or of the norm, is needed again."""

    def __init__(self, again):
        super().__init__()
        self.conv, self.norm, self.relu, self.again = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), again

    def forward(self, x):
        convolved = self.conv(x)
        normed = self.norm(convolved)
        return self.relu(normed) + (convolved if self.again == "convolution" else normed)


@pytest.mark.parametrize("again", ["convolution", "norm"])
def test_what_is_needed_again_is_seen(again):
    torch.manual_seed(2)
    plain, images = trained(Twice(again)), torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        expected = plain(images).clone()
        assert torch.equal(for_inference(plain, (3, 8, 8))(images), expected)


def test_the_layer_that_is_asked_for_stays_what_it_is():
    torch.manual_seed(2)
    plain = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    assert for_inference(plain, (3, 9, 9), "0") is plain
    assert norms(for_inference(plain, (3, 9, 9), "1")) == 0


def test_nothing_to_fold_and_train_mode():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    assert for_inference(linear, (3, 2, 2)) is linear
    with pytest.raises(ValueError, match="eval mode"):
        for_inference(nn.BatchNorm2d(3), (3, 2, 2))


def test_activations_are_part_of_the_convolutions_that_they_read():
    plain = trained(EfficientNetLite(7))
    fast = for_inference(plain, (3, 64, 64), "features")
    assert not any(isinstance(module, nn.ReLU6) for name, module in fast.named_modules() if "activation" not in name)
    fused = [module for module in fast.modules() if isinstance(module, FusedConvolution)]
    assert len(fused) == sum(isinstance(module, nn.Conv2d) for module in plain.modules())


def test_one_activation_after_several_convolutions_stays():
    torch.manual_seed(4)
    shared = nn.ReLU()
    plain = trained(nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.Conv2d(4, 4, 3), shared, nn.Conv2d(4, 2, 1)))
    fast, images = for_inference(plain, (3, 8, 8)), torch.randn(2, 3, 9, 12)
    assert isinstance(fast[1], nn.ReLU)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), plain(images))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.25), nn.SiLU()])
def test_gradients_and_values_of_each_activation(activation):
    torch.manual_seed(5)
    plain = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=(2, 1), dilation=2, groups=2), activation).eval()
    fast = for_inference(plain, (2, 12, 12))
    assert isinstance(fast[0], FusedConvolution)
    images = (4 * torch.randn(2, 2, 11, 14)).requires_grad_()
    with torch.no_grad():
        torch.testing.assert_close(fast(images), plain(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(images), plain(images))
    found, wanted = (torch.autograd.grad(model(images).square().sum(), images)[0] for model in (fast, plain))
    torch.testing.assert_close(found, wanted)


DILATED = [(3, 2, 2), (3, 3, 2), (2, 1, 3)]  # kernel, stride, dilation: padding is odd for some sizes


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2), (2, 1, 1)])
def test_padding_of_pictures_that_are_not_square(kernel, stride, dilation):
    """One convolution for all sizes: what is missing may be odd in rows, in columns, in both or in neither."""
    torch.manual_seed(3)
    layer = SameConv2d(4, 6, kernel, stride, groups=2, dilation=dilation)
    fused = FusedConvolution(layer)
    with torch.no_grad():
        for size in itertools.product(range(5, 9), range(5, 9)):
            images = torch.randn(1, 4, *size)
            torch.testing.assert_close(fused(images), layer(images))


def test_convolutions_that_onednn_does_not_make_stay():
    assert can_fuse(nn.Conv2d(3, 4, 3, padding=1))
    others = [
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3).double(),
        nn.Conv1d(3, 4, 3),
        nn.ConvTranspose2d(3, 4, 3),
        *(SameConv2d(4, 4, kernel, stride, dilation=dilation) for kernel, stride, dilation in DILATED),
    ]
    assert not any(map(can_fuse, others))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), DILATED)
def test_padding_that_may_be_odd_where_pixels_are_apart(kernel, stride, dilation):
    """A row of zeros in the weight would move the picture by the dilation."""
    torch.manual_seed(3)
    plain = nn.Sequential(SameConv2d(3, 4, kernel, stride, dilation=dilation), nn.ReLU()).eval()
    with torch.no_grad():
        for example, size in itertools.product((7, 8, 9), range(6, 12)):
            images = torch.randn(1, 3, size, 9)
            torch.testing.assert_close(for_inference(plain, (3, example, example))(images), plain(images))


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_the_operation_as_it_is_called_does_without(error, monkeypatch):
    def changed(*_):
        raise error("no such operation, or another signature")

    monkeypatch.setattr(fused_convolution, "_convolution", changed)
    monkeypatch.setattr(fused_convolution, "_has_convolution", fused_convolution._has_convolution.__wrapped__)
    model = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    fast, images = for_inference(model, (3, 8, 8)), torch.rand(2, 3, 9, 9)
    assert [type(part) for part in fast] == [nn.Conv2d, nn.Identity, nn.ReLU]
    assert torch.allclose(fast(images), model(images), atol=1e-5)


@pytest.fixture(params=["oneDNN's", "plain"])
def bfloat16_by(request, monkeypatch):
    """With oneDNN's pass where the processor has it, and as on one without."""
    if request.param == "plain":
        monkeypatch.setattr(fused_convolution, "_has_convolution", lambda dtype: dtype == torch.float32)
    return request.param


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Hardtanh(-0.5, 0.25), nn.SiLU(), None])
@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9)])
def test_autocast_has_the_precision_that_was_asked_for(activation, size, bfloat16_by):
    """Inputs and weights of bfloat16, sums of more: as far from the exact ones as a rounding of the result."""
    torch.manual_seed(6)
    layer, images = SameConv2d(3, 8, 3, 2).eval(), torch.randn(2, 3, *size)
    fast = FusedConvolution(layer, activation)
    rounded = SameConv2d(3, 8, 3, 2)
    rounded.load_state_dict({name: value.bfloat16() for name, value in layer.state_dict().items()})
    after = activation or nn.Identity()
    wanted = after(rounded.double()(images.bfloat16().double()))
    with torch.no_grad():
        before = fast(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = fast(images)
            assert torch.equal(fast(images.bfloat16()), found)
        assert torch.equal(fast(images), before)  # each precision has weights of its own
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(before, after(layer(images)))


def test_autocast_to_another_precision_is_the_plain_convolution():
    layer, images = nn.Conv2d(3, 4, 3).eval(), torch.rand(1, 3, 5, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert torch.equal(FusedConvolution(layer)(images), layer(images))
