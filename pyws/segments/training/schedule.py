"""What happens at which epoch: warm-up, rounds of pseudo labels, their targets and weights, learning rates.

Schedules are written for a run of 350 epochs, of which the first 200 are the backbone's own training, and stretch with
any other number of epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

BASE_EPOCHS = 350  # epochs of the released run; every schedule below is written for this many


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
    epochs : epochs of the run
    backbone_epochs : how many of them are the backbone's own training, before the first round
    rounds : pseudo labels are made anew before each of these epochs is trained
    temperatures : temperatures of the fusion, one for each round
    targets : what is trained on, by first epoch; before the first nothing is
    weight, growth, cap : weight, growth and cap of the distribution loss: ``min(cap, weight * growth ** (epoch -
        rounds[0]))``
    rates : (first epoch, factor of the learning rate)

    Raises
    ------
    ValueError : epochs that do not rise or lie outside the run, a number of temperatures that does not fit

    Examples
    --------
    >>> SCHEDULES["released"].rounds
    (200, 230, 245, 260, 275, 300)
    >>> SCHEDULES["released"].stretched(70).rounds
    (40, 46, 49, 52, 55, 60)
    """

    epochs: int = BASE_EPOCHS
    backbone_epochs: int = 200
    rounds: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()
    targets: tuple[Target, ...] = ()
    weight: float = 10.0
    growth: float = 1.035
    cap: float = 50.0
    rates: tuple[tuple[int, float], ...] = ((0, 1.0),)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"schedule: epochs must be 1 or more, got {self.epochs}")
        if len(self.temperatures) != len(self.rounds):
            counts = f"{len(self.temperatures)} for {len(self.rounds)}"
            raise ValueError(f"schedule: temperatures must be one for each round, got {counts}")
        firsts = {"rounds": self.rounds, "targets": tuple(target.first for target in self.targets)}
        for name, epochs in (*firsts.items(), ("rates", tuple(first for first, _ in self.rates))):
            if any(late <= early for early, late in zip((-1, *epochs), epochs, strict=False)):
                raise ValueError(f"schedule: {name} must begin at rising epochs from 0 on, got {epochs}")
        if self.rounds and self.rounds[-1] >= self.epochs:
            raise ValueError(f"schedule: rounds must be below {self.epochs} epochs, got {self.rounds}")

    def temperature(self, epoch: int) -> float | None:
        """Temperature of the round before this epoch; None where there is none."""
        return self.temperatures[self.rounds.index(epoch)] if epoch in self.rounds else None

    def target(self, epoch: int) -> Target | None:
        """What this epoch is trained on beside the tags."""
        return next((target for target in reversed(self.targets) if target.first <= epoch), None)

    def loss_weight(self, epoch: int) -> float:
        """Weight of the distribution loss; 0 where there is no target."""
        if self.target(epoch) is None or not self.rounds:
            return 0.0
        return min(self.cap, self.weight * self.growth ** (epoch - self.rounds[0]))

    def rate(self, epoch: int) -> float:
        """Factor of the learning rate."""
        return next(factor for first, factor in reversed(self.rates) if first <= epoch)

    def stretched(self, epochs: int) -> Schedule:
        """The same schedule over another number of epochs; of events that fall together the last one stays."""
        if epochs == self.epochs:
            return self

        def at(epoch: int) -> int:
            return min(math.floor(epoch * epochs / self.epochs + 0.5), epochs - 1)

        rounds = {at(epoch): heat for epoch, heat in zip(self.rounds, self.temperatures, strict=True)}
        targets = {at(target.first): replace(target, first=at(target.first)) for target in self.targets}
        rates = {at(first): factor for first, factor in self.rates}
        return replace(
            self,
            epochs=epochs,
            backbone_epochs=max(1, at(self.backbone_epochs)) if self.backbone_epochs < self.epochs else epochs,
            rounds=tuple(rounds),
            temperatures=tuple(rounds.values()),
            targets=tuple(targets.values()),
            growth=self.growth ** (self.epochs / epochs),
            rates=tuple(rates.items()),
        )

    def epochs_for(self, backbone_epochs: int) -> int:
        """Epochs of a run in which the backbone's own training of this many epochs has its share."""
        return max(1, round(backbone_epochs * self.epochs / self.backbone_epochs))


# The released code: six rounds, the third to sixth at a tenth of the temperature and less; the latest labels as
# they are until 250, then their differences, scaled; a learning rate that ends at 1/200 of its beginning.
_RELEASED = Schedule(
    rounds=(200, 230, 245, 260, 275, 300),
    temperatures=(0.02, 0.02, 0.02, 0.002, 0.002, 0.0016),
    targets=(Target(201), Target(251, 2.0, delta=True), Target(301, 2.15, delta=True)),
    rates=((0, 1.0), (80, 0.8), (200, 0.41), (245, 0.01024), (260, 0.00512)),  # 5e-5 down to 2.56e-7
)

# The paper: epochs and temperature of its section 4.2. It does not say when differences begin (here with the second
# round, the first that has one) nor the weight of the loss (here the released one).
_PAPER = Schedule(
    rounds=(200, 215, 230, 245, 270, 290),
    temperatures=(0.1,) * 6,
    targets=(Target(200), Target(215, 1.0, delta=True)),
)

# Ours: the labels themselves throughout, at the learning rate of the warm-up;
# docs/results/segments/parts-of-gaufuse.md has what speaks for it.
_PYWS = replace(_RELEASED, temperatures=(0.2,) * 6, targets=(Target(200),), rates=((0, 1.0), (80, 0.8)))

SCHEDULES = {
    "baseline": Schedule(epochs=200, backbone_epochs=200),
    "paper": _PAPER,
    "released": _RELEASED,
    "pyws": _PYWS,
}
