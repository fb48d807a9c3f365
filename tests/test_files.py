"""Files are whole or untouched; errors name the file."""

import gzip
import json
import os
import subprocess
import sys

import pytest

import pyws.files as files
from pyws import DataError
from pyws.files import atomic_write, only_writer, read_json, write_json


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pyws.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('new' * 10000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "old"


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
        ("cut.json.gz", gzip.compress(json.dumps(list(range(1000))).encode())[:-20], "is truncated"),
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


def test_one_writer_a_folder(tmp_path):
    with only_writer(tmp_path / "masks"):
        with pytest.raises(DataError, match=r"masks: is being written by another run"), only_writer(tmp_path / "masks"):
            pass
        with only_writer(tmp_path / "others"):
            pass
    with only_writer(tmp_path / "masks"):
        assert not list((tmp_path / "masks").iterdir())


def test_a_growing_document_is_written_seldom(tmp_path, monkeypatch):
    """A writing takes a second here, so that the next ones wait for twenty."""
    now = [0.0]
    real = files.write_json

    def slow(*arguments):
        real(*arguments)
        now[0] += 1

    monkeypatch.setattr(files, "write_json", slow)
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    document = files.SpacedJson(tmp_path / "a.json")
    seen = []
    for step in range(50):
        document.write({"steps": step})
        seen.append(files.read_json(document.path)["steps"])
        now[0] += 1
    assert seen == [0] * 20 + [20] * 20 + [40] * 10
    document.flush({"steps": 50})
    assert files.read_json(document.path) == {"steps": 50}
