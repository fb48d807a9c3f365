"""Numbers of lines, headers of arrays and lengths that nothing says: what an error names is what is there."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pyws.data.annotations.ava import _second
from pyws.data.annotations.corrections import Corrected
from pyws.data.annotations.safe_pickle import _encode, load_pickle
from pyws.data.csv_table import read_json_lines, rows_of
from pyws.data.features.archives import UnreadableFile
from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features
from pyws.data.features.files import scores_of, stored_file, write_features
from pyws.data.features.layouts import list_features
from pyws.data.features.packs import _Pack
from pyws.data.features.streams import JoinedStreams
from pyws.data.features.time_base import read_label_note
from pyws.data.npy import read_npy_header
from pyws.data.tagged.layouts import open_mask_set
from pyws.data.video.frames import write_picture
from pyws.data.video.headers import header_of
from pyws.errors import DataError
from pyws.files import write_json


@pytest.mark.parametrize("line", [1, 2, 4])
def test_a_quote_that_is_left_open_is_named_by_its_line(line: int) -> None:
    lines = ["a,b\n"] * (line - 1) + ['"a,b\n', "c,d\n"]
    with pytest.raises(DataError, match=f"line {line}: .*quote"):
        list(rows_of("table.csv", lines))


def test_both_versions_of_the_header_of_an_array_are_read() -> None:
    for write in (np.lib.format.write_array_header_1_0, np.lib.format.write_array_header_2_0):
        memory = io.BytesIO()
        write(memory, {"descr": "<f4", "fortran_order": False, "shape": (3, 5)})
        memory.write(b"data")
        memory.seek(0)
        assert read_npy_header(memory) == ((3, 5), np.dtype("<f4"))
        assert memory.read() == b"data"


def test_a_header_that_says_it_is_vast_is_not_read_whole() -> None:
    class Asked(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            self.most = max(self.most, size or 0)
            return super().read(size)

    file = Asked(b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"{}")
    with pytest.raises(ValueError, match="header|EOF|size|expected"):
        read_npy_header(file)
    assert 0 < file.most <= 2**16


@pytest.mark.parametrize("cell", ["902.5", "-1", "1e6", "nan", "inf", "x"])
def test_a_second_is_a_whole_number(cell: str) -> None:
    with pytest.raises(DataError, match="line 3: the second must be a whole number"):
        _second("a.csv", 3, cell)
    assert [_second(None, 1, text) for text in ("902", "0902", "902.0", "0")] == [902, 902, 902, 0]


def test_a_pickle_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pickle").write_bytes(pickle.dumps({"a": 1}) + bytes(2 * 2**20))
    load_pickle(tmp_path / "a.pickle")
    monkeypatch.setenv("PYWS_MAX_MIB", "1")
    with pytest.raises(DataError, match="must unpack to at most 1 MiB"):
        load_pickle(tmp_path / "a.pickle")


def test_the_length_of_a_folder_is_not_known_without_a_rate(tmp_path: Path) -> None:
    for number in range(4):
        write_picture(tmp_path / f"{number}.png", np.zeros((6, 8, 3), np.uint8))
    lengths = [header_of(tmp_path, rate).seconds for rate in (None, 0.0, 8.0)]
    assert lengths == [0, 0, 0.5]


def _own(root: Path, rows: str) -> Path:
    for name in ("v", "w"):
        write_picture(root / "videos" / name / "0.png", np.zeros((24, 24, 3), np.uint8))
    (root / "tags.csv").write_text(f"video,tag,subset\n{rows}")
    return root


def test_a_video_is_of_one_subset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: subset must be one of train, val and test, got 'test'"):
        open_mask_set(_own(tmp_path, "v,zebra,train\nv,cow,test\nw,cow,train\n"))


def test_videos_for_validation_are_drawn_only_where_none_are_named(tmp_path: Path) -> None:
    named = open_mask_set(_own(tmp_path / "a", "v,zebra,train\nw,cow,val\n"), validation=1)
    assert [video.subset for video in named.videos] == ["train", "val"]


def test_a_video_without_tags_is_odd_or_unusable_but_not_both(tmp_path: Path) -> None:
    record = {"subset": "training", "duration": 10.0}
    tagged = record | {"annotations": [{"label": "a", "segment": [0, 1]}]}
    write_json(tmp_path / "truth.json", {"database": {"v": tagged, "w": record | {"annotations": []}}})
    for name in "vw":
        write_features(tmp_path / "features" / f"{name}.npy", np.ones((16, 4)))
    for need, fatal in ((False, [False]), (True, [True])):
        problems = check_data_set(tmp_path, need).problems
        assert [problem.fatal for problem in problems if problem.video == "w"] == fatal


def test_a_segment_between_the_middles_of_snippets_is_of_the_nearest() -> None:
    one = Corrected((("a", 3.6, 3.9),), ())
    assert np.flatnonzero(one.known("a", np.arange(6) + 0.5) > 0).tolist() == [3]


@pytest.mark.parametrize("notes", [{"pyws": "[]"}, {"videos": "3"}, {"pyws": "{}", "videos": '"a"'}])
def test_notes_of_a_pack_are_objects(notes: dict[str, str], tmp_path: Path) -> None:
    save_file({"v/features": np.ones((2, 3), np.float32)}, tmp_path / "pack-00000.safetensors", notes)
    with pytest.raises(DataError, match=r"pack-00000\.safetensors: must have its notes in objects of JSON"):
        _Pack(tmp_path / "pack-00000.safetensors")


def test_pickled_bytes_are_encoded_in_one_way() -> None:
    assert _encode("\xe9a", "latin1") == b"\xe9a"
    for encoding in ("utf-8", "ascii", "rot13"):
        with pytest.raises(pickle.UnpicklingError, match=f"must be encoded as latin1, got '{encoding}'"):
            _encode("a", encoding)


@pytest.mark.parametrize("classes", ["ab", ["a", 3], None, {"a": 1}])
def test_classes_beside_labels_are_a_list_of_names(classes: object, tmp_path: Path) -> None:
    note = {"settings": {}, "videos": {"v": {"snippets": 3}}, "classes": classes}
    write_json(tmp_path / "labels.safetensors.json", note)
    with pytest.raises(DataError, match=r"labels\.safetensors\.json: does not say its classes"):
        read_label_note(tmp_path / "labels.safetensors", 1.5)
    write_json(tmp_path / "labels.safetensors.json", note | {"classes": ["a", "b"]})
    assert read_label_note(tmp_path / "labels.safetensors", 1.5).classes == ("a", "b")


@pytest.mark.parametrize("line", ["[1, 2", "3", "[]", '{"b": 1}', "[" * 5000])
def test_a_line_that_is_no_object_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 2: must be a row"):
        read_json_lines(tmp_path / "a.jsonl", "a row", ("a",))
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": [], "b": 2}\n')
    assert read_json_lines(tmp_path / "a.jsonl", "a row", ("a",)) == [{"a": 1}, {"a": [], "b": 2}]


def test_notes_of_a_pack_are_json(tmp_path: Path) -> None:
    for notes in ("{", "[" * 5000):
        save_file({"v/features": np.ones((2, 3), np.float32)}, tmp_path / "pack-00000.safetensors", {"videos": notes})
        with pytest.raises(DataError, match=r"pack-00000\.safetensors: must have its notes in JSON: "):
            _Pack(tmp_path / "pack-00000.safetensors")


def test_a_file_that_cannot_be_read_says_why() -> None:
    broken = UnreadableFile(Path("a.h5"), "is broken")
    for use in (broken.shape, broken.read):
        with pytest.raises(DataError, match=r"^a\.h5: is broken$"):
            use()


def test_an_array_of_objects_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"v\.npy: "):
        stored_file(tmp_path / "v.npy").read()


def _scored(path: Path, rows: int, classes: int | None) -> Path:
    tensors = {"features": np.ones((rows, 2), np.float32)}
    if classes is not None:
        tensors["scores"] = np.full((rows, classes), rows, np.float32)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(("rgb", "flow", "mean"), [(3, 3, 3.5), (None, 3, None), (3, None, None), (3, 2, None)])
def test_scores_of_two_streams_are_their_mean(
    rgb: int | None, flow: int | None, mean: float | None, tmp_path: Path
) -> None:
    one, two = _scored(tmp_path / "a.safetensors", 3, rgb), _scored(tmp_path / "b.safetensors", 4, flow)
    found = scores_of(JoinedStreams(tmp_path, stored_file(one), stored_file(two)))
    assert (found is None) if mean is None else (found.shape == (3, 3) and (found == mean).all())


def _documents(folder: Path, said: object, truth: object = None) -> Path:
    write_features(folder / "features" / "v.npy", np.ones((4, 2), np.float32))
    write_json(folder / "dataset.json", said)
    if truth is None:
        record = {"subset": "training", "duration": 4.0, "annotations": [{"label": "a", "segment": [0, 1]}]}
        truth = {"database": {"v": record, "w": record}}
    write_json(folder / "truth.json", truth)
    return folder


def test_rescaled_features_have_no_rates_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rescaled features have the rates that follow from durations"):
        list_features(_documents(tmp_path, {"rescaled": True, "snippets_per_second": {"v": 2.0}}))
    assert list_features(_documents(tmp_path, {"rescaled": False, "snippets_per_second": {"v": 2.0}})).rate("v") == 2.0


@pytest.mark.parametrize("truth", [{"database": [1]}, {"a": 1}])
def test_a_truth_without_videos_is_named(truth: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"truth\.json: .*must hold an object 'database'"):
        list_features(_documents(tmp_path, {}, truth))


def test_every_video_has_a_rate_where_some_have(tmp_path: Path) -> None:
    write_features(tmp_path / "features" / "w.npy", np.ones((4, 2), np.float32))
    with pytest.raises(DataError, match="must have snippets_per_second in dataset.json, as other videos have"):
        open_features(_documents(tmp_path, {"snippets_per_second": {"v": 2.0}}))
    folder = _documents(tmp_path, {"snippets_per_second": {"v": 2.0, "w": 4.0}})
    assert open_features(folder).names == ("v", "w")


def test_the_truth_beside_one_file_is_given(tmp_path: Path) -> None:
    folder = _documents(tmp_path, {})
    found = open_features(folder / "features" / "v.npy", annotations=folder / "truth.json", on_error="skip")
    assert (found.names, found.classes, found.tags.tolist()) == (("v",), ("a",), [[True]])
