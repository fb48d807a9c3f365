"""Tensors that are none to the kernels: nested, sparse, negated truths, and what others write to meanwhile."""

import inspect

import pytest
import torch

from pyws import Segments, ops
from pyws.ops import _library

ROWS, ENDS, BOUNDS = torch.arange(4.0).double(), torch.arange(1.0, 5.0).double(), torch.tensor([0, 4])
LABELS, MASK, MAPS = torch.tensor([[[0, 1, 1], [0, 0, 1]]]), torch.ones(1, 2, 3, dtype=torch.bool), torch.rand(1, 2, 3)
ONE, TCAM = torch.ones(1, dtype=torch.int64), torch.rand(4, 1)
SEGMENTS = Segments(ROWS, ENDS, ROWS, ROWS, BOUNDS)

CALLS = {
    ops.gradcam3d: {"activations": MAPS, "gradients": MAPS},
    ops.gradcam3d_from_head: {"activations": torch.rand(1, 2, 3, 3), "head_weight": torch.rand(1, 2)},
    ops.otsu: {"maps": MAPS},
    ops.otsu_masks: {"maps": MAPS, "size": (3, 4)},
    ops.slic: {"images": torch.rand(1, 3, 4, 4), "n_segments": 4, "mask": torch.ones(1, 4, 4, dtype=torch.bool)},
    ops.superpixel_select: {"labels": LABELS, "mask": MASK},
    ops.superpixel_vote: {"labels": LABELS, "classes": LABELS, "num_classes": 2},
    ops.superpixel_confusion: {"labels": LABELS, "prediction": LABELS, "annotation": LABELS, "num_classes": 2},
    ops.integral_image: {"masks": MASK},
    ops.count_patches: {"integral": ops.integral_image(MASK), "frames": ONE - 1, "sides": ONE},
    ops.find_patches: {"integral": ops.integral_image(MASK), "frames": ONE - 1, "sides": ONE, "ranks": ONE},
    ops.class_mean: {"values": ROWS, "class_ids": torch.tensor([0, 1, 0, 1]), "class_offsets": 2},
    ops.propose_segments: {"tcam": TCAM, "offsets": BOUNDS, "wanted": torch.ones(1, 1, dtype=torch.bool)},
    ops.score_segments: {"segments": SEGMENTS, "tcam": TCAM, "offsets": BOUNDS},
    ops.linpro: {"segments": SEGMENTS, "lengths": 4 * ONE, "known": torch.zeros(4).double()},
    ops.snippet_classes: {"segments": SEGMENTS, "lengths": 4 * ONE},
    ops.match_segments: {
        "predictions": SEGMENTS, "truth": SEGMENTS, "class_offsets": torch.tensor([0, 1]), "thresholds": [0.5],
    },
    Segments: {"start": ROWS, "end": ENDS, "score": ROWS, "weight": ROWS, "offsets": BOUNDS},
}  # fmt: skip
WITHOUT_TENSORS = {ops.fuse_segments, ops.suppress_segments}  # take Segments alone
ODD = {
    "nested": lambda tensor: torch.nested.nested_tensor([tensor[0] if tensor.ndim > 1 else tensor]),
    "jagged": lambda tensor: torch.nested.nested_tensor([tensor.flatten()], layout=torch.jagged),
    "sparse": torch.Tensor.to_sparse,
    "meta": lambda tensor: tensor.to("meta"),
}
TENSORS = [
    (call, name) for call, given in CALLS.items() for name, one in given.items() if isinstance(one, torch.Tensor)
]


def test_every_operation_is_here():
    functions = {getattr(ops, name) for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert functions - WITHOUT_TENSORS == {call for call in CALLS if inspect.isfunction(call)}
    for call, given in CALLS.items():
        call(**given)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(("call", "name"), TENSORS)
def test_tensors_without_values_side_by_side_are_refused(call, name, kind):
    given = {**CALLS[call], name: ODD[kind](CALLS[call][name])}
    rule = f"^{call.__name__.removesuffix('_from_head')}\\w*: {name} must be a dense tensor on cpu or cuda, got "
    with pytest.raises(ValueError, match=rule):
        call(**given)


@pytest.mark.parametrize(("call", "name"), [each for each in TENSORS if CALLS[each[0]][each[1]].dtype == torch.bool])
def test_truths_that_a_view_negates_are_refused(call, name):
    given = {**CALLS[call], name: torch._neg_view(CALLS[call][name])}
    with pytest.raises(
        ValueError, match=f"{call.__name__}: {name} must be true or false, got a view that negates them"
    ):
        call(**given)


@pytest.mark.parametrize(
    ("call", "name", "strange"),
    [
        (ops.superpixel_vote, "classes", 7),
        (ops.superpixel_confusion, "prediction", 7),
        (ops.otsu, "maps", torch.nan),
    ],
)
def test_what_another_thread_mends_during_a_call_is_an_error_of_the_operation(monkeypatch, call, name, strange):
    good, given = CALLS[call][name], {**CALLS[call], name: CALLS[call][name].clone()}
    given[name].view(-1)[0] = strange
    launch = _library.launch

    def meanwhile(*arguments):
        launch(*arguments)
        given[name].copy_(good)

    monkeypatch.setattr(inspect.getmodule(call), "launch", meanwhile)
    with pytest.raises(RuntimeError, match=f"^{call.__name__}: .* must not be written to during the call"):
        call(**given)


def test_labels_that_another_thread_spoils_during_a_call_are_an_error_of_the_operation(monkeypatch):
    labels, launch = LABELS.clone(), _library.launch

    def meanwhile(*arguments):
        labels[0, 0, 0] += 5000
        launch(*arguments)

    monkeypatch.setattr(inspect.getmodule(ops.superpixel_vote), "launch", meanwhile)
    with pytest.raises(RuntimeError, match="^superpixel_vote: labels must not be written to during the call"):
        ops.superpixel_vote(labels, LABELS, 2)
