"""Which videos of a data set of features a command works on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pyws.commands.common import Common

if TYPE_CHECKING:
    from pyws.data.features.dataset import FeatureSet


OnError = Literal["error", "skip"]


def one_subset(data: Path, subset: str | None, annotations: Path | None = None) -> str | None:
    """The subset that is meant; one must be named where there are several.

    Raises
    ------
    DataError : several subsets, none named
    """
    from pyws.data.features.layouts import list_features
    from pyws.errors import DataError

    if subset is None:
        known = sorted(set(list_features(data, annotations).subset))
        if len(known) > 1:
            raise DataError(data, f"has the subsets {', '.join(known)}: name one with --subset")
    return subset


def say_doubts(doubts: Iterable[str]) -> None:
    """Warnings of a data set, each once, on standard error, also where nothing else is said."""
    for doubt in dict.fromkeys(doubts):
        print(f"warning: {doubt}", file=sys.stderr)


def rate_of(given: float | None, note: Mapping[str, Any] = MappingProxyType({})) -> float:
    """Snippets a second: as given, as a file of detections notes it, or else those of the literature, which is said."""
    from pyws.data.features.listing import SNIPPETS_PER_SECOND

    noted = note.get("snippets_per_second")
    if given is not None:
        return given
    if isinstance(noted, (int, float)) and 0 < noted < float("inf"):
        return float(noted)
    say_doubts([f"nothing says how many snippets a second has: {SNIPPETS_PER_SECOND:g} is ASSUMED (25 frames a second,"
                " 16 a snippet); --snippets-per-second says another"])  # fmt: skip
    return SNIPPETS_PER_SECOND


def say_skipped(common: Common, *sets: FeatureSet | None) -> None:
    """Say what is in doubt of the sets, and name the videos that were left out."""
    opened = [one for one in sets if one is not None]
    say_doubts(doubt for one in opened for doubt in one.doubts)
    for one in opened:
        if one.skipped:
            common.say(f"left out {len(one.skipped)} of {len(one) + len(one.skipped)} videos:")
            for problem in one.skipped:
                common.say(f"  {problem}")
