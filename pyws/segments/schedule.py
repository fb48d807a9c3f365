"""What happens at which epoch: warm-up, renewals of the pseudo labels, their targets and weights, learning rates.

Schedules are written for a run of 350 epochs, of which the first 200 are the host's own recipe, and stretch with any
other number of epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

BASE_EPOCHS = 350  # of the released run; every schedule below is written for this many


@dataclass(frozen=True)
class Target:
    """What is trained on from an epoch on: the latest pseudo labels, or how they differ from those before."""

    first: int
    scale: float = 1.0
    delta: bool = False


@dataclass(frozen=True)
class Schedule:
    """Events by epoch, counted from 0.

    Parameters
    ----------
    epochs : of the run
    host_epochs : how many of them are the host's own recipe, before the first pseudo labels
    generations : pseudo labels are renewed before each of these epochs is trained
    temperatures : of the fusion, one for each generation
    targets : what is trained on, by first epoch; before the first nothing is
    weight, growth, cap : of the distribution loss: ``min(cap, weight * growth ** (epoch - generations[0]))``
    rates : (first epoch, factor of the learning rate)

    Raises
    ------
    ValueError : epochs that do not rise or lie outside the run, a number of temperatures that does not fit

    Examples
    --------
    >>> SCHEDULES["released"].generations
    (200, 230, 245, 260, 275, 300)
    >>> SCHEDULES["released"].stretched(70).generations
    (40, 46, 49, 52, 55, 60)
    """

    epochs: int = BASE_EPOCHS
    host_epochs: int = 200
    generations: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()
    targets: tuple[Target, ...] = ()
    weight: float = 10.0
    growth: float = 1.035
    cap: float = 50.0
    rates: tuple[tuple[int, float], ...] = ((0, 1.0),)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"schedule: epochs must be 1 or more, got {self.epochs}")
        if len(self.temperatures) != len(self.generations):
            counts = f"{len(self.temperatures)} for {len(self.generations)}"
            raise ValueError(f"schedule: temperatures must be one for each generation, got {counts}")
        firsts = {"generations": self.generations, "targets": tuple(target.first for target in self.targets)}
        for name, epochs in (*firsts.items(), ("rates", tuple(first for first, _ in self.rates))):
            if any(late <= early for early, late in zip((-1, *epochs), epochs, strict=False)):
                raise ValueError(f"schedule: {name} must begin at rising epochs from 0 on, got {epochs}")
        if self.generations and self.generations[-1] >= self.epochs:
            raise ValueError(f"schedule: generations must be below {self.epochs} epochs, got {self.generations}")

    def temperature(self, epoch: int) -> float | None:
        """Of the generation before this epoch; None where pseudo labels are not renewed."""
        return self.temperatures[self.generations.index(epoch)] if epoch in self.generations else None

    def target(self, epoch: int) -> Target | None:
        """What this epoch is trained on beside the tags."""
        return next((target for target in reversed(self.targets) if target.first <= epoch), None)

    def loss_weight(self, epoch: int) -> float:
        """Weight of the distribution loss; 0 where there is no target."""
        if self.target(epoch) is None or not self.generations:
            return 0.0
        return min(self.cap, self.weight * self.growth ** (epoch - self.generations[0]))

    def rate(self, epoch: int) -> float:
        """Factor of the learning rate."""
        return next(factor for first, factor in reversed(self.rates) if first <= epoch)

    def stretched(self, epochs: int) -> Schedule:
        """The same course over another number of epochs; of events that fall together the last one stays."""
        if epochs == self.epochs:
            return self

        def at(epoch: int) -> int:
            return min(math.floor(epoch * epochs / self.epochs + 0.5), epochs - 1)

        renewals = {at(epoch): heat for epoch, heat in zip(self.generations, self.temperatures, strict=True)}
        targets = {at(target.first): replace(target, first=at(target.first)) for target in self.targets}
        rates = {at(first): factor for first, factor in self.rates}
        return replace(
            self,
            epochs=epochs,
            host_epochs=max(1, at(self.host_epochs)) if self.host_epochs < self.epochs else epochs,
            generations=tuple(renewals),
            temperatures=tuple(renewals.values()),
            targets=tuple(targets.values()),
            growth=self.growth ** (self.epochs / epochs),
            rates=tuple(rates.items()),
        )

    def epochs_for(self, host_epochs: int) -> int:
        """Of a run in which the host's own recipe of this many epochs has its share."""
        return max(1, round(host_epochs * self.epochs / self.host_epochs))


# The released code: six generations, the third to sixth at a tenth of the temperature and less; the latest labels as
# they are until 250, then their differences, scaled; a learning rate that ends at 1/200 of its beginning.
_RELEASED = Schedule(
    generations=(200, 230, 245, 260, 275, 300),
    temperatures=(0.02, 0.02, 0.02, 0.002, 0.002, 0.0016),
    targets=(Target(201), Target(251, 2.0, delta=True), Target(301, 2.15, delta=True)),
    rates=((0, 1.0), (80, 0.8), (200, 0.41), (245, 0.01024), (260, 0.00512)),  # 5e-5 down to 2.56e-7
)

# The paper: epochs and temperature of its section 4.2. It does not say when differences begin (here with the second
# generation, the first that has one) nor the weight of the loss (here the released one).
_PAPER = Schedule(
    generations=(200, 215, 230, 245, 270, 290),
    temperatures=(0.1,) * 6,
    targets=(Target(200), Target(215, 1.0, delta=True)),
)

# Ours: the labels themselves throughout, at the learning rate of the warm-up; docs/segments.md has what speaks for it.
_PYWS = replace(_RELEASED, temperatures=(0.1,) * 6, targets=(Target(200),), rates=((0, 1.0), (80, 0.8)))

SCHEDULES = {
    "host": Schedule(epochs=200, host_epochs=200),
    "paper": _PAPER,
    "released": _RELEASED,
    "pyws": _PYWS,
}
