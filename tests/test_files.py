"""Files are whole or untouched; errors name the file."""

import dataclasses
import errno
import gzip
import json
import os
import resource
import subprocess
import sys
import typing
from collections.abc import Mapping

import numpy as np
import pytest

import pyws.files as files
from pyws import DataError
from pyws.data.features.files import write_features
from pyws.data.video.frames import write_picture
from pyws.errors import WriteError
from pyws.files import append_line, atomic_write, made_of, read_json, write_json


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.npy", "a.safetensors", "a.json"])
def test_a_file_that_does_not_fit_is_an_error_and_nothing_is_left(name, tmp_path):
    """At any size: libraries that write to the descriptor say nothing where the last part of it does not fit."""
    values = np.random.default_rng(0).integers(0, 256, (50, 33, 3), dtype=np.uint8)
    write = {
        "jpg": lambda path: write_picture(path, values),
        "png": lambda path: write_picture(path, values),
        "npy": lambda path: write_features(path, values[..., 0] / 255),
        "safetensors": lambda path: write_features(path, values[..., 0] / 255),
        "json": lambda path: write_json(path, values.tolist()),
    }[name.partition(".")[2]]
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(1, len(whole), max(1, len(whole) // 50)):
        (tmp_path / name).unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with pytest.raises(WriteError, match=rf"{name}: cannot be written"):
                write(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not os.listdir(tmp_path)


def test_a_kill_leaves_the_old_file_and_what_the_next_writer_takes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pyws.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('new' * 10000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
        assert path.read_text() == "old"
        assert len(os.listdir(tmp_path)) == 2
    with atomic_write(path) as file:
        file.write("whole")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_what_the_system_refuses_is_not_tried_under_another_name(tmp_path, monkeypatch):
    tried = []

    def refuse(path, *rest):
        tried.append(path)
        raise OSError(errno.EROFS if len(tried) < 9 else errno.ELOOP, "read-only")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WriteError, match="read-only"), atomic_write(tmp_path / "a.txt"):
        pass
    assert len(tried) == 1


def test_two_writers_of_a_file_do_not_mix(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_write(target) as first:
        first.write("first")
        with atomic_write(target) as second:
            second.write("second, longer")
        assert target.read_text() == "second, longer"
        with atomic_write(target) as third:
            third.write("third")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "first")]


def test_a_file_that_was_renamed_before_it_was_locked_is_not_written(tmp_path, monkeypatch):
    """Its writer finished between the opening and the locking."""
    lock, moved = files.lock_file, tmp_path / "of another writer"

    def late(descriptor, wait=True):
        if not moved.exists():
            os.replace(tmp_path / ".a.txt.0.tmp", moved)
        return lock(descriptor, wait)

    monkeypatch.setattr(files, "lock_file", late)
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("whole")
    assert ((tmp_path / "a.txt").read_text(), moved.read_text()) == ("whole", "")


def test_what_is_written_is_durable(tmp_path, monkeypatch):
    said, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: said.append("synced"))
    monkeypatch.setattr(os, "replace", lambda *names: (said.append("renamed"), replace(*names)))
    write_json(tmp_path / "a.json", {})
    assert said == ["synced", "renamed"]
    append_line(tmp_path / "lines", "one")
    assert said == ["synced", "renamed", "synced"]


def test_a_line_is_whole_or_not_there(tmp_path, monkeypatch):
    append_line(tmp_path / "lines", "one")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    with pytest.raises(WriteError, match="lines: cannot be written: No space left on device"):
        append_line(tmp_path / "lines", "another")
    assert (tmp_path / "lines").read_text() == "one\n"


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_json_round_trip_and_nan(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, 2.5, None]}


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.json", b'{"a": [1, 2', "is not valid JSON"),
        ("bytes.json", b"\xff\xfe{}", "is not UTF-8 text: byte 0 of 4"),
        ("empty.json", b"", "is not valid JSON"),
        ("deep.json", b"[" * 100_000, "is nested too deeply"),
        ("cut.json.gz", gzip.compress(json.dumps(list(range(1000))).encode(), mtime=0)[:-20], "is truncated"),
        ("not.json.gz", b"{}", "cannot be read"),
    ],
)
def test_bad_json_names_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no.json: cannot be read: No such file"):
        read_json(tmp_path / "no.json")
    with pytest.raises(DataError, match="must be a regular file, found a folder"):
        read_json(tmp_path)


def test_names_are_one_line_in_errors(tmp_path):
    """Newlines, escape codes and bytes that are no text in the name of a file cannot forge lines of a report."""
    for name, said in (
        ("new\nline", r"new\nline"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("\udcff", r"\udcff"),
        ("ünï", "ünï"),
    ):
        with pytest.raises(DataError) as caught:
            read_json(tmp_path / name)
        assert str(caught.value) == f"{tmp_path}/{said}: cannot be read: No such file or directory"


def test_a_file_that_is_read_only_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    path.write_text("{}")
    usual = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: place != path and usual(place, mode))  # root may write all
    with pytest.raises(WriteError, match="kept.json: cannot be written: it is read-only"):
        write_json(path, {"a": 1})
    assert path.read_text() == "{}"
    assert os.listdir(tmp_path) == ["kept.json"]


@dataclasses.dataclass(frozen=True)
class Inner:
    rates: tuple[float, ...] = (1.0,)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    size: tuple[int, int]
    how: typing.Literal["fast", "slow"] = "fast"
    most: int | None = None
    inner: Inner = Inner()
    by_name: Mapping[str, bool] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.size[0] < 1:
            raise ValueError(f"size must be >= 1, got {self.size}")


def test_objects_of_json_become_what_the_annotations_say():
    fields = {"name": "a", "size": [1, 2], "most": 3, "inner": {"rates": [1, 2.5]}, "by_name": {"x": True}}
    assert made_of("f.json", "outer", Outer, fields) == Outer("a", (1, 2), "fast", 3, Inner((1, 2.5)), {"x": True})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": None}, "name must be str, got None"),
        ({"name": ...}, "must have name, which it lacks"),
        ({"colour": 1}, "has an unknown 'colour'"),
        ({"size": [1, True]}, r"size must be tuple\[int, int\], got \[1, True\]"),
        ({"size": [1, 2, 3]}, "size must be"),
        ({"size": [0, 2]}, r"size must be >= 1, got \(0, 2\)"),
        ({"how": "soon"}, "how must be .*'fast', 'slow'.*, got 'soon'"),
        ({"most": 1.5}, "most must be int | None, got 1.5"),
        ({"inner": {"rates": ["x"]}}, "inner must be Inner, got"),
        ({"by_name": {"x": 1}}, "by_name must be .*got {'x': 1}"),
    ],
)
def test_objects_of_json_that_do_not_fit_name_the_file_and_the_field(change, rule):
    fields = {"name": "a", "size": [1, 2]} | change
    fields = {name: value for name, value in fields.items() if value is not ...}
    with pytest.raises(DataError, match=f"^f.json: outer: {rule}"):
        made_of("f.json", "outer", Outer, fields)
    with pytest.raises(DataError, match="^f.json: outer: must be an object"):
        made_of("f.json", "outer", Outer, [fields])
