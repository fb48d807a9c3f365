"""From the tags of a video to the classes of a classifier."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pyws.data.annotations.names import first_synonym
from pyws.files import read_text

# Classes of ImageNet-1k (first and last index, both included) that a common tag means: the actors of A2D and the
# classes of YouTube-Objects, where they are not all that WordNet has below the word, and words whose other sense
# ImageNet has too ("plane" is the carpenter's there). ImageNet names breeds and makes, never "dog" or "car".
IMAGENET_TAGS = {
    "aeroplane": [(404, 404), (895, 895)],
    "airplane": [(404, 404), (895, 895)],
    "ball": [(429, 430), (522, 522), (574, 574), (722, 722), (768, 768), (805, 805), (852, 852), (890, 890)],
    "bike": [(444, 444), (665, 665), (670, 671)],
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
    "plane": [(404, 404), (895, 895)],
    "sheep": [(348, 349)],
    "train": [(466, 466), (547, 547), (705, 705), (820, 820)],
    "van": [(656, 656), (675, 675), (734, 734)],
}  # fmt: skip

BRANCHES = Path(__file__).with_name("imagenet_branches.txt")

MIN_OTHER = 0.05  # mean score below which a tag that the video does not have is no news
LOW_SCORE = 0.01  # mean probability below which a classifier may not see a tag; chance is 0.001 for ImageNet
HIGHEST = 0.01  # share of all classes, those with the highest scores: a tag that has one of them is seen
_PEOPLE = frozenset(
    ("adult", "baby", "boy", "child", "children", "crowd", "girl", "human", "man", "men", "people", "person", "player",
     "woman", "women")
)  # fmt: skip


class TagClasses(NamedTuple):
    """A tag by its name, and the classes of a classifier that show it.

    Parameters
    ----------
    found : by numbers, as a synonym of a class, as a common tag, as a word of WordNet that classes are kinds of, or as
        one word of a longer name, which may be another thing ("running" finds "running shoe")
    """

    name: str
    classes: list[int]
    found: Literal["given", "synonym", "group", "branch", "word"]

    def warning(self, labels: Sequence[str]) -> str | None:
        """What to look at before masks of the tag are believed; None where its name is the name of a class."""
        if self.found != "word":
            return None
        names = [first_synonym(labels[index]) for index in self.classes]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        matched = f"tag {self.name!r} matches only a word of {', '.join(map(repr, names[:3]))}{more}"
        return f"{matched}: if that is not what the videos show, {_advice(self.name)}"


def resolve_tag(tag: str, labels: Sequence[str]) -> TagClasses:
    """The name of a tag and the classes that show it.

    ``"swan=100"`` and ``"dog=151-268,273"`` give the classes; a name alone is looked up, and the first rule that finds
    something wins:

    1. where the labels are ImageNet's, the groups above for common tags;
    2. classes one of whose synonyms is the name;
    3. of ImageNet, the classes that are kinds of it by WordNet 3.0 ("vehicle"), also of a plural ("dogs");
    4. classes that have all words of the name among theirs ("swan" finds "black swan").

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
    >>> resolve_tag("scooter", labels)
    TagClasses(name='scooter', classes=[2], found='synonym')
    >>> tuple(resolve_tag("Swan", labels)), tuple(resolve_tag("fish=0-1", labels))
    (('Swan', [1], 'word'), ('fish', [0, 1], 'given'))
    """
    name, equals, listed = (part.strip() for part in tag.partition("="))
    if not name:
        raise ValueError(f"tag: must have a name, got {tag!r}")
    if equals:
        return TagClasses(name, _listed_classes(tag, listed, len(labels)), "given")
    wanted = name.lower()
    synonyms = [[synonym.strip().lower() for synonym in label.split(",")] for label in labels]
    forms = [wanted, *_singulars(wanted)] if _is_imagenet(synonyms) else []
    found: Literal["synonym", "group", "branch", "word"] = "group"
    classes = next((_of_ranges(IMAGENET_TAGS[one]) for one in forms if one in IMAGENET_TAGS), [])
    if not classes:
        found, classes = "synonym", [index for index, names in enumerate(synonyms) if wanted in names]
    if not classes:
        found, classes = "branch", next((list(_branches()[one]) for one in forms if one in _branches()), [])
    if not classes:
        found = "word"
        words = set(wanted.split())
        classes = [i for i, names in enumerate(synonyms) if any(words <= set(re.split(r"[\s-]+", n)) for n in names)]
    if not classes:
        near = difflib.get_close_matches(wanted, [name for names in synonyms for name in names], n=5, cutoff=0.7)
        raise ValueError(
            f"tag: {name!r} is not among the {len(labels)} labels of the classifier"
            + (f"; near: {', '.join(near)}" if near else "")
            + f". To go on, {_advice(name)}"
        )
    return TagClasses(name, classes, found)


def tag_warnings(
    scores: Sequence[float], tags: Mapping[str, Sequence[int]], others: Mapping[str, Sequence[int]]
) -> list[str]:
    """What speaks against the tags of a video: a low score, or a tag that it does not have and that scores higher.

    Inputs larger than those that a classifier was trained on lower all its scores, and not their order: a tag is not
    seen where its score is low and none of its classes is among the highest.

    Parameters
    ----------
    scores : mean probability of each class over frames of the video
    tags : the classes of each of its tags
    others : the classes of each tag that it does not have

    Examples
    --------
    >>> tag_warnings([0.005, 0.9, 0.095], {"cat": [0]}, {"dog": [1]})
    ["the classifier may not see a tag: 'cat' scores only 0.005 in the mean; 'dog' scores 0.900"]
    """
    above = {name: sum(scores[index] for index in classes) for name, classes in others.items()}
    # A group of many classes scores something everywhere ("dog" is 118 of ImageNet's): only well above that it counts.
    chance = {name: min(0.5, 3 * len(classes) / len(scores)) for name, classes in others.items()}
    above = {name: score for name, score in above.items() if score > max(MIN_OTHER, chance[name])}
    best = max(above, key=lambda name: above[name], default=None)
    found = []
    for name, classes in tags.items():
        score = sum(scores[index] for index in classes)
        beaten = best is not None and above[best] > score
        higher = rank_of(scores, classes) - 1
        low = score < LOW_SCORE and higher >= HIGHEST * len(scores)
        if low or beaten:
            said = f"the classifier may not see a tag: {name!r} scores only {score:.3f} in the mean"
            found.append(f"{said}; {best!r} scores {above[best]:.3f}" if best is not None and beaten else said)
    return found


def rank_of(scores: Sequence[float], classes: Sequence[int]) -> int:
    """The rank of the best of some classes among all: 1 where none scores higher.

    Examples
    --------
    >>> rank_of([0.1, 0.6, 0.3], [0, 2])
    2
    """
    own = max(scores[index] for index in classes)
    return 1 + sum(other > own for other in scores)


def common_tags(labels: Sequence[str]) -> dict[str, list[int]]:
    """The groups of common tags where the labels are ImageNet's, else none."""
    if not _is_imagenet([[synonym.strip().lower() for synonym in label.split(",")] for label in labels]):
        return {}
    return {name: _of_ranges(ranges) for name, ranges in IMAGENET_TAGS.items()}


def _of_ranges(ranges: Sequence[tuple[int, int]]) -> list[int]:
    return [index for first, last in ranges for index in range(first, last + 1)]


def _singulars(word: str) -> list[str]:
    """What a word may be the plural of."""
    ends = (("s", ""), ("es", ""), ("ies", "y"))
    return [word[: -len(end)] + new for end, new in ends if word.endswith(end)]


@cache
def _branches() -> dict[str, tuple[int, ...]]:
    """The classes of ImageNet-1k below each word of WordNet."""
    lines = [line for line in read_text(BRANCHES).splitlines() if not line.startswith("#")]
    rows = [line.split("\t") for line in lines]
    return {word: tuple(_listed_classes(word, listed, 1000)) for word, listed in rows}


def _advice(name: str) -> str:
    """What to do about a tag that is no class: most classifiers of images know objects, not actions and people."""
    by_number = f"give its classes by number, e.g. --tag '{name}=3,7-9'"
    words = set(name.lower().split())
    if words & _PEOPLE or any(word.endswith("ing") and len(word) > 5 for word in words):
        return f"train a classifier of actions and people on the tagged videos (pyws masks classify), or {by_number}"
    return f"{by_number}, or train a classifier on the tagged videos (pyws masks classify)"


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
