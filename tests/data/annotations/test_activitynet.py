"""Readers and writers of temporal annotations: real files, round trips, and files made to harm."""

import contextlib
import gzip
import io
import json
import math
import os
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws.data.annotations.activitynet import (
    read_ambiguous,
    read_detections,
    read_truth,
    read_wtalc,
    write_detections,
    write_truth,
)
from pyws.data.annotations.names import as_named_by
from pyws.data.annotations.safe_pickle import load_npy, load_pickled_array
from pyws.errors import DataError
from pyws.pickles import BoundedUnpickler

DATABASE = {
    "v1": {"subset": "test", "duration": 12.5, "annotations": [{"label": "b", "segment": [1, 4]}]},
    "v2": {"subset": "training", "annotations": []},
    "v3": {
        "subset": "test",
        "annotations": [{"label": "a", "segment": ["0.5", "2"]}, {"label": "b", "segment": [0, 1]}],
    },
}  # fmt: skip


def wtalc_folder(folder, labels=None, segments=None, **others):
    """A folder like the one that the literature shares, with two videos."""
    files = {
        "videoname": np.array([b"v1", b"v2"]),
        "subset": np.array([b"validation", b"test"]),
        "labels_all": objects([["a", "b"], []]),
        "labels": objects([["a", "b"], ["a"]] if labels is None else labels),
        "segments": objects([[[0.0, 1.0], [2.0, 3.5]], [[1.0, 1.5]]] if segments is None else segments),
        "duration": np.array([[10.0], [20.0]]),
        **others,
    }
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_truth_becomes_columns():
    truth = read_truth({"database": DATABASE})
    rows = truth.instances
    assert rows.videos == ("v1", "v2", "v3")
    assert rows.labels == ("b", "a")
    assert rows.video.tolist() == [0, 2, 2]
    assert rows.label.tolist() == [0, 1, 0]
    assert (rows.start.tolist(), rows.end.tolist()) == ([1.0, 0.5, 0.0], [4.0, 2.0, 1.0])
    assert truth.subset == ("test", "training", "test")
    assert truth.tags == (("b",), (), ("a", "b"))
    assert truth.duration[0] == 12.5
    assert np.isnan(truth.duration[1:]).all()
    assert truth.counts() == {
        "videos": {"test": 2, "training": 1},
        "instances": {"test": 3, "training": 0},
        "labels": 2,
        "label_mismatches": 0,
        "videos_without_tags": ["v2"],
    }


@pytest.mark.parametrize("name", ["truth.json", "truth.json.gz"])
def test_truth_round_trip(tmp_path, name):
    truth = read_truth({"database": DATABASE, "ambiguous": {"v1": [[3, 5.5]]}})
    write_truth(tmp_path / name, truth)
    again = read_truth(tmp_path / name)
    assert again.instances.start.tolist() == truth.instances.start.tolist()
    assert again.instances.labels == truth.instances.labels
    assert again.tags == truth.tags
    assert again.ambiguous == {"v1": [(3.0, 5.5)]}
    assert np.array_equal(again.duration, truth.duration, equal_nan=True)


def test_detections_round_trip_bit_for_bit(tmp_path):
    rows = [
        {"label": "a", "score": 0.1 + 0.2, "segment": [1 / 3, 2 / 3]},
        {"label": "b", "score": -1, "segment": [0, 0]},
    ]
    found = read_detections({"results": {"v1": rows, "v2": []}, "version": "x"})
    write_detections(tmp_path / "d.json", found, {"method": "none"})
    document = json.loads((tmp_path / "d.json").read_text())
    assert document["results"] == {"v1": rows, "v2": []}
    assert document["external_data"] == {"method": "none"}
    assert read_detections(tmp_path / "d.json").score.tolist() == found.score.tolist()


def truth_with(**record):
    return {"database": {"v": {"subset": "test", "annotations": [], **record}}}


def entry(**changes):
    return {"label": "a", "segment": [0, 1], **changes}


