"""Heads on frozen features: logistic regression, against its own optimality and against separable data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pyws.cli import main
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.masks.linear_head import fit_head, pooled, set_head
from pyws.models.classifiers import read_state
from pyws.models.image_networks.small2d import Small2D


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_heads_are_at_the_minimum(loss: str) -> None:
    """The gradient of the penalised loss, written out in NumPy on the scaled features, is zero."""
    random = np.random.default_rng(0)
    rows, classes = random.normal(3, 2, (40, 5)), random.integers(0, 3, 40)
    targets, weights = np.eye(3)[classes], random.uniform(0.5, 2, 40)
    layer = fit_head(*(torch.from_numpy(one) for one in (rows, targets, weights)), loss=loss, l2=0.1)
    spread = rows.std(0)
    scaled = (rows - rows.mean(0)) / spread
    matrix = layer.weight.detach().double().numpy() * spread
    scores = layer(torch.from_numpy(rows).float()).detach().double().numpy()
    share = weights / weights.sum()
    if loss == "ce":
        chance = np.exp(scores - scores.max(1, keepdims=True))
        errors = chance / chance.sum(1, keepdims=True) - targets
    else:
        errors = (1 / (1 + np.exp(-scores)) - targets) / 3
    np.testing.assert_allclose((share[:, None] * errors).sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((share[:, None] * errors).T @ scaled + 0.2 * matrix, 0, atol=1e-5)


def test_scale_and_constants_do_not_matter() -> None:
    random = np.random.default_rng(1)
    rows, targets = torch.from_numpy(random.normal(0, 1, (30, 4))), torch.eye(2)[torch.arange(30) % 2]
    scores = fit_head(rows, targets, torch.ones(30))(rows.float())
    other = torch.cat([1000 * rows + 5, torch.full((30, 1), 7.0)], 1)
    torch.testing.assert_close(fit_head(other, targets, torch.ones(30))(other.float()), scores, rtol=1e-3, atol=1e-3)


def test_heads_of_every_kind() -> None:
    layer = nn.Linear(4, 3)
    images, clips = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 2, 3, 3)
    for head, inputs in ((nn.Conv2d(4, 3, 1), images), (nn.Conv3d(4, 3, 1), clips)):
        set_head(head, layer)
        expected = head(inputs).flatten(2).mean(2)
        torch.testing.assert_close(layer(pooled(inputs, head)), expected, rtol=1e-4, atol=1e-5)
    tokens = torch.randn(2, 7, 4)
    torch.testing.assert_close(layer(pooled(tokens, layer)), layer(tokens).mean(1), rtol=1e-4, atol=1e-5)


def test_only_the_last_layer_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"frames": 10, "height": 24, "width": 32, "actor_size": (12.0, 16.0), "pan": 1.0}
    config = GeneratedConfig(**sizes, train=6, validation=0, test=2, pairs=(35, 39, 55, 59), several=0.5)
    write_generated_a2d(tmp_path / "set", seed=1, config=config, quiet=True)
    torch.manual_seed(0)
    pretrained = Small2D(5).state_dict()
    torch.save(pretrained, tmp_path / "w.pth")
    words = [
        "masks", "classify", tmp_path / "set", "--what", "actor", "--network", "small2d", "--short-side", 48,
        "--frozen-body", "-o",
    ]  # fmt: skip

    def run(name: str, *more: object) -> int:
        return main([str(word) for word in (*words, tmp_path / name, *more)])

    assert run("a.safetensors", "--weights", tmp_path / "w.pth", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(report["videos_by_class"].values()) == report["train_videos"]
    assert run("c.safetensors", "--weights", tmp_path / "w.pth", "--json", "--precision", "bfloat16") == 0
    assert json.loads(capsys.readouterr().out)["losses"] == pytest.approx(report["losses"], rel=0.02)
    assert run("b.safetensors", "--weights", tmp_path / "w.pth") == 0
    said = capsys.readouterr().out
    assert "warning: few videos to learn from, 10 and more of each are wanted" in said
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state = read_state(tmp_path / "a.safetensors")
    state = state[0] if isinstance(state, tuple) else state
    body = [name for name in state if state[name].shape == pretrained[name].shape]
    assert len(body) == len(state) - 2
    assert all(torch.equal(state[name], pretrained[name]) for name in body)
    for more, said in (
        ([], "frozen_body needs pretrained weights"),
        (["--weights", tmp_path / "w.pth", "--epochs", 3, "--lr", 0.1], "epochs, lr: only without frozen_body"),
    ):
        assert run("c.safetensors", *more) == 1
        assert said in capsys.readouterr().err
