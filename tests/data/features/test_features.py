"""Data sets of features: what is read, and what is said of files that are not what they must be."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pyws import cli
from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features, read_checked
from pyws.data.features.files import stored_file, write_features
from pyws.data.features.layouts import read_tags
from pyws.data.features.time_base import SnippetGrid
from pyws.errors import DataError
from pyws.files import write_json


def rows(length, seed=0, width=4):
    return np.random.default_rng(seed).normal(size=(length, width)).astype(np.float32)


def record(subset="training", tags=("a",), annotations=(("a", 0.0, 1.0),), duration=8.0):
    segments = [{"label": label, "segment": [start, end]} for label, start, end in annotations]
    return {"subset": subset, "duration": duration, "tags": list(tags), "annotations": segments}


@pytest.fixture
def native(tmp_path):
    """Three videos, two for training; one of them as safetensors."""
    database = {
        "v1": record(),
        "v2": record(tags=["a", "b"], annotations=[("a", 1.0, 2.0), ("b", 2.0, 3.0)]),
        "v3": record("test", tags=[], annotations=[]),
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    for number, (name, suffix) in enumerate((("v1", "npy"), ("v2", "safetensors"), ("v3", "npy"))):
        write_features(tmp_path / "features" / f"{name}.{suffix}", rows(5 + number, number))
    return tmp_path


def test_native_layout(native):
    videos = open_features(native)
    assert videos.names == ("v1", "v2", "v3")
    assert (videos.classes, videos.width, len(videos)) == (("a", "b"), 4, 3)
    assert videos.tags.tolist() == [[True, False], [True, True], [False, False]]
    assert videos.lengths.tolist() == [5, 6, 7]
    assert videos.snippets_per_second == 25 / 16
    for index in range(3):
        assert np.array_equal(videos.features(index), rows(5 + index, index))
    assert videos.truth.counts()["instances"] == {"test": 0, "training": 3}


def test_subset_and_classes_of_the_whole_set(native):
    videos = open_features(native, "test")
    assert (videos.names, videos.classes) == (("v3",), ("a", "b"))
    assert np.array_equal(videos.features(0), rows(7, 2))
    with pytest.raises(DataError, match="subset must be one of test, training, got 'val'"):
        open_features(native, "val")


def test_dataset_json_names_rate_and_class_order(native):
    said = {"snippets_per_second": 2.5, "classes": ["b", "a"], "description": "synthetic"}
    (native / "dataset.json").write_text(json.dumps(said))
    videos = open_features(native)
    assert (videos.snippets_per_second, videos.classes) == (2.5, ("b", "a"))
    assert videos.tags[0].tolist() == [False, True]
    for wrong, message in (
        ({"snippets_per_second": 0}, "must be a number > 0, got 0"),
        ({"classes": "ab"}, "classes must be a list of strings"),
        ({"classes": ["a", "a"]}, "must differ"),
        ({"classes": ["a"]}, "video 'v2': tag must be a class, got 'b'"),
        ([], "must be a JSON object"),
    ):
        (native / "dataset.json").write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=message):
            open_features(native)


def test_rescaled_features_have_a_rate_for_each_video(native):
    (native / "dataset.json").write_text('{"rescaled": true}')
    assert open_features(native).rates.tolist() == [5 / 8, 6 / 8, 7 / 8]
    (native / "dataset.json").write_text("{}")
    assert open_features(native).rates.tolist() == [25 / 16] * 3
    (native / "dataset.json").write_text('{"rescaled": "yes"}')
    with pytest.raises(DataError, match="rescaled must be true or false, got 'yes'"):
        open_features(native)
    (native / "dataset.json").write_text('{"rescaled": true}')
    assert not [one for one in check_data_set(native).problems if "snippets, but" in str(one)]
    document = json.loads((native / "truth.json").read_text())
    for said in ({"duration": 0}, {}):
        record = document["database"]["v2"]
        document["database"]["v2"] = {key: record[key] for key in record if key != "duration"} | said
        (native / "truth.json").write_text(json.dumps(document))
        with pytest.raises(DataError, match="video 'v2': must have a duration > 0, as rescaled features need"):
            open_features(native)


def test_own_videos_from_a_table_of_tags(tmp_path):
    (tmp_path / "tags.csv").write_text('video,tag\nb,Diving\n"a","Long, Jump"\nb,Archery\nb,Diving\n\n')
    for name in ("a", "b", "untagged"):
        write_features(tmp_path / "features" / f"{name}.npy", rows(3))
    videos = open_features(tmp_path)
    assert videos.names == ("b", "a", "untagged")
    assert videos.classes == ("Archery", "Diving", "Long, Jump")
    assert videos.tags.tolist() == [[True, True, False], [False, False, True], [False, False, False]]
    assert videos.truth is None
    with pytest.raises(DataError, match="video 'untagged': must have a tag, got none"):
        open_features(tmp_path, need_tags=True)
    assert open_features(tmp_path, need_tags=True, on_error="skip").names == ("b", "a")


def test_videos_without_any_tags(tmp_path):
    write_features(tmp_path / "features" / "v.npy", rows(3))
    assert open_features(tmp_path).tags.shape == (1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns video and tag, got no such line"),
        ("a,tag\nv,x\n", "must have the columns video, got"),
        ("video,b\nv,x\n", "must have the columns video and tag, got video,b"),
        ("video,tag\n,x\n", "line 2: must name a video, got ''"),
        ("video,tag\n../v,a\n", "video name must be a plain file name, got '../v'"),
        ("video,tag,subset\nv,a,x\nv,b,y\n", "line 3: video 'v' must be in one subset, got 'x' and 'y'"),
        ("video,tag\n\xff,a\n", "no such line"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "tags.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=message):
        read_tags(tmp_path / "tags.csv")


def test_table_with_subsets_and_a_video_without_tags(tmp_path):
    (tmp_path / "tags.csv").write_text("video,tag,subset\nv1,a,training\nv2,,test\nv1,b,training\n")
    assert read_tags(tmp_path / "tags.csv") == {"v1": ("training", ("a", "b")), "v2": ("test", ())}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def with_nan(path):
    array = rows(5)
    array[3, 1] = np.nan
    write_features(path, array)


class Hostile:
    def __reduce__(self):
        return (print, ("ran",))


DAMAGES = {
    "gone": (lambda path: path.unlink(), "video 'v1': must have features, got none"),
    "truncated": (truncate, "video 'v1': .*v1.npy: is truncated: 80 bytes .* got 73"),
    "empty file": (lambda path: path.write_bytes(b""), "video 'v1': .*is not a .npy file"),
    "not npy": (lambda path: path.write_bytes(b"hello, world"), "video 'v1': .*is not a .npy file"),
    "pickle": (lambda path: np.save(path, np.array([Hostile()]), allow_pickle=True), "got pickled objects"),
    "other width": (lambda path: write_features(path, rows(5, width=3)), "width 4 as most videos have, got 3"),
    "no rows": (lambda path: write_features(path, rows(0)), r"none of them 0, got \(0, 4\)"),
    "flat": (lambda path: np.save(path, np.ones(4)), r"must have shape \(snippets, width\)"),
    "integers": (lambda path: np.save(path, np.ones((5, 4), int)), "must be floating-point"),
    "NaN": (with_nan, "must be finite, got 1 rows that are not, the first is 3"),
    "too large": (lambda path: np.save(path, np.full((5, 4), 1e300)), "must be finite, got 5 rows"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_features(native, damage, capsys):
    spoil, message = DAMAGES[damage]
    spoil(native / "features" / "v1.npy")
    with pytest.raises(DataError, match=message):
        open_features(native).features(0)
    videos = open_features(native, on_error="skip")
    assert videos.names == ("v2", "v3")
    assert [problem.video for problem in videos.skipped] == ["v1"]
    assert np.array_equal(videos.features(1), rows(7, 2))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (("walk_01", "walk_02", "walk_03"), "; there are features of walk_03 and walk_02"),
        (("run", "jump"), "; there are those of 2 others, such as jump"),
    ],
)
def test_what_there_is_instead_of_missing_features_is_said_of_twenty_videos(tmp_path, there, instead):
    """As names are compared with all that are there."""
    names = [f"walk_{letter}" for letter in "abcdefghijklmnopqrstu"]
    (tmp_path / "truth.json").write_text(json.dumps({"database": {name: record() for name in [*names, "run", "jump"]}}))
    for name in there:
        write_features(tmp_path / "features" / f"{name}.npy", rows(5))
    missing = [one.rule for one in check_data_set(tmp_path).problems if one.video in names]
    assert missing == [f"must have features, got none{instead}"] * 20 + ["must have features, got none"]


def test_what_is_converted_and_what_is_left_out_is_said(native, capsys):
    (native / "features" / "v1.npy").unlink()
    assert cli.main(["data", "convert", str(native), str(native / "out"), "--on-error", "skip"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "test: 1 video, 0 instances",
        "training: 1 video, 2 instances",
        "2 labels; tags differ from the annotated labels in 0 videos",
        "without tags: v3",
        "left out: video 'v1': must have features, got none; there are those of 2 others, such as v2",
    ]


def test_damaged_safetensors(native):
    path = native / "features" / "v2.safetensors"
    save_file({"x": rows(6), "y": rows(6)}, path)
    with pytest.raises(DataError, match="video 'v2': .*must hold one tensor, or one named 'features'"):
        open_features(native)
    save_file({"x": rows(6), "features": rows(6, 1)}, path)
    assert np.array_equal(open_features(native).features(1), rows(6, 1))
    truncate(path)
    with pytest.raises(DataError, match="video 'v2': .*is truncated or not safetensors"):
        open_features(native)


def test_reversed_segment_is_an_error_or_costs_its_video(native):
    document = json.loads((native / "truth.json").read_text())
    document["database"]["v2"]["annotations"][1]["segment"] = [4.0, 2.0]
    (native / "truth.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"video 'v2': entry 1: .*finite start <= end, got \[4.0, 2.0\]"):
        open_features(native)
    videos = open_features(native, on_error="skip")
    assert videos.names == ("v1", "v3")
    assert videos.truth.instances.videos == ("v1", "v3")
    assert videos.classes == ("a",)


def test_file_that_changes_after_it_was_opened(native):
    videos = open_features(native)
    write_features(native / "features" / "v1.npy", rows(9))
    with pytest.raises(DataError, match=r"video 'v1': features must be .* of shape \(5, 4\), got float32 \(9, 4\)"):
        videos.features(0)


def test_nothing_usable(native):
    for path in (native / "features").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="must have a usable video, got 3 of which none is"):
        open_features(native, on_error="skip")


def test_unknown_layouts(tmp_path):
    with pytest.raises(DataError, match="must be a folder with features"):
        open_features(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match="in a layout that pyws knows, got readme.txt"):
        open_features(tmp_path)
    with pytest.raises(ValueError, match="on_error must be one of error, skip, got 'ignore'"):
        open_features(tmp_path, on_error="ignore")


edits = st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255) | st.sampled_from(list(b"-9(),'"))), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".npy", ".safetensors"]), edits, st.integers(0, 300))
def test_arbitrary_bytes_are_an_error_or_an_array(tmp_path, suffix, changes, kept):
    path = tmp_path / f"v{suffix}"
    write_features(path, rows(5))
    damaged = bytearray(path.read_bytes())
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    path.write_bytes(damaged[: len(damaged) - max(0, kept - 200)])
    stored = stored_file(path)
    with contextlib.suppress(DataError):
        assert stored.read().shape == tuple(stored.shape())


def test_tags_as_people_write_them(tmp_path):
    """Several in a cell, and one class whatever its spaces and case."""
    (tmp_path / "tags.csv").write_text('video,tag\nv1,Clean & Jerk;Long jump\nv2,"long  jump "\nv2,LONG JUMP\n')
    assert read_tags(tmp_path / "tags.csv") == {
        "v1": ("", ("Clean & Jerk", "Long jump")),
        "v2": ("", ("Long jump",)),
    }


def test_check_names_annotations_that_are_there_twice(tmp_path):
    rows = [{"label": "a", "segment": segment} for segment in ([0, 2], [2, 4], [0, 2])]
    write_json(tmp_path / "truth.json", {"database": {"v": {"subset": "test", "duration": 4, "annotations": rows}}})
    write_features(tmp_path / "features" / "v.npy", np.ones((6, 2)))
    report = check_data_set(tmp_path)
    assert [problem.rule[:29] for problem in report.problems] == ["segment [0, 2] is there twice"]


def test_features_that_look_transposed_are_said(tmp_path):
    for name in ("v1", "v2"):
        write_features(tmp_path / "features" / f"{name}.npy", np.ones((1024, 30)))
    said = "features look transposed, (width, snippets): they must be (snippets, width)"
    assert said in check_data_set(tmp_path).doubts
    assert said in open_features(tmp_path).doubts
    write_features(tmp_path / "features" / "v2.npy", np.ones((1024, 31)))
    with pytest.raises(DataError, match=r"width 30 as most videos have, got 31; they look transposed"):
        open_features(tmp_path)


def test_features_can_be_written_to(tmp_path):
    """torch warns of arrays that cannot."""
    array = np.ones((3, 2), np.float32)
    array.setflags(write=False)

    class Stored:
        def read(self):
            return array

    assert read_checked(Stored(), (3, 2)).flags.writeable


def test_annotations_under_another_name(tmp_path):
    """What lies beside features under any name is read, and two such files are asked about."""
    record = {"subset": "test", "annotations": [{"label": "a", "segment": [0, 1]}]}
    write_features(tmp_path / "features" / "v.npy", np.ones((5, 2)))
    write_json(tmp_path / "annotations" / "thumos_14.json", {"database": {"v": record}})
    assert open_features(tmp_path, "test").classes == ("a",)
    record["annotations"][0]["label"] = "b"
    write_json(tmp_path / "gt.json", {"database": {"v": record}})
    with pytest.raises(DataError, match=r"gt.json, annotations/thumos_14.json; give one as --annotations FILE"):
        open_features(tmp_path)
    assert check_data_set(tmp_path, annotations=tmp_path / "gt.json").classes == ("b",)
    flat = tmp_path / "flat"
    write_features(flat / "v.npy", np.ones((5, 2)))
    assert open_features(flat, annotations=tmp_path / "gt.json").classes == ("b",)


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_the_grid_of_edges_has_these_edges(count):
    """Whose outer snippets may be longer or shorter than the others."""
    edges = 0.25 + np.arange(count + 1) / 2
    edges[[0, -1]] += (-0.1, 0.2) if count > 2 else 0
    grid = SnippetGrid.of_edges(edges)
    assert grid.snippets == count
    np.testing.assert_allclose(grid.edges, edges, rtol=0, atol=1e-12)
    assert grid.snippets_per_second == pytest.approx(2)
