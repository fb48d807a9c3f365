"""Folders that runs write into: one writer at a time, or the shards of one run, whoever comes and goes meanwhile."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import cli, folders
from pyws.errors import DataError
from pyws.files import atomic_write
from pyws.folders import new_folder, only_writer, run_entries
from pyws.sharding import Shard


def test_a_folder_that_could_not_be_filled_is_empty_again(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out"):
        (tmp_path / "out" / "part").mkdir()
        raise RuntimeError
    assert not list((tmp_path / "out").iterdir())


def test_what_a_killed_call_left_in_a_new_folder_goes_first(tmp_path):
    (tmp_path / ".unfinished").touch()
    (tmp_path / "half").touch()
    with new_folder(tmp_path):
        assert not (tmp_path / "half").exists()
        (tmp_path / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_one_writer_a_folder(tmp_path):
    with only_writer(tmp_path / "masks"):
        with pytest.raises(DataError, match=r"masks: is being written by another run"), only_writer(tmp_path / "masks"):
            pass
        with only_writer(tmp_path / "others"):
            pass
    with only_writer(tmp_path / "masks"):
        pass
    assert not list((tmp_path / "masks").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "data synthesize-a2d OUT --train 1 --validation 0 --test 0 --frames 2",
        "features FRAMES -o OUT --network small3d --weights random --folder-fps 8 --fps 8 --window 2",
    ],
)
def test_a_command_leaves_the_folder_of_another_run_alone(words, tmp_path, capsys):
    """What other commands say is tested beside them."""
    out, frames = tmp_path / "out", tmp_path / "frames" / "a"
    frames.mkdir(parents=True)
    for name in ("0", "1"):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(frames / f"{name}.png")
    with only_writer(out):
        words = words.replace("OUT", str(out)).replace("FRAMES", str(frames.parent))
        assert cli.main([*words.split(), "--quiet"]) == 1
        assert f"{out}: is being written by another run" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_shards_of_one_count_write_together(tmp_path):
    """The first that comes and the last that goes are told so, in whatever order."""
    said = []

    def shard(index, count):
        return only_writer(
            tmp_path,
            Shard(index, count),
            lambda writer, first: said.append((index, "first" if first else "later")),
            lambda last: said.append((index, "last" if last else "gone")),
        )

    with contextlib.ExitStack() as one, shard(2, 2):
        one.enter_context(shard(1, 2))
        for index, count in ((1, 2), (1, 1), (3, 3)):
            with pytest.raises(DataError, match="is being written by another run"), shard(index, count):
                pass
        one.close()
    assert said == [(2, "first"), (1, "later"), (1, "gone"), (2, "last")]
    assert not list(tmp_path.iterdir())


def test_a_shard_that_comes_leaves_what_the_others_are_writing(tmp_path):
    with only_writer(tmp_path, Shard(1, 2)), atomic_write(tmp_path / "a.txt") as file:
        file.write("whole")
        with only_writer(tmp_path, Shard(2, 2)):
            pass
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_door_that_was_removed_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    lock, door, removed = folders.lock_file, tmp_path / ".run" / "door", []

    def late(descriptor, wait=True):
        if not removed:
            door.unlink()
            removed.append(True)
        return lock(descriptor, wait)

    monkeypatch.setattr(folders, "lock_file", late)
    with only_writer(tmp_path, entering=lambda *_: removed.append(door.exists())):
        pass
    assert removed == [True, True]


def test_of_two_shards_that_say_something_the_last_counts(tmp_path):
    """Whatever the order in which the system lists their files."""
    for order in ((1, 2), (2, 1)):
        run = tmp_path / str(order[0]) / ".run"
        run.mkdir(parents=True)
        for index in order:
            (run / f"{index}-of-2.jsonl").write_text(f'["fox", {index}]\n')
        assert run_entries(run.parent) == {"fox": 2}


def test_entries_of_a_killed_writer_stay(tmp_path):
    run = tmp_path / ".run"
    run.mkdir()
    (run / "1-of-2.jsonl").write_text('["a", 1]\n["b", {"x": 2}]\n["a", 3]\n["c", ')
    assert run_entries(tmp_path) == {"a": 3, "b": {"x": 2}}
    with only_writer(tmp_path, Shard(1, 2)) as writer:
        writer.append("d", None)
        assert run_entries(tmp_path) == {"a": 3, "b": {"x": 2}, "d": None}


def test_a_writer_that_comes_while_the_last_one_goes_keeps_its_door(tmp_path, monkeypatch):
    """It makes the door anew between the last one's removing it and removing its folder."""
    rmdir, door = Path.rmdir, tmp_path / ".run" / "door"

    def late(path):
        door.touch()
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", late)
    with only_writer(tmp_path):
        pass
    assert door.exists()


def test_a_folder_of_writers_that_is_removed_as_one_comes_is_made_anew(tmp_path, monkeypatch):
    mkdir, removed = Path.mkdir, []

    def late(path, *options, **more):
        if path.name == ".run" and not removed:
            removed.append(path)
            raise FileExistsError(17, "File exists", path)  # there when it was to be made, and gone a moment later
        mkdir(path, *options, **more)

    monkeypatch.setattr(Path, "mkdir", late)
    with only_writer(tmp_path, entering=lambda *_: removed.append("entered")):
        pass
    assert removed[1:] == ["entered"]


def test_a_link_to_nowhere_in_the_place_of_writers_is_an_error(tmp_path):
    (tmp_path / ".run").symlink_to(tmp_path / "nowhere" / "deep")
    with pytest.raises(OSError, match="No such file"), only_writer(tmp_path):
        pass


def test_processes_that_come_and_go_at_any_moment_do_not_hurt_each_other(tmp_path):
    """Two shards enter and leave one folder five hundred times, without waiting for each other."""
    children = []
    for index in (1, 2):
        children.append(os.fork())
        if children[-1] == 0:
            status = 1
            try:
                for count in range(500):
                    with only_writer(tmp_path, Shard(index, 2)) as writer:
                        writer.append("number", count)
                status = 0
            finally:
                os._exit(status)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_filled_meanwhile_stays(tmp_path, monkeypatch):
    """It is looked at again when nobody else can enter it."""
    out = tmp_path / "out"
    check, looked = folders.check_new_folder, []

    def first_look(folder):
        check(folder)
        if not looked:
            looked.append(folder)
            out.mkdir()
            (out / "result").touch()

    monkeypatch.setattr(folders, "check_new_folder", first_look)
    with pytest.raises(DataError, match="must be a new or empty folder"), new_folder(out):
        pass
    assert [path.name for path in out.iterdir()] == ["result"]


def test_a_file_that_another_process_is_writing_is_not_swept(tmp_path):
    """One that left the folder may still write its report or hashes when the next comes."""
    (tmp_path / ".killed.json.0.tmp").touch()
    (tmp_path / ".nowhere.0.tmp").symlink_to("nowhere")
    with atomic_write(tmp_path / "report.html") as file:
        file.write("whole")
        with only_writer(tmp_path):
            assert sorted(path.name for path in tmp_path.iterdir()) == [".report.html.0.tmp", ".run"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "whole"