BAD_TRUTH = [
    ({}, "must hold an object 'database', got nothing"),
    ({"results": {}}, "must hold an object 'database', got 'results'"),
    ({"database": []}, "must hold an object 'database'"),
    ({"database": {"v": []}}, "video 'v' must be an object with a subset"),
    ({"database": {"v": {"annotations": []}}}, "video 'v' must be an object with a subset"),
    ({"database": {"v": {"subset": "test", "annotations": {}}}}, "video 'v' must have a list of annotations"),
    (truth_with(annotations=[3]), "video 'v', entry 0: must be an object, got int"),
    (truth_with(annotations=[entry(), {"label": "a"}]), "video 'v', entry 1: segment is missing"),
    (truth_with(annotations=[{"segment": [0, 1]}]), "video 'v', entry 0: label is missing"),
    (truth_with(annotations=[entry(label=3.5)]), "entry 0: label must be a string or a whole number, got 3.5"),
    (truth_with(annotations=[entry(segment=[4.0, 2.0])]), r"finite start <= end, got \[4.0, 2.0\]"),
    (truth_with(annotations=[entry(segment=[0, math.nan])]), r"finite start <= end, got \[0, nan\]"),
    (truth_with(annotations=[entry(segment=[0, math.inf])]), "finite start <= end"),
    (truth_with(annotations=[entry(segment=[0, None])]), "finite start <= end"),
    (truth_with(annotations=[entry(segment=[0, 10**400])]), "holds a number that is too long"),
    (truth_with(annotations=[entry(segment=[0, 1, 2])]), "finite start <= end"),
    (truth_with(annotations=[entry(segment=[0, 1]), entry(segment=[0, 1, 2, 3])]), "entry 1: segment must be"),
    (truth_with(annotations=[entry(segment="01")]), "finite start <= end, got '01'"),
    (truth_with(annotations=[entry(segment=[[0, 1]])]), "finite start <= end"),
    (truth_with(duration="long"), "video 'v': duration must be a number of seconds, got 'long'"),
    (truth_with(duration=-1), "video 'v': duration must be a number of seconds, got -1"),
    (truth_with(tags="a"), "video 'v': tags must be a list of strings, got 'a'"),
    ({**truth_with(), "ambiguous": []}, "ambiguous must be an object"),
    ({**truth_with(), "ambiguous": {"v": [[2, 1]]}}, r"ambiguous 'v' must be \[start, end\]"),
    ({**truth_with(), "ambiguous": {"v": 3}}, r"ambiguous 'v' must be \[start, end\]"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "message"), BAD_TRUTH)
def test_bad_truth(document, message, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"truth.json: .*{message}"):
        read_truth(path)


BAD_DETECTIONS = [
    ({"database": {}}, "must hold an object 'results'"),
    ({"results": {"v": {}}}, "video 'v' must have a list of entries, got dict"),
    ({"results": {"v": [entry()]}}, "video 'v', entry 0: score is missing"),
    ({"results": {"u": [entry(score=1)], "v": [entry(score=math.nan)]}}, "video 'v', entry 0: score must be a finite"),
    ({"results": {"v": [entry(score=[1])]}}, "score must be a finite number"),
]


@pytest.mark.parametrize(("document", "message"), BAD_DETECTIONS)
def test_bad_detections(document, message):
    with pytest.raises(DataError, match=message):
        read_detections(document)


