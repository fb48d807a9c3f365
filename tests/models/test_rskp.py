"""RSKP against numbers of the released code, its low-rank walk against the dense one, its memory bank."""

import numpy as np
import pytest
import torch

from pyws.models import RSKP, Memory
from pyws.models.backbones.backbone import VideoBatch, cross_entropy, tag_targets
from pyws.models.backbones.rskp import GAUFUSE_CONSISTENCY, Representatives, attention_contrast, consistency_loss

D, K = 6, 3


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden/released_rskp.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def released(golden, case):
    """The network of a case, its batch of one video, and its golden numbers."""
    numbers = {name.removeprefix(f"{case}/"): values for name, values in golden.items() if name.startswith(f"{case}/")}
    model = RSKP(48, 6, mix=0.85).double().eval()
    state = {
        "representatives": "mu", "actions": "ac_center", "foreground": "fg_center",
        "embedding.weight": "feature_embedding.0.weight", "embedding.bias": "feature_embedding.0.bias",
    }  # fmt: skip
    model.load_state_dict({ours: numbers[f"state/{name}"] for ours, name in state.items()}, strict=False)
    return model, VideoBatch(numbers["x"], torch.ones(numbers["x"].shape[:2]).bool()), numbers


def close(got, expected):
    torch.testing.assert_close(got.detach(), expected.expand_as(got), rtol=0, atol=1e-6)


def spread(snippets, walk):
    return 0.5 * (snippets.features + walk.z.mT @ walk.rows)


@pytest.mark.parametrize("case", range(3))
def test_parity_with_the_released_code(golden, case):
    model, batch, numbers = released(golden, case)
    snippets = model.embed(batch)
    rows = model.represent(snippets)
    walk, remembered = model.walks(snippets, Representatives(rows), Representatives(numbers["memory"]))
    close(snippets.features, numbers["em/features"])
    close(rows, numbers["em/mu"])
    close(spread(snippets, walk), numbers["em/reallocated"])
    close(spread(snippets, remembered), numbers["random_walk_memory"])
    plain, own = model.heads(snippets, walk)
    for name, branch in (("o", plain), ("m", own)):
        close(branch.agnostic.exp(), numbers[f"{name}/video_class_agnostic"])
        close(branch.wise.exp(), numbers[f"{name}/video_class_wise"])
        close(branch.attention, numbers[f"{name}/attention"])
        close(branch.logits, numbers[f"{name}/frame_logits"])

    activations = model.activate(batch)
    close(activations.tcam, numbers["tcam_test"])
    close(activations.scores, numbers["video_score"][:, :-1])
    close(activations.memory[0], numbers["em/mu"])
    close(activations.memory[1], numbers["em/mu_scores"])

    labels = numbers["y"].bool()
    fore = sum(cross_entropy(branch.agnostic, tag_targets(labels, 0.0)) for branch in (plain, own))
    back = sum(cross_entropy(branch.wise, tag_targets(labels, 1.0)) for branch in (plain, own))
    attention, taught = attention_contrast(plain.attention, batch), consistency_loss(plain.logits, own.logits, batch)
    for name, loss in (("fore", fore), ("back", back), ("att", attention), ("spl", taught)):
        close(loss, numbers[f"loss/{name}"])
    close(model.backbone_loss(batch, labels, 100)[1], fore + 0.2 * back + 0.1 * attention + taught)


def small(**options):
    torch.manual_seed(0)
    return RSKP(D, K, components=4, **options).double()


def videos(lengths):
    torch.manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, D, dtype=torch.float64), mask


def test_the_walk_is_the_dense_walk():
    model = small().eval()
    snippets = model.embed(VideoBatch(*videos([9])))
    rows = model.represent(snippets)
    ((z, normalised),) = snippets.memberships(Representatives(rows))
    dense = torch.linalg.inv(torch.eye(9) - 0.25 * z.mT @ normalised)
    expected = 0.5 * dense @ (0.5 * z.mT @ rows + snippets.features)
    (walk,) = model.walks(snippets, Representatives(rows))
    torch.testing.assert_close(spread(snippets, walk), expected)

    moved = type(snippets)(expected, snippets.centres, snippets.batch)  # the head of features that are really there
    for name, values in vars(model.heads(moved)[0]).items():
        torch.testing.assert_close(getattr(model.heads(snippets, walk)[1], name), values)


