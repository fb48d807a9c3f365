"""Names of classes and videos as people write them: what differs in spaces, case or a prefix is one name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyws.data.annotations.activitynet import Instances, Truth

AMBIGUOUS = "ambiguous"  # THUMOS14's name of stretches that no score should count, in any case
_PREFIX = "v_"  # that ActivityNet's features and many predictions put before a video's name


def label_name(value: Any) -> str | None:
    """A label by its name: spaces at its ends or repeated are dropped, a whole number is its digits.

    Returns
    -------
    None for what is no label

    Examples
    --------
    >>> label_name(" Long  jump "), label_name(3), label_name(None)
    ('Long jump', '3', None)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return " ".join(value.split()) if isinstance(value, str) else None


def first_synonym(label: str) -> str:
    """The name by which a class is called, of the several that its label may have.

    Examples
    --------
    >>> first_synonym("tabby, tabby cat")
    'tabby'
    """
    return label.split(",")[0].strip()


def one_spelling(names: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """For each name the spelling that comes first, ``known`` before all: names that differ only in case are one.

    Examples
    --------
    >>> one_spelling(["long jump", "Diving"], ["Long jump"])
    {'long jump': 'Long jump', 'Diving': 'Diving'}
    """
    first = {name.casefold(): name for name in reversed(list(known))}
    return {name: first.setdefault(name.casefold(), name) for name in names}


def other_name(video: str) -> str:
    """A video's name with the prefix ``v_`` where it has none, and without it where it has.

    Examples
    --------
    >>> other_name("v_abc"), other_name("abc")
    ('abc', 'v_abc')
    """
    return video.removeprefix(_PREFIX) if video.startswith(_PREFIX) else _PREFIX + video


def as_named_by(found: Instances, truth: Truth) -> Instances:
    """Detections under the names of the ground truth: labels whatever their case, videos with or without ``v_``.

    A name that the ground truth has is never changed, nor one that would then come twice.
    """
    rows = truth.instances
    labels = one_spelling(found.labels, rows.labels)
    known, taken = set(rows.videos), set(found.videos)
    videos = {}
    for name in found.videos:
        other = other_name(name)
        videos[name] = other if name not in known and other in known and other not in taken else name
    if len(set(labels.values())) < len(found.labels):
        labels = {name: name for name in found.labels}
    return replace(
        found,
        labels=tuple(name if name in rows.labels else labels[name] for name in found.labels),
        videos=tuple(videos[name] for name in found.videos),
    )
