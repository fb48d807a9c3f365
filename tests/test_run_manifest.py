"""Manifests: a run goes on only with what it was begun with."""

import json

import pytest

from pyws import DataError, run_manifest
from pyws.run_manifest import check_same, open_run, read_hashes, read_manifest, seal

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
