"""gradcam3d and its head form against their definition, autograd, captum and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from pyws.ops import _library, gradcam3d, gradcam3d_from_head, reference

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 1e-3, torch.bfloat16: 8e-3}
# (B, C, *S): ranks 1 to 3, primes, one of everything, channels and rows around the blocks of 8 and 16, tiles of 32
SHAPES = [
    (2, 3, 27, 27), (2, 3, 5), (1, 8, 16), (3, 9, 33), (2, 17, 98), (1, 1, 1), (1, 2, 1100),
    (2, 7, 3, 5), (1, 16, 7, 7), (2, 5, 2, 3, 4), (1, 31, 2, 7, 7), (2, 8, 1, 4, 1), (1, 4, 3, 1, 11),
    (2, 130, 4, 8),  # two splits of the channels and 16-byte loads on CUDA
]  # fmt: skip


def pair(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def assert_defined(got, activations, gradients, normalize=None):
    """``got`` is the definition, taken in float64, within the rounding of the dtype."""
    want = reference.gradcam3d(activations.double(), gradients.double(), normalize)
    assert got.dtype == activations.dtype
    assert got.is_contiguous()
    scale = float(activations.double().abs().sum(1).max()) if activations.numel() and normalize is None else 1.0
    assert_close(got.double(), want, rtol=TOLERANCE[got.dtype], atol=4 * TOLERANCE[got.dtype] * scale)


@pytest.mark.parametrize("normalize", [None, "minmax"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_equals_definition(backend, dtype, shape, normalize):
    activations, gradients = pair(shape, dtype)
    assert_defined(gradcam3d(activations, gradients, normalize), activations, gradients, normalize)


def test_by_hand(backend):
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, -6.0], [7.0, 8.0]]]])
    gradients = torch.tensor([[[[4.0, 0.0], [0.0, 4.0]], [[-1.0, -1.0], [0.0, 0.0]]]])  # weights 2 and -1/2
    assert gradcam3d(activations, gradients).tolist() == [[[0.0, 7.0], [2.5, 4.0]]]
    assert torch.equal(gradcam3d(activations, gradients, "minmax"), torch.tensor([[[0.0, 7.0], [2.5, 4.0]]]) / 7)


def transposed(x):
    return x.transpose(-1, 2).contiguous().transpose(-1, 2)


def every_other(x):
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 6e4, dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def unaligned(x):
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


def channels_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def cropped(x, layout=lambda x: x):
    padded = layout(nn.functional.pad(x, [1] * (2 * (x.ndim - 2)), value=6e4))
    for axis in range(2, x.ndim):
        padded = padded.narrow(axis, 1, x.shape[axis])
    return padded


def channels_last_cropped(x):
    return cropped(x, channels_last)


def batch_last(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def negative_view(x):
    """A view whose sign is flipped lazily, as the imaginary part of a conjugate."""
    if x.dtype not in (torch.float32, torch.float64):
        return x
    view = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert view.is_neg()
    return view


LAYOUTS = [transposed, every_other, unaligned, channels_last, cropped, channels_last_cropped, batch_last, negative_view]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("shape", [(2, 11, 21), (2, 10, 5, 7), (2, 17, 2, 7, 7)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(backend, dtype, shape, layout):
    activations, gradients = pair(shape, dtype)
    for a, g in [(layout(activations), gradients), (activations, layout(gradients)), (layout(activations),) * 2]:
        assert_defined(gradcam3d(a, g), a, g)


def test_expanded_inputs(backend):
    activations, gradients = pair((1, 9, 1, 6, 7))
    a, g = activations.expand(3, 9, 4, 6, 7), gradients[..., :1].expand(3, 9, 4, 6, 7)
    assert_defined(gradcam3d(a, g), a, g)


@pytest.mark.parametrize("layout", [lambda x: x, channels_last, every_other], ids=["contiguous", "channels", "strided"])
@pytest.mark.parametrize("shape", [(3, 37, 2, 7, 7), (2, 9, 1500)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_on_every_cpu_path(dtype, shape, layout):
    activations, gradients = map(layout, pair(shape, dtype))
    before, maps = _library._C.cpu_path(), []
    for path in _library._C.cpu_paths():
        _library._C.set_cpu_path(path)
        maps.append(gradcam3d(activations, gradients, "minmax"))
    _library._C.set_cpu_path(before)
    assert all(torch.equal(one, maps[0]) for one in maps)


def test_same_bits_for_any_layout_threads_and_batch(backend):
    small = backend.startswith("emulated")
    activations, gradients = pair((4, 12, 2, 7, 7) if small else (48, 130, 4, 14, 14))
    maps = gradcam3d(activations, gradients)
    assert torch.equal(gradcam3d(activations[1:3], gradients[1:3]), maps[1:3])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(gradcam3d(activations, gradients), maps)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_empty_inputs(backend, dtype):
    empty = torch.empty(0, 4, 2, 3, dtype=dtype)
    assert gradcam3d(empty, empty, "minmax").shape == (0, 2, 3)
    no_channels = torch.empty(2, 0, 2, 3, dtype=dtype)
    assert torch.equal(gradcam3d(no_channels, no_channels, "minmax"), torch.zeros(2, 2, 3, dtype=dtype))
    no_positions = torch.empty(2, 4, 0, 3, dtype=dtype)
    assert gradcam3d(no_positions, no_positions, "minmax").shape == (2, 0, 3)
    assert gradcam3d_from_head(no_positions, torch.ones(5, 4, dtype=dtype), "minmax").shape == (2, 5, 0, 3)
    assert gradcam3d_from_head(no_channels, torch.ones(5, 0, dtype=dtype)).abs().max() == 0


def test_constant_map_becomes_zeros(backend):
    ones = torch.ones(2, 3, 4, 5)
    assert torch.equal(gradcam3d(ones, ones, "minmax"), torch.zeros(2, 4, 5))
    assert torch.equal(gradcam3d(ones, -ones, "minmax"), torch.zeros(2, 4, 5))
    assert torch.equal(gradcam3d_from_head(ones, torch.ones(7, 3), "minmax"), torch.zeros(2, 7, 4, 5))


def test_every_half_is_read_and_written_exactly(backend):
    """One channel of weight one shows each float16, denormals included, through relu."""
    bits = np.arange(0, 0x10000, 1 if not backend.startswith("emulated") else 37, dtype=np.uint16)
    every = torch.from_numpy(bits.view(np.float16).copy())[None, None]
    assert_close(gradcam3d(every, torch.ones_like(every))[0], torch.relu(every[0, 0]), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", [lambda x: x, channels_last], ids=["contiguous", "channels"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinity_is_no_large_number(backend, dtype, layout):
    """Read as the number after the greatest, it would come back from what divides it."""
    few, infinite = torch.full((1, 9, 40), 2.0**-6, dtype=dtype), torch.full((1, 9, 40), float("inf"), dtype=dtype)
    assert gradcam3d(layout(infinite), layout(few)).isposinf().all()
    assert gradcam3d(layout(few), layout(infinite)).isposinf().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_maps_round_once(backend, dtype):
    """Sums are float32: a map beyond the dtype becomes infinite, ties round to even."""
    activations = torch.full((1, 4, 1, 2), torch.finfo(dtype).max, dtype=dtype)
    assert gradcam3d(activations, torch.ones_like(activations)).isinf().all()
    wide = torch.rand(1, 6, 40, dtype=torch.float64)
    narrow = wide.to(dtype)
    eye = torch.zeros_like(narrow)
    eye[:, :2] = 1
    want = (narrow[:, 0].float() + narrow[:, 1].float()).to(dtype)
    assert torch.equal(gradcam3d(narrow, eye), want)


def test_nan_and_infinity_propagate(backend):
    activations, gradients = torch.ones(3, 2, 2, 3), torch.ones(3, 2, 2, 3)
    activations[0, 1, 0, 2] = float("nan")
    gradients[1, 0, 1, 1] = float("nan")
    activations[2, 0, 1, 0] = float("inf")
    maps = gradcam3d(activations, gradients)
    assert maps[0].isnan().nonzero().tolist() == [[0, 2]]
    assert maps[1].isnan().all()
    assert maps[2].isinf().nonzero().tolist() == [[1, 0]]
    scaled = gradcam3d(activations, gradients, "minmax")
    assert scaled[:2].isnan().all()
    assert_close(scaled, reference.gradcam3d(activations, gradients, "minmax"), equal_nan=True)


@pytest.mark.parametrize("normalize", [None, "minmax"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 2, 3), (1, 3, 2, 2, 2)], ids=str)
def test_gradients(shape, normalize):
    inputs = [x.requires_grad_() for x in pair(shape, torch.float64, seed=2)]
    assert torch.autograd.gradcheck(lambda a, g: gradcam3d(a, g, normalize), inputs)
    assert torch.autograd.gradgradcheck(lambda a, g: gradcam3d(a, g, normalize), inputs)


@pytest.mark.parametrize("normalize", [None, "minmax"])
def test_gradients_of_the_head_form(normalize):
    activations, _ = pair((2, 3, 2, 3), torch.float64)
    head = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    inputs = [activations.requires_grad_(), head.requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, w: gradcam3d_from_head(a, w, normalize), inputs)
    assert torch.autograd.gradgradcheck(lambda a, w: gradcam3d_from_head(a, w, normalize), inputs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_equal_those_of_the_definition(dtype):
    inputs = [x.requires_grad_() for x in pair((2, 5, 3, 4), dtype)]
    upstream = torch.randn(2, 3, 4).to(dtype)
    got = torch.autograd.grad(gradcam3d(*inputs), inputs, upstream)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    want = torch.autograd.grad(reference.gradcam3d(*exact), exact, upstream.double())
    for one, other in zip(got, want, strict=True):
        assert one.dtype == dtype
        assert_close(one.double(), other, rtol=8 * TOLERANCE[dtype], atol=8 * TOLERANCE[dtype])


def test_normalised_maps_do_not_depend_on_grad_mode():
    activations, gradients = pair((2, 5, 3, 4))
    activations[0] = 0
    plain = gradcam3d(activations, gradients, "minmax")
    tracked = gradcam3d(activations.clone().requires_grad_(), gradients, "minmax")
    assert_close(tracked.detach(), plain)


class Net(nn.Module):
    """Convolutions, then global average pool and linear layer: the head form is exact for it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 10, 3), nn.ReLU())
        self.head = nn.Linear(10, 4)

    def forward(self, clips):
        return self.head(self.features(clips).mean((2, 3, 4)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().double().eval(), torch.randn(3, 2, 5, 8, 9, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [None, "minmax"])
def test_head_form_equals_autograd(net, normalize):
    model, clips = net
    activations = model.features(clips).detach().requires_grad_()
    logits = model.head(activations.mean((2, 3, 4)))
    maps = gradcam3d_from_head(activations.detach(), model.head.weight.detach(), normalize)
    assert maps.shape == (3, 4, 3, 6, 7)
    for k in range(4):
        (gradients,) = torch.autograd.grad(logits[:, k].sum(), activations, retain_graph=True)
        assert_close(maps[:, k], gradcam3d(activations.detach(), gradients, normalize))


def test_equals_captum(net):
    attr = pytest.importorskip("captum.attr")
    model, clips = net
    want = attr.LayerGradCam(model, model.features).attribute(clips, target=2, relu_attributions=True)
    activations = model.features(clips)
    (gradients,) = torch.autograd.grad(model.head(activations.mean((2, 3, 4)))[:, 2].sum(), activations)
    assert_close(gradcam3d(activations.detach(), gradients), want[:, 0].detach())


X = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.0], X), TypeError, "gradcam3d: activations must be a tensor, got list"),
        ((X.int(), X), TypeError, "gradcam3d: activations must be float32 or .*, got int32"),
        ((X.double(), X), TypeError, "gradcam3d: gradients must be float64, got float32"),
        ((X[0], X[0]), ValueError, r"gradcam3d: activations must have 3 or 4 or 5 dimensions, got shape \(3, 4\)"),
        ((X, X[:1]), ValueError, r"gradients must have the shape of activations \(2, 3, 4\), got \(1, 3, 4\)"),
        ((X, X, "max"), ValueError, "gradcam3d: normalize must be one of None, 'minmax', got 'max'"),
        ((X[:1, :1, :1].expand(1, 1, 2**30 + 1),) * 2, ValueError, "must have at most 2\\^30 positions each"),
        ((X.to_sparse(), X), ValueError, "gradcam3d: activations must be a dense tensor on cpu or cuda"),
        ((X, X.to("meta")), ValueError, "gradcam3d: gradients must be a dense tensor on cpu or cuda"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        gradcam3d(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, [1.0]), TypeError, "gradcam3d_from_head: head_weight must be a tensor, got list"),
        ((X, torch.zeros(5, 4)), ValueError, r"head_weight must have shape \(\*, 3\), got \(5, 4\)"),
        ((X, torch.zeros(5, 3).double()), TypeError, "head_weight must be float32, got float64"),
        ((X[0], torch.zeros(5, 3)), ValueError, "gradcam3d_from_head: activations must have 3 or 4 or 5 dimensions"),
        ((X, torch.zeros(5, 3), "l2"), ValueError, "gradcam3d_from_head: normalize must be one of"),
    ],
)
def test_bad_input_of_the_head_form(arguments, error, message):
    with pytest.raises(error, match=message):
        gradcam3d_from_head(*arguments)


