"""No file hurts: pipes and devices, archives and pickles that grow, links to other files, claims that are not kept."""

import gzip
import json
import os
import pickle
import shutil
import stat
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from pyws import DataError
from pyws.checkpoint import read_tensors
from pyws.data.annotations.activitynet import read_ambiguous, read_detections, read_truth
from pyws.data.annotations.ava import read_action_list
from pyws.data.annotations.pickle_index import index_npy
from pyws.data.annotations.safe_pickle import load_npy, load_pickled_array
from pyws.data.csv_table import read_table
from pyws.data.features.dataset import open_features
from pyws.data.features.files import stored_file, stored_in
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.data.synthetic.watch_streams import read_watch
from pyws.data.tagged.a2d_files import read_annotation, read_videoset
from pyws.data.tagged.rle import decode_mask
from pyws.data.tagged.tags_table import read_tags_table
from pyws.data.video.decoders import PyAV
from pyws.data.video.frames import open_frames, read_image, read_mask
from pyws.errors import WriteError
from pyws.files import bound, read_json, write_json
from pyws.models.classifiers import load_classifier, open_classifier
from pyws.settings import read_toml

READERS = {
    "a.json": read_json,
    "b.json.gz": read_json,
    "truth.json": read_truth,
    "found.json": read_detections,
    "ambiguous.txt": read_ambiguous,
    "actions.pbtxt": read_action_list,
    "a.npy": load_npy,
    "b.npy": index_npy,
    "c.npy": lambda path: stored_file(path).shape(),
    "d.npy": lambda path: stored_file(path).read(),
    "features.npz": open_features,
    "features.h5": open_features,
    "features.pkl": open_features,
    "features.pt": open_features,
    "features.csv": lambda path: open_features(path.parent),
    "index.jsonl": lambda path: stored_in(path.parent),
    "a.safetensors": lambda path: stored_file(path).shape(),
    "b.safetensors": read_tensors,
    "c.safetensors": open_classifier,
    "weights.pth": lambda path: load_classifier("efficientnet-lite0", path),
    "a.csv": lambda path: list(read_table(path, ("video",))),
    "tags.csv": read_tags_table,
    "videoset.csv": read_videoset,
    "a.mat": read_annotation,
    "a.npz": read_watch,
    "a.png": read_image,
    "b.png": read_mask,
    "a.mp4": open_frames,
    "b.mp4": lambda path: PyAV(path).count(),
    "a.toml": read_toml,
}


@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices_are_refused_without_waiting(name, tmp_path):
    os.mkfifo(tmp_path / name)
    (tmp_path / "dev").mkdir()
    os.symlink("/dev/zero", tmp_path / "dev" / name)
    for path in (tmp_path / name, tmp_path / "dev" / name):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            READERS[name](path)


