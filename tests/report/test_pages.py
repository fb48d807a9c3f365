"""What the pages say: each figure, mark and place against what it should be by its definition."""

from __future__ import annotations

import io
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyws.checkpoint import write_checkpoint
from pyws.data.annotations.activitynet import Instances, Truth
from pyws.data.video.frames import write_mask, write_picture
from pyws.errors import DataError
from pyws.files import write_json
from pyws.report.ablation import Results, _markdown
from pyws.report.colours import COLOURS, colour
from pyws.report.movies import _colours, heat
from pyws.report.page.charts import Chart, axis_ticks, draw_chart
from pyws.report.page.html import Section, Table, write_html
from pyws.report.page.strips import PICTURE_BYTES, Strip, _jpg, _layer, write_strip
from pyws.report.page.videos import Lane, Video
from pyws.report.predictions import Prediction
from pyws.report.run import place_of, write_report
from pyws.report.runs.classifier import classifier_page
from pyws.report.runs.features import features_page
from pyws.report.runs.label import _MEANING, _joined, _times, row_of_tag
from pyws.report.runs.masks import _areas, _over_time, _positions, masked_videos, masks_page, mean_iou
from pyws.report.runs.masks import _wrong as _wrong_masks
from pyws.report.runs.masks_training import _entries, _findings, _measures, _samples, _why, _with_curve
from pyws.report.runs.parts import Place, problems_of
from pyws.report.runs.segments import Seen, _wrong, add_truth, detections_page, frames_strip
from pyws.report.runs.segments_training import _seen, _training
from pyws.report.timelines import _plain


def test_the_agreement_of_masks_is_the_mean_over_those_of_both_folders(tmp_path: Path) -> None:
    full, half, none = np.ones((2, 4), np.uint8), np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    half[0] = 1
    for name, one, other in (("a", full, half), ("b", none, none), ("c", half, none)):
        write_mask(tmp_path / "x" / f"{name}.png", one)
        write_mask(tmp_path / "y" / f"{name}.png", other)
    write_mask(tmp_path / "x" / "d.png", full)
    files = sorted((tmp_path / "x").glob("*.png"))
    assert mean_iou(files, tmp_path / "y") == pytest.approx((0.5 + 1 + 0) / 3)  # two empty masks agree
    assert mean_iou(files[3:], tmp_path / "y") is None


def test_masks_that_are_the_first_ones_have_no_agreement_with_them(tmp_path: Path) -> None:
    for folder in ("first", "last"):
        write_mask(tmp_path / folder / "v" / "0.png", np.ones((2, 2), np.uint8))
    first, last = tmp_path / "first", tmp_path / "last"
    rows: dict[int, dict[str, Any]] = {0: {"0": {"selected": True}}, 1: {"0": {"selected": False}}, 2: {}}
    assert _measures("v", rows, {"PA.v0": first}) == {"selected": 0.0}  # rows of the last version that has any
    assert _measures("v", rows, {"predicted by v0": last, "PA.v0": first}) == {"selected": 0.0, "agreement": 1.0}


def test_videos_that_are_done_are_counted_whoever_made_their_masks(tmp_path: Path) -> None:
    """Entries of predicted masks have no status; of refined ones where nothing is done no folder is known before."""
    made = {"init": [{"status": "done"}, {"status": "started"}, {"status": "failed", "error": "gone"}]}
    made |= {"predict": [{"empty": 0}, {"empty": 1}, {"error": "gone"}], "refine": [{"status": "started"}]}
    for name, entries in made.items():
        manifest = {"format": "pyws masks predict" if name == "predict" else "pyws masks init", "parameters": {}}
        manifest |= {"parameters": {"refinement": {}}} if name == "refine" else {}
        page = masks_page(place_of(tmp_path), {**manifest, "videos": {f"v{k}": one for k, one in enumerate(entries)}})
        assert page.lead == {"init": "1 of 3", "predict": "2 of 3", "refine": "0 of 1"}[name] + " videos are done."


def test_a_frame_without_labels_is_said_to_have_no_mask() -> None:
    assert _why({"labels": [], "selected": False}, ()) == "not selected: no mask"


