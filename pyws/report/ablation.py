"""Tables of an ablation, in the order of the paper's tables 3, 4 and 5, from the files of its folder."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyws.files import atomic_write, read_json
from pyws.report.page.html import Picture, Section, Table, write_html
from pyws.report.timelines import draw_lines

_AT, _PAPER_TEMPERATURE = "T=", 0.1  # names of what a temperature tells apart; the paper's in training
_USUAL = (None, False, "score")  # settings that need no word
METRICS = ("0.3", "0.5", "0.7", "average")
DISTRIBUTIONS = ("uniform", "exponential", "t", "gaussian")
Setting = tuple[str, str]  # variant of training, method of suppression or fusion at test
BASELINE: Setting = ("warm-up", "nms")
LONGER: Setting = ("longer", "nms")


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Parameters
    ----------
    label : what it says
    setting : what it shows
    against : what its gain is over, None for none
    paper : average mAP on THUMOS14 that the paper gives for it
    """

    label: str
    setting: Setting
    against: Setting | None = None
    paper: float | None = None


PARTS = (  # the paper's table 4, and two rows that tell its parts from longer training
    Row("baseline: the backbone alone", BASELINE, None, 45.1),
    Row("trained as long as the rows below, without pseudo labels", LONGER, BASELINE),
    Row("+ fusion at test alone", ("longer", "gaussian"), LONGER),
    Row("+ LinPro on segments of NMS", ("nms", "nms"), LONGER, 44.9),
    Row("+ Gaussian fusion", ("gaussian", "nms"), ("nms", "nms"), 45.6),
    Row("+ delta pseudo labels", ("delta", "nms"), ("gaussian", "nms"), 46.2),
    Row("+ Gaussian fusion at test", ("delta", "gaussian"), ("delta", "nms"), 48.3),
    Row("row 7 without delta", ("gaussian", "gaussian"), ("delta", "gaussian")),
    Row("row 2, soft NMS", ("longer", "soft-nms"), LONGER),
    Row("row 2, fusion ranked by support", ("longer", "support"), LONGER),
    Row("row 8, NMS", ("gaussian", "nms"), LONGER),
    Row("row 8, soft NMS", ("gaussian", "soft-nms"), ("longer", "soft-nms")),
    Row("row 8, fusion ranked by support", ("gaussian", "support"), ("longer", "support")),
    Row("row 12 as far as the labels are trusted", ("trusted", "support"), ("longer", "support")),
)
_PAPER_TRAINING = {"uniform": 31.2, "exponential": 45.3, "t": 45.6, "gaussian": 45.6}
_PAPER_TEST = {"uniform": 41.5, "exponential": 47.1, "t": 47.1, "gaussian": 47.1}
TRAINING = (
    Row("NMS", ("nms", "nms"), None, 44.9),
    *(Row(name, (name, "nms"), ("nms", "nms"), _PAPER_TRAINING[name]) for name in DISTRIBUTIONS),
    Row("gaussian, soft NMS at test", ("gaussian", "soft-nms"), ("gaussian", "nms")),
    Row("gaussian, ranked by support at test", ("gaussian", "support"), ("gaussian", "nms")),
)
AT_TEST = (
    Row("NMS", BASELINE, None, 44.9),
    Row("soft NMS", ("warm-up", "soft-nms"), BASELINE),
    *(Row(name, ("warm-up", name), BASELINE, _PAPER_TEST[name]) for name in DISTRIBUTIONS),
    Row("gaussian, ranked by support", ("warm-up", "support"), BASELINE),
)
_PAPER_BACKBONES = {"rskp": (45.1, 48.3), "stpn": (28.4, 31.6), "bm": (35.3, 37.3), "wum": (40.4, 42.3)}
_PAPER_BACKBONES["facnet"] = (42.9, 44.8)


def write_ablation_report(folder: str | os.PathLike[str]) -> str:
    """Write ``report.html`` and ``report.md`` from the results that are there; returns the latter's text.

    A gain is the mean over seeds of the difference within a seed, with the number of seeds in which it was positive.

    Raises
    ------
    DataError : a result cannot be read
    """
    root = Path(folder)
    settings = read_json(root / "settings.json")
    results = Results(read_json(path) for path in sorted((root / "cells").glob("*.json")))
    first, own = settings["backbones"][0], _asked(settings)
    sections = [
        Section(
            f"Parts ({first}; table 4)", [_PARTS_NOTE], [results.table(first, (*PARTS, *_rows_as_asked(PARTS, own)))]
        ),
        Section(
            f"Distributions ({first}; table 3)",
            [_LABELS_NOTE],
            [
                results.table(first, TRAINING, "In training, NMS at test where nothing else is said"),
                results.table(first, (*AT_TEST, *_rows_as_asked(AT_TEST, own)), "At test"),
            ],
        ),
        Section(
            "Backbones (table 5)", [_BACKBONES_NOTE], [results.backbones(settings["backbones"], settings["whole"], own)]
        ),
    ]
    if results.temperatures(first):
        sections.append(_swept(root, results, first))
    lead = _lead(settings)
    write_html(root / "report.html", "pyws segments ablate", lead, sections)
    text = "\n".join([lead, "", *(_markdown(section) for section in sections)])
    with atomic_write(root / "report.md") as file:
        file.write(text)
    return text


