"""What every command shares: its common options, and how it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: bool = False
    """Print one JSON document on standard output and nothing else there."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same numbers."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    quiet: bool = False
    """No progress and no tables."""

    def say(self, text: Any) -> None:
        """Print text or a rich table for a person; silent with --json or --quiet."""
        if not (self.json or self.quiet):
            from rich.console import Console

            Console(highlight=False, soft_wrap=True, markup=False).print(text)

    @property
    def torch_device(self) -> Any:
        """The device that the option means."""
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"--device: no CUDA device is available, got {self.device}")
        return device


def only_with(what: str, there: bool, options: Mapping[str, bool]) -> None:
    """Refuse options that would do nothing.

    Parameters
    ----------
    what : what they need
    there : whether it is there
    options : their names, and whether they were given

    Examples
    --------
    >>> only_with("--data", False, {"subset": True})
    Traceback (most recent call last):
        ...
    ValueError: --subset: only with --data
    """
    given = [f"--{name}" for name, is_given in options.items() if is_given]
    if given and not there:
        raise ValueError(f"{', '.join(given)}: only with {what}")


CommonOptions = Annotated[Common, tyro.conf.arg(name="")]
