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
from pyws.data.csv_table import rows_of
from pyws.data.features.check import check_data_set
from pyws.data.features.files import write_features
from pyws.data.features.packs import _Pack
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
