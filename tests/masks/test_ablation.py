"""The tables of actors and actions, and networks that see clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pyws.cli import main
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.masks.self_training.train_segmentation import cross_entropy
from pyws.models.image_networks.deeplab import build_deeplab

pytest.importorskip("h5py")


def test_ablation_of_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First masks of actors and of both are rows; so are presets, and tables have actions after alignment."""
    sizes: Any = {"frames": 6, "height": 24, "width": 32, "actor_size": (12.0, 16.0), "pan": 1.0}
    config = GeneratedConfig(**sizes, train=5, validation=0, test=2, pairs=(35, 39, 55, 59), several=0.0)
    write_generated_a2d(tmp_path / "set", seed=1, config=config, quiet=True)
    for what, network in (("actor", "small2d"), ("action", "small3d")):
        words = ["masks", "classify", "set", "-o", f"{what}.safetensors", "--what", what, "--network", network]
        words += ["--epochs", 1, "--short-side", 24, "--quiet", *(("--frames", 4) if what == "action" else ())]
        assert run_in(tmp_path, words) == 0
    for name, kinds in (("actors", ("actor",)), ("actions", ("action",)), ("both", ("actor", "action"))):
        words = ["masks", "init", "--data", "set", "--subset", "train", "-o", name, "--region-area", 40, "--quiet"]
        for kind in kinds:
            words += [f"--{kind}-classifier", f"{kind}.safetensors"]
        assert run_in(tmp_path, words) == 0
    words = [
        "masks",
        "ablate",
        "set",
        "both",
        "actions",
        "-o",
        "tables",
        "--seeds",
        0,
        "--variants",
        "baseline",
        "pyws",
    ]
    words += ["--classifier-weights", "actor.safetensors", "--classifier-size", 24, "--crop", 24, "--batch", 4]
    words += [
        "--max-epoch",
        2,
        "--max-versions",
        1,
        "--clip-frames",
        3,
        "--backbone",
        "small2d",
        "--every",
        2,
        "--json",
    ]
    assert run_in(tmp_path, words) == 0
    found = json.loads(capsys.readouterr().out)
    rows = [row[0] for row in found["tables"][0]["rows"]]
    assert rows == ["Baseline, both", "preset pyws, both", "Baseline, actions"]  # no image classifier of actions
    assert "aligned, action" in found["tables"][0]["columns"]
    assert [row[0] for row in found["tables"][2]["rows"]][-1] == "Baseline, actions v0, aligned"
    by_criterion = found["tables"][3]["rows"]
    assert [row[0] for row in by_criterion[:3]] == [
        f"Baseline, both v0, by {choice}" for choice in ("RIC", "mIoU_PA", "the last epoch")
    ]  # one training, three epochs of it
    assert len(by_criterion) == 9
    assert (tmp_path / "tables/versions/both-pyws-0.jpg").is_file()


def run_in(folder: Path, words: list[Any]) -> int:
    """A command of pyws whose paths are relative to a folder."""
    return main([str(folder / word) if (folder / str(word)).exists() or word in NEW else str(word) for word in words])


NEW = {"actor.safetensors", "action.safetensors", "actors", "actions", "both", "tables"}


def test_a_network_that_sees_clips_learns_what_moves() -> None:
    """Two discs that look alike, one of which moves: a frame cannot tell them apart, a clip can."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")

    def clip() -> tuple[torch.Tensor, torch.Tensor]:
        row, side = 16 + 6 * torch.rand(1, generator=generator) - 3, int(torch.rand(1, generator=generator) < 0.5)
        noise = 0.02 * torch.rand(3, 32, 64, generator=generator)
        discs = [
            [(y - row - 3 * step * (k == side)) ** 2 + (x - 16 - 32 * k) ** 2 < 49 for k in (0, 1)]
            for step in (-1, 0, 1)
        ]
        frames = [(one | other).float() * 0.5 + noise for one, other in discs]
        still, moving = discs[1][1 - side], discs[1][side]
        return torch.cat(frames), torch.where(moving, 2, torch.where(still, 1, 0))

    images, targets = (torch.stack(part) for part in zip(*(clip() for _ in range(24)), strict=True))
    right = []
    for frames in (1, 3):
        torch.manual_seed(0)
        model = build_deeplab("small2d", 3, clip_frames=frames, rates=(1,), frozen_norm=False)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        seen = images if frames == 3 else images[:, 3:6]
        for _ in range(50):
            optimizer.zero_grad()
            cross_entropy(model(seen[:16]), targets[:16]).backward()
            optimizer.step()
        with torch.no_grad():
            found, wanted = model.eval()(seen[16:]).argmax(1), targets[16:]
        right.append(float((found == wanted)[wanted > 0].double().mean()))
    assert right[0] < 0.7 < 0.85 < right[1]