def test_pictures_of_a_video_are_those_of_the_middles_of_equal_parts(tmp_path: Path) -> None:
    for number in range(100):
        write_picture(tmp_path / "v" / f"{number:03d}.png", np.full((8, 8, 3), number, np.uint8))
    place = place_of(tmp_path / "found.json")
    strip, problem = frames_strip(place, "v", tmp_path / "v", 50.0, 1)
    assert strip is not None
    assert not problem
    count = len(strip.places)
    assert strip.places == pytest.approx([(k + 0.5) * 50 / count for k in range(count)], abs=6e-4)


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_the_videos_of_a_page_share_the_bytes_of_its_pictures(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[float] = []
    for kind in ("masks", "segments"):
        monkeypatch.setattr(f"pyws.report.runs.{kind}.write_strip", lambda *given: most.append(given[-1]))
    write_picture(tmp_path / "v" / "0.png", np.zeros((2, 2, 3), np.uint8))
    write_mask(tmp_path / "masks" / "v" / "0.png", np.ones((2, 2), np.uint8))
    place = place_of(tmp_path / "found.json")
    frames_strip(place, "v", tmp_path / "v", 1.0, count)
    entries = {f"v{k}": {} for k in range(count - 1)} | {"v": {"source": str(tmp_path / "v")}}
    masked_videos(place, entries, {"mask": tmp_path / "masks"}, ["background"])
    assert most == [PICTURE_BYTES / count] * 2


def test_pictures_of_a_video_that_was_written_anew_are_made_anew(tmp_path: Path) -> None:
    place, video = place_of(tmp_path / "found.json"), tmp_path / "v"
    shown = []
    for level in (20, 200):
        write_picture(video / "0.png", np.full((8, 8, 3), level, np.uint8))
        os.utime(video, ns=(level, level))
        assert frames_strip(place, "v", video, 1.0, 1)[0] is not None
        shown.append({path.name: path.read_bytes() for path in place.pictures.rglob("*.jpg")})
    assert shown[0] != shown[1]


def test_the_place_of_a_page() -> None:
    for name in ("a.json", "a.json.gz", "a.safetensors", "a"):
        assert place_of(Path(name)).page == Path("a.html")
    assert place_of(Path("a.gz.json")).page == Path("a.gz.html")


def test_each_kind_of_problem_counts_a_video_once() -> None:
    videos = [Video("a", problems=["empty: 1", "empty: 2", "odd"]), Video("b", problems=["empty: 3"]), Video("c")]
    found = [(finding.text, list(finding.videos)) for finding in problems_of(videos)]
    assert found == [("empty (2 of 3 videos)", ["a", "b"]), ("odd (1 of 3 videos)", ["a"])]


def test_colours_follow_the_tags_and_then_the_lanes() -> None:
    video = Video("a", tags=("run", "fly"), lanes=[Lane("x", spans=[(0, 1, "swim", 1.0), (1, 2, "run", 0.5)])])
    assert list(video.document()["colours"].items()) == [("run", colour(0)), ("swim", colour(1))]
    own = replace(video, colours={"swim": "#123456"})
    assert own.document()["colours"] == {"run": colour(0), "swim": "#123456"}


def test_a_page_is_written_anew_where_something_changed(tmp_path: Path) -> None:
    for title in ("first", "second"):
        write_html(tmp_path / "a.html", title, "", [Section("s")])
        assert title in (tmp_path / "a.html").read_text()


def test_the_axis_of_a_chart_begins_at_0_where_it_is_told_to() -> None:
    lines = {"a": ([0, 1], [8.0, 10.0])}
    assert axis_ticks(8, 10)[0] > 0
    for from_zero, first in ((False, axis_ticks(8, 10)[0]), (True, 0.0)):
        ticks = re.findall(r'text-anchor="end">([^<]+)</text>', draw_chart(Chart("t", "", lines, from_zero)))
        assert float(ticks[0]) == first


def test_losses_of_a_classifier_are_numbered_from_epoch_1(tmp_path: Path) -> None:
    about = {"losses": [3.0, 2.0], "videos_by_class": {"a": 2}, "accuracy": None, "what": "action", "train_videos": 2}
    defaults = {"test_videos": 0, "network": "small3d", "labels": ["a"], "failed": {}, "settings": {}}
    page = classifier_page(place_of(tmp_path), defaults | about)
    charts = [chart for section in page.sections for chart in section.charts]
    assert [(list(xs), ys) for xs, ys in charts[0].lines.values()] == [([1, 2], [3.0, 2.0])]


@pytest.mark.parametrize(("accuracy", "said"), [(None, False), (0.25, True), (0.2, True), (0.26, False), (0.5, False)])
def test_a_classifier_of_four_classes_is_right_by_chance_on_a_quarter(
    accuracy: float | None, said: bool, tmp_path: Path
) -> None:
    about = {"losses": [1.0], "videos_by_class": dict.fromkeys("abcd", 99), "accuracy": accuracy, "what": "action"}
    others = {"train_videos": 9, "test_videos": 9, "network": "n", "labels": [], "failed": {}, "settings": {}}
    found = [one.text for one in classifier_page(place_of(tmp_path), about | others).findings]
    assert any("no more often than by chance" in text for text in found) == said
    assert len(found) == said


def test_losses_of_a_training_are_drawn_from_0_and_scores_are_not() -> None:
    history = [{"epoch": epoch, "loss": 2.0 - epoch, "mAP": 30.0 + epoch, "seconds": 1.0} for epoch in (0, 1)]
    charts = {name: chart.from_zero for chart in _training(history).charts for name in chart.lines}
    assert charts == {"loss": True, "mAP": False}
    assert {chart.xlabel for chart in _training(history).charts} == {"epoch"}


def test_the_best_epoch_is_the_one_of_the_highest_map() -> None:
    history = [{"epoch": 7 + k, "loss": 1.0, "mAP": score, "seconds": 1.0} for k, score in enumerate((3.0, 5.0, 4.0))]
    (table,) = _training(history).tables
    rows = {row[0]: row[1] for row in table.rows}
    assert {name: value for name, value in rows.items() if "mAP" in str(name)} == {
        "best average mAP (%), epoch 8": 5.0,
        "last average mAP (%), epoch 9": 4.0,
    }


def test_labels_of_the_first_round_and_of_the_last_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in (4, 10, 7):
        for ending in ("", ".json"):
            write_json(tmp_path / "labels" / f"epoch-{epoch:04}.safetensors{ending}", {})
    monkeypatch.setattr(
        "pyws.report.runs.segments_training.labels_seen",
        lambda path, caption: {"v": Seen(9.0, ("run",), curves={f"{path.name}: {caption}": {}})},
    )
    assert list(_seen(tmp_path)[0]["v"].curves) == [
        f"epoch-{epoch:04}.safetensors: labels, epoch {epoch}" for epoch in (4, 10)
    ]


def test_what_rose_and_fell_is_said_of_differences_alone() -> None:
    cells = [
        {"backbone": name, "seed": seed, "variant": variant,
         "labels": {"inside": 10.0 * seed, "risen_inside": 40.0, "fallen_inside": 7.0}}
        for name in ("rskp", "stpn") for seed in (1, 2) for variant in ("delta", "gaussian")
    ]  # fmt: skip
    found = Results([*cells, {"backbone": "rskp", "seed": 3, "variant": "delta", "labels": None}])
    assert found.label_worth("rskp", "delta") == "15 %, rises 40 %, falls 7 %"
    assert found.label_worth("rskp", "gaussian") == "15 %"
    assert found.label_worth("rskp", "nms") == ""


@pytest.mark.parametrize("about", [{}, {"external_data": None}, {"external_data": {"tool": "other"}}])
def test_detections_of_any_tool_have_a_page(about: dict[str, Any], tmp_path: Path) -> None:
    """Videos that nothing else is known of end with their last segment."""
    rows = [{"label": "run", "score": 0.5, "segment": [0.0, end]} for end in (0.2, 0.1)]
    write_json(tmp_path / "found.json", {"results": {"v": rows}, **about})
    page = detections_page(place_of(tmp_path / "found.json"))
    assert page.lead == "2 segments in 1 video."
    assert [(video.name, video.duration) for video in page.videos.videos] == [("v", 0.2)]


def test_stages_that_have_not_begun_took_no_time() -> None:
    plan = {"minutes": {"features": 2.0, "masks": 1.0}, "total_minutes": 3.0}
    for state, rows in (({}, []), ({"seconds": {"features": 30.0}}, [("features", 2.0, 0.5)])):
        (table,) = _times(plan, state).tables
        assert list(table.rows) == [*rows, ("all", 3.0, sum(row[2] for row in rows))]


def test_frames_of_masks_are_put_at_their_times() -> None:
    strip = Strip("a.jpg", {}, [0, 10, 20], ["a", "b", "c"], 3, 1, 8, 8)
    joined = _joined(Video("v", duration=5.0), Video("v", duration=25.0, unit="frame", strip=strip))
    assert joined.strip is not None
    assert list(joined.strip.places) == [0, 2, 4]
    assert joined.duration == 5


def test_the_best_segment_is_the_one_of_the_highest_score() -> None:
    whole, part = (0.0, 10.0, "run", 0.9), (0.0, 1.0, "run", 0.1)
    assert _wrong(Seen(10.0, ("run",)), [whole, part], 10.0) == ["the best segment covers all: run"]
    assert _wrong(Seen(10.0, ("run", "fly")), [(*whole[:3], 0.05), part], 10.0) == ["no segment of a tag: fly"]


def test_a_truth_without_durations_leaves_those_that_are_known() -> None:
    rows = Instances(("a", "b"), ("run",), *(np.array(x) for x in ([0, 1], [0, 0], [0.0, 1.0], [1.0, 2.0], [1.0, 1.0])))
    truth = Truth(rows, ("test", "test"), np.array([0.0, 9.0]), (("run",), ("run",)))
    seen = {"a": Seen(5.0), "b": Seen(5.0)}
    add_truth(seen, truth)
    assert (seen["a"].seconds, seen["b"].seconds) == (5.0, 9.0)
    assert seen["b"].spans["truth"] == [(1.0, 2.0, "run", None)]


def test_the_scale_of_heat_has_its_first_and_its_last_colour() -> None:
    scale = _colours().astype(int)
    assert (scale.shape, scale[0].tolist(), scale[255].tolist()) == ((256, 3), [48, 18, 59], [122, 4, 2])
    assert abs(scale[[64, 191]] - [(40, 187, 235), (251, 128, 34)]).max() <= 3  # a quarter and three of the way
    assert abs(np.diff(scale, axis=0)).sum(1).min() > 0


def test_heat_of_a_map() -> None:
    frame = np.full((1, 3, 3), 100, np.uint8)
    shown = heat(frame, np.array([[np.nan, -1.0, 2.0]]))
    assert shown[0, :2].tolist() == frame[0, :2].tolist()
    top = heat(np.zeros((1, 1, 3), np.uint8), np.array([[1.0]])).astype(int)
    both = heat(np.full((1, 1, 3), 255, np.uint8), np.array([[1.0]])).astype(int)
    assert np.abs(both - top - 0.4 * 255).max() <= 1  # the colour has a share of 0.6, the frame the rest
    half = heat(np.full((1, 1, 3), 101, np.uint8), np.array([[0.0]]))
    assert half.tolist() == [[[101] * 3]]


def test_classes_of_a_prediction_that_are_shown() -> None:
    def rows(label: list[int], score: list[float]) -> Instances:
        zeros = np.zeros(len(label))
        return Instances(("v",), tuple("abcd"), zeros.astype(int), np.array(label), zeros, zeros + 9, np.array(score))

    activation = np.tile([0.5, 0.9, 0.1, 0.2], (9, 1))
    found = Prediction("v", tuple("abcd"), np.arange(10.0), activation, activation, rows([1, 0], [0.9, 0.3]))
    assert found.shown == [1, 0]
    known = Prediction("v", tuple("abcd"), np.arange(10.0), activation, activation, found.segments, rows([3], [1.0]))
    assert known.shown == [3, 1, 0]


def test_json_of_a_page_is_json() -> None:
    assert json.loads(json.dumps(Video("a", measures={"x": float("nan")}).document()))["measures"] == {"x": None}


def test_a_frame_under_a_map_is_rounded_to_the_nearest_level() -> None:
    colour, level = _colours()[127].astype(float), 127.5 / 255
    for value in range(90, 110):
        exact = value * (1 - 0.6 * level) + colour * 0.6 * level
        shown = heat(np.full((1, 1, 3), value, np.uint8), np.array([[level]]))[0, 0]
        assert np.abs(shown - exact).max() <= 0.5 + 1e-9


def numbers_below(chart: Chart) -> list[str]:
    """What stands at the ticks of the axis to the right, and then its name."""
    return re.findall(r'text-anchor="middle">([^<]+)</text>', draw_chart(chart))


@pytest.mark.parametrize(
    ("xs", "shown"),
    [
        ([1, 2], ["1", "2"]),
        ([0, 3], ["0", "1", "2", "3"]),
        ([1, 1.5], ["1", "1.2", "1.4"]),
        ([4], ["4"]),
    ],
)
def test_epochs_have_no_halves_and_other_numbers_have(xs: list[float], shown: list[str]) -> None:
    assert numbers_below(Chart("t", "epoch", {"a": (xs, [0.5] * len(xs))})) == [*shown, "epoch"]


@pytest.mark.parametrize("ys", [[0.1, 0.97, 0.3], [-3.0, 4.1, 2.0], [5.0, 5.0, 5.0]])
def test_lines_go_right_and_stay_between_the_lowest_and_the_highest_tick(ys: list[float]) -> None:
    drawn = draw_chart(Chart("t", "", {"a": ([1, 2, 3], ys)}))
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    across, down = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    grid = [float(y) for y in re.findall(r'class="grid" x1="[^"]+" x2="[^"]+" y1="([^"]+)"', drawn)]
    assert list(across) == sorted(set(across))
    assert min(grid) - 0.1 <= min(down) <= max(down) <= max(grid) + 0.1
    assert [down[0] > down[1], down[1] < down[2]] == [ys[0] < ys[1], ys[1] > ys[2]]  # what is more is higher
    assert min(grid) >= 0


def test_no_more_classes_than_colours_are_drawn() -> None:
    classes = tuple("abcdefghij")
    ones = np.ones((4, 10))
    label = np.arange(10)
    rows = Instances(("v",), classes, 0 * label, label, 0.0 * label, 0.0 * label + 4, 1.0 - label / 20)
    assert Prediction("v", classes, np.arange(5.0), ones, ones, rows).shown == list(range(len(COLOURS)))


def test_the_table_of_a_text_has_a_rule_of_as_many_cells_as_columns() -> None:
    text = _markdown(Section("s", [], [Table(("a", "b", "c"), [[1, 2, 3]])]))
    assert [line.count("|") for line in text.splitlines() if line.startswith("|")] == [4, 4, 4]


def test_features_that_could_not_be_read_are_not_counted_among_those_of_the_page(tmp_path: Path) -> None:
    for number in range(2):
        write_picture(tmp_path / "v" / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    entry = {"start": 0.0, "end": 1.0, "source": str(tmp_path / "v"), "snippets": 2}
    page = features_page(place_of(tmp_path / "out.json"), {"videos": {"v": entry, "w": {"error": "gone"}}})
    assert page.lead == "Features of 1 video; 1 could not be read."
    assert [video.problems for video in page.videos.videos] == [[], ["cannot be used: gone"]]


def test_samples_of_selection_say_whether_they_passed(tmp_path: Path) -> None:
    folder = tmp_path / "select" / "v0"
    samples = [{"video": "a", "frame": "0", "label": 1, "passed": passed} for passed in (True, False)]
    write_json(folder / "samples.json", {"samples": samples})
    for number in range(2):
        write_picture(folder / f"{number}.png", np.zeros((4, 4, 3), np.uint8))
    captions = [picture.caption for picture in _samples(tmp_path, [{"version": 0}], ("background", "cat")).pictures]
    assert [caption.rsplit(": ", 1)[1] for caption in captions] == ["passed", "failed"]


def test_what_looks_wrong_with_the_versions_of_a_training() -> None:
    def said(**counts: Any) -> list[str]:
        return [one.text for one in _findings([{"version": 2, "selection": {"selected": 9, "frames": 90, **counts}}])]

    assert said() == []
    assert said(selected=8) == ["version 2 trains on few frames: 8 of 90"]
    assert said(discriminator_auc=0.6) == []
    (text,) = said(discriminator_auc=0.59)
    assert "version 2: the discriminator cannot tell composites from frames, AUC 0.59" in text
    assert said(classes={"cat": {"selected": 1}, "dog": {"selected": 0}}) == ["version 2 trains on no frame of dog"]
    backgrounds = [_findings([{"version": 0, "foreground": one}]) for one in (False, True, None)]
    assert [len(found) for found in backgrounds] == [1, 0, 0]
    assert _findings([{"version": 0, "selection": None}]) == []


def test_a_version_that_is_being_trained_has_the_curve_of_its_state(tmp_path: Path) -> None:
    version = {"version": 1, "epochs": 3}
    state = tmp_path / "models" / "v1-last.safetensors"
    assert _with_curve(tmp_path, version) == version
    write_checkpoint(state, "state", {"x": torch.zeros(1)}, {"curve": [1, 2]})
    assert _with_curve(tmp_path, version) == {**version, "curve": [1, 2]}
    assert _with_curve(tmp_path, {**version, "curve": []}) == {**version, "curve": []}
    write_checkpoint(state, "state", {"x": torch.zeros(1)}, {})
    assert _with_curve(tmp_path, version) == version
    state.write_bytes(b"damaged")
    assert _with_curve(tmp_path, version) == version


def test_where_frames_are_in_their_video(tmp_path: Path) -> None:
    """By their names in a folder, by their numbers in a file; else one after the other."""
    for number in range(4):
        write_picture(tmp_path / "v" / f"f{number}.png", np.zeros((2, 2, 3), np.uint8))
    assert _positions(tmp_path / "v", ["f1", "f3"], None) == ([1, 3], 4)
    assert _positions(tmp_path / "v", ["f1", "x"], 9) == ([0, 1], 2)
    assert _positions(tmp_path / "v.mkv", ["00003", "00007"], 20) == ([3, 7], 20)
    assert _positions(tmp_path / "v.mkv", ["00003", "00007"], None) == ([3, 7], 8)
    assert _positions(tmp_path / "v.mkv", ["a", "00007"], 20) == ([0, 1], 2)


def test_a_chart_without_numbers_is_left_out_and_lines_are_broken_where_they_lack_one() -> None:
    assert draw_chart(Chart("t", "", {"a": ([0, 1], [None, math.nan]), "b": ([], [])})) == ""
    whole, broken = (
        draw_chart(Chart("t", "", {"a": (range(5), ys)})) for ys in ([1, 2, 3, 2, 1], [1, 2, None, 2, math.inf])
    )
    lines = [re.findall(r'points="([^"]*)"', svg) for svg in (whole, broken)]
    assert [[len(line.split()) for line in one] for one in lines] == [[5], [2, 1, 0]]
    assert [svg.count("<circle") for svg in (whole, broken)] == [5, 3]


def test_frames_without_pictures_or_masks_leave_their_place_empty(tmp_path: Path) -> None:
    assert write_strip(tmp_path, "v", [], [(4, 16)], lambda count: [], 1000) is None
    tiles = [(float(k), str(k), np.full((20, 40, 3), 200, np.uint8), {}) for k in range(3)]
    strip = write_strip(tmp_path / "report", "v", [], [(3, 16)], lambda count: tiles, 10**6)
    assert strip is not None
    with Image.open(tmp_path / strip.frames) as shown:
        assert shown.size == (16 * strip.columns, 8 * -(-3 // strip.columns))  # as wide and tall as the frames are
    mask = np.ones((4, 4), np.uint8)
    sheet = _layer([None, mask, None, mask], (4, 4), 2, 2)
    assert not sheet[:, :4].any()
    assert (sheet[:, 4:] > 0).all()
    picture = np.full((4, 4, 3), 200, np.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(_jpg([None, picture], (8, 8), 2, 1)))).astype(int)
    assert abs(pixels[:, 10:] - 200).max() < 12
    assert abs(pixels[:, :6] - (32, 36, 43)).max() < 12


@pytest.mark.parametrize("document", [[], {}])
def test_a_folder_of_no_run_has_no_page(document: object, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.safetensors: must be a folder of a run, or a file of"):
        write_report(tmp_path / "a.safetensors")
    for written in (False, True):
        if written:
            write_json(tmp_path / "manifest.json", document)
        with pytest.raises(DataError, match="must be the folder of a run .* got none of their manifests"):
            write_report(tmp_path)


def test_a_gain_is_over_the_seeds_of_both() -> None:
    cells = [
        {"backbone": "b", "seed": seed, "variant": variant, "mAP": {"m": {"average": value}}}
        for variant, values in (("x", (3.0, 5.0)), ("y", (1.0, 6.0)), ("z", ()))
        for seed, value in enumerate(values)
    ]
    results = Results(cells)
    assert results.gain("b", ("x", "m"), ("y", "m")) == "+0.5 ± 2.1 (1/2)"
    assert results.gain("b", ("x", "m"), ("z", "m")) == ""


def test_frames_that_cannot_be_read_are_a_problem_of_their_video(tmp_path: Path) -> None:
    strip, problem = frames_strip(place_of(tmp_path), "v", tmp_path / "none.mkv", 3.0, 1)
    assert strip is None
    assert problem.startswith("frames cannot be read: ")


@pytest.mark.parametrize(
    ("area", "empty", "said"),
    [
        (0.9, 0.5, []),
        (0.91, 0.0, ["masks cover all: 91% of the pixels"]),
        (0.0, 1.0, ["without any mask"]),
        (0.2, 0.51, ["most frames without mask: 51%"]),
        (0.95, 0.6, ["masks cover all: 95% of the pixels", "most frames without mask: 60%"]),
    ],
)
def test_what_looks_wrong_with_masks(area: float, empty: float, said: list[str]) -> None:
    assert _wrong_masks({"area": area, "empty": empty}) == said


def test_a_frame_without_a_mask_has_the_value_of_the_nearest() -> None:
    """A frame in the middle of two has that of the first."""
    assert _over_time(np.array([1.0, 2.0, 3.0]), [1, 5, 8], 11).tolist() == [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert _over_time(np.array([4.0]), [3], 5).tolist() == [4] * 5


def test_masks_of_another_size_are_not_compared(tmp_path: Path) -> None:
    for folder, shape in (("x", (2, 4)), ("y", (4, 2))):
        write_mask(tmp_path / folder / "0.png", np.ones(shape, np.uint8))
        write_mask(tmp_path / folder / "1.png", np.eye(2, dtype=np.uint8) * (1 + (folder == "y")))
    files = sorted((tmp_path / "x").glob("*.png"))
    assert mean_iou(files, tmp_path / "y") == 1.0
    assert mean_iou(files[:1], tmp_path / "y") is None


def test_background_and_what_nobody_knows_cover_nothing(tmp_path: Path) -> None:
    write_mask(tmp_path / "0.png", np.array([[0, 0, 1, 255], [3, 3, 3, 0]], np.uint8))
    write_mask(tmp_path / "1.png", np.full((2, 2), 255, np.uint8))
    areas = _areas([tmp_path / "0.png", tmp_path / "1.png"])
    assert {(int(row), int(one)): areas[row, one] for row, one in np.argwhere(areas)} == {(0, 1): 0.125, (0, 3): 0.375}


def test_what_a_tag_means_is_said_where_its_word_does_not() -> None:
    def said(*names: str, tag: str = "fox", warning: str = "") -> object:
        return row_of_tag({"tag": tag, "kind": "object", "videos": 2, "warning": warning, "names": names})[3]

    assert said("red fox", "kit fox") == "red fox, kit fox"
    assert said("fox") == ""
    assert said("red fox", warning="rare") == "red fox; rare"
    many = [f"n{k}" for k in range(_MEANING + 2)]
    assert said(*many) == f"{', '.join(many[:_MEANING])} and 2 more"
    assert row_of_tag({"tag": "fox", "kind": "action", "videos": 0, "warning": "odd"}) == ("fox", "action", 0, "odd")


def test_only_sampled_videos_of_the_first_stage_are_shown(tmp_path: Path) -> None:
    assert _entries(tmp_path) == {}
    write_json(tmp_path / "manifest.json", {"videos": {"v": {"sampled": [0]}, "w": {"error": "gone"}}})
    assert _entries(tmp_path) == {"v": {"sampled": [0]}}


def test_dollars_in_names_are_no_mathematics() -> None:
    assert _plain("a $b$ c") == r"a \$b\$ c"


def test_a_page_is_compared_with_the_truth_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn(Exception):
        pass

    def page(place: Place) -> None:
        assert (place.run, place.truth, place.quiet) == (tmp_path, Path("truth.json"), False)
        raise Drawn

    monkeypatch.setattr("pyws.report.run._page", page)
    with pytest.raises(Drawn):
        write_report(tmp_path, "truth.json", quiet=False)
