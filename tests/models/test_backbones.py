"""Backbones: what they share (padding, batches, noise, bad input), and each backbone's values by hand."""

import numpy as np
import pytest
import torch

from pyws.models import BM, RSKP, STPN, WUM, Averaged, FACNet, TwoStream, VideoBatch

D, K = 6, 3
BACKBONES = {
    "stpn": lambda: STPN(D, K),
    "stpn-plain": lambda: STPN(D, K, embedding=False),
    "bm": lambda: BM(D, K),
    "wum": lambda: WUM(D, K),
    "facnet": lambda: FACNet(D, K),
    "rskp": lambda: RSKP(D, K, components=4),
    "two-stream": lambda: TwoStream(STPN(2, K, embedding=False), STPN(4, K), weights=(0.35, 0.65)),
}
LENGTHS = (5, 1, 11)
SEEDS = torch.tensor([7, 8, 9])
LABELS = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]]).bool()


def build(name):
    torch.manual_seed(0)
    model = BACKBONES[name]().double()
    for name, parameter in model.named_parameters():
        if "bias" in name:  # zeros by initialisation would hide a bias at the wrong place
            torch.nn.init.normal_(parameter)
    return model


@pytest.fixture(params=BACKBONES)
def model(request):
    return build(request.param)


def padded(lengths=LENGTHS, extra=0):
    """Videos whose padding holds numbers that would show."""
    generator = torch.Generator().manual_seed(1)
    features = torch.full((len(lengths), max(lengths) + extra, D), 1e6, dtype=torch.float64)
    mask = torch.zeros(features.shape[:2], dtype=torch.bool)
    for i, length in enumerate(lengths):
        features[i, :length] = torch.randn(length, D, generator=generator, dtype=torch.float64)
        mask[i, :length] = True
    return features, mask


def one(i, features, mask):
    length = int(mask[i].sum())
    return features[i : i + 1, :length], mask[i : i + 1, :length]


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    mask = torch.tensor([[True] * 400, [True] * 100 + [False] * 300])
    batch = VideoBatch(torch.ones(2, 400, D), mask, SEEDS[:2], training=True)
    found = batch.dropout(torch.ones(500, 40), 0.3)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (found == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    alone = VideoBatch(torch.ones(1, 100, D), mask[1:, :100], SEEDS[1:2], training=True)
    assert torch.equal(alone.dropout(torch.ones(100, 40), 0.3), found[400:])


def weighted(activations):
    """One number a video that every output takes part in."""
    columns = sum(weight * values.square().sum((1, 2)) for weight, values in activations.logits)
    return activations.scores.sum(1) + activations.tcam.square().sum((1, 2)) + columns


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_equals_one_video_at_a_time(model, training):
    model.train(training)
    features, mask = padded(extra=4)
    activations = model(features, mask, SEEDS)
    for i, length in enumerate(LENGTHS):
        alone = model(*one(i, features, mask), SEEDS[i : i + 1])
        torch.testing.assert_close(activations.scores[i], alone.scores[0])
        torch.testing.assert_close(activations.tcam[i, :length], alone.tcam[0])
        assert not activations.tcam[i, length:].any()
        for (weight, columns), (weight_alone, columns_alone) in zip(activations.logits, alone.logits, strict=True):
            assert weight == weight_alone
            torch.testing.assert_close(columns[i, :length], columns_alone[0])
            assert not columns[i, length:].any()


def gradients(model, losses):
    parameters = list(model.parameters())
    return torch.autograd.grad(losses.sum(), parameters, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("epoch", [0, 150])
def test_gradients_of_a_batch_are_the_sum_over_its_videos(model, epoch):
    features, mask = padded(extra=2)
    activations, losses = model.loss(features, mask, LABELS, epoch, SEEDS)
    together = gradients(model, losses + weighted(activations))
    apart = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(len(LENGTHS)):
        activations, loss = model.loss(*one(i, features, mask), LABELS[i : i + 1], epoch, SEEDS[i : i + 1])
        torch.testing.assert_close(loss[0], losses[i])
        apart = [a + g for a, g in zip(apart, gradients(model, loss + weighted(activations)), strict=True)]
    for got, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(got, expected)
    assert all(g.abs().sum() > 0 for g in together)


def test_activations_have_their_ranges(model):
    activations = model.eval()(*padded())
    assert activations.scores.shape == (3, K)
    assert activations.tcam.shape[:2] == (3, 11)
    assert activations.tcam.shape[2] in (K, K + 1)
    for values in (activations.scores, activations.tcam):
        assert values.min() >= 0
        assert values.max() <= 1
    assert all(columns.shape == (3, 11, K + 1) for _, columns in activations.logits)
    assert sum(weight for weight, _ in activations.logits) == pytest.approx(1)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("stpn-plain", "bm")])
