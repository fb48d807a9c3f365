"""Make pyws/masks/initial_masks/imagenet_branches.txt: which classes of ImageNet-1k lie under a word of WordNet.

python benchmarks/imagenet_branches.py WORDNET    (the folder of WordNet 3.0 with data.noun, index.noun, cntlist.rev,
                                                   e.g. of Debian's package wordnet-base; needs timm)

A word means the first of its three most frequent senses that has classes below it, if that sense is not much rarer than
the first ("arm" is no weapon). Left out are words of more than 400 classes ("artifact"), people, and words that are
more often verbs than nouns ("drink") but for animals ("bear"), by the counts of WordNet's own sense-tagged texts.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from itertools import groupby
from pathlib import Path

MAX_CLASSES = 400
SENSES, RARER = 3, 4
PERSON, ANIMAL = "00007846", "00015388"
OUT = Path(__file__).parents[1] / "pyws/masks/initial_masks/imagenet_branches.txt"
HEADER = """\
# Words of WordNet 3.0 and the classes of ImageNet-1k that are kinds of them, made by benchmarks/imagenet_branches.py.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. https://wordnet.princeton.edu/license-and-commercial-use
"""


def hypernyms(folder: Path) -> dict[str, list[str]]:
    """The synsets right above each noun synset, by its offset."""
    above = {}
    for line in (folder / "data.noun").read_text("utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        pointers = fields[5 + 2 * int(fields[3], 16) :]
        above[fields[0]] = [pointers[4 * k + 1] for k in range(len(pointers) // 4) if pointers[4 * k] in ("@", "@i")]
    return above


def counts_of(folder: Path) -> dict[str, dict[str, Counter[int]]]:
    """How often each sense, from 1, of a word is tagged, as a noun ("1") and as a verb ("2")."""
    found: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
        key, sense, count = line.split()
        word, _, rest = key.partition("%")
        found[word.replace("_", " ")][rest[0]][int(sense)] += int(count)
    return found


def senses_of(folder: Path) -> dict[str, list[str]]:
    """The synsets of each noun, the most frequent first."""
    found = {}
    for line in (folder / "index.noun").read_text("utf-8").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            found[fields[0].replace("_", " ")] = fields[-int(fields[2]) :]
    return found


def ranges(classes: set[int]) -> str:
    runs = [list(run) for _, run in groupby(enumerate(sorted(classes)), key=lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)


def main(folder: Path) -> None:
    from timm.data import ImageNetInfo

    above = hypernyms(folder)
    below: dict[str, set[int]] = defaultdict(set)
    people = set()
    for index, name in enumerate(ImageNetInfo("imagenet-1k").label_names()):
        left, seen = [name.removeprefix("n")], set()
        while left:
            one = left.pop()
            if one not in seen:
                seen.add(one)
                left += above[one]
        for one in seen:
            below[one].add(index)
        if PERSON in seen:
            people.add(index)
    counts = counts_of(folder)
    rows = []
    for word, senses in sorted(senses_of(folder).items()):
        noun, verb = counts[word]["1"], counts[word]["2"].total()
        usual = [one for rank, one in enumerate(senses[:SENSES], 1) if RARER * (noun[rank] + 1) >= noun[1] + 1]
        classes = next((below[one] for one in usual if below.get(one)), set()) - people
        is_verb = verb > noun.total() and not classes <= below[ANIMAL]
        if 0 < len(classes) <= MAX_CLASSES and not is_verb:
            rows.append(f"{word}\t{ranges(classes)}\n")
    OUT.write_text(HEADER + "".join(rows), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
