"""Which videos of a data set of features a command works on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyws.commands.common import Common
from pyws.errors import tell

if TYPE_CHECKING:
    from pyws.data.features.dataset import FeatureSet
    from pyws.data.features.time_base import SnippetGrids


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
        tell(f"warning: {doubt}")


def grids_of(
    given: float | None, note: Mapping[str, Any], where: Path, videos: Sequence[str], features: Path | None = None
) -> SnippetGrids:
    """When snippets are: as a file of detections notes it, as a data set of the videos' features says it, as given, or
    else as in the literature, which is said.

    Raises
    ------
    DataError : what is given contradicts what is noted of a video, or the features lack a video
    """
    from pyws.data.features.dataset import open_features
    from pyws.data.features.listing import SNIPPETS_PER_SECOND
    from pyws.data.features.time_base import SAME_RATE, SnippetGrids
    from pyws.errors import DataError

    if features is not None:
        if given is not None:
            raise DataError(features, "says when snippets are: leave out --snippets-per-second")
        if note.get("times") or note.get("snippets_per_second"):
            raise DataError(where, "notes when its snippets are: leave out --features")
        found = open_features(features, videos=videos)
        say_doubts(found.doubts)
        return found.grids
    otherwise = SnippetGrids(SNIPPETS_PER_SECOND if given is None else given).snippets_per_second
    noted = SnippetGrids.read(where, note, otherwise)
    if given is None:
        known = bool(note.get("snippets_per_second"))
        if not known and any(noted[video].snippets is None for video in videos):
            say_doubts([f"nothing says how many snippets a second has: {SNIPPETS_PER_SECOND:g} is ASSUMED (25 frames a"
                        " second, 16 a snippet); --snippets-per-second says another,"
                        " --features those of each video"])  # fmt: skip
        return noted
    for video in videos:
        rate = noted[video].snippets_per_second
        if abs(rate - given) > SAME_RATE * rate:
            rule = f"notes {rate:g} snippets a second of video {video!r}, --snippets-per-second says {given:g}"
            raise DataError(where, f"{rule}: leave it out")
    return SnippetGrids(given, noted.own)


def say_skipped(common: Common, *sets: FeatureSet | None) -> None:
    """Say what is in doubt of the sets, and name the videos that were left out."""
    opened = [one for one in sets if one is not None]
    say_doubts(doubt for one in opened for doubt in one.doubts)
    for one in opened:
        if one.skipped:
            common.say(f"left out {len(one.skipped)} of {len(one) + len(one.skipped)} videos:")
            for problem in one.skipped:
                common.say(f"  {problem}")