def test_noise_follows_the_seed_of_a_video(name):
    model = build(name)
    features, mask = padded((4, 4))
    features[1] = features[0]
    same = model(features, mask, torch.tensor([3, 3]))
    other = model(features, mask, torch.tensor([3, 4]))
    torch.testing.assert_close(same.tcam[0], same.tcam[1])
    assert not torch.equal(other.tcam[0], other.tcam[1])
    torch.manual_seed(5)
    model(features, mask, torch.tensor([3, 3]))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))  # torch's own generator is left alone


def test_evaluation_draws_nothing(model):
    features, mask = padded()
    model.eval()
    assert torch.equal(model(features, mask, SEEDS).tcam, model(features, mask).tcam)


def test_bad_input_is_named(model):
    features, mask = padded()
    name = type(model).__name__
    with pytest.raises(ValueError, match=f"{name}: features must"):
        model(features[..., :-1], mask)
    with pytest.raises(TypeError, match=f"{name}: mask must"):
        model(features, mask.long())
    with pytest.raises(ValueError, match=f"{name}: mask must show a snippet of every video, got none of video 1"):
        model(features, mask & torch.tensor([True, False, True])[:, None])
    with pytest.raises(ValueError, match=f"{name}: labels must tag every video, got none for video 2"):
        model.loss(features, mask, LABELS & torch.tensor([True, True, False])[:, None], 0)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "rskp"])
def test_backbones_without_memory_remember_nothing(name):
    model = build(name)
    activations = model(*padded())
    assert model.memories(activations, torch.arange(3), LABELS) == []
    model.remember([])
    model.forget()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    grown = np.exp(x - x.max(axis, keepdims=True))
    return grown / grown.sum(axis, keepdims=True)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def nce(probabilities, targets):
    return -(np.asarray(targets) / np.sum(targets) * np.log(probabilities)).sum()


def by_hand(model, length=4):
    """One video in evaluation mode: its features and weights as arrays, what the model says, and its loss."""
    features, mask = padded((length,))
    with torch.no_grad():
        activations, loss = model.eval().loss(features, mask, LABELS[1:2], 0)
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    return features[0].numpy(), weights, activations, loss.item()


def test_stpn_by_hand():
    model = STPN(D, K, embedding=False, sparsity=0.1).double()
    x, w, activations, loss = by_hand(model)
    hidden = np.maximum(x @ w["attention.0.weight"].T + w["attention.0.bias"], 0)
    attention = sigmoid(hidden @ w["attention.2.weight"].T + w["attention.2.bias"])
    video = (attention * x).mean(0) @ w["classifier.weight"].T + w["classifier.bias"]
    maps = x @ w["classifier.weight"].T
    y = LABELS[1].numpy()
    entropy = -np.where(y, np.log(sigmoid(video)), np.log(1 - sigmoid(video))).mean()
    np.testing.assert_allclose(activations.scores[0], sigmoid(video))
    np.testing.assert_allclose(activations.tcam[0], attention * sigmoid(maps))
    np.testing.assert_allclose(activations.logits[0][1][0], np.pad(maps, ((0, 0), (0, 1))))
    assert loss == pytest.approx(entropy + 0.1 * attention.sum())


def test_bm_by_hand():
    x, w, activations, loss = by_hand(build("bm"))
    hidden = np.maximum(x @ w["attention.0.weight"].T + w["attention.0.bias"], 0)
    attention = sigmoid(hidden @ w["attention.2.weight"].T + w["attention.2.bias"])
    logits = x @ w["classifier.weight"].T + w["classifier.bias"]
    pooled = np.stack(
        [(attention * x).sum(0) / (attention.sum() + 1), ((1 - attention) * x).sum(0) / (1 - attention).sum()]
    )
    classes = softmax(pooled @ w["classifier.weight"].T + w["classifier.bias"])
    clusters = softmax(pooled @ w["clusters.weight"].T)
    near = np.exp(-0.5 * np.subtract.outer(np.arange(4), np.arange(4)) ** 2)
    smooth = near / near.sum(1, keepdims=True) @ softmax(logits)
    guide = abs(attention[:, 0] - smooth[:, 1:3].max(1)) + abs(attention[:, 0] - (1 - smooth[:, 3]))
    expected = nce(classes[0], [0, 1, 1, 0]) + 0.03 * nce(classes[1], [0, 0, 0, 1]) + 0.1 * guide.mean()
    expected -= 0.1 * (np.log(clusters[0, 0]) + np.log(clusters[1, 1]))
    assert loss == pytest.approx(expected, rel=1e-5)  # the mean of background has 1e-6 in its denominator
    np.testing.assert_allclose(activations.scores[0], classes[0, :3])
    np.testing.assert_allclose(activations.tcam[0], 0.8 * attention * sigmoid(logits[:, :3]) + 0.2 * attention**2)
    joint = attention * softmax(logits)[:, :3]  # probability of each action; the rest of the probability is background
    joint = np.log(np.concatenate([joint, 1 - joint.sum(1, keepdims=True)], 1))
    np.testing.assert_allclose(activations.logits[0][1][0], joint, rtol=1e-6)


