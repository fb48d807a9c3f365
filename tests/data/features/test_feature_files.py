"""Features in the kinds of files that people have: the same arrays out of each, and what is said of bad ones."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features
from pyws.data.features.files import scores_of, write_features, write_snippets
from pyws.errors import DataError

h5py = pytest.importorskip("h5py")
VIDEOS = {name: np.random.default_rng(k).normal(size=(5 + k, 4)).astype("f4") for k, name in enumerate(("v1", "v2"))}


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_csv(path, array, header=None, number=False):
    rows = [[*([str(k)] * number), *map(str, row)] for k, row in enumerate(array.tolist())]
    path.write_text("\n".join(",".join(row) for row in ([header] if header else []) + rows) + "\n")


ONE = {
    ".npz": lambda path, array: np.savez(path, array),
    "features.npz": lambda path, array: np.savez_compressed(path, features=array, fps=25, frames=np.ones((3, 2))),
    ".h5": lambda path, array: write_h5(path, {"feats": array, "labels": np.ones((2, 2))}),
    ".hdf5": lambda path, array: write_h5(path, {"I3D": array}),
    ".pkl": lambda path, array: path.write_bytes(pickle.dumps(array, protocol=4)),
    "5.pickle": lambda path, array: path.write_bytes(pickle.dumps({"feat": array}, protocol=5)),
    "F.pkl": lambda path, array: path.write_bytes(pickle.dumps(np.asfortranarray(array), protocol=5)),
    ".pt": lambda path, array: torch.save(torch.from_numpy(array), path),
    "old.pth": lambda path, array: torch.save(
        {"features": torch.from_numpy(array)}, path, _use_new_zipfile_serialization=False
    ),
    ".csv": write_csv,
    "header.csv": lambda path, array: write_csv(path, array, ["f0", "f1", "f2", "f3"]),
    "numbers.csv": lambda path, array: write_csv(path, array, ["0", "1", "2", "3"]),
    "pandas.csv": lambda path, array: write_csv(path, array, ["", "0", "1", "2", "3"], number=True),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_video_a_file(kind, tmp_path):
    suffix = "." + kind.rsplit(".", 1)[1]
    (tmp_path / "features").mkdir()
    for name, array in VIDEOS.items():
        ONE[kind](tmp_path / "features" / f"{name}{suffix}", array)
    videos = open_features(tmp_path)
    assert videos.names == tuple(VIDEOS)
    for index, array in enumerate(VIDEOS.values()):
        assert np.array_equal(videos.features(index), array)
    alone = open_features(tmp_path / "features" / f"v2{suffix}")
    assert alone.names == ("v2",)
    assert np.array_equal(alone.features(0), VIDEOS["v2"])


MANY = {
    "set.npz": lambda path: np.savez(path, **VIDEOS),
    "set.h5": lambda path: write_h5(path, VIDEOS),
    "groups.h5": lambda path: write_h5(path, {f"{name}/c3d_features": array for name, array in VIDEOS.items()}),
    "streams.h5": lambda path: write_h5(
        path, {f"{v}/{s}": a for v, x in VIDEOS.items() for s, a in (("rgb", x[:, :2]), ("flow", x[:, 2:]))}
    ),
    "set.pkl": lambda path: path.write_bytes(pickle.dumps(VIDEOS)),
    "nested.pkl": lambda path: path.write_bytes(pickle.dumps({v: {"feats": x, "fps": 25} for v, x in VIDEOS.items()})),
    "set.pt": lambda path: torch.save({name: torch.from_numpy(array) for name, array in VIDEOS.items()}, path),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("place", ["", "features"])
def test_many_videos_a_file(name, place, tmp_path):
    (tmp_path / "set" / place).mkdir(parents=True)
    path = tmp_path / "set" / place / name
    MANY[name](path)
    (tmp_path / "set" / "tags.csv").write_text("video,tag\nv1,Diving\nv2,Archery\n")
    tagged, alone = open_features(tmp_path / "set", need_tags=True), open_features(path)
    assert tagged.names == alone.names == ("v1", "v2")
    assert tagged.classes == ("Archery", "Diving")
    for index, array in enumerate(VIDEOS.values()):
        assert np.array_equal(tagged.features(index), array)
        assert np.array_equal(alone.features(index), array)


def test_what_was_read_is_not_shared_with_the_caller(tmp_path):
    MANY["set.pkl"](tmp_path / "set.pkl")
    videos = open_features(tmp_path / "set.pkl")
    videos.features(0)[:] = 0
    assert np.array_equal(videos.features(0), VIDEOS["v1"])


@pytest.mark.parametrize("longer", ["rgb", "flow"])
def test_streams_that_differ_by_a_row(longer, tmp_path):
    rows = VIDEOS["v1"]
    for stream, half in (("rgb", rows[:, :2]), ("flow", rows[:, 2:])):
        write_features(tmp_path / "features" / stream / "v1.npy", half if stream == longer else half[:-1])
    assert np.array_equal(open_features(tmp_path).features(0), rows[:-1])
    said = [one.rule for one in check_data_set(tmp_path).problems]
    assert any("rgb and flow differ by a snippet" in rule for rule in said)
    write_features(tmp_path / "features" / longer / "v1.npy", np.ones((9, 2)))
    with pytest.raises(DataError, match="rgb and flow must have as many snippets, or one of them one more"):
        open_features(tmp_path)


@pytest.mark.parametrize("longer", ["rgb", "flow"])
def test_times_and_scores_of_streams_that_differ_by_a_row(longer, tmp_path):
    rows = {stream: 4 if stream == longer else 3 for stream in ("rgb", "flow")}
    for stream, count in rows.items():
        spans = np.stack([np.arange(count), np.arange(count) + 1.0], 1)
        tensors = {"features": np.ones((count, 2), np.float32), "seconds": spans}
        scores = {"scores": np.full((count, 5), 2.0 if stream == "rgb" else 4.0, np.float32)}
        note = {"fps": 1.0, "window": 1, "stride": 1, "offset": 0.0, "start": 0.0, "end": 4.0, "first": 0.0}
        write_snippets(tmp_path / "features" / stream / "v1.safetensors", tensors | scores, note)
    opened = open_features(tmp_path)
    assert opened.features(0).shape == (3, 4)
    times, scores = opened.times[0], scores_of(opened.stored[0])
    assert times.spans.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert times.middles.tolist() == [0.5, 1.5, 2.5]
    assert scores.tolist() == [[3.0] * 5] * 3


class Hostile:
    def __reduce__(self):
        return (print, ("ran",))


def claims(path):
    """A table whose array claims to repeat one value over terabytes."""
    torch.save(torch.zeros(1).expand(1 << 20, 1 << 20), path)


def bytearray_of_terabytes(path):
    path.write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 1 << 42) + b"abc.")


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, 4), "f4")) | {"shape": (1 << 18, 4)}
        with packed.open("v.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bytes(4 << 20))


BAD = {
    "code.pkl": (lambda path: path.write_bytes(pickle.dumps({"v": Hostile()})), "asks for builtins.print"),
    "list.pkl": (lambda path: path.write_bytes(pickle.dumps([1, 2])), r"must hold an array \(snippets, width\)"),
    "terabytes.pkl": (bytearray_of_terabytes, "is not a safe pickle of arrays"),
    "object.npz": (lambda path: np.savez(path, v=np.array([Hostile()])), "got pickled objects under 'v.npy'"),
    "bomb.npz": (zip_bomb, "must unpack to at most 2 MiB"),
    "cut.npz": (lambda path: path.write_bytes(b"PK\x03\x04 cut"), r"is damaged or no .npz file"),
    "code.pt": (lambda path: torch.save({"v": Hostile()}, path), r"asks for .*, which no table of tensors needs"),
    "claims.pt": (claims, "must unpack to at most 2 MiB"),
    "cut.h5": (lambda path: path.write_bytes(b"\x89HDF cut"), "cannot be read: .*signature"),
    "text.csv": (lambda path: path.write_text("a,b\n1,x\n"), r"is damaged or no .csv file: could not convert"),
    "ragged.csv": (lambda path: path.write_text("1,2\n1\n"), r"is damaged or no .csv file"),
    "wide.npy": (lambda path: np.save(path, np.ones((1 << 16, 8))), "must unpack to at most 2 MiB"),
    "large.safetensors": (lambda path: write_features(path, np.ones((1 << 16, 16))), "must unpack to at most 2 MiB"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(name, tmp_path, monkeypatch, capsys):
    write, message = BAD[name]
    (tmp_path / "features").mkdir()
    write(tmp_path / "features" / name)
    monkeypatch.setenv("PYWS_MAX_MIB", "2")
    for source in (tmp_path, tmp_path / "features" / name):
        with pytest.raises(DataError, match=rf"{name}.*{message}"):
            open_features(source)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("how", ["link", "storage", "self"])
def test_hdf5_of_features_reads_no_other_file_and_ends(how, tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("v1")
        if how == "link":
            group["feats"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        elif how == "storage":
            (tmp_path / "secret").write_bytes(bytes(64))
            group.create_dataset("feats", (8, 8), "u1", external=[(str(tmp_path / "secret"), 0, 64)])
        else:
            group["feats"], group["again"] = VIDEOS["v1"], group
    if how == "self":
        assert np.array_equal(open_features(path).features(0), VIDEOS["v1"])
        return
    with pytest.raises(DataError, match="must hold its data itself"):
        open_features(path)


def test_other_files_are_no_features(tmp_path):
    (tmp_path / "v1.txt").write_text("1 2\n")
    with pytest.raises(DataError, match=r"v1.txt: must be a file of features: .npy, .safetensors, .npz"):
        open_features(tmp_path / "v1.txt")