def test_snippets_that_are_all_zeros_stay_finite():
    model = small()
    features, mask = videos([5, 3])
    activations, losses = model.loss(torch.zeros_like(features), mask, torch.eye(K)[:2].bool(), 150)
    (losses.sum() + activations.tcam.sum()).backward()
    assert losses.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("options", [{}, {"consistency": GAUFUSE_CONSISTENCY}])
def test_weight_of_the_consistency_loss(options):
    weights = [small(**options).consistency_weight(epoch) for epoch in (0, 100, 101, 200, 201, 349)]
    assert weights == [1.0, 1.0, 0.5, 0.5, *([1.0, 1.0] if options else [0.5, 0.5])]


def test_the_memory_branch_enters_the_loss_after_its_epoch():
    model = small().eval()
    features, mask = videos([7])
    labels = torch.tensor([[True, False, True]])
    model.memory_rows.normal_(generator=torch.Generator().manual_seed(2))
    batch = VideoBatch(features, mask)
    snippets = model.embed(batch)
    sets = Representatives(model.represent(snippets)), Representatives(model.memory_rows[[0, 2]].reshape(1, 10, D))
    plain, own, recalled = model.heads(snippets, *model.walks(snippets, *sets))
    expected = 0.1 * attention_contrast(plain.attention, batch)
    for weight, branch in ((1, plain), (1, own), (0.5, recalled)):
        expected = expected + weight * cross_entropy(branch.agnostic, tag_targets(labels, 0.0))
        expected = expected + 0.2 * weight * cross_entropy(branch.wise, tag_targets(labels, 1.0))
    teacher = 0.2 * recalled.logits + 0.8 * own.logits
    expected = expected + 0.5 * consistency_loss(plain.logits, teacher, batch)
    torch.testing.assert_close(model.loss(features, mask, labels, 101)[1], expected)
    assert not torch.isclose(model.loss(features, mask, labels, 100)[1], expected)


def test_a_memory_row_that_is_not_there_changes_nothing():
    model = small().eval()
    model.memory_rows.normal_(generator=torch.Generator().manual_seed(2))
    features, mask = videos([7, 7])
    labels = torch.tensor([[True, False, False], [True, True, True]])
    together = model.loss(features, mask, labels, 150)[1]
    alone = model.loss(features[:1], mask[:1], labels[:1], 150)[1]
    torch.testing.assert_close(together[:1], alone)


def test_the_bank_keeps_the_best_rows_of_each_class():
    model = small()
    activations = model.eval()(*videos([5, 8]))
    labels = torch.tensor([[True, False, True], [False, False, True]])
    model.remember(model.memories(activations, torch.tensor([4, 1]), labels)[::-1])
    rows, scores = activations.memory
    best = torch.cat([scores[1, :, 2], scores[0, :, 2]]).sort(descending=True)
    torch.testing.assert_close(model.memory_scores[2], best.values[:5])
    torch.testing.assert_close(model.memory_rows[2], torch.cat([rows[1], rows[0]])[best.indices[:5]])
    assert model.memory_scores[0, 4] == 0  # four representatives, five slots
    assert not model.memory_scores[1].any()
    model.forget()
    assert not model.memory_rows.any()
    assert not model.memory_scores.any()


def test_order_of_gathering_does_not_matter():
    equal = [Memory(video, (0,), torch.full((4, D), float(video)), torch.full((4, 1), 0.5)) for video in range(3)]
    model = small()
    model.remember([equal[2], equal[0], equal[1]])
    assert model.memory_rows[0, :, 0].tolist() == [0, 0, 0, 0, 1]  # the first of equals stay


def test_released_bug_of_the_memory_bank():
    model = small(memory_class_bug=True)
    activations = model.eval()(*videos([5]))
    labels = torch.tensor([[False, True, True]])
    found = model.memories(activations, torch.tensor([0]), labels)
    assert found[0].classes == (0, 0)
    model.remember(found)
    assert model.memory_scores[0].all()
    assert not model.memory_scores[1:].any()
    once = model.memory_scores[0, 0]
    assert model.memory_scores[0, 1] == once  # merged once for each tag


def test_the_bank_is_saved():
    model, other = small(), small()
    model.memory_rows.normal_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.memory_rows, other.memory_rows)