def test_files_that_are_not_json(tmp_path):
    for name, content, message in [
        ("cut.json", b'{"database": {"v"', "is not valid JSON"),
        ("list.json", b"[]", "must be a JSON object, got list"),
        ("cut.json.gz", gzip.compress(b'{"database": {}}', mtime=0)[:-9], "is truncated or damaged"),
        ("damaged.json.gz", gzip.compress(bytes(range(256)), mtime=0)[:20] + b"\xff" * 60, "is truncated or damaged"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_truth(tmp_path / name)


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["v", "subset", "annotations", "label", "segment", "score", "duration", "tags"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(junk)
def test_any_document_is_read_or_refused(document):
    for read, whole in ((read_truth, {"database": document}), (read_detections, {"results": document})):
        with contextlib.suppress(DataError):
            read(whole)
    with contextlib.suppress(DataError):
        read_truth(truth_with(annotations=[document]))


# The annotation folder of THUMOS14.


def test_wtalc_folder(tmp_path):
    wtalc_folder(tmp_path)
    (tmp_path / "Ambiguous_test.txt").write_text("v2  0.0 1.5\nv2  3.0 4.0\n")
    truth = read_truth(read_wtalc(tmp_path))
    assert truth.instances.videos == ("v1", "v2")
    assert truth.subset == ("validation", "test")
    assert truth.duration.tolist() == [10.0, 20.0]
    assert truth.tags == (("a", "b"), ())
    assert truth.instances.end.tolist() == [1.0, 3.5, 1.5]
    assert truth.ambiguous == {"v2": [(0.0, 1.5), (3.0, 4.0)]}
    assert truth.counts()["label_mismatches"] == 1


def test_real_thumos14_counts(shared):
    truth = read_wtalc(shared / "data/thumos_gt/Thumos14reduced-Annotations")
    assert truth.counts() == {
        "videos": {"test": 212, "validation": 200},
        "instances": {"test": 3358, "validation": 3007},
        "labels": 20,
        "label_mismatches": 28,
        "videos_without_tags": ["video_test_0000270"],
    }
    assert sum(map(len, truth.ambiguous.values())) == 99
    snippets = truth.duration[np.array(truth.subset) == "validation"] * 25 / 16
    assert np.median(snippets) == pytest.approx(235, abs=1)


def test_real_safe_reading_equals_numpy(shared):
    for path in sorted((shared / "data/thumos_gt/Thumos14reduced-Annotations").glob("*.npy")):
        expected, got = np.load(path, allow_pickle=True), load_npy(path)
        assert got.dtype == expected.dtype
        assert got.tolist() == expected.tolist()


def test_a_release_with_numbers_as_strings(shared):
    counts = read_truth(shared / "data/thumos_gt/gtad/thumos_gt.json").counts()
    assert counts["videos"] == {"test": 210, "train": 200}
    assert counts["instances"]["test"] == 3311


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": np.array([b"test"])}, "subset.npy: must have one entry for each of 2 videos, got 1"),
        ({"segments": [[[0, 1]], [[1, 2]]]}, "segments.npy: video 'v1' must have as many segments as labels"),
        ({"segments": [[[0, 1], [5, 2]], [[1, 2]]]}, r"entry 1: segment must be .* got \[5, 2\]"),
        ({"segments": [3, [[1, 2]]]}, "segments.npy: video 'v1' must have as many segments as labels"),
        ({"duration": np.array([[math.nan], [1]])}, "duration must be a number of seconds, got nan"),
    ],
)
def test_bad_wtalc_folders(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_wtalc(wtalc_folder(tmp_path, **changes))


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"videoname.npy: cannot be read: No such file"):
        read_wtalc(tmp_path)
    with pytest.raises(DataError, match=r"nowhere.txt: cannot be read"):
        read_ambiguous(tmp_path / "nowhere.txt")
    (tmp_path / "bad.txt").write_text("v1 3.0\n")
    with pytest.raises(DataError, match=r"bad.txt: line 1 must be VIDEO START END, got 'v1 3.0'"):
        read_ambiguous(tmp_path / "bad.txt")


# Pickles.


def npy(data, shape=(1,), descr="|O"):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("protocol", range(5))
def test_every_protocol_that_numpy_saved_with(protocol):
    array = objects(
        [np.arange(6.0).reshape(2, 3), ["a", b"b", None, (1, 2.5, True)], np.float32(3), np.array(["x", "yz"])]
    )
    got = load_pickled_array(pickle.dumps(array, protocol))
    assert np.array_equal(got[0], array[0])
    assert got[1] == array[1]
    assert got[2] == 3.0
    assert got[3].tolist() == ["x", "yz"]


@pytest.mark.parametrize("array", [np.asfortranarray(np.arange(12).reshape(3, 4)), np.array([[b"ab"], [b"c"]]),
                                   objects([["a"], []]).reshape(2, 1), np.array(True), np.zeros((0, 3))])  # fmt: skip
def test_arrays_of_all_kinds(array):
    got = load_pickled_array(pickle.dumps(array, 4))
    assert got.dtype == array.dtype
    assert got.tolist() == array.tolist()


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


SELF = b"\x80\x02]q\x00h\x00a."  # a list that holds itself
HOSTILE = {
    "system": pickle.dumps([Runs(os.system, "touch broken")]),
    "eval": pickle.dumps(Runs(eval, "1")),
    "nested": pickle.dumps(objects([[Runs(os.getcwd)]])),
    "getattr": pickle.dumps(Runs(getattr, "a", "upper")),
    "ndarray": pickle.dumps(Runs(np.ndarray, (10**12,))),
    "numpy function": pickle.dumps(Runs(np.load, "x")),
    "class": pickle.dumps(DataError),
    "instance": pickle.dumps(DataError("a", "b")),
    "dictionary": pickle.dumps({"a": 1}),
    "set": pickle.dumps({1}),
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.",
    "persistent": b"Pname\n.",
    "extension": b"\x80\x02\x82\x01.",
    "no instruction": b"\x80\x02\xff.",
    "unset memo": b"\x80\x02h\x07.",
    "itself": SELF,
    "deep": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "nothing": b"",
    "cut": pickle.dumps(objects([["a"], ["b"]]))[:-4],
    "state of a list": b"\x80\x02]K\x01b.",
    "state of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}\x86b.",
    "call of a number": b"\x80\x02K\x01)R.",
    "huge memo index": b"\x80\x02]r\xff\xff\xff\x7f.",
    "codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
}
ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
F8 = b"(cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
HUGE = ARRAY + b"(K\x01(J\xff\xff\xff\x7ft"
O8 = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR"
HOSTILE |= {
    "larger than its bytes": HUGE + F8[1:] + b"\x89U\x08" + b"\0" * 8 + b"tb.",
    "objects that are not there": HUGE + O8 + b"\x89]tb.",
    "objects from bytes": ARRAY + b"(K\x01(K\x01t" + O8 + b"\x89U\x08" + b"A" * 8 + b"tb.",
    "strings of no size": HUGE + F8[1:].replace(b"f8", b"S0") + b"\x89U\x00tb.",
    "state too short": ARRAY + b"(K\x01tb.",
    "no state": ARRAY + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(npy(HOSTILE[name]))
    with pytest.raises(DataError, match=r"a.npy: "):
        load_npy("a.npy")
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cnumpy\nndarrays\n.", "asks for numpy.ndarrays, which"),
        (b"cmynumpy\nndarray\n.", "asks for mynumpy.ndarray, which"),
        (b"cnumpy\ndtype\n}b.", "sets the state of|instruction or reference"),  # would be that of every later dtype
        (b"cnumpy\ndtype\nK\x01b.", "sets the state of something"),
        (b"cnumpy\ndtype\n](X\x02\x00\x00\x00f8eR.", "calls something"),  # with a list in the place of a tuple
    ],
)
def test_what_is_nearly_what_a_pickle_may_ask_for(data, message):
    """Refused where it stands: what reads the result afterwards may take it for something else."""
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickled_array(b"\x80\x02" + data)


