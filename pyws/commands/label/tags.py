"""Which tag is an object and which an action, and what finds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyws.masks.initial_masks.tag_to_class import resolve_tag

FEW_VIDEOS = 10


@dataclass(frozen=True)
class Route:
    """What becomes of a tag.

    Parameters
    ----------
    tag : as written
    kind : "object", masked by an image classifier; "known action", a class of the network of clips; "action", learned
        from the videos that have the tag
    classes : of the image classifier or of the network of clips; () of an action that is learned
    videos : that have the tag
    """

    tag: str
    kind: str
    classes: tuple[int, ...]
    videos: int

    def warning(self) -> str:
        """What a user should know; "" where there is nothing."""
        if self.kind == "action" and self.videos < FEW_VIDEOS:
            return f"learned from {self.videos} videos alone; {FEW_VIDEOS} and more are wanted"
        return ""


def route_of(tag: str, videos: int, objects: Sequence[str], actions: Sequence[str]) -> Route:
    """Decide what finds a tag.

    Only whole names count: "running" is no running shoe, and "phone" no pay-phone.

    Parameters
    ----------
    tag : a name, or ``name=classes`` of the image classifier
    videos : that have the tag
    objects : classes of the image classifier, synonyms parted by commas; () without one
    actions : classes of the network of clips

    Examples
    --------
    >>> objects = ["running shoe", "tabby, tabby cat", "pay-phone, pay-station"]
    >>> route_of("Tabby cat", 3, objects, ["juggling soccer ball"])
    Route(tag='Tabby cat', kind='object', classes=(1,), videos=3)
    >>> route_of("juggling soccer ball", 3, objects, ["juggling soccer ball"]).kind
    'known action'
    >>> route_of("running", 3, objects, ["juggling soccer ball"]).warning()
    'learned from 3 videos alone; 10 and more are wanted'
    """
    folded = [label.split(",")[0].strip().casefold() for label in actions]
    if tag.casefold() in folded:
        return Route(tag, "known action", (folded.index(tag.casefold()),), videos)
    try:
        meant = resolve_tag(tag, objects)
    except ValueError:
        return Route(tag, "action", (), videos)
    if meant.found == "word":
        return Route(tag, "action", (), videos)
    return Route(tag, "object", tuple(meant.classes), videos)
