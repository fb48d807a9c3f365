"""What users of a data set of features should know before they believe its seconds and its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from pyws.data.features.files import has_times
from pyws.data.features.listing import Listing
from pyws.data.features.streams import JoinedStreams

_WIDTHS = {400, 512, 768, 1024, 2048, 2304, 4096}  # widths of features that the literature shares
LENGTH_SNIPPETS, LENGTH_SHARE = 2, 0.05  # by which a length may differ from its duration


def doubts_of(listing: Listing, shapes: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    """A sentence for each thing that is assumed, was not read, or looks wrong of all videos.

    Parameters
    ----------
    shapes : (snippets, width) shapes of the usable videos, by their index in the listing
    """
    yield from _doubts_of_rate(listing, shapes)
    if listing.unread:
        used = f"; the annotations are those of {listing.annotations.name}" if listing.annotations else ""
        yield f"not read: {', '.join(listing.unread)}{used} (--annotations FILE reads another)"
    if not listing.classes:
        yield "no tags and no annotations were found beside the features: there are 0 classes (--annotations FILE)"
    if look_transposed(shapes.values()):
        yield "features look transposed, (width, snippets): they must be (snippets, width)"
    trimmed = [index for index in shapes if streams_differ(listing, listing.videos[index])]
    if trimmed:
        name = listing.videos[trimmed[0]]
        yield f"rgb and flow differ by a snippet in {len(trimmed)} videos such as {name}: the last one is left out"


def _doubts_of_rate(listing: Listing, shapes: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    if listing.rescaled:
        return
    guessed = [index for index in shapes if not has_times(listing.stored[listing.videos[index]])]
    known = [index for index in guessed if listing.durations[index] > 0]
    lengths = np.array([shapes[index][0] for index in known], dtype=np.float64)
    durations, rate = listing.durations[known], listing.snippets_per_second
    rates = np.array([listing.rate(listing.videos[index]) for index in known])
    wrong = np.abs(lengths - durations * rates) > np.maximum(LENGTH_SNIPPETS, LENGTH_SHARE * durations * rates)
    off, found = 2 * wrong.sum() > len(known), np.median(lengths / durations) if known else np.nan
    if off and len(set(lengths.tolist())) == 1 and len(known) > 1:
        yield f"every video has {lengths[0]:g} snippets: they look rescaled. " + _in_dataset_json('"rescaled": true')
    elif guessed and listing.rate_is_assumed:
        hint = f"; by their durations it is {found:.4g}" if off else "" if known else "; no durations speak for it"
        rule = f"nothing says how many snippets a second has: {rate:g} is ASSUMED, and all seconds follow from it{hint}"
        yield f"{rule}. " + _in_dataset_json('"snippets_per_second": ...')
    elif off:
        at = "their own rates" if listing.rates else f"{rate:g} snippets a second"
        rule = f"{wrong.sum()} of {len(known)} videos do not last what their snippets do at {at}"
        yield f"{rule}; by their durations it is {found:.4g}"


def _in_dataset_json(what: str) -> str:
    return f"Say it in dataset.json: {{{what}}}"


def streams_differ(listing: Listing, video: str) -> bool:
    """Whether the two streams of a video differ by a snippet."""
    stored = listing.stored[video]
    return isinstance(stored, JoinedStreams) and len({*stored.rows()}) > 1


def look_transposed(shapes: Iterable[tuple[int, int]]) -> bool:
    """Whether features look like (width, snippets): all videos agree in the first size, and in the second most do not;
    or the first is one of common widths of networks, and the second is not.

    Examples
    --------
    >>> look_transposed([(2048, 96), (2048, 120)]), look_transposed([(96, 2048), (120, 2048)])
    (True, False)
    >>> look_transposed([(48, 96), (48, 120), (48, 101)]), look_transposed([(100, 48), (100, 48), (100, 32)])
    (True, False)
    """
    known = list(shapes)
    lengths, widths = {length for length, _ in known}, Counter(width for _, width in known)
    differ = 2 * max(widths.values(), default=0) < len(known)
    return len(lengths) == 1 and (differ or (lengths <= _WIDTHS and not widths.keys() & _WIDTHS))
