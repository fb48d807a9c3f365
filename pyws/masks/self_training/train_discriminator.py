"""The discriminator of cut-and-paste composites, trained by cross-fitting on the pseudo-annotations that it scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pyws.models.discriminator import Discriminator, Norm

PATIENCE = 2  # epochs without a lower held-out loss, after which training ends
HELD_OUT = 10  # one in so many videos of a fold measures that loss
JITTER = 0.1  # largest change of brightness and contrast


@dataclass(frozen=True)
class DiscriminatorConfig:
    """How the discriminator is built and trained."""

    patch_size: int = 66
    """Side of its input in pixels."""
    width: int = 64
    """Channels of its first layer."""
    norm: Norm = "none"
    """Normalisation of its layers: none, spectral (weights) or instance (features of a patch)."""
    folds: int = 2
    """1, or 2: the composites of each half of the videos are scored by a discriminator trained on the other half."""
    epochs: int = 10
    """Maximum number of epochs; training stops early at the lowest held-out loss."""
    batch: int = 64
    """Patches of a step, half of them real."""
    lr: float = 2e-4
    """Learning rate of Adam."""
    smoothing: float = 0.1
    """Label smoothing: the target of real patches is 1 - smoothing."""
    threshold: float = 0.5
    """A composite passes above this probability of being real."""
    quantile: float | None = None
    """Instead of the threshold: the share of the composites that pass, those with the highest probabilities."""

    def __post_init__(self) -> None:
        if self.folds not in (1, 2):
            raise ValueError(f"discriminator: folds must be 1 or 2, got {self.folds}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"discriminator: epochs must be >= 1 and batch >= 2, got {self.epochs} and {self.batch}")
        if self.quantile is not None and not 0 < self.quantile <= 1:
            raise ValueError(f"discriminator: quantile must be in (0, 1], got {self.quantile}")


def seed_of(*parts: object) -> int:
    """A seed that depends on nothing but what is named, so that an interrupted run goes on with the same numbers.

    Examples
    --------
    >>> seed_of(0, "epoch", 3) == seed_of(0, "epoch", 3) != seed_of(0, "epoch", 4)
    True
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def score_composites(
    real: Tensor, pasted: Tensor, videos: Sequence[str], config: DiscriminatorConfig, seed: int, device: torch.device
) -> Tensor:
    """Probability that each composite is real, by a discriminator that was not trained on it.

    A discriminator memorises the composites that it was trained on and rejects them, however good they are. With two
    folds, each composite is scored by the discriminator trained on the other half of the videos.

    Parameters
    ----------
    real, pasted : (N, 3, S, S) uint8, the untouched patch and the composite of each sample
    videos : the video of each sample; one video alone is parted by samples
    config : of the network and its training
    seed : of everything random
    device : where it is trained

    Returns
    -------
    (N,) float64, probabilities of being real
    """
    units = sorted(set(videos))
    of_unit = torch.tensor([units.index(video) for video in videos])
    if len(units) < 2:
        units, of_unit = [str(index) for index in range(len(videos))], torch.arange(len(videos))
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed_of(seed, "folds")))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(units))
    fold = place[of_unit] % config.folds
    scores = torch.zeros(len(real), dtype=torch.float64)
    for number in range(config.folds):
        seen = fold != number if config.folds > 1 and len(units) > 1 else torch.ones_like(fold, dtype=torch.bool)
        model = _train(real[seen], pasted[seen], of_unit[seen], config, seed_of(seed, "fold", number), device)
        scored = fold == number
        scores[scored] = _scores(model, pasted[scored], config.batch, device).sigmoid().double()
    return scores


def _train(
    real: Tensor, pasted: Tensor, units: Tensor, config: DiscriminatorConfig, seed: int, device: torch.device
) -> Discriminator:
    """The discriminator at its lowest held-out loss; the last one where there is a single unit to hold out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Discriminator(config.patch_size, config.width, config.norm).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, betas=(0.5, 0.999))
    numbers = units.unique()
    held = torch.isin(units, numbers[-max(1, len(numbers) // HELD_OUT) :]) & (len(numbers) > 1)
    best, state, stale = float("inf"), None, 0
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(seed_of(seed, epoch))
        _epoch(model, optimizer, real[~held], pasted[~held], config, generator, device)
        if not held.any():
            continue
        loss = _held_out_loss(model, real[held], pasted[held], config.batch, device)
        if loss < best:
            best, stale = loss, 0
            state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            stale += 1
            if stale == PATIENCE:
                break
    if state is not None:
        model.load_state_dict(state)
    return model.eval()


def _epoch(
    model: Discriminator,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    pasted: Tensor,
    config: DiscriminatorConfig,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    """Every sample once, as it is and pasted."""
    model.train()
    for chosen in torch.randperm(len(real), generator=generator).split(config.batch // 2):
        patches = _augment(torch.cat([real[chosen], pasted[chosen]]).float() / 255, generator)
        target = torch.cat([torch.full((len(chosen),), 1 - config.smoothing), torch.zeros(len(chosen))])
        loss = functional.binary_cross_entropy_with_logits(model(patches.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _augment(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the patches; change brightness and contrast of each a little."""
    mirrored, bright, contrast = torch.rand(3, len(patches), 1, 1, 1, generator=generator)
    patches = torch.where(mirrored < 0.5, patches.flip(3), patches)
    mean = patches.mean((1, 2, 3), keepdim=True)
    scale = 1 + JITTER * (2 * contrast - 1)
    return ((patches - mean) * scale + mean * (1 + JITTER * (2 * bright - 1))).clamp(0, 1)


@torch.no_grad()
def _held_out_loss(model: Discriminator, real: Tensor, pasted: Tensor, batch: int, device: torch.device) -> float:
    model.eval()
    scores = torch.cat([_scores(model, real, batch, device), -_scores(model, pasted, batch, device)])
    return float(functional.softplus(-scores).mean())


@torch.no_grad()
def _scores(model: Discriminator, patches: Tensor, batch: int, device: torch.device) -> Tensor:
    parts = [model(part.to(device).float() / 255).cpu() for part in patches.split(batch)]
    return torch.cat(parts) if parts else torch.zeros(0)
