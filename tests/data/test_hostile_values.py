"""Values that are right by their format and would hurt: numbers without end, tables within each other, names twice."""

import io
import json
import os
import pickle
import shutil
import struct
from collections import OrderedDict
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pyws import DataError
from pyws.checkpoint import check_weights, read_tensors, read_torch, write_checkpoint
from pyws.cli import main
from pyws.data.annotations.corrections import read_corrections
from pyws.data.features.archives import archived_videos, open_archive
from pyws.data.features.packs import note_of
from pyws.data.tagged.a2d_files import read_videoset
from pyws.data.tagged.tags_table import read_tags_table
from pyws.data.video.sources import find_videos
from pyws.exchange.readers.formats import read_review
from pyws.files import _object, read_json, walk, write_json
from pyws.folders import only_writer
from pyws.models.classifiers import CLASSIFIER, open_classifier, read_state
from pyws.models.image_networks.small2d import Small2D
from pyws.report.labels import draw_labels
from pyws.segments.detection.maps import KIND, open_maps
from pyws.settings import read_toml
from pyws.sharding import WHOLE


class Name(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_name_that_comes_twice_is_found_in_one_pass():
    """Late among many; each compared with each would take hours for the largest file that is read."""
    names = [Name(f"k{index}") for index in range(2000)]
    with pytest.raises(DataError, match="got 'k1999' twice"):
        _object("a.json", [(name, 0) for name in [*names, Name("k1999")]])
    assert Name.compared < 20 * len(names)


@pytest.mark.parametrize("unit", ["[],", "{},", "0,"])
def test_json_is_bounded_by_what_its_values_take(unit, tmp_path, monkeypatch):
    """A megabyte of empty lists takes 26 megabytes as values."""
    monkeypatch.setenv("PYWS_MAX_MIB", "1")
    path = tmp_path / "a.json"
    path.write_text("[" + unit * (900_000 // len(unit)) + "0]")
    with pytest.raises(DataError, match=r"a\.json: must unpack to at most 1 MiB, got more; PYWS_MAX_MIB"):
        read_json(path)
    entry = '{"label": "jump", "score": 0.5, "segment": [1.25, 4.75]},'
    path.write_text("[" + entry * (900_000 // len(entry)) + "0]")
    assert read_json(path)[0]["label"] == "jump"


def test_times_of_corrections_are_numbers_of_seconds(tmp_path):
    path = tmp_path / "corrections.json"
    far = {"label": "a", "segment": [0, 10**4000]}
    document = {"format": "pyws corrections", "version": 1, "videos": {"v": {"present": [far]}}}
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"corrections\.json: holds a number that is too long"):
        read_corrections(path)


def test_notes_of_feature_files_are_read_as_json_is():
    class File:
        def __init__(self, note):
            self.note = note

        def metadata(self):
            return {"pyws": self.note}

    for note in ('{"fps": 1%s}' % ("0" * 400), "[" * 100_000):
        with pytest.raises(DataError, match="v.safetensors: must have a note in JSON"):
            note_of("v.safetensors", File(note))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("lr = " + "1" * 5000, "must be TOML"),
        ("lr = " + "[" * 5000, "must be TOML"),
        ("a." * 900 + "b = 1", "must have tables within each other at most 16 deep"),
    ],
)
def test_settings_without_end_are_named(text, rule, tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(text)
    if rule == "must be TOML":
        with pytest.raises(DataError, match=rule):
            read_toml(str(path))
    assert main(["doctor", "--config", str(path)]) == 1
    assert f"{path}: {rule}" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["1" * 5000, "1" * 400, "1" * 10, "٣", "-1", "1.5"])
def test_numbers_of_videoset_are_short(number, tmp_path):
    path = tmp_path / "videoset.csv"
    path.write_text(f"v,11,0,1,{number},2,3,4,0\n")
    with pytest.raises(DataError, match=r"videoset\.csv: line 1: .* must be numbers") as error:
        read_videoset(path)
    assert len(str(error.value)) < 500


def zipped(body: bytes) -> bytes:
    """A file of torch.save that holds a pickle and no storage."""
    packed = io.BytesIO()
    with ZipFile(packed, "w") as file:
        for name, contents in (("data.pkl", body), ("version", b"3"), ("byteorder", b"little")):
            file.writestr(f"a/{name}", contents)
    return packed.getvalue()


TEXT = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
PAIRS = b"".join(b"J" + struct.pack("<i", number) + b"K\x02\x86" for number in range(10**4))
MULTIPLIED = {
    "bytearray": b"](" + b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R" * 3 + b"e.",
    "encode": b"]("
    + TEXT
    + b"h\x01X\x06\0\0\0latin1\x86"
    + b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1\x86R" * 9
    + b"e.",
    "tables": b"](](" + PAIRS + b"eq\x01" + b"ccollections\nOrderedDict\nh\x01\x85R" * 2000 + b"e.",
    "tensors": b"](" + b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R" * 3 + b"e.",
}


@pytest.mark.parametrize("what", MULTIPLIED)
@pytest.mark.parametrize("zip_", [True, False])
def test_files_of_torch_cannot_multiply_their_bytes(what, zip_, tmp_path):
    """torch itself makes gigabytes of these, though it runs no code."""
    body = b"\x80\x02" + MULTIPLIED[what]
    old = b"".join(pickle.dumps(one, 2) for one in (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True}))
    data = zipped(body) if zip_ else old + body + pickle.dumps([], 2)
    for name, read in (("a.pth", read_state), ("a.pt", open_archive)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: .*(which no table of tensors needs|than its bytes can hold)"):
            read(tmp_path / name)


def test_old_files_of_torch_hold_what_they_claim(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pth").read_bytes()
    assert read_torch(tmp_path / "a.pth", check_weights)["a"].tolist() == [1] * 4
    at = data.index(b"cpuq") if b"cpuq" in data else data.index(b"cpu") + 3
    at = data.index(b"K\x04", at)
    (tmp_path / "a.pth").write_bytes(data[:at] + b"J\xff\xff\xff\x7f" + data[at + 2 :])
    with pytest.raises(DataError, match=r"a\.pth: .*claims more values than the file has bytes"):
        read_torch(tmp_path / "a.pth", check_weights)


@pytest.mark.parametrize("zip_", [True, False])
def test_honest_files_of_torch_are_read(zip_, tmp_path):
    tensors = OrderedDict(a=torch.arange(6.0).view(2, 3).T, b=torch.tensor([1, 2]), c=torch.nn.Parameter(torch.ones(1)))
    tensors |= {f"half{index}": torch.ones(2, 2, dtype=torch.bfloat16) for index in range(100)}
    tensors._metadata = OrderedDict({"": {"version": 1}})
    torch.save({"state": tensors, "epoch": 3, "note": "text"}, tmp_path / "a.pth", _use_new_zipfile_serialization=zip_)
    found = read_torch(tmp_path / "a.pth", check_weights)
    assert found["epoch"] == 3
    assert found["state"].keys() == tensors.keys()
    assert all(torch.equal(found["state"][name], one) for name, one in tensors.items())


def test_weights_are_bounded(tmp_path, monkeypatch):
    """A file that is mostly a hole takes no room on a disk, and much in memory; so does one that is packed."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(tmp_path / "a.safetensors", 8 + len(header) + (4 << 20))
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "b.pth")
    with ZipFile(tmp_path / "b.pth") as before, ZipFile(tmp_path / "c.pth", "w", ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, before.read(name))
    assert (tmp_path / "c.pth").stat().st_size < 1 << 20
    for name in ("a.safetensors", "b.pth", "c.pth"):
        assert read_state(tmp_path / name)["a"].shape == (1 << 20,)
    monkeypatch.setenv("PYWS_MAX_WEIGHTS_MIB", "2")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        with pytest.raises(DataError, match=rf"{name}: must have at most 2 MiB, got more; PYWS_MAX_WEIGHTS_MIB"):
            read_state(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_a_table_within_several_is_gone_through_once(suffix, tmp_path):
    """Thirty of them, each twice in the next, have a billion names."""
    table = {"x": np.ones((2, 3), np.float32) if suffix == ".pkl" else torch.ones(2, 3)}
    for _ in range(29):
        table = {"a": table, "b": table}
    path = tmp_path / f"v{suffix}"
    path.write_bytes(pickle.dumps(table)) if suffix == ".pkl" else torch.save(table, path)
    assert list(open_archive(path).shapes) == ["a/" * 29 + "x"]


def test_views_that_repeat_their_values_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setenv("PYWS_MAX_MIB", "1")
    one = torch.zeros(1, dtype=torch.bfloat16).expand(100_000, 4)
    torch.save({"a": one}, tmp_path / "a.pt")
    torch.save(dict.fromkeys("abc", one), tmp_path / "b.pt")
    assert archived_videos(tmp_path / "a.pt")["a"].shape() == (100_000, 4)
    with pytest.raises(DataError, match=r"b\.pt: must unpack to at most 1 MiB"):
        archived_videos(tmp_path / "b.pt")["b"].shape()


@pytest.mark.parametrize(
    "said",
    [
        {
            "__metadata__": {
                "pyws": json.dumps({"kind": "k", "version": 3, "sha256": "\ud800" * 64, "order": [], "facts": {}})
            }
        },
        {
            "__metadata__": {
                "pyws": json.dumps({"kind": "k", "version": 3, "sha256": "é" * 64, "order": [], "facts": {}})
            }
        },
        {"__metadata__": {"pyws": "[" * 10**5}},
        {"__metadata__": {"pyws": "9" * 5000}},
    ],
)
def test_headers_of_tensors_that_are_odd(said, tmp_path):
    header = json.dumps(said).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(DataError, match=r"a\.safetensors: is no checkpoint"):
        read_tensors(path)


def test_a_header_may_say_that_there_are_no_notes(tmp_path):
    header = json.dumps({"__metadata__": None}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert read_tensors(tmp_path / "a.safetensors") == ({}, {})


@pytest.mark.filterwarnings("error")  # what is wrong is said once
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"videos": "v", "classes": ["a"], "scores": {}},
        {"videos": ["w"], "classes": ["a"], "scores": {}},
        {"videos": [["v"]], "classes": ["a"], "scores": {}},
        {"videos": ["v"], "classes": 5, "scores": {}},
        {"videos": ["v"], "classes": ["a"], "scores": 7},
        {"videos": ["v"], "classes": ["a"], "scores": {"v": "x"}},
        {"videos": ["v"], "classes": ["a"], "scores": {"v": [1, 2, 3]}},
        {"videos": ["v"], "classes": ["a"], "scores": {"v": [1e39]}},
        {"videos": ["v"], "classes": ["a"], "scores": {"v": [-1e39]}},
        {"videos": ["short"], "classes": ["a"], "scores": {}},
    ],
)
def test_maps_that_say_something_else_of_themselves(facts, tmp_path):
    """Their checksum is right: whoever makes a file can make that as well."""
    tensors = {name: torch.zeros(3, 1) for name in ("v", "short")}
    tensors |= {"v/seconds": torch.arange(4.0), "short/seconds": torch.arange(3.0)}
    write_checkpoint(tmp_path / "maps.safetensors", KIND, tensors, facts)
    with pytest.raises(DataError, match=r"maps\.safetensors: does not say its videos, classes and scores"):
        open_maps(tmp_path / "maps.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": 5},
        {"settings": None},
        {"settings": {"times": [1]}},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"videos": ["v"]},
        {"videos": {"v": 3}},
        {"videos": {"v": {"snippets": 0}}},
        {"videos": {"v": {"snippets": "3"}}},
        {"videos": {"v": {"snippets": 3, "seconds": "x"}}},
        {"videos": {"v": {"snippets": 3, "seconds": -1}}},
    ],
)
def test_notes_of_labels_that_say_something_else(change, tmp_path):
    path, note = tmp_path / "labels.safetensors", tmp_path / "labels.safetensors.json"
    save_file({"v": np.ones((3, 2), np.float32)}, path)
    said = {"settings": {}, "classes": ["a", "b"], "videos": {"v": {"snippets": 3, "seconds": 6.0}}}
    write_json(note, said)
    assert open_maps(path).read("v").edges.tolist() == [0, 2, 4, 6]
    assert [*draw_labels({"labels": path}, tmp_path / "plots", quiet=True)] == ["v"]
    write_json(note, said | change)
    for read in (open_maps, lambda path: draw_labels({"labels": path}, tmp_path / "plots", quiet=True)):
        with pytest.raises(DataError, match=r"labels\.safetensors\.json: "):
            read(path)


def test_labels_of_other_classes_than_their_note(tmp_path):
    save_file({"v": np.ones((3, 2), np.float32)}, tmp_path / "labels.safetensors")
    said = {"settings": {}, "classes": ["a"], "videos": {"v": {"snippets": 3}}}
    write_json(tmp_path / "labels.safetensors.json", said)
    with pytest.raises(DataError, match="must have labels of video 'v', a column for each of its classes"):
        draw_labels({"labels": tmp_path / "labels.safetensors"}, tmp_path / "plots", quiet=True)


def test_maps_of_numbers_that_numpy_has_not_are_left_out(tmp_path):
    header = json.dumps({"v": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(DataError, match=r"a\.safetensors: must hold activation maps"):
        open_maps(tmp_path / "a.safetensors", ["a", "b"])


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "nope"},
        {"name": "../../x"},
        {"labels": 5},
        {"labels": [[1], 2, 3]},
        {"labels": ["a"]},
        {"frames": "x"},
        {"short_side": 10**15},
        {"short_side": -1},
    ],
)
def test_classifiers_that_say_something_else_of_themselves(facts, tmp_path):
    path = tmp_path / "a.safetensors"
    said = {"name": "small2d", "layer": "layers", "labels": ["a", "b", "c"], "frames": 1, "short_side": 0}
    write_checkpoint(path, CLASSIFIER, Small2D(3).state_dict(), said)
    assert open_classifier(path).labels == ("a", "b", "c")
    write_checkpoint(path, CLASSIFIER, Small2D(3).state_dict(), {**said, **facts})
    with pytest.raises(DataError, match=r"a\.safetensors: (is of no network of pyws|must say its labels by name)"):
        open_classifier(path)


@pytest.fixture
def endless(tmp_path, monkeypatch):
    """A folder with 1,200 others within each other; a path has room for two thousand."""
    monkeypatch.chdir(tmp_path)
    for name in ["endless"] + 1200 * ["a"]:
        os.mkdir(name)
        os.chdir(name)
    os.chdir(tmp_path)
    yield tmp_path / "endless"
    os.chdir(tmp_path)
    for _ in range(1200):  # what removes a folder goes down into it as deeply
        os.rename("endless/a", "next")
        shutil.rmtree("endless")
        os.rename("next", "endless")


def test_folders_without_end_are_named(endless):
    for read in (find_videos, lambda given: read_review(given[0])):
        with pytest.raises(DataError, match="must not be nested deeper than 64 folders"):
            read([endless])


def test_folders_without_end_may_hold_a_result(endless):
    """What killed writers left is looked for, and files of pyws are not so deep."""
    with only_writer(endless):
        assert len(list(walk(endless / "a"))) == 65


@pytest.mark.parametrize("what", ["far", "merged", "linked", "columns"])
def test_cells_of_workbooks_are_bounded(what, tmp_path):
    """A few bytes say that 17 billion cells are one; a single cell makes a table of all that are before it."""
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "tags.xlsx"
    workbook = openpyxl.Workbook()
    for row in (["video", "tag"], ["a", "dog"], ["b", None]):
        workbook.active.append(row)
    workbook.active.merge_cells("B2:B3")
    workbook.save(path)
    assert read_tags_table(path).tags == {"a": ("dog",), "b": ("dog",)}
    if what == "far":
        workbook.active["XFD1048576"] = "x"
        workbook.save(path)
    else:
        with ZipFile(path) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        where = "A:XFD" if what == "columns" else "A4:XFD1048576"
        range_ = f'<hyperlinks><hyperlink ref="{where}"/></hyperlinks>' if what == "linked" else ""
        old = b'<mergeCell ref="B2:B3"'
        sheet = members["xl/worksheets/sheet1.xml"]
        assert old in sheet
        if range_:
            sheet = sheet.replace(b"</mergeCells>", b"</mergeCells>" + range_.encode())
        else:
            sheet = sheet.replace(old, old.replace(b"B2:B3", where.encode()))
        with ZipFile(path, "w") as packed:
            for name, data in members.items():
                packed.writestr(name, sheet if name.endswith("sheet1.xml") else data)
    with pytest.raises(DataError, match=r"tags\.xlsx: must (have at most 5000000 cells|name merged cells by two)"):
        read_tags_table(path)


def test_links_in_folders_of_output_lead_nowhere(tmp_path):
    """Whoever may write where a result is to be could have another file of the user written over."""
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    out = tmp_path / "out"
    (out / ".run").mkdir(parents=True)
    (out / ".a.json.0.tmp").symlink_to(mine)
    write_json(out / "a.json", {"a": 1})
    assert read_json(out / "a.json") == {"a": 1}
    for name in (f"{WHOLE.index}-of-1.jsonl", "door"):
        (out / ".run" / name).symlink_to(mine)
        with pytest.raises(OSError, match="symbolic links"), only_writer(out) as writer:
            writer.append("video", 1)
        assert mine.read_text() == "mine"
        shutil.rmtree(out / ".run")
        (out / ".run").mkdir()


@pytest.mark.parametrize("use", ["shape", "read"])
def test_an_array_that_is_gone_since_is_an_error_of_its_file(use, tmp_path):
    np.savez(tmp_path / "set.npz", v1=np.ones((5, 8)), v2=np.ones((6, 8)))
    known = archived_videos(tmp_path / "set.npz")["v1"]
    assert known.shape() == known.read().shape == (5, 8)
    np.savez(tmp_path / "set.npz", v2=np.ones((6, 8)), v3=np.ones((7, 8)))
    with pytest.raises(DataError, match=r"set\.npz: must hold 'v1' as it did, got v2, v3"):
        getattr(known, use)()