class Results:
    """Results by backbone, seed and variant."""

    def __init__(self, cells: Any) -> None:
        self.cells = {(cell["backbone"], cell["seed"], cell["variant"]): cell for cell in cells}

    def scores(self, backbone: str, setting: Setting, metric: str) -> dict[int, float]:
        """What each seed scored."""
        variant, method = setting
        return {
            seed: cell["mAP"][method][metric]
            for (name, seed, trained), cell in sorted(self.cells.items())
            if (name, trained) == (backbone, variant)
        }

    def gain(self, backbone: str, setting: Setting, against: Setting) -> str:
        """Mean and spread of the average mAP's difference, and in how many seeds it was a gain."""
        ours, theirs = (self.scores(backbone, each, "average") for each in (setting, against))
        differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if not differences:
            return ""
        wins = sum(difference > 0 for difference in differences)
        return f"{statistics.mean(differences):+.1f} ± {_spread(differences):.1f} ({wins}/{len(differences)})"

    def label_worth(self, backbone: str, variant: str) -> str:
        """Percentage of the mass of the last pseudo labels that lies inside true segments; for differences of rounds
        also of what rose and of what fell."""
        cells = [cell for (name, _, trained), cell in self.cells.items() if (name, trained) == (backbone, variant)]
        found = [cell["labels"] for cell in cells if cell["labels"]]
        shares = ["inside", "risen_inside", "fallen_inside"] if variant == "delta" else ["inside"]
        each = [[labels[share] for share in shares if share in labels] for labels in found]  # one round has no change
        means = [f"{statistics.mean(values):.0f} %" for values in zip(*each, strict=True)]
        return ", ".join(f"{word}{mean}" for word, mean in zip(("", "rises ", "falls "), means, strict=False))

    def table(self, backbone: str, rows: Sequence[Row], caption: str = "") -> Table:
        lines = []
        for row in (row for row in rows if self.scores(backbone, row.setting, "average")):
            numbers = [_mean_spread(self.scores(backbone, row.setting, metric)) for metric in METRICS]
            gain = self.gain(backbone, row.setting, row.against) if row.against else ""
            over = _name(rows, row.against)
            worth = self.label_worth(backbone, row.setting[0])
            paper = "" if row.paper is None else f"{row.paper:.1f}"
            lines.append([row.label, *numbers, gain, over, worth, paper])
        head = ["", *METRICS[:-1], "average", "gain (seeds)", "over", "labels inside", "paper"]
        return Table(head, lines, caption)

    def backbones(self, backbones: Sequence[str], variant: str, asked: str | None = None) -> Table:
        """A row for each backbone and method at test; also for what was asked for, in the words of ``asked``."""
        methods = {name: name for name in ("nms", "soft-nms", "gaussian", "support")}
        if asked is not None:
            methods["preset"] = asked
        lines = []
        for name in backbones:
            for method, said in methods.items():
                alone, longer, whole = ((name, method) for name in ("warm-up", "longer", variant))
                averages = [_mean_spread(self.scores(name, each, "average")) for each in (alone, longer, whole)]
                gain, adopted = self.gain(name, whole, longer), self.adopted(name, variant)
                paper = "{:.1f} to {:.1f}".format(*_PAPER_BACKBONES[name]) if name in _PAPER_BACKBONES else ""
                lines.append([name, said, *averages, gain, self.label_worth(name, variant), adopted, paper])
        columns = ["", "at test", "alone", "longer", "all parts"]
        columns += ["gain over longer", "labels inside", "adopted", "paper"]
        return Table(columns, lines)

    def temperatures(self, backbone: str) -> list[float]:
        """Temperatures of networks that were trained to compare them."""
        names = {variant for name, _, variant in self.cells if name == backbone}
        return sorted(float(name.removeprefix(_AT)) for name in names if name.startswith(_AT))

    def mean(self, backbone: str, setting: Setting) -> float:
        """Mean over seeds of the average mAP."""
        return statistics.mean(self.scores(backbone, setting, "average").values())

    def adopted(self, backbone: str, variant: str) -> str:
        """In how many seeds the pseudo labels were trusted; nothing where they always are."""
        cells = [cell for (name, _, trained), cell in self.cells.items() if (name, trained) == (backbone, variant)]
        found = [cell["trust"]["adopted"] for cell in cells if cell["trust"] is not None]
        return f"{sum(found)}/{len(found)}" if found else ""


