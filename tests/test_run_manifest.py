"""Manifests: a run goes on only with what it was begun with."""

import json
import os
import warnings

import pytest

from pyws import DataError, run_manifest
from pyws.run_manifest import check_same, check_sealed, open_run, read_hashes, read_manifest, seal, sealing

KIND = "pyws test"
PARAMETERS = {"seed": 1, "sizes": (1, 2), "loop": {"lr": 0.5}}


def begin(folder, parameters=PARAMETERS, **options):
    return open_run(folder, KIND, 2, parameters, ["numpy"], {"videos": {}}, ["masks"], **options)


def test_a_run_goes_on(tmp_path):
    with pytest.raises(RuntimeError), begin(tmp_path) as run:
        run.document["videos"]["a"] = 1
        raise RuntimeError
    with begin(tmp_path) as run:
        assert run.document["videos"] == {"a": 1}
    document = read_manifest(tmp_path / "manifest.json", KIND, 2)
    assert list(document) == ["format", "version", "parameters", "packages", "videos"]
    assert document["parameters"]["sizes"] == [1, 2]
    assert set(document["packages"]) == {"pyws", "numpy"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**PARAMETERS, "seed": 2}, "holds a run with seed 1, not 2"),
        ({**PARAMETERS, "loop": {"lr": 1.0}}, "holds a run with loop.lr 0.5, not 1.0"),
        ({**PARAMETERS, "sizes": (1,)}, r"holds a run with sizes \[1, 2\], not \[1\]"),
        ({**PARAMETERS, "new": True}, "holds a run with new None, not True"),
        ({"seed": 1, "sizes": (1, 2)}, "holds a run with loop {'lr': 0.5}, not None"),
    ],
)
def test_another_run_is_refused_by_its_first_difference(tmp_path, parameters, message):
    with begin(tmp_path):
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=message), begin(tmp_path, parameters):
        pass
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": "pyws test", "version": 1, "parameters": {}}', '{"format": "pyws test", "version": 2}'],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest.json: must be a manifest of pyws test, version 2"), begin(tmp_path):
        pass
    assert (tmp_path / "manifest.json").read_text() == content


def test_files_of_somebody_else_and_a_second_writer(tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"holds masks but no manifest.json"), begin(tmp_path):
        pass
    with (
        begin(tmp_path / "new"),
        pytest.raises(DataError, match="is being written by another run"),
        begin(tmp_path / "new"),
    ):
        pass


def test_what_a_killed_run_left_is_swept(tmp_path):
    (tmp_path / "deep").mkdir()
    left = tmp_path / "deep" / ".v.png.ab12_cd3.tmp"
    own = tmp_path / "deep" / "mine.tmp"
    left.touch()
    own.touch()
    with begin(tmp_path):
        assert not left.exists()
        assert own.exists()


def test_parameters_that_json_cannot_hold_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="JSON"), begin(tmp_path, {"lr": float("nan")}):
        pass
    check_same("run", json.loads(json.dumps(PARAMETERS)), PARAMETERS)


def test_what_another_process_is_writing_is_not_sealed(tmp_path):
    (tmp_path / "mask.png").write_text("whole")
    (tmp_path / ".hashes.json.0.tmp").write_text("half")
    seal(tmp_path, ["masks", "init", None])
    assert list(read_hashes(tmp_path)["files"]) == ["mask.png"]


def test_hashes_that_two_processes_note_at_once_are_of_all_files(tmp_path, monkeypatch):
    """The other one writes a file and notes it between what this one saw and what it notes."""
    (tmp_path / "one.png").write_text("one")
    write = run_manifest.write_json

    def late(path, document):
        monkeypatch.setattr(run_manifest, "write_json", write)
        (tmp_path / "other.png").write_text("other")
        seal(tmp_path, ["masks", "init", None])
        write(path, document)

    monkeypatch.setattr(run_manifest, "write_json", late)
    seal(tmp_path, ["masks", "init", None])
    assert list(read_hashes(tmp_path)["files"]) == ["one.png", "other.png"]
    monkeypatch.setattr(run_manifest, "write_json", lambda path, document: pytest.fail("nothing is left to note"))
    seal(tmp_path, ["masks", "init", None])


def change(path, kept_time):
    """One digit in a file, and whether it still seems to be written when it was."""
    written = path.stat().st_mtime_ns
    raw = path.read_bytes()
    place = next(index for index, byte in enumerate(raw) if byte in b"123")
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
    if kept_time:
        os.utime(path, ns=(written, written))


def sealed(result, *files):
    """A result of a command that ended a while ago."""
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"a": 1, "b": 0}')
        os.utime(file, ns=(10**18, 10**18))
    seal(result, ["example", None])


def test_a_file_that_changed_though_nobody_wrote_it_is_refused(tmp_path):
    alone, other = tmp_path / "found.json", tmp_path / "found.json.json"
    sealed(alone, alone, other)
    folder = tmp_path / "run"
    inner = folder / "segments" / "a\u00e4 [1].json"
    sealed(folder, folder / "manifest.json", inner)
    files = (alone, other, folder / "manifest.json", inner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in (*files, tmp_path / "no-such-file", folder):
            check_sealed(file)
    for file in files:
        change(file, kept_time=True)
        with pytest.raises(DataError, match=r"is not what its command wrote, .* and nobody has written it since"):
            check_sealed(file)
    (tmp_path / "found.json.hashes.json").unlink()
    check_sealed(alone)


def test_a_file_that_somebody_changed_is_read_and_a_result_alone_spoken_of(tmp_path):
    alone, folder = tmp_path / "found.json", tmp_path / "run"
    sealed(alone, alone)
    sealed(folder, folder / "manifest.json")
    change(alone, kept_time=False)
    with pytest.warns(UserWarning, match="found.json: is not what its command wrote, .*; it was written since"):
        check_sealed(alone)
    change(folder / "manifest.json", kept_time=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sealed(folder / "manifest.json")  # a run that goes on writes its own anew
        with sealing({alone: lambda result: None}):
            check_sealed(alone)  # a command that writes it anew, and reads it for its page


def test_another_run_says_what_to_do():
    rule = "with old 1, not None; choose another folder, or go on with the options, and the version of pyws"
    with pytest.raises(DataError, match=rule):
        check_same("run", {"old": 1, "same": 2}, {"same": 2, "new": None})
