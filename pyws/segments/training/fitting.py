"""Learning rate, batch and length of a run by the width of the features and the number of videos."""

from __future__ import annotations

from dataclasses import replace

from pyws.segments.config import OptimConfig, TrainConfig

# Width of I3D's joint features, videos of THUMOS14's training set, which the backbones are published for.
WIDTH, VIDEOS = 2048, 200
_MAX_LR, _MIN_EPOCHS, _STEPS = 3e-3, 50, 2


def fitted(config: TrainConfig, optim: OptimConfig, width: int, videos: int) -> TrainConfig:
    """The configuration with a learning rate, batch and number of epochs where it has none.

    With ``config.fit`` the published learning rate grows as features become narrower, in inverse proportion, up to
    0.003: weights of a layer with fewer inputs need larger steps for the same change of its outputs. A batch is small
    enough for two steps an epoch. The run is as long as learning rate times steps is as published, at least 50 epochs.
    Otherwise, and for features of the published width and number, all is as published.

    Examples
    --------
    >>> published = OptimConfig(lr=5e-5)
    >>> run = fitted(TrainConfig(fit=True), published, width=64, videos=56)
    >>> run.lr, run.batch, run.epochs
    (0.0016, 10, 50)
    >>> run = fitted(TrainConfig(fit=True), published, width=2048, videos=200)
    >>> run.lr, run.batch, run.epochs
    (5e-05, 10, 350)
    """
    published = config.schedule.epochs_for(optim.epochs)
    if not config.fit:
        return replace(config, epochs=published if config.epochs is None else config.epochs)
    lr, batch, epochs = config.lr, config.batch, config.epochs
    if lr is None:
        lr = max(optim.lr, min(optim.lr * WIDTH / width, _MAX_LR)) if width < WIDTH else optim.lr * WIDTH / width
    if batch is None:
        batch = min(optim.batch, max(1, videos // _STEPS))
    if epochs is None:
        steps = published * -(-VIDEOS // optim.batch) * optim.lr / lr
        epochs = min(published, max(_MIN_EPOCHS, round(steps / -(-videos // batch))))
    return replace(config, lr=lr, batch=batch, epochs=epochs)


def sentence(config: TrainConfig, optim: OptimConfig, width: int, videos: int) -> str:
    """What is trained with, for people.

    Examples
    --------
    >>> sentence(TrainConfig(fit=True), OptimConfig(lr=5e-5), width=64, videos=56)
    'learning rate 0.0016, 10 videos a step, 50 epochs: for 56 videos and features of width 64'
    """
    run = fitted(config, optim, width, videos)
    lr = optim.lr if run.lr is None else run.lr
    batch = optim.batch if run.batch is None else run.batch
    why = f"for {videos} videos and features of width {width}" if config.fit else "as published where not given"
    return f"learning rate {lr:g}, {batch} videos a step, {run.epochs} epochs: {why}"
