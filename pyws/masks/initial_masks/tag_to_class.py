"""From the tags of a video to the classes of a classifier."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# Classes of ImageNet-1k (first and last index, both included) that a common tag means: the actors of A2D and the
# classes of YouTube-Objects. ImageNet names breeds and makes, never "dog" or "car".
IMAGENET_TAGS = {
    "aeroplane": [(404, 404), (895, 895)],
    "airplane": [(404, 404), (895, 895)],
    "ball": [(429, 430), (522, 522), (574, 574), (722, 722), (768, 768), (805, 805), (852, 852), (890, 890)],
    "bird": [(7, 24), (80, 100), (127, 146)],
    "boat": [(472, 472), (484, 484), (554, 554), (576, 576), (625, 625), (780, 780), (814, 814), (871, 871),
             (914, 914)],
    "car": [(407, 407), (436, 436), (468, 468), (511, 511), (609, 609), (627, 627), (656, 656), (661, 661),
            (717, 717), (751, 751), (817, 817)],
    "cat": [(281, 285)],
    "cow": [(345, 345)],
    "dog": [(151, 268)],
    "horse": [(339, 339)],
    "motorbike": [(665, 665), (670, 670)],
    "train": [(466, 466), (547, 547), (705, 705), (820, 820)],
}  # fmt: skip


def resolve_tag(tag: str, labels: Sequence[str]) -> tuple[str, list[int]]:
    """The name of a tag and the classes that show it.

    ``"swan=100"`` and ``"dog=151-268,273"`` give the classes; a name alone is looked up, and the first rule that finds
    something wins:

    1. classes one of whose synonyms is the name;
    2. where the labels are ImageNet's, the groups above for common tags;
    3. classes that have all words of the name among theirs ("swan" finds "black swan").

    Parameters
    ----------
    tag : a name, or ``name=classes``
    labels : names of the classes, synonyms parted by commas

    Raises
    ------
    ValueError : nothing is found (near names are listed), or a class is out of range

    Examples
    --------
    >>> labels = ["tench, Tinca tinca", "black swan", "motor scooter, scooter"]
    >>> resolve_tag("scooter", labels), resolve_tag("Swan", labels), resolve_tag("fish=0-1", labels)
    (('scooter', [2]), ('Swan', [1]), ('fish', [0, 1]))
    """
    name, equals, listed = (part.strip() for part in tag.partition("="))
    if not name:
        raise ValueError(f"tag: must have a name, got {tag!r}")
    if equals:
        return name, _listed_classes(tag, listed, len(labels))
    wanted = name.lower()
    synonyms = [[synonym.strip().lower() for synonym in label.split(",")] for label in labels]
    classes = [index for index, names in enumerate(synonyms) if wanted in names]
    if not classes and _is_imagenet(synonyms):
        classes = [index for first, last in IMAGENET_TAGS.get(wanted, []) for index in range(first, last + 1)]
    if not classes:
        words = set(wanted.split())
        classes = [i for i, names in enumerate(synonyms) if any(words <= set(re.split(r"[\s-]+", n)) for n in names)]
    if not classes:
        near = difflib.get_close_matches(wanted, [name for names in synonyms for name in names], n=5, cutoff=0.5)
        raise ValueError(
            f"tag: {name!r} is not among the {len(labels)} labels of the classifier"
            + (f"; near: {', '.join(near)}" if near else "")
            + f". Give its classes by number, e.g. --tag '{name}=3,7-9'"
        )
    return name, classes


def _is_imagenet(synonyms: list[list[str]]) -> bool:
    return len(synonyms) == 1000 and "tench" in synonyms[0] and "mexican hairless" in synonyms[268]


def _listed_classes(tag: str, listed: str, count: int) -> list[int]:
    classes: list[int] = []
    for part in listed.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
        if match is None:
            raise ValueError(f"tag: classes must be numbers and ranges, such as 3,7-9, got {tag!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise ValueError(f"tag: classes must be ranges in 0..{count - 1}, got {part.strip()} in {tag!r}")
        classes += range(first, last + 1)
    return sorted(set(classes))
