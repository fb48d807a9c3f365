"""A classifier that pyws masks classify trained: its loss, what it learned from, how often it is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyws.data.tagged.dataset import FEW_VIDEOS, classes_of_few_videos
from pyws.report.page.charts import Chart
from pyws.report.page.html import Finding, Section, Table
from pyws.report.runs.parts import Page, Place, settings

CLASSIFIER = "pyws masks classify"


def classifier_page(place: Place, about: Mapping[str, Any]) -> Page:
    """The page of a classifier, from the file beside it."""
    losses, counts, right = about["losses"], about["videos_by_class"], about["accuracy"]
    charts = [Chart("loss", "epoch", {"training": (range(1, len(losses) + 1), losses)}, from_zero=True)]
    rows = [["videos to learn from", about["train_videos"]], ["videos to test", about["test_videos"]],
            ["right", "not tested" if right is None else f"{right:.1%}"]]  # fmt: skip
    classes = Section(
        "Classes", tables=[Table((about["what"], "videos to learn from"), [list(row) for row in counts.items()])]
    )
    findings = [Finding(f"video left out: {name}, {rule}") for name, rule in about["failed"].items()]
    if few := classes_of_few_videos(counts):
        named = ", ".join(f"{name} ({count})" for name, count in few.items())
        findings.append(Finding(f"fewer than {FEW_VIDEOS} videos to learn from: {named}"))
    if right is not None and right <= 1 / len(counts):
        findings.append(Finding(f"it is right on {right:.1%} of the videos to test, no more often than by chance"))
    lead = f"{about['network']} of {len(counts)} {about['what']}s, trained on tags alone."
    made = settings(about, {"made by": CLASSIFIER})
    training = Section("Training", tables=[Table(("of the training", "value"), rows)], charts=charts)
    return Page("Classifier from tags", lead, [training, classes, made], findings=findings)
