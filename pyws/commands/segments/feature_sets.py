"""Which videos of a data set of features a command works on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


def say_skipped(common: Common, *sets: FeatureSet | None) -> None:
    """Name the videos that were left out, a rate that is only assumed, and features that look transposed.

    The last two are said also where nothing else is.
    """
    for one in sets:
        if one is not None and one.rate_is_assumed:
            rule = (
                f"nothing says how many snippets a second has: {one.snippets_per_second:g} is ASSUMED, and all seconds"
            )
            print(f'{rule} follow from it. Say it in dataset.json: {{"snippets_per_second": ...}}', file=sys.stderr)
            break
    from pyws.data.features.dataset import look_transposed

    for one in sets:
        if one is not None and look_transposed((length, one.width) for length in one.lengths.tolist()):
            print("features look transposed, (width, snippets): they must be (snippets, width)", file=sys.stderr)
            break
    for one in sets:
        if one is not None and one.skipped:
            common.say(f"left out {len(one.skipped)} of {len(one) + len(one.skipped)} videos:")
            for problem in one.skipped:
                common.say(f"  {problem}")