def _asked(settings: dict[str, Any]) -> str | None:
    """How candidates become detections at test where that was asked for."""
    given = settings["detection"]
    if given is None:
        return None
    rules = [f"{name} {value}" for name, value in given.items() if name != "method" and value not in _USUAL]
    return ", ".join([given["method"], *rules])


def _rows_as_asked(rows: Sequence[Row], asked: str | None) -> list[Row]:
    """Another row for each variant of training in a table, detected as asked for."""
    variants = dict.fromkeys(row.setting[0] for row in rows)
    if asked is None:
        return []
    return [Row(f"{variant}, at test {asked}", (variant, "preset"), (variant, "nms")) for variant in variants]


def _swept(root: Path, results: Results, backbone: str) -> Section:
    """The paper's figure 3: a row for each temperature of training, a column for each at test."""
    trained = results.temperatures(backbone)
    cells = [cell["mAP"] for (name, _, variant), cell in results.cells.items()
             if name == backbone and variant.startswith(_AT)]  # fmt: skip
    at_test = [method for method in cells[0] if method.startswith(_AT)]
    names = [f"{_AT}{temperature:g}" for temperature in trained]
    rows = [
        [name.removeprefix(_AT), *(_mean_spread(results.scores(backbone, (name, method), "average"))
                                   for method in ("nms", *at_test))]
        for name in names
    ]  # fmt: skip
    middle = min(names, key=lambda name: abs(math.log(float(name.removeprefix(_AT)) / _PAPER_TEMPERATURE)))
    lines = {
        "in training, NMS at test": (trained, [results.mean(backbone, (name, "nms")) for name in names]),
        f"at test, trained at {middle.removeprefix(_AT)}": (
            [float(method.removeprefix(_AT)) for method in at_test],
            [results.mean(backbone, (middle, method)) for method in at_test],
        ),
    }
    path = root / "temperatures.png"
    drawn = {name: ([math.log10(x) for x in xs], ys) for name, (xs, ys) in lines.items()}
    draw_lines(path, drawn, "temperature (log10)", "average mAP (%)", from_zero=False)
    columns = ["temperature in training", "NMS at test", *(f"Gaussian, {method}" for method in at_test)]
    picture = Picture(path, "Average mAP over the temperature of the Gaussian fusion.")
    return Section(f"Temperatures ({backbone}; figure 3)", [_TEMPERATURES_NOTE], [Table(columns, rows)], [picture])


def _name(rows: Sequence[Row], setting: Setting | None) -> str:
    return next((f"row {number}" for number, row in enumerate(rows, 1) if row.setting == setting), "")


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _mean_spread(scores: dict[int, float]) -> str:
    values = list(scores.values())
    return f"{statistics.mean(values):.1f} ± {_spread(values):.1f}" if values else ""


def _lead(settings: dict[str, Any]) -> str:
    videos = (
        "videos of " + Path(settings["data"]).name if settings["data"] else "SYNTHETIC videos, drawn anew for a seed"
    )
    rules = f"preset {settings['preset']}, {settings['epochs']} epochs at learning rate {settings['lr']:g}"
    return (
        f"mAP in percent at IoU 0.3, 0.5, 0.7 and on average over 0.1 to 0.7, mean ± standard deviation over "
        f"{settings['seeds']} seeds; {videos}; {rules}. The last column is the paper's average on THUMOS14."
    )


_PARTS_NOTE = (
    "All rows go on from the same warmed-up network of a seed. 'Labels inside' is the share of the mass of the last "
    "pseudo labels that lies inside true segments of their class; of differences of rounds also that "
    "of what rose and of what fell since the round before."
)
_LABELS_NOTE = (
    "In training: networks trained on LinPro's labels of segments fused by each distribution, without differences of "
    "rounds. At test: the proposals of the baseline fused by each."
)
_BACKBONES_NOTE = (
    "Every backbone with and without all parts that the preset trains; 'longer' is trained as long as all parts are, "
    "without pseudo labels."
)

_TEMPERATURES_NOTE = (
    "Average mAP. Networks are trained on labels of the Gaussian fusion at one temperature in all rounds, without "
    "differences of rounds and whether or not the labels are trusted."
)


def _markdown(section: Section) -> str:
    lines = [f"## {section.title}", "", *section.text, ""]
    for table in section.tables:
        if table.caption:
            lines += [f"{table.caption}:", ""]
        lines.append("| " + " | ".join(map(str, table.columns)) + " |")
        lines.append("|---|" + "--:|" * (len(table.columns) - 1))
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.rows]
        lines.append("")
    return "\n".join(lines)