@pytest.mark.parametrize("dtype", FLOATS)
def test_opcheck(dtype):
    activations, gradients = pair((2, 3, 2, 3, 4), dtype)
    torch.library.opcheck(torch.ops.pyws.gradcam3d_maps.default, (activations, channels_last(gradients), True))
    if dtype == torch.float64:
        inputs = (activations.requires_grad_(), gradients.requires_grad_())
        torch.library.opcheck(torch.ops.pyws.gradcam3d.default, inputs)


@pytest.mark.parametrize("normalize", [None, "minmax"])
def test_compile(normalize):
    compiled = torch.compile(
        lambda a, g, w: gradcam3d(a, g, normalize) + gradcam3d_from_head(a, w, normalize).sum(1),
        fullgraph=True,
        backend="aot_eager",
    )
    activations, gradients = pair((2, 3, 4, 5))
    head = torch.randn(6, 3)
    want = gradcam3d(activations, gradients, normalize) + gradcam3d_from_head(activations, head, normalize).sum(1)
    assert_close(compiled(activations, gradients, head), want)
    compiled(activations.requires_grad_(), gradients, head).sum().backward()
    assert activations.grad.isfinite().all()


@st.composite
def anything(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=3, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = rng.integers(0, 0x10000, (2, *shape), dtype=np.uint16)
    values = torch.from_numpy(bits.view(np.float16).astype(np.float64))
    if draw(st.booleans()):
        values = torch.nan_to_num(values)
    dtype = draw(st.sampled_from(FLOATS))
    layout = draw(st.sampled_from([lambda x: x, *LAYOUTS]))
    return layout(values[0].to(dtype)), values[1].to(dtype)


@settings(max_examples=80, deadline=None)
@given(anything())
def test_any_contents(inputs):
    activations, gradients = inputs
    got, want = gradcam3d(*inputs), reference.gradcam3d(activations.double(), gradients.double())
    scale = (gradients.double().flatten(2).mean(-1).abs() * activations.double().flatten(2).abs().amax(-1)).sum(1)
    bound = 8 * TOLERANCE[got.dtype] * scale.view(-1, *[1] * (got.ndim - 1)) + 1e-6
    finite = want.isfinite() & (want.abs() < torch.finfo(got.dtype).max * 0.99)
    off = (got.double() - want).abs()
    assert (off <= bound)[finite & bound.isfinite()].all()
    assert torch.equal(got.isnan(), want.isnan())
    scaled = gradcam3d(*inputs, "minmax")
    assert (scaled.isnan() | ((scaled >= 0) & (scaled <= 1))).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("layout", ["rows", "columns", "apart"])
def test_large_maps_lose_nothing(backend, layout, value):
    """A constant gradient rounds the same way at every addition: nothing averages out."""
    activations, gradients = torch.ones(1, 8, 1, 40_000), torch.full((1, 8, 1, 40_000), value)
    if layout == "columns":
        gradients = gradients.movedim(1, -1).contiguous().movedim(-1, 1)
    elif layout == "apart":
        gradients = torch.full((1, 8, 40_000, 2), value).movedim(-1, -2)[:, :, :1]
    maps = gradcam3d(activations, gradients).double()
    torch.testing.assert_close(maps, torch.full_like(maps, 8 * float(torch.tensor(value))), rtol=4e-7, atol=0)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 3, 2, 4, 8)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_halves_of_aligned_memory(backend, dtype, shape):
    """Every row, plane or clip starts at a multiple of a vector, and is not where the one before ended."""
    for axis in range(1, len(shape)):
        twice = list(shape)
        twice[axis] *= 2
        activations, gradients = (x.narrow(axis, 0, shape[axis]) for x in pair(twice, dtype))
        assert_defined(gradcam3d(activations, gradients), activations, gradients)


@pytest.mark.parametrize("strides", [(129, 64, 8, 1), (256, 65, 8, 1)], ids=["batch", "channels"])
def test_rows_that_start_between_multiples_of_a_vector(backend, strides):
    maps = torch.rand(800, generator=torch.Generator().manual_seed(1)).as_strided((3, 2, 8, 8), strides)
    assert torch.equal(gradcam3d(maps, maps), gradcam3d(maps.contiguous(), maps.contiguous()))


def test_what_is_summed_in_single_precision_ends_with_its_block(backend):
    """Doubles keep a one beside 2^24, singles do not: blocks of 512 positions on the CPU, eight vectors of each of 32
    lanes on a card."""
    block = 32 * 8 * 4 if backend.startswith(("emulated", "cuda")) else 512
    gradients = torch.zeros(1, 1, 3 * block)
    for place, value in enumerate((2.0**24, 1.0, -(2.0**24))):
        gradients[0, 0, place * block] = value
    assert gradcam3d(torch.ones_like(gradients), gradients)[0, 0] * 3 * block == 1
