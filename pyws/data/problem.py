"""What is wrong with one video of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Something wrong with one video of a data set.

    Parameters
    ----------
    rule : what must hold, and what was found
    fatal : the video cannot be used; otherwise it is odd, and used all the same
    subset : subset of the video, where it is known although its record cannot be read; the problem matters there alone
    """

    video: str
    rule: str
    fatal: bool = True
    subset: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"video": self.video, "unusable": self.fatal, "rule": self.rule}

    def __str__(self) -> str:
        return f"video {self.video!r}: {self.rule}"
