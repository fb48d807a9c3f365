"""Which tag is an object and which an action, and what finds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyws.data.annotations.names import first_synonym
from pyws.data.tagged.dataset import FEW_VIDEOS
from pyws.errors import counted
from pyws.masks.initial_masks.tag_to_class import resolve_tag


@dataclass(frozen=True)
class Route:
    """What becomes of a tag.

    Parameters
    ----------
    tag : as written
    kind : "object", masked by an image classifier; "known action", a class of the network of clips; "action", learned
        from the videos that have the tag
    classes : classes of the image classifier or of the network of clips; () of an action that is learned
    names : names of these classes
    videos : that have the tag
    """

    tag: str
    kind: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    videos: int

    def warning(self) -> str:
        """What a user should know; "" where there is nothing."""
        if self.kind == "action" and self.videos < FEW_VIDEOS:
            several = counted(self.videos, "video")
            return f"learned from {several} alone; {FEW_VIDEOS} and more are wanted"
        return ""


def route_of(tag: str, videos: int, objects: Sequence[str], actions: Sequence[str] = ()) -> Route:
    """Decide what finds a tag.

    Only whole names count: "running" is no running shoe.

    Parameters
    ----------
    tag : a name, or ``name=classes`` of the image classifier
    videos : that have the tag
    objects : classes of the image classifier, synonyms parted by commas
    actions : classes of the network of clips; () before it is known

    Examples
    --------
    >>> objects = ["running shoe", "tabby, tabby cat", "pay-phone, pay-station"]
    >>> route_of("Tabby cat", 3, objects)
    Route(tag='Tabby cat', kind='object', classes=(1,), names=('tabby',), videos=3)
    >>> route_of("juggling soccer ball", 3, objects, ["juggling soccer ball"]).kind
    'known action'
    >>> route_of("running", 3, objects).warning()
    'learned from 3 videos alone; 10 and more are wanted'
    """
    try:
        meant = resolve_tag(tag, objects)
    except ValueError:
        meant = None
    if meant is not None and meant.found != "word":
        return Route(tag, "object", tuple(meant.classes), _names(objects, meant.classes), videos)
    known = [index for index, label in enumerate(actions) if tag.casefold() == first_synonym(label).casefold()]
    if known:
        return Route(tag, "known action", (known[0],), (actions[known[0]],), videos)
    return Route(tag, "action", (), (), videos)


def _names(labels: Sequence[str], classes: Sequence[int]) -> tuple[str, ...]:
    return tuple(first_synonym(labels[index]) for index in classes)
