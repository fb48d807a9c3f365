"""The layouts of the literature: the same data set in each, converted, checked, and made to harm."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from pyws import cli
from pyws.data.annotations.pickle_index import index_npy
from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features
from pyws.data.features.files import write_features
from pyws.data.features.writers import convert_features
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.errors import DataError

SETTINGS = SyntheticConfig(classes=2, width=8, snippets=40)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "native"
    write_synthetic(folder, SETTINGS, 4, 2)
    return folder


@pytest.fixture
def wtalc(tmp_path):
    write_synthetic(tmp_path / "wtalc", SETTINGS, 4, 2, layout="wtalc")
    return tmp_path / "wtalc"


@pytest.fixture
def split(tmp_path):
    write_synthetic(tmp_path / "split", SETTINGS, 4, 2, layout="split")
    return tmp_path / "split"


def assert_same(one, other):
    assert one.names == other.names
    assert one.classes == other.classes
    assert np.array_equal(one.tags, other.tags)
    for index in range(len(one)):
        assert np.array_equal(one.features(index), other.features(index))
    for column in ("start", "end", "video"):
        assert np.array_equal(getattr(one.truth.instances, column), getattr(other.truth.instances, column))


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("layout", ["wtalc", "split"])
def test_every_layout_holds_the_same(layout, suffix, native, tmp_path, request):
    source = request.getfixturevalue(layout)
    subset = {"wtalc": "training", "split": "train"}[layout]
    assert_same(open_features(source, subset), open_features(native, "training"))
    assert_same(open_features(source, "test"), open_features(native, "test"))
    convert_features(source, tmp_path / "converted", suffix=suffix)
    assert_same(open_features(tmp_path / "converted", subset), open_features(native, "training"))


@pytest.mark.parametrize("said", [None, 2.0, {"v": 2.0, "w": 4.0}])
def test_a_rate_that_nothing_said_is_not_said_afterwards(said, tmp_path):
    write_features(tmp_path / "one/features/v.npy", np.ones((4, 2), np.float32))
    write_features(tmp_path / "one/features/w.npy", np.ones((4, 2), np.float32))
    record = {"subset": "training", "duration": 2.0, "annotations": [{"label": "a", "segment": [0, 1]}]}
    (tmp_path / "one/truth.json").write_text(json.dumps({"database": {"v": record, "w": record}}))
    if said is not None:
        (tmp_path / "one/dataset.json").write_text(json.dumps({"snippets_per_second": said}))
    convert_features(tmp_path / "one", tmp_path / "two")
    assert json.loads((tmp_path / "two/dataset.json").read_text()).get("snippets_per_second") == said


@pytest.mark.parametrize("layout", ["wtalc", "split"])
def test_a_segment_that_ends_before_it_starts_is_a_problem_of_its_video(layout, request):
    source = request.getfixturevalue(layout)
    assert check_data_set(source).problems == ()
    if layout == "wtalc":
        segments = np.load(source / "segments.npy", allow_pickle=True)
        segments[1] = [[3.0, 1.0] for _ in segments[1]]
        np.save(source / "segments.npy", segments)
        video = str(np.load(source / "videoname.npy")[1].decode())
    else:
        truth = source / "gt.json"
        document = json.loads(truth.read_text())
        video = sorted(document["database"])[1]
        for one in document["database"][video]["annotations"]:
            one["segment"] = [3.0, 1.0]
        truth.write_text(json.dumps(document))
    (problem,) = [one for one in check_data_set(source).problems if one.video == video]
    assert "3" in problem.rule
    assert "1" in problem.rule
    with pytest.raises(DataError, match=video):
        open_features(source)
    assert video not in open_features(source, on_error="skip").names


def test_a_check_shows_its_progress_where_that_is_asked_for(wtalc, monkeypatch, capsys):
    monkeypatch.setattr("pyws.progress.PLAIN_SECONDS", 0.0)
    for named, shown in (({}, False), ({"quiet": True}, False), ({"quiet": False}, True)):
        check_data_set(wtalc, **named)
        assert bool(capsys.readouterr().err) == shown


def test_annotations_in_a_folder_of_their_own_and_equally_long_videos(wtalc):
    annotations = wtalc / "Thumos14reduced-Annotations"
    annotations.mkdir()
    for path in list(wtalc.glob("*.*")):
        if not path.name.endswith("Features.npy"):
            path.rename(annotations / path.name)
    assert len(open_features(wtalc)) == 6
    (wtalc / "Synthetic-JOINTFeatures.npy").unlink()
    rows = np.random.default_rng(0).normal(size=(6, 7, 8))
    np.save(wtalc / "Thumos14reduced-UNT-JOINTFeatures.npy", rows)
    videos = open_features(wtalc)
    assert np.array_equal(videos.features(4), rows[4].astype(np.float32))
    assert videos.snippets_per_second == 2.5
    np.save(wtalc / "other-Features.npy", rows)
    with pytest.raises(DataError, match=r"must hold one file \*Features.npy, got Thumos14.*, other-Features.npy"):
        open_features(wtalc)


def test_features_that_do_not_fit_the_list_of_videos(wtalc):
    np.save(wtalc / "Synthetic-JOINTFeatures.npy", np.ones((5, 7, 8)))
    with pytest.raises(DataError, match="must have one array for each of 6 videos, got 5"):
        open_features(wtalc)
    np.save(wtalc / "Synthetic-JOINTFeatures.npy", np.ones((6, 8)))
    with pytest.raises(DataError, match=r"must hold a list of arrays or one array .*, got \(6, 8\)"):
        open_features(wtalc)


def test_rgb_and_flow_in_folders_of_their_own(split, native):
    for part in ("train", "test"):
        for path in list((split / part).glob("*.npy")):
            rows = np.load(path)
            write_features(split / "features" / part / "rgb" / path.name, rows[:, :4])
            write_features(split / "features" / part / "flow" / path.name, rows[:, 4:])
            path.unlink()
        (split / part).rmdir()
    assert_same(open_features(split, "test"), open_features(native, "test"))
    name = open_features(split, "test").names[0]
    write_features(split / "features" / "test" / "flow" / f"{name}.npy", np.ones((3, 4)))
    with pytest.raises(
        DataError, match=rf"video '{name}': .*rgb and flow must have as many snippets, .*got .* \(3, 4\)"
    ):
        open_features(split, "test")


def test_lists_choose_and_strings_are_numbers(split):
    document = json.loads((split / "gt.json").read_text())
    for record in document["database"].values():
        for entry in record["annotations"]:
            entry["segment"] = [str(second) for second in entry["segment"]]
    (split / "gt.json").write_text(json.dumps(document))
    names = (split / "split_test.txt").read_text().split()
    (split / "split_test.txt").write_text(names[0] + "\nnowhere\n")
    with pytest.raises(DataError, match="video 'nowhere': is in split_test.txt, must have a record in gt.json"):
        open_features(split, "test")
    assert open_features(split, "test", on_error="skip").names == (names[0],)


def test_names_of_activitynet(native, tmp_path):
    source = tmp_path / "anet"
    write_synthetic(source, SETTINGS, 1, 1)
    for path in list((source / "features").iterdir()):
        path.rename(path.with_name("v_" + path.name))
    assert open_features(source).names == ("synthetic_training_00000", "synthetic_test_00000")
    assert check_data_set(source).problems == ()


def object_npy(path, protocol, entries):
    array = np.empty(len(entries), dtype=object)
    for index, entry in enumerate(entries):
        array[index] = entry
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_large_arrays_stay_on_disk_in_every_protocol(tmp_path, protocol):
    generator = np.random.default_rng(0)
    entries = [generator.normal(size=(n, 2048)).astype(np.float32) for n in (3, 100)]
    entries += [np.asfortranarray(generator.normal(size=(50, 64))), np.ones((2, 3))]
    arrays = index_npy(object_npy(tmp_path / "x.npy", protocol, entries))
    assert [array.shape() for array in arrays] == [(3, 2048), (100, 2048), (50, 64), (2, 3)]
    assert not isinstance(arrays[1].data, bytes)
    for array, entry in zip(arrays, entries, strict=True):
        assert np.array_equal(array.read(), entry)
    whole, data = (tmp_path / "x.npy").read_bytes(), arrays[1].data
    (tmp_path / "x.npy").write_bytes(whole[: data.offset + data.size])
    assert np.array_equal(arrays[1].read(), entries[1])
    assert arrays[1].shape() == (100, 2048)
    (tmp_path / "x.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a safe .npy file"):
        index_npy(tmp_path / "x.npy")
    with pytest.raises(DataError, match="is truncated"):
        arrays[1].shape()


def test_large_strings_of_python_2(tmp_path):
    """BINSTRING, as NumPy wrote arrays under Python 2."""
    rows = np.arange(4096, dtype="<f4").reshape(2, 2048)
    path = object_npy(tmp_path / "x.npy", 3, [rows])
    raw, size = path.read_bytes(), struct.pack("<I", rows.nbytes)
    assert b"B" + size in raw
    path.write_bytes(raw.replace(b"B" + size, b"T" + size))
    assert np.array_equal(index_npy(path)[0].read(), rows)


class Hostile:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Hostile()], "asks for builtins.print"),
        ([np.ones(3), np.array([Hostile()], dtype=object)], "asks for builtins.print"),
        ([np.ones(3), "text"], "entry 1 must be an array"),
        ([np.array([[1], 2], dtype=object)], "entry 0 must be an array of numbers"),
        ([{}], "has no place in an array"),
    ],
)
def test_hostile_features_are_refused(wtalc, entries, message, capsys):
    object_npy(wtalc / "Synthetic-JOINTFeatures.npy", 3, entries)
    with pytest.raises(DataError, match=f"Features.npy: .*{message}"):
        open_features(wtalc)
    assert cli.main(["data", "convert", str(wtalc), str(wtalc.with_name("out"))]) == 1
    assert "ran" not in capsys.readouterr().out


def test_claimed_sizes_are_not_believed(tmp_path):
    rows = np.arange(4096, dtype="<f4").reshape(2, 2048)
    raw = object_npy(tmp_path / "x.npy", 3, [rows]).read_bytes()
    size = struct.pack("<I", rows.nbytes)
    for claimed in (struct.pack("<I", 2**32 - 1), struct.pack("<I", rows.nbytes - 4)):
        (tmp_path / "x.npy").write_bytes(raw.replace(b"B" + size, b"B" + claimed))
        with pytest.raises(DataError, match="is not a safe .npy file"):
            index_npy(tmp_path / "x.npy")


def check(capsys, folder, *words):
    status = cli.main(["data", "check", str(folder), *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_split_without_lists_has_the_subsets_of_its_annotations(split):
    listed = open_features(split)
    for part in ("train", "test"):
        (split / f"split_{part}.txt").unlink()
    alone = open_features(split)
    assert sorted(alone.names) == sorted(listed.names)
    assert (len(alone.names), set(alone.truth.subset)) == (6, {"training", "test"})  # gt.json's words, not the lists'


def test_check_finds_nothing_wrong(native, wtalc, split, capsys):
    for folder, layout in ((native, "native"), (wtalc, "wtalc"), (split, "split")):
        status, report = check(capsys, folder)
        assert (status, report["ok"], report["layout"], report["problems"]) == (0, True, layout, [])
        assert (report["usable"], report["width"]) == (6, 8)


def test_check_names_everything_that_is_wrong(tmp_path, capsys):
    good = {"subset": "training", "duration": 6.4, "tags": ["a"], "annotations": [{"label": "a", "segment": [0, 1]}]}
    changes = {
        "good": {},
        "reversed": {"annotations": [{"label": "a", "segment": [2, 1]}]},
        "empty": {"annotations": [{"label": "a", "segment": [1, 1]}]},
        "late": {"annotations": [{"label": "a", "segment": [1, 9]}]},
        "untagged": {"tags": [], "annotations": []},
        "mismatch": {"tags": ["b"]},
        "gone": {},
        "long": {"duration": 64.0},
        "nan": {},
        "wide": {},
        "cut": {},
    }
    database = {name: {**good, **change} for name, change in changes.items()}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    for name in (*changes, "stray"):
        write_features(tmp_path / "features" / f"{name}.npy", np.full((10, 4), np.nan if name == "nan" else 1))
    write_features(tmp_path / "features" / "wide.npy", np.ones((10, 5)))
    (tmp_path / "features" / "gone.npy").unlink()
    cut = tmp_path / "features" / "cut.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    status, report = check(capsys, tmp_path)
    said = {(one["video"], one["unusable"]): one["rule"] for one in report["problems"]}
    assert status == 1
    assert set(said) == {
        *((name, True) for name in ("reversed", "nan", "gone", "wide", "cut")),
        *((name, False) for name in ("empty", "late", "untagged", "mismatch", "long", "stray")),
    }
    assert said["late", False] == "segment [1, 9] ends after the video"
    assert said["long", False] == "has 10 snippets, but 64 seconds are 100.0"
    assert said["mismatch", False] == "has tags b, but segments of a"
    assert report["usable"] == 6
    assert check(capsys, tmp_path, "--need-tags")[1]["usable"] == 5
    status = cli.main(["data", "check", str(tmp_path)])
    assert "unusable: video 'gone': must have features, got none" in capsys.readouterr().out
    assert status == 1
    _, skipped = convert_features(tmp_path, tmp_path / "out", on_error="skip")
    assert {problem.video for problem in skipped} == {"reversed", "nan", "gone", "wide", "cut"}
    assert check(capsys, tmp_path / "out")[0] == 0
    with pytest.raises(DataError, match="and 3 more"):
        convert_features(tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_real_annotations_of_thumos14_with_features_beside_them(shared, tmp_path):
    annotations = tmp_path / "Thumos14reduced-Annotations"
    annotations.symlink_to(shared / "data" / "thumos_gt" / "Thumos14reduced-Annotations")
    seconds = np.load(annotations / "duration.npy")[:, 0]
    object_npy(tmp_path / "x-I3D-JOINTFeatures.npy", 3, [np.ones((int(s * 25 / 16), 2), "f4") for s in seconds])
    training, test = (open_features(tmp_path, subset) for subset in ("validation", "test"))
    assert (len(training), len(test), len(training.classes)) == (200, 212, 20)
    assert training.truth.counts()["instances"] == {"test": 3358, "validation": 3007}
    with pytest.raises(DataError, match="video 'video_test_0000270': must have a tag, got none"):
        open_features(tmp_path, "test", need_tags=True)
    report = check_data_set(tmp_path)
    assert report.to_dict()["ok"] is True
    assert sum("but segments of" in problem.rule for problem in report.problems) == 28
    assert [one.video for one in report.problems if one.rule == "has no tags"] == ["video_test_0000270"]


def test_a_conversion_killed_at_its_last_step_goes_on(tmp_path, monkeypatch):
    """It has its final name by then, and the note on its origin is still there."""
    write_synthetic(tmp_path / "split", SyntheticConfig(classes=2, width=4, snippets=40), 2, 1, layout="split")
    unlink = Path.unlink

    def killed(path, **options):
        if path.name == "origin.json":
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        convert_features(tmp_path / "split", tmp_path / "out")
    assert (tmp_path / "out" / "origin.json").exists()
    counts, _ = convert_features(tmp_path / "split", tmp_path / "out")
    assert counts["resumed"] == 3
    convert_features(tmp_path / "split", tmp_path / "whole")
    names = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*")}
    assert names == {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    with pytest.raises(DataError, match="must be a new or empty folder"):
        convert_features(tmp_path / "split", tmp_path / "out")
