"""What a page shows of each video: pictures with masks laid over them, lanes of a timeline, measures, problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.report.colours import colour
from pyws.report.page.strips import Strip

_POINTS = 240  # points of a curve; of more, each is the highest of its stretch
_SPANS = 200  # spans of a lane; of more, the best scored ones
Span = tuple[float, float, str, float | None]  # start, end, label, score
Mark = tuple[float, bool, str]  # frame, whether it was taken, why


@dataclass(frozen=True)
class Lane:
    """A row of a timeline: segments, curves of classes, or marks of frames.

    Parameters
    ----------
    caption : written beside it
    spans : segments in the unit of the video
    curves : label to values (snippets,), over the whole duration; drawn to the highest of the lane
    marks : frames, whether each was taken, and why
    """

    caption: str
    spans: Sequence[Span] | None = None
    curves: Mapping[str, NDArray[np.floating]] | None = None
    marks: Sequence[Mark] | None = None

    @property
    def labels(self) -> list[str]:
        """The labels that the lane has a colour for."""
        return list(dict.fromkeys([*(self.curves or ()), *(span[2] for span in self.spans or ())]))

    def document(self) -> dict[str, Any]:
        """The lane as JSON, thinned to what a screen shows."""
        found: dict[str, Any] = {"caption": self.caption}
        if self.spans is not None:
            best = sorted(self.spans, key=lambda span: -1.0 if span[3] is None else -span[3])[:_SPANS]
            found["spans"] = [[round(start, 2), round(end, 2), label, _rounded(score)]
                              for start, end, label, score in reversed(best)]  # fmt: skip
        if self.curves is not None:
            top = max((float(values.max(initial=0)) for values in self.curves.values()), default=0) or 1.0
            found["top"] = _rounded(top)
            found["curves"] = {label: _thinned(values, top) for label, values in self.curves.items()}
        if self.marks is not None:
            found["marks"] = [list(mark) for mark in self.marks]
        return found


@dataclass(frozen=True)
class Video:
    """A video on a page.

    Parameters
    ----------
    name, tags : name and tags of the video
    duration, unit : the length of its timeline, "s" for seconds or "frame"
    lanes : rows of its timeline
    strip : its pictures, None where there are none
    measures : what it is sorted by, see :class:`Measure`
    problems : what looks wrong, a few words each
    facts : name to text
    colours : colours of labels; the others get one by their order
    """

    name: str
    tags: Sequence[str] = ()
    duration: float = 1.0
    unit: str = "s"
    lanes: Sequence[Lane] = ()
    strip: Strip | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The video as JSON."""
        labels = dict.fromkeys([*self.colours, *(label for lane in self.lanes for label in lane.labels)])
        order = [tag for tag in self.tags if tag in labels] + [label for label in labels if label not in self.tags]
        colours = {label: self.colours.get(label, colour(index)) for index, label in enumerate(order)}
        return {
            "name": self.name, "tags": list(self.tags), "duration": round(max(self.duration, 1e-6), 3),
            "unit": self.unit, "lanes": [lane.document() for lane in self.lanes],
            "strip": None if self.strip is None else asdict(self.strip),
            "measures": {key: _rounded(value) for key, value in self.measures.items()},
            "problems": list(self.problems), "facts": dict(self.facts), "colours": colours,
        }  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """What videos are sorted by.

    Parameters
    ----------
    key : in :attr:`Video.measures`
    caption : for people
    higher : whether higher is better, None where neither is
    """

    key: str
    caption: str
    higher: bool | None = True


def page_data(videos: Sequence[Video], measures: Sequence[Measure]) -> str:
    """Videos and measures as JSON that may stand in an HTML page: no text can end the element that holds it.

    Examples
    --------
    >>> "<" in page_data([Video("</script><script>alert(1)")], [])
    False
    """
    used = [one for one in measures if any(one.key in video.measures for video in videos)]
    document = {"videos": [video.document() for video in videos], "measures": [asdict(one) for one in used]}
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _thinned(values: NDArray[np.floating], top: float) -> list[int]:
    """Whole percents of ``top``, the highest of each stretch, so that no peak is lost."""
    parts = np.array_split(np.nan_to_num(values), _POINTS) if len(values) > _POINTS else np.nan_to_num(values)[:, None]
    return [int(np.clip(round(100 * float(part.max()) / top), 0, 100)) for part in parts]
