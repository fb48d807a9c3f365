"""pyws segments propose: maps of every kind of file become the segments that a few lines of NumPy find."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pyws import cli
from pyws.data.annotations.activitynet import read_detections
from pyws.errors import DataError
from pyws.segments import PostprocessConfig, Status, fuse_detections
from pyws.segments.detection.maps import VideoMap, open_maps, write_maps
from pyws.segments.pseudo_labels import save_labels

RATE = 2.0
MAPS = {
    "v1": np.array([[0.1, 0.0], [0.9, 0.0], [0.7, 0.6], [0.1, 0.6], [0.1, 0.0]], np.float32),
    "v2": np.array([[0.6, 0.2], [0.6, 0.3], [0.0, 0.9]], np.float32),
}
CUTS = ("--thresholds", "0.5", "0.8", "--margin", "0.5")


def expected(rate=RATE, maps=MAPS, classes=("jump", "run")):
    """(video, label, start, end, score) of every run above 0.5 and 0.8, by the definition."""
    rows = []
    for video, values in maps.items():
        for column, label in enumerate(classes):
            for cut in (0.5, 0.8):
                above = np.flatnonzero(np.diff(np.concatenate([[0], values[:, column] > cut, [0]])))
                for start, end in above.reshape(-1, 2).tolist():
                    wide = int(np.ceil(0.5 * (end - start)))
                    around = [*range(max(0, start - wide), start), *range(end, min(len(values), end + wide))]
                    inside = float(np.mean(values[start:end, column]))
                    outside = float(np.mean(values[around, column])) if around else 0.0
                    rows.append((video, label, start / rate, end / rate, inside - outside))
    return sorted(rows)


def propose(capsys, *words):
    status = cli.main(["segments", "propose", *map(str, words), "--json"])
    shown = capsys.readouterr()
    return status, json.loads(shown.out) if shown.out else None, shown.err


def found_in(path):
    found = read_detections(path)
    columns = (found.video, found.label, found.start, found.end, found.score)
    return sorted(
        (found.videos[v], found.labels[k], start, end, score)
        for v, k, start, end, score in zip(*(column.tolist() for column in columns), strict=True)
    )


def assert_same(found, wanted):
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in wanted], atol=1e-6)


def write_npy(folder):
    folder.mkdir()
    for video, values in MAPS.items():
        np.save(folder / f"{video}.npy", values)


def write_csv(folder):
    folder.mkdir()
    for video, values in MAPS.items():
        lines = [f"{row},{a},{b}" for row, (a, b) in enumerate(values.tolist())]
        (folder / f"{video}.csv").write_text("frame,jump,run\n" + "\n".join(lines))


FORMS = {
    "npz": (lambda path: np.savez(path, **MAPS), "scores.npz", True),
    "npy": (write_npy, "scores", True),
    "csv": (write_csv, "tables", False),
    "safetensors": (
        lambda path: save_file({video: torch.from_numpy(values) for video, values in MAPS.items()}, path),
        "scores.safetensors",
        True,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_file(tmp_path, capsys, form):
    write, name, needs_classes = FORMS[form]
    write(tmp_path / name)
    classes = ("--classes", "jump", "run") if needs_classes else ()
    rate = ("--snippets-per-second", RATE)
    status, report, error = propose(capsys, tmp_path / name, tmp_path / "out.json", *classes, *rate, *CUTS)
    assert (status, error) == (0, "")
    assert (report["videos"], report["segments"]) == (2, len(expected()))
    assert_same(found_in(tmp_path / "out.json"), expected())
    about = json.loads((tmp_path / "out.json").read_text())["external_data"]
    assert about["snippets_per_second"] == pytest.approx(RATE)  # which fuse and labels read


def test_tables_of_a_folder_have_the_same_columns_in_one_order(tmp_path):
    """Row numbers are no class, one table is enough, and a list of videos beside them is none."""
    write_csv(tmp_path / "tables")
    one, other = sorted((tmp_path / "tables").iterdir())
    (tmp_path / "tables/_tags.csv").write_text("video,tag\nv1,jump\n")
    for path in (one, tmp_path / "tables"):
        assert open_maps(path).classes == ("jump", "run")
    assert list(open_maps(one).stored) == [one.stem]
    text = other.read_text()
    for header in ("frame,run,jump", "frame,jump,walk", "frame,jump", "0,1,1"):
        other.write_text(text.replace("frame,jump,run", header))
        with pytest.raises(DataError, match=rf"{other.name}: must have the columns of {one.name}, in their order"):
            open_maps(tmp_path / "tables")
    other.write_text(text.replace("frame,jump,run", "snippet,jump,run"))
    assert open_maps(tmp_path / "tables").classes == ("jump", "run")


def test_files_of_pyws_say_classes_and_times(tmp_path, capsys):
    edges = {"v1": np.array([0, 1, 2, 4, 5, 6.0]), "v2": np.arange(4.0)}
    scores = {"v1": np.array([0.9, 0.1]), "v2": np.array([0.2, 0.8])}
    maps = {video: VideoMap(values, edges[video], scores[video]) for video, values in MAPS.items()}
    write_maps(tmp_path / "maps.safetensors", maps, ["jump", "run"])
    words = (tmp_path / "maps.safetensors", tmp_path / "out.json", *CUTS, "--class-threshold", "0.5")
    assert propose(capsys, *words)[0] == 0
    assert [row[:4] for row in found_in(tmp_path / "out.json")] == [
        ("v1", "jump", 1.0, 2.0),
        ("v1", "jump", 1.0, 4.0),
        ("v2", "run", 2.0, 3.0),
        ("v2", "run", 2.0, 3.0),
    ]
    assert "leave out --snippets-per-second" in propose(capsys, *words, "--snippets-per-second", "2")[2]
    assert "is of the classes jump, run" in propose(capsys, *words, "--classes", "run", "jump")[2]
    statuses = [status.name.lower() for status in Status]
    records = {video: {"snippets": len(values), "segments": 1, "residual": 0.0, **dict.fromkeys(statuses, 0)}
               for video, values in MAPS.items()}  # fmt: skip
    labels = {video: torch.from_numpy(values) for video, values in MAPS.items()}
    save_labels(tmp_path / "l.safetensors", labels, ["jump", "run"], {"snippets_per_second": RATE}, records)
    assert propose(capsys, tmp_path / "l.safetensors", tmp_path / "out.json", *CUTS)[0] == 0
    assert_same(found_in(tmp_path / "out.json"), expected())


def test_one_postprocessing_for_all_commands(tmp_path, capsys):
    np.savez(tmp_path / "s.npz", **MAPS)
    words = (tmp_path / "s.npz", tmp_path / "out.json", "--classes", "jump", "run", "--snippets-per-second", RATE)
    options = ("--method", "gaussian", "--iou", "0.4", "--temperature", "0.1", "--ranking", "support")
    assert propose(capsys, *words)[0] == 0
    proposals = read_detections(tmp_path / "out.json")
    assert propose(capsys, *words, *options)[0] == 0
    fused = fuse_detections(proposals, PostprocessConfig("gaussian", 0.1, 0.4, ranking="support"), RATE)
    assert 0 < len(fused) < len(proposals)
    rows = zip(fused.video, fused.label, fused.start, fused.end, fused.score, strict=True)
    assert_same(found_in(tmp_path / "out.json"), sorted((fused.videos[v], fused.labels[k], *r) for v, k, *r in rows))
    assert "iou_threshold is of" in propose(capsys, *words, "--iou", "0.4")[2]


def test_durations_tags_and_background(tmp_path, capsys):
    np.savez(tmp_path / "s.npz", **MAPS)
    record = {"subset": "test", "annotations": [], "tags": ["run"]}
    database = {"v1": {**record, "duration": 10.0}, "v2": {**record, "duration": 3.0}}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    words = (tmp_path / "s.npz", tmp_path / "out.json", "--classes", "jump", "run", "--truth", tmp_path / "truth.json")
    assert propose(capsys, *words, *CUTS, "--only-tags")[0] == 0
    assert [row[:4] for row in found_in(tmp_path / "out.json")] == [
        ("v1", "run", 4.0, 8.0), ("v2", "run", 2.0, 3.0), ("v2", "run", 2.0, 3.0),
    ]  # fmt: skip
    assert propose(capsys, *words, *CUTS, "--background", "run")[0] == 0
    assert {row[1] for row in found_in(tmp_path / "out.json")} == {"jump"}


def test_logits_and_upsampling(tmp_path, capsys):
    logits = {video: np.log(values.clip(1e-6) / (1 - values)) for video, values in MAPS.items()}
    np.savez(tmp_path / "s.npz", **logits)
    words = (tmp_path / "s.npz", tmp_path / "out.json", "--classes", "jump", "run", "--snippets-per-second", RATE)
    assert "name the --activation of logits, or --thresholds" in propose(capsys, *words)[2]
    assert propose(capsys, *words, *CUTS, "--activation", "sigmoid")[0] == 0
    assert_same(found_in(tmp_path / "out.json"), expected())
    # Between the middles of snippets at 0.5 and 1.5 the map crosses 0.5 halfway: at 1.0.
    assert propose(capsys, *words, "--thresholds", "0.5", "--activation", "sigmoid", "--upsample", "20")[0] == 0
    first = found_in(tmp_path / "out.json")[0]
    assert first[2:4] == pytest.approx((1.025 / RATE, 2.825 / RATE), abs=0.05)


def test_the_commands_of_the_page_run(tmp_path, capsys, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/how-to/segments/propose-segments.md").read_text()
    lines = re.findall(r"^pyws segments propose (scores.npz .*)$", page, re.MULTILINE)
    np.savez(tmp_path / "scores.npz", **MAPS)
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    monkeypatch.chdir(tmp_path)
    counts = [propose(capsys, *line.split())[1]["segments"] for line in lines]
    assert len(counts) == 3
    assert 0 < counts[1] < counts[0]
    assert propose(capsys, *lines[0].replace("jump run", "classes.txt").split())[1]["segments"] == counts[0]


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({}, (), "does not say the classes of its columns: name them with --classes"),
        ({}, ("--classes", "a", "b"), "nothing says when the snippets of 'v1' are"),
        ({}, ("--classes", "a", "b", "--background", "c"), "--background must be one of a, b, got 'c'"),
        ({}, ("--classes", "a", "b", "--only-tags"), "--only-tags: only with --truth"),
        ({}, ("--classes", "a", "b", "--upsample", "0"), "upsample must be in 1 .. 64, got 0"),
        ({}, ("--classes", "a", "b", "--scoring", "released", "--margin", "1"), "--margin: only with --scoring paper"),
        ({}, ("--classes", "a", "b", "c"), r"'v1' must have shape \(snippets, 3 classes\), got \(5, 2\)"),
        ({"v1": MAPS["v1"].T}, ("--classes", "a", "b"), "it looks transposed"),
        ({"v2": MAPS["v2"] * np.nan}, ("--classes", "a", "b", "--snippets-per-second", "2"),
         "map of 'v2' must be finite, got 3 rows that are not, the first is 0"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path, capsys, change, words, message):
    np.savez(tmp_path / "s.npz", **{**MAPS, **change})
    status, _, error = propose(capsys, tmp_path / "s.npz", tmp_path / "out.json", *words)
    assert status == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(error)
    assert not (tmp_path / "out.json").exists()


def test_thresholds_that_nothing_reaches_are_said(tmp_path, capsys):
    np.savez(tmp_path / "s.npz", **MAPS)
    highest = max(float(values.max()) for values in MAPS.values())
    words = ["segments", "propose", str(tmp_path / "s.npz"), str(tmp_path / "out.json"), "--classes", "a", "b",
             "--snippets-per-second", "2", "--thresholds"]  # fmt: skip
    assert cli.main([*words, "7", "9"]) == 0
    assert f"warning: the highest value is {highest:g}, the lowest threshold 7" in capsys.readouterr().out
    assert cli.main([*words, "0.1"]) == 0
    assert "warning: the highest value" not in capsys.readouterr().out


def test_nothing_there(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = (tmp_path / "out.json", "--classes", "a")
    assert "must hold activation maps" in propose(capsys, tmp_path / "empty", *words)[2]
    assert "is missing" in propose(capsys, tmp_path / "none.npz", *words)[2]


def test_what_is_no_map_of_numbers_is_left_alone(tmp_path, capsys):
    """A file of tensors may have others beside maps, in dtypes that NumPy does not have or that are no scores."""
    tensors = {name: torch.from_numpy(values) for name, values in MAPS.items()}
    others = {"narrow": torch.ones(3, 2, dtype=torch.bfloat16), "mask": torch.ones(3, 2, dtype=torch.bool)}
    save_file(tensors | others, tmp_path / "maps.safetensors")
    words = (tmp_path / "maps.safetensors", tmp_path / "out.json", *CUTS, "--classes", "jump", "run")
    status, _, said = propose(capsys, *words, "--snippets-per-second", RATE, "--class-threshold", "0")
    assert status == 0, said
    assert {row[0] for row in found_in(tmp_path / "out.json")} == set(MAPS)
