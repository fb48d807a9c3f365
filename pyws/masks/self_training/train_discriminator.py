"""The discriminator of cut-and-paste composites, trained by cross-fitting on the pseudo-annotations that it scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pyws.errors import check_fields
from pyws.masks.seeds import seed_of
from pyws.models.devices import on_device
from pyws.models.image_networks.discriminator import Norm, PatchDiscriminator
from pyws.progress import Pace

CHECK = 50  # steps between two measurements of the held-out loss
PATIENCE = 4  # measurements without a lower one, after which training ends
HELD_OUT = 10  # one in so many videos of a fold measures that loss
JITTER = 0.1  # largest change of brightness and contrast


@dataclass(frozen=True)
class DiscriminatorConfig:
    """How the discriminator is built and trained.

    Parameters
    ----------
    patch_size
        Side of its input in pixels
    width
        Channels of its first layer
    norm
        Normalisation of its layers: none, spectral (weights) or instance (features of a patch)
    folds
        1, or 2: the composites of each half of the videos are scored by a discriminator trained on the other half
    steps
        Maximum number of steps; training stops early where the held-out loss no longer falls
    batch
        Patches of a step, half of them real
    lr
        Learning rate of Adam
    smoothing
        Label smoothing: the target of real patches is 1 - smoothing
    threshold
        A composite passes above this score; at 0.5 it looks as real as the patch that it was cut from
    quantile
        Instead of the threshold: the share of the composites that pass, those with the highest scores
    min_auc
        Minimum area under the ROC curve of real patches against composites of videos that the discriminator was not
        trained on; below, it tells nothing, and the classifier alone decides where it is one of the tests
    """

    patch_size: int = 66
    width: int = 64
    norm: Norm = "none"
    folds: int = 2
    steps: int = 600
    batch: int = 64
    lr: float = 1e-3
    smoothing: float = 0.1
    threshold: float = 0.5
    quantile: float | None = None
    min_auc: float = 0.65

    def __post_init__(self) -> None:
        if self.folds not in (1, 2):
            raise ValueError(f"discriminator: folds must be 1 or 2, got {self.folds}")
        check_fields(self, "discriminator", ">= 1", "steps", "width", "patch_size")
        check_fields(self, "discriminator", ">= 2", "batch")
        check_fields(self, "discriminator", "> 0", "lr")
        check_fields(self, "discriminator", "in [0, 1]", "min_auc")
        check_fields(self, "discriminator", "in (-inf, inf)", "threshold")
        check_fields(self, "discriminator", "in [0, 1)", "smoothing")
        check_fields(self, "discriminator", "in (0, 1]", "quantile")


class CompositeScores(NamedTuple):
    """What :func:`score_composites` returns.

    Parameters
    ----------
    scores : (N,) float64 in (0, 1), sigmoid of the logit of each composite less that of the patch that it was cut from
    auc : how well the discriminators tell real patches from composites of videos that they were not trained on, in [0,
        1]; 0.5 is chance
    """

    scores: Tensor
    auc: float


Fresh = Callable[[int, Tensor], Tensor]
"""The epoch, and which of the samples (n,), to composites of them (n, 3, S, S) uint8 over backgrounds of that epoch."""


def score_composites(
    real: Tensor,
    pasted: Tensor,
    videos: Sequence[str],
    config: DiscriminatorConfig,
    seed: int,
    device: torch.device,
    fresh: Fresh | None = None,
    quiet: bool = True,
) -> CompositeScores:
    """How real each composite looks beside its own patch, to a discriminator that was not trained on it.

    What is in a patch moves the logit more than how it was cut; the difference of the two logits has nothing but the
    cut left.

    A discriminator memorises the composites that it was trained on and rejects them, however good they are. With two
    folds, each composite is scored by the discriminator trained on the other half of the videos.

    Parameters
    ----------
    real, pasted : (N, 3, S, S) uint8, the untouched patch and the composite of each sample
    videos : the video of each sample; one video alone is parted by samples
    config : configuration of the network and its training
    seed : seed of everything random
    device : where it is trained
    fresh : makes the composites of each epoch of the training; ``pasted`` again and again where it is left out, whose
        few backgrounds a discriminator learns by heart
    quiet : no progress
    """
    units = sorted(set(videos))
    of_unit = torch.tensor([units.index(video) for video in videos])
    if len(units) < 2:
        units, of_unit = [str(index) for index in range(len(videos))], torch.arange(len(videos))
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed_of(seed, "folds")))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(units))
    fold = place[of_unit] % config.folds
    logits = torch.zeros(2, len(real), dtype=torch.float64)
    pace = Pace("discriminators of composites", config.folds * config.steps, "at most", quiet)
    for number in range(config.folds):
        seen = fold != number if config.folds > 1 and len(units) > 1 else torch.ones_like(fold, dtype=torch.bool)
        rows, made = seen.nonzero()[:, 0], fresh or (lambda epoch, chosen: pasted[chosen])
        own_seed = seed_of(seed, "fold", number)
        model = _train(real[seen], pasted[seen], of_unit[seen], config, own_seed, device, _of_rows(made, rows), pace)
        scored = fold == number
        for kind, patches in enumerate((real, pasted)):
            logits[kind, scored] = _scores(model, patches[scored], config.batch, device).double()
    return CompositeScores((logits[1] - logits[0]).sigmoid(), auc(logits[0], logits[1]))


def _of_rows(fresh: Fresh, rows: Tensor) -> Fresh:
    """The same for samples that are some of all, counted among themselves."""
    return lambda epoch, chosen: fresh(epoch, rows[chosen])


def auc(positive: Tensor, negative: Tensor) -> float:
    """Probability that one of the positive scores (N,) is above one of the negative ones (M,), ties count half.

    Examples
    --------
    >>> auc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
    0.875
    """
    ordered = negative.sort().values
    below, up_to = (torch.searchsorted(ordered, positive, right=right) for right in (False, True))
    return float((below + up_to).double().mean() / (2 * len(negative)))


def _train(
    real: Tensor,
    pasted: Tensor,
    units: Tensor,
    config: DiscriminatorConfig,
    seed: int,
    device: torch.device,
    fresh: Fresh,
    pace: Pace,
) -> PatchDiscriminator:
    """The discriminator at its lowest held-out loss; the last one where there is a single unit to hold out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PatchDiscriminator(config.patch_size, config.width, config.norm).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, betas=(0.5, 0.999))
    numbers = units.unique()
    held = torch.isin(units, numbers[-max(1, len(numbers) // HELD_OUT) :]) & (len(numbers) > 1)
    best, state, stale = float("inf"), None, 0
    learned = (~held).nonzero()[:, 0]
    batches = _batches(len(learned), config.batch // 2, seed)
    for step in range(1, config.steps + 1):
        epoch, order, generator = next(batches)
        chosen = learned[order]
        _step(model, optimizer, real[chosen], fresh(epoch, chosen), config, generator, device)
        pace.step()
        pace.show(step, config.steps, {}, "step")
        if not held.any() or (step % CHECK and step < config.steps):
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


def _batches(count: int, size: int, seed: int) -> Iterator[tuple[int, Tensor, torch.Generator]]:
    """The epoch of each step, its samples, and what draws their augmentation."""
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(seed_of(seed, epoch))
        yield from ((epoch, chosen, generator) for chosen in torch.randperm(count, generator=generator).split(size))


def _step(
    model: PatchDiscriminator,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    pasted: Tensor,
    config: DiscriminatorConfig,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    """One step on samples as they are and pasted."""
    model.train()
    patches = _augment(torch.cat([real, pasted]).float() / 255, generator)
    target = torch.cat([torch.full((len(real),), 1 - config.smoothing), torch.zeros(len(real))])
    loss = functional.binary_cross_entropy_with_logits(model(on_device(patches, device)), on_device(target, device))
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
def _held_out_loss(model: PatchDiscriminator, real: Tensor, pasted: Tensor, batch: int, device: torch.device) -> float:
    model.eval()
    scores = torch.cat([_scores(model, real, batch, device), -_scores(model, pasted, batch, device)])
    return float(functional.softplus(-scores).mean())


@torch.no_grad()
def _scores(model: PatchDiscriminator, patches: Tensor, batch: int, device: torch.device) -> Tensor:
    parts = [model(on_device(part, device).float() / 255).cpu() for part in patches.split(batch)]
    return torch.cat(parts) if parts else torch.zeros(0)
