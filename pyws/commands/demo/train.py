"""The demo's classifier: a small 3D network that learns actors and actions from the tags of synthetic clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.commands.demo.config import DemoConfig
from pyws.data.synthetic.clips import ACTIONS, ACTORS, Clip, make_clip
from pyws.models.video_networks.small3d import Small3D
from pyws.progress import track


@dataclass(frozen=True)
class Trained:
    """The classifier, what its training was like, and how often it is right on clips that it has not seen."""

    model: Small3D
    losses: list[float]  # mean of each epoch
    actor_accuracy: float
    action_accuracy: float

    def results(self) -> dict[str, Any]:
        """The numbers, for the manifest."""
        return {
            "losses": [round(loss, 6) for loss in self.losses],
            "actor_accuracy": self.actor_accuracy,
            "action_accuracy": self.action_accuracy,
        }


def draw_clips(config: DemoConfig, seed: int, quiet: bool) -> list[Clip]:
    """The clips to train on, followed by those held out."""
    indices = range(config.clips + config.held_out)
    return [
        make_clip(seed, index, config.frames, config.scene)
        for index in track(indices, "drawing synthetic clips", quiet=quiet)
    ]


def as_input(frames: np.ndarray, device: torch.device) -> Tensor:
    """(B, T, H, W, 3) uint8 frames to what the classifier reads, (B, 3, T, H, W) in [0, 1]."""
    return torch.from_numpy(frames).to(device).permute(0, 4, 1, 2, 3).float() / 255


def train(clips: list[Clip], config: DemoConfig, seed: int, device: torch.device, quiet: bool) -> Trained:
    """Learn from the tags of the first ``config.clips`` clips; nothing here sees a mask."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    frames = np.stack([clip.frames for clip in clips])
    tags = torch.tensor([[ACTORS.index(clip.actor), ACTIONS.index(clip.action)] for clip in clips], device=device)
    model = Small3D(len(ACTORS) + len(ACTIONS), config.width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * -(-config.clips // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
    losses: list[float] = []
    model.train()
    for batch in track(_batches(config, random), "training from tags only", total=steps, quiet=quiet):
        inputs = as_input(frames[batch.numpy()], device)
        for axis in (2, 4):  # time and width: every action stays what it is when played backwards or mirrored
            if torch.rand((), generator=random) < 0.5:
                inputs = inputs.flip(axis)
        loss = _loss(model(inputs), tags[batch.to(device)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    right = _right(model.eval(), frames[config.clips :], tags[config.clips :], config.batch)
    epochs = np.array(losses).reshape(config.epochs, -1).mean(1)
    return Trained(model, epochs.tolist(), float(right[0]), float(right[1]))


def _batches(config: DemoConfig, random: torch.Generator) -> Iterator[Tensor]:
    for _ in range(config.epochs):
        yield from torch.randperm(config.clips, generator=random).split(config.batch)


def _loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Cross entropy of the actor and of the action: one network, two questions."""
    actor, action = logits.split([len(ACTORS), len(ACTIONS)], 1)
    return functional.cross_entropy(actor, tags[:, 0]) + functional.cross_entropy(action, tags[:, 1])


@torch.inference_mode()
def _right(model: Small3D, frames: np.ndarray, tags: Tensor, batch: int) -> Tensor:
    """Share of clips whose actor, and whose action, the model names."""
    parts = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    logits = torch.cat([model(as_input(part, tags.device)) for part in parts])
    actor, action = logits.split([len(ACTORS), len(ACTIONS)], 1)
    return (torch.stack([actor.argmax(1), action.argmax(1)], 1) == tags).double().mean(0)