def test_a_budget_can_be_spent_whole_and_no_further():
    reader = BoundedUnpickler(io.BytesIO(), 8, "latin1")
    reader.spend(5)
    reader.spend(3)
    with pytest.raises(pickle.UnpicklingError, match="more values than its bytes can hold"):
        reader.spend(1)


def test_the_hand_made_pickles_are_well_formed():
    good = ARRAY + b"(K\x01(K\x01t" + F8[1:] + b"\x89U\x08" + b"\0" * 8 + b"tb."
    assert load_pickled_array(good).tolist() == [0.0]
    good = ARRAY + b"(K\x01(K\x01t" + O8 + b"\x89]K\x05atb."
    assert load_pickled_array(good).tolist() == [5]


def test_references_do_not_multiply_the_work():
    bomb = ["x"]
    for _ in range(30):
        bomb = [bomb] * 10
    assert load_pickled_array(pickle.dumps(bomb)) is not None


def test_headers_that_lie(tmp_path):
    good = pickle.dumps(objects([["a"]]))
    for content, message in [
        (npy(good, shape=(2,)), r"must hold an array of shape \(2,\)"),
        (npy(b"\0" * 8, shape=(10**12,), descr="<f8"), "does not fit into"),
        (npy(b"\0" * 8, shape=(2,), descr="<f8"), "does not fit into|is not a safe"),
        (npy(b"\0" * 8, shape=(2,), descr="<U100000"), "does not fit into"),
        (b"PK\x03\x04", "is not a safe .npy file"),
        (b"", "is not a safe .npy file"),
        (npy(good).replace(b"\x01\x00", b"\x07\x00", 1), "format version must be 1.0 or 2.0, got 7.0"),
    ]:
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_npy(tmp_path / "a.npy")
    np.save(tmp_path / "big.npy", np.zeros(2**18))
    with pytest.raises(DataError, match="must be at most 1 MiB, got 2"):
        load_npy(tmp_path / "big.npy", limit_mib=1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pickles_are_read_or_refused(data):
    whole = bytearray(pickle.dumps(objects([["a", "b"], [[0.5, 1.5]], np.arange(3)]), data.draw(st.integers(2, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    # Whatever else it raises, load_npy turns into a DataError; a crash or an allocation of gigabytes it could not.
    with contextlib.suppress(Exception):
        load_pickled_array(bytes(whole))


def test_labels_as_people_write_them():
    """Spaces, case and numbers make no classes, Ambiguous is none, and a test set has no annotations."""
    labels = ["Long jump ", "long jump", "Long  jump", 3, "Ambiguous"]
    rows = [{"label": label, "segment": [k, k + 1]} for k, label in enumerate(labels)]
    record = {"subset": "test", "annotations": rows, "tags": ["LONG JUMP", 3, "ambiguous"]}
    truth = read_truth({"database": {"a": record, "b": {"subset": "testing"}}})
    assert truth.instances.labels == ("Long jump", "3")
    assert truth.instances.label.tolist() == [0, 0, 0, 1]
    assert truth.tags == (("Long jump", "3"), ())
    assert truth.ambiguous == {"a": [(4.0, 5.0)]}
    found = read_detections({"results": {"v": [{"label": 3, "segment": [0, 1], "score": 1}]}})
    assert found.labels == ("3",)


def test_no_segments_are_a_file_like_any_other(tmp_path):
    found = read_detections({"results": {"v": []}})
    write_detections(tmp_path / "d.json", found, {})
    again = read_detections(tmp_path / "d.json")
    assert (len(again), again.videos) == (0, ("v",))


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (["v_a"], ["a"]),
        (["d"], ["v_d"]),
        (["b"], ["b"]),  # both b and v_b are annotated
        (["c"], ["c"]),  # neither c nor v_c is
        (["a", "v_a"], ["a", "v_a"]),  # would come twice
    ],
)
def test_videos_are_named_as_in_the_truth(found, named):
    videos = {
        name: {"subset": "test", "annotations": [{"label": "x", "segment": [0, 1]}]}
        for name in ("a", "b", "v_b", "v_d")
    }
    truth = read_truth({"database": videos})
    rows = read_detections({"results": {name: [{"label": "x", "score": 1, "segment": [0, 1]}] for name in found}})
    assert sorted(as_named_by(rows, truth).videos) == named


def test_labels_are_spelled_as_in_the_truth():
    rows = [{"label": "High jump", "segment": [0, 1]}, {"label": "Dive", "segment": [1, 2]}]
    truth = read_truth({"database": {"a": {"subset": "test", "annotations": rows}}})
    scored = [{"label": label, "score": 1, "segment": [0, 1]} for label in ("HIGH JUMP", "dive", "Other")]
    found = as_named_by(read_detections({"results": {"a": scored}}), truth)
    assert [found.labels[label] for label in found.label] == ["High jump", "Dive", "Other"]
    both = replace(found, labels=("high jump", "HIGH JUMP", "Other"))  # one spelling for both would join two classes
    assert as_named_by(both, truth).labels == both.labels