def test_pipes_devices_and_folders_are_not_written_over(tmp_path):
    """A file takes the place of another at the end; root's would take that of /dev/null."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder")):
        with pytest.raises(WriteError, match=f"{name}.json: cannot be written: must be a regular file, found {kind}"):
            write_json(tmp_path / f"{name}.json", {})
    assert stat.S_ISFIFO((tmp_path / "pipe.json").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder.json", "pipe.json", "zero.json"]


@pytest.mark.parametrize(("name", "layout"), [("truth.json", "native"), ("gt.json", "split")])
@pytest.mark.parametrize("text", ["[]", "null", "7", '"truth.json"'])
def test_annotations_of_a_set_that_are_no_object_are_named(name, layout, text, tmp_path):
    write_synthetic(tmp_path / "set", SyntheticConfig(classes=2, width=4, snippets=40), 2, 1, layout=layout)
    (tmp_path / "set" / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: must be a JSON object, got"):
        open_features(tmp_path / "set")


def test_what_files_unpack_to_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * (3 << 20) + b"[]"))
    (tmp_path / "a.csv").write_text("video\n" + "a\n" * (3 << 19))
    for name in ("a.npz", "tags.xlsx"):
        with ZipFile(tmp_path / name, "w", ZIP_DEFLATED) as packed:
            packed.writestr("X.npy", b"\0" * (3 << 20))
    assert read_json(tmp_path / "a.json.gz") == []
    monkeypatch.setenv("PYWS_MAX_MIB", "2")
    pytest.importorskip("openpyxl")
    for name, read in (
        ("a.json.gz", read_json),
        ("a.csv", READERS["a.csv"]),
        ("a.npz", read_watch),
        ("tags.xlsx", read_tags_table),
    ):
        with pytest.raises(DataError, match="unpack to at most 2 MiB, got more; PYWS_MAX_MIB"):
            read(tmp_path / name)
    monkeypatch.setenv("PYWS_MAX_MIB", "many")
    with pytest.raises(ValueError, match="PYWS_MAX_MIB: must be a whole number > 0, got 'many'"):
        bound("PYWS_MAX_MIB", 1)


def _array_of(shape, dtype, data):
    """The pickle of an array whose data is what the bytes ``data`` put on the stack."""
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01" + shape
    return start + b"cnumpy\ndtype\n(U" + bytes([len(dtype)]) + dtype + b"K\x00K\x01tR\x89" + data + b"tb"


@pytest.mark.parametrize("what", ["encode", "scalar", "arrays", "object arrays"])
def test_pickles_cannot_multiply_their_bytes(what):
    """One text of a million bytes, and a thousand short instructions that would each make another of its size."""
    size = 999_999
    kept = b"X" + size.to_bytes(4, "little") + b"a" * size + b"q\x00"  # reference 0, for which h\x00 stands
    if what == "object arrays":
        kept = b"](" + b"K\x00" * size + b"eq\x00"
    shape = b"J" + size.to_bytes(4, "little") + b"\x85"
    one = {
        "encode": b"c_codecs\nencode\n(h\x00U\x06latin1tR",
        "scalar": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x07S999999K\x00K\x01tRh\x00tR",
        "arrays": _array_of(shape, b"u1", b"h\x00"),
        "object arrays": _array_of(shape, b"O8", b"h\x00"),
    }[what]
    with pytest.raises((ValueError, pickle.UnpicklingError), match="more values than its bytes can hold"):
        load_pickled_array(b"](" + kept + one * 1000 + b"e.")


def test_honest_pickles_fit(tmp_path):
    entries = np.empty(3, dtype=object)
    entries[:] = [np.ones((50, 4)), ["a"] * 1000, "text"]
    np.save(tmp_path / "a.npy", entries, allow_pickle=True)
    found = load_npy(tmp_path / "a.npy")
    assert found[0].shape == (50, 4)
    assert found[1] == ["a"] * 1000


@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
def test_hdf5_reads_no_other_file(how, tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(b"do not read this" * 4)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["reS_id"] = np.ones((8, 8))
    with h5py.File(tmp_path / "a.mat", "w") as file:
        if how == "link":
            file["reS_id"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/reS_id")
        elif how == "storage":
            file.create_dataset("reS_id", (8, 8), "u1", external=[(str(tmp_path / "secret"), 0, 64)])
        else:
            layout = h5py.VirtualLayout((8, 8), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "reS_id", (8, 8))
            file.create_virtual_dataset("reS_id", layout)
    with pytest.raises(DataError, match="must hold its data itself"):
        read_annotation(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("chunk", "must unpack to at most 1024 MiB"),
        ("empty", "must hold numbers under 'reS_id'"),
        ("type", "must hold numbers under 'reS_id'"),
        ("name", "is damaged or no HDF5 file"),
    ],
)
def test_hdf5_that_holds_no_array_of_a_fair_size(how, message, tmp_path):
    """Four values in a chunk of 3 GB, an array without a shape, a type in place of one, a name that is no text."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w") as file:
        if how == "chunk":
            file.create_dataset("reS_id", (2, 2), "f8", maxshape=(None, None), chunks=(20_000, 20_000))
        elif how == "name":
            file[b"v\xff"] = file["reS_id"] = np.ones((2, 2))
        else:
            file["reS_id"] = h5py.Empty("f8") if how == "empty" else np.dtype("f8")
    with pytest.raises(DataError, match=rf"a\.mat: {message}"):
        read_annotation(tmp_path / "a.mat")
    shutil.copy(tmp_path / "a.mat", tmp_path / "a.h5")
    with pytest.raises(DataError, match=r"a\.h5: "):
        open_features(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"size": [1 << 26, 1 << 26], "counts": "1"}, "at most 67108864 pixels"),
        ({"size": [0, 1 << 40], "counts": ""}, "whole numbers of at most 67108864"),
        ({"size": [0, 10**400], "counts": ""}, "whole numbers of at most 67108864"),
        ({"size": [2, 2], "counts": "o" * 100}, "run lengths in letters"),
        ({"size": [2, 2], "counts": "é"}, "run lengths in letters"),
        ({"size": [2, 2], "counts": "0" * 10**6}, "runs must fill 2x2"),
        ({"size": [2, 2], "counts": "4P"}, "runs must fill 2x2"),
        ({"size": [2, 2], "counts": [1, 3]}, "counts, a text"),
        ({"size": [2.0, 2], "counts": "4"}, "size must be two whole numbers"),
        ({"size": [-2, -2], "counts": "4"}, "size must be two whole numbers"),
        ({"size": [True, 4], "counts": "4"}, "size must be two whole numbers"),
        ({"counts": "4"}, "size must be two whole numbers"),
        ([], "must be an object"),
    ],
)
def test_run_lengths_that_are_none(document, message):
    with pytest.raises(DataError, match=message):
        decode_mask(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"v1": 1, "v2": {"a": 1, "a": 2}}', "must have each key once, got 'a' twice"),
        ('{"v1": ' + "9" * 5000 + "}", "holds a number that is too long"),
        ('{"v1": 1' + "0" * 4000 + "}", "must be whole numbers of 64 bits, got one of 4001 digits"),
        ('{"v1": 18446744073709551616}', "must be whole numbers of 64 bits"),
        ('{"v1": -9223372036854775809}', "must be whole numbers of 64 bits"),
        ('{"v1": [18446744073709551615, -9223372036854775808]}', None),
    ],
)
def test_json_says_what_is_odd(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    if message is None:
        assert read_json(tmp_path / "a.json") == json.loads(text)
        return
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")
