"""Values that are right by their format and would hurt: numbers without end, tables within each other, names twice."""

import pytest

from pyws import DataError
from pyws.cli import main
from pyws.data.annotations.corrections import read_corrections
from pyws.data.features.packs import note_of
from pyws.data.tagged.a2d_files import read_videoset
from pyws.files import _object, read_json
from pyws.settings import read_toml


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
    present = '[{"label": "a", "segment": [0, 1%s]}]' % ("0" * 4000)
    path.write_text('{"format": "pyws corrections", "version": 1, "videos": {"v": {"present": %s}}}' % present)
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
        ("a." * 3000 + "b = 1", "must have tables within each other at most 16 deep"),
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