def test_pseudo_labels_train_the_attention_of_bm():
    model = build("bm")
    features, mask = padded()
    (weight, columns), *_ = model(features, mask).logits
    (weight * columns.log_softmax(2)[..., 0].sum()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.attention.parameters())


def test_wum_by_hand():
    model = WUM(D, K, margin=3.0, uncertainty=0.5, background=0.7).double()
    x, w, activations, loss = by_hand(model, length=9)
    around = np.stack([np.pad(x, ((1, 1), (0, 0)))[i : i + 9] for i in range(3)])
    embedded = np.maximum(np.einsum("kld,odk->lo", around, w["embedding.weight"]) + w["embedding.bias"], 0)
    logits = embedded @ w["classifier.weight"].T
    magnitude = np.linalg.norm(embedded, axis=1)
    action, rest = magnitude.argmax(), magnitude.argsort()[:2]
    scores, background = softmax(logits.max(0)), softmax(logits[rest].mean(0))

    def binary(p, y):
        return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()

    expected = binary(scores, np.array([0, 0.5, 0.5])) + 0.7 * binary(background, np.full(3, 1 / 3))
    small = np.linalg.norm(embedded[rest].mean(0))
    expected += 0.5 * (max(3 - magnitude[action], 0) + small) ** 2
    assert loss == pytest.approx(expected)
    quality = np.clip((magnitude - magnitude[rest].mean()) / (magnitude[action] - magnitude[rest].mean()), 0, 1)
    maps = softmax(logits) * quality[:, None]
    np.testing.assert_allclose(activations.scores[0], scores)
    np.testing.assert_allclose(activations.tcam[0], (maps - maps.min(0)) / (maps.max(0) - maps.min(0)), atol=1e-12)


def test_facnet_by_hand():
    model = FACNet(D, K, weights=(1.0, 0.3, 0.2)).double()
    x, w, activations, loss = by_hand(model)
    for i in range(2):
        x = np.maximum(x @ w[f"embedding.{i}.weight"].T + w[f"embedding.{i}.bias"], 0)
    scores = 5 * unit(x) @ unit(w["actions"]).T
    inside = 5 * unit(x) @ unit(w["foreground"])[0]
    wise, agnostic, instances = [], [], []
    for t in (1, 2, 5):
        by_class, by_foreground = softmax(t * scores, axis=0), softmax(t * inside)
        wise.append(unit(by_class.T @ x) @ unit(w["foreground"])[0])
        agnostic.append(unit(w["actions"]) @ unit(by_foreground @ x))
        instances.append((by_class * scores).sum(0))
    wise, agnostic, instances = np.mean(wise, 0), np.mean(agnostic, 0), np.mean(instances, 0)
    expected = nce(softmax(10 * wise), [0, 1, 1, 0]) + 0.3 * nce(softmax(10 * agnostic), [0, 1, 1, 0])
    assert loss == pytest.approx(expected + 0.2 * nce(softmax(2 * instances), [0, 1, 1, 1]))
    np.testing.assert_allclose(activations.scores[0], softmax(10 * agnostic)[:3])
    np.testing.assert_allclose(activations.tcam[0], softmax(scores))


@pytest.mark.parametrize("name", ["rskp", "wum"])
def test_backbones_with_an_actionness(name):
    activations = build(name).eval()(*padded(extra=2))
    assert activations.actionness.shape == (3, 13)
    assert 0 <= activations.actionness.min() <= activations.actionness.max() <= 1
    assert not activations.actionness[1, 1:].any()


@pytest.mark.parametrize("name", ["rskp", "facnet"])
def test_classes_and_background_share_the_score(name):
    activations = build(name).eval()(*padded())
    torch.testing.assert_close(activations.scores.sum(1) + activations.background, torch.ones(3).double())


