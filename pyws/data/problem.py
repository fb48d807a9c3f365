"""What is wrong with one video of a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something wrong with one video of a data set."""

    video: str
    rule: str
    """What must hold, and what was found."""
    fatal: bool = True
    """The video cannot be used; otherwise it is odd, and used all the same."""
    subset: str | None = None
    """Subset of the video, where it is known although its record cannot be read; the problem matters there alone."""

    def __str__(self) -> str:
        return f"video {self.video!r}: {self.rule}"