@pytest.mark.parametrize("name", BACKBONES)
def test_a_mean_of_networks_is_the_mean_of_what_they_say(name):
    one, other = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    features, mask = padded()
    found, parts = Averaged([one, other], [0.75, 0.25])(features, mask), (one(features, mask), other(features, mask))
    for field in ("scores", "tcam", "background", "actionness"):
        value, each = getattr(found, field), [getattr(part, field) for part in parts]
        assert value is None if each[0] is None else torch.equal(value, 0.75 * each[0] + 0.25 * each[1])
    both = [(share * own, rows) for share, part in zip((0.75, 0.25), parts, strict=True) for own, rows in part.logits]
    assert [own for own, _ in found.logits] == [own for own, _ in both]
    assert all(torch.equal(rows, other) for (_, rows), (_, other) in zip(found.logits, both, strict=True))


@pytest.mark.parametrize("name", BACKBONES)
def test_scores_of_the_first_are_raised_and_never_lowered(name):
    first, *others = members = [build(name).eval() for _ in range(3)]
    with torch.no_grad():
        for factor, other in zip((1.5, -1.0), others, strict=True):
            for weight in other.parameters():
                weight.mul_(factor)
    features, mask = padded()
    shares, raises = [0.5, 0.25, 0.25], [0.0, 0.75, 0.25]
    found, mean = (Averaged(members, shares, each)(features, mask) for each in (raises, None))
    base, expected = first(features, mask).scores, []
    for place, score in enumerate(base.flatten().tolist()):
        each = [other(features, mask).scores.flatten()[place].item() for other in others]
        expected.append(score + sum(by * max(one - score, 0) for by, one in zip(raises[1:], each, strict=True)))
    torch.testing.assert_close(found.scores, torch.tensor(expected, dtype=base.dtype).view_as(base))
    assert (found.scores > base).any()
    assert torch.equal(found.tcam, mean.tcam)


@pytest.mark.parametrize("name", BACKBONES)
def test_segments_are_proposed_from_networks_with_a_share_of_a_mean(name):
    members = [build(name).eval() for _ in range(3)]
    features, mask = padded()
    found = Averaged(members, [0.75, 0.0, 0.25], pool=[2.0, 3.0, 1.5])(features, mask)
    expected = (((0.75, 2.0), members[0]), ((0.25, 1.5), members[2]))
    for (weights, tcam, actionness), (wanted, member) in zip(found.others, expected, strict=True):
        own = member(features, mask)
        assert weights == wanted
        assert torch.equal(tcam, own.tcam)
        assert actionness is own.actionness is None or torch.equal(actionness, own.actionness)
    assert torch.equal(found.tcam, Averaged(members, [0.75, 0.0, 0.25])(features, mask).tcam)
    assert Averaged(members, [0.75, 0.0, 0.25])(features, mask).others == ()
    assert Averaged(members, [1.0, 0.0, 0.0], pool=[2.0, 3.0, 1.5])(features, mask).others == ()


def test_bad_members_of_a_mean():
    with pytest.raises(ValueError, match=r"members must be of the same features and classes, got \[\]"):
        Averaged([])
    with pytest.raises(ValueError, match=r"got \[\(6, 3\), \(7, 3\)\]"):
        Averaged([STPN(6, 3), STPN(7, 3)])
    with pytest.raises(ValueError, match=r"shares must be one of each member, got 1 for 2"):
        Averaged([STPN(6, 3), STPN(6, 3)], [1.0])
    with pytest.raises(ValueError, match=r"raises must be one of each member, got 3 for 2"):
        Averaged([STPN(6, 3), STPN(6, 3)], raises=[0.0, 0.5, 0.5])


def test_quality_of_wum_rises_from_the_rest_to_the_action():
    batch = VideoBatch(torch.ones(1, 4, D), torch.ones(1, 4).bool())
    magnitude, rest, action = torch.tensor([[1.0, 2.0, 3.0, 5.0]]), torch.eye(4)[:1], torch.eye(4)[3:]
    found = WUM(D, K)._activations(magnitude, torch.zeros(1, 4, K + 1), batch, action, rest)
    assert found.actionness.tolist() == [[0.0, 0.25, 0.5, 1.0]]


def test_members_of_a_mean_count_alike_and_what_was_given_may_change() -> None:
    torch.manual_seed(0)
    members, given = [STPN(4, 3).eval() for _ in range(4)], [0.1, 0.2, 0.3, 0.4]
    assert Averaged(members).shares == [0.25] * 4
    averaged = Averaged(members, given)
    given[0] = 9.0
    assert averaged.shares == [0.1, 0.2, 0.3, 0.4]
