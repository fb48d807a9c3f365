"""pyws verify: what changed since a run ended is named; the same commands write the same files."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from runs import words_of, write_inputs

from pyws import cli


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of inputs with the run of features."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    write_inputs(folder)
    os.chdir(folder)
    try:
        assert cli.main(words_of("features", "features", str)) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(world, tmp_path):
    """A copy of the features, which a test may change."""
    shutil.copytree(world / "features", tmp_path / "run")
    return tmp_path / "run"


def verify(capsys, *words):
    status = cli.main(["verify", *map(str, words), "--json"])
    shown = capsys.readouterr()
    return status, json.loads(shown.out) if shown.out else shown.err


def test_what_a_run_wrote_is_the_same(run, capsys):
    (run / "tags.csv").write_text("video,tag\n")  # people's own, and a page that was written anew
    (run / "report.html").write_text("")
    status, said = verify(capsys, run)
    assert (status, said["ok"], said["differences"]) == (0, True, {})
    names = json.loads((run / "hashes.json").read_text())["files"]
    assert set(names) == {"dataset.json", "manifest.json", *(f"features/{video}.safetensors" for video in
                          ("fox_a", "fox_b", "swan_a", "swan_b"))}  # fmt: skip


def test_truncated_changed_missing_and_unreadable_files_are_named(run, capsys):
    features = run / "features"
    whole = (features / "fox_a.safetensors").read_bytes()
    (features / "fox_a.safetensors").write_bytes(whole[:-1])
    flipped = bytearray((features / "fox_b.safetensors").read_bytes())
    flipped[-5] ^= 1
    (features / "fox_b.safetensors").write_bytes(flipped)
    (features / "swan_a.safetensors").unlink()
    (features / "swan_b.safetensors").unlink()
    os.mkfifo(features / "swan_b.safetensors")
    status, said = verify(capsys, run)
    assert status == 1
    assert said["differences"] == {
        "features/fox_a.safetensors": f"is not what the run wrote ({len(whole) - 1} bytes now)",
        "features/fox_b.safetensors": f"is not what the run wrote ({len(flipped)} bytes now)",
        "features/swan_a.safetensors": "is missing",
        "features/swan_b.safetensors": "must be a regular file, found a pipe",
    }


def test_the_same_command_again_does_not_bless_a_file_that_decayed(world, capsys, monkeypatch):
    """A bit that flips on a disk leaves the time of the file as it was; one that pyws wrote anew has a new hash."""
    monkeypatch.chdir(world)
    shutil.copytree("features", "decayed")
    file = Path("decayed/features/fox_a.safetensors")
    raw, when = bytearray(file.read_bytes()), file.stat().st_mtime_ns
    raw[-5] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(when, when))
    assert cli.main(words_of("features", "decayed", str)) == 0
    assert verify(capsys, "decayed")[1]["differences"].keys() == {"features/fox_a.safetensors"}
    file.unlink()
    assert cli.main(words_of("features", "decayed", str)) == 0
    assert verify(capsys, "decayed")[0] == 0


def test_replay_writes_the_same(world, capsys, tmp_path, monkeypatch):
    """From anywhere, also of a run that was moved."""
    shutil.copytree(world / "features", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    status, said = verify(capsys, "moved", "--replay")
    assert (status, said["differences"], said["replayed"]) == (0, {}, {})


def test_replay_finds_that_an_input_changed(world, capsys, monkeypatch):
    monkeypatch.chdir(world)
    shutil.copytree("videos", "kept")
    try:
        shutil.copy("videos/swan_a/0.png", "videos/fox_a/2.png")
        status, said = verify(capsys, "features", "--replay")
        assert (status, said["differences"]) == (1, {})
        assert said["replayed"].keys() == {"features/fox_a.safetensors"}
        shutil.rmtree("videos/fox_a")
        status, said = verify(capsys, "features", "--replay")
        assert said["replayed"]["features/fox_a.safetensors"] == "is missing"
        shutil.rmtree("videos")
        status, said = verify(capsys, "features", "--replay")
        assert status == 1
        assert said.startswith("pyws verify: features: pyws features videos -o ")
        assert "exit status 1 now: pyws features: videos:" in said
    finally:
        shutil.rmtree("videos", ignore_errors=True)
        shutil.move("kept", "videos")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "hashes.json").unlink(), "has no hashes.json: no command wrote it, it has not ended"),
        (shutil.rmtree, "must be a folder or a file that a command wrote"),
        (lambda run: edit(run, files={"../out": "0" * 64}), "must be pyws hashes, version 1"),
        (lambda run: edit(run, files={"/etc/passwd": "0" * 64}), "must be pyws hashes, version 1"),
        (lambda run: edit(run, files={"a": "0"}), "must be pyws hashes, version 1"),
        (lambda run: edit(run, commands=[{"words": [1]}]), "must be pyws hashes, version 1"),
        (lambda run: edit(run, commands=[{"words": [["../out"]], "folder": "/", "threads": 1}]), "must be pyws hashes"),
        (lambda run: edit(run, version=2), "must be pyws hashes, version 1"),
    ],
)  # fmt: skip
def test_other_folders_and_damaged_hashes_are_refused(run, change, message, capsys):
    change(run)
    status, said = verify(capsys, run)
    assert status == 1
    assert message in said


def test_a_replay_without_its_folder_says_so(run, capsys):
    edit(run, commands=[{"words": ["features", "videos", "-o", None], "folder": "/no/such/folder", "threads": 1}])
    assert "was made in /no/such/folder, which is gone" in verify(capsys, run, "--replay")[1]
    edit(run, commands=[])
    assert "names no command to run again" in verify(capsys, run, "--replay")[1]


@pytest.mark.parametrize(
    "words",
    [
        ["features", "videos", "-o", "elsewhere"],
        ["features", "videos", "-o", None, "--config", "settings.toml"],
        ["features", "videos", "-o", None, "--no-such-option"],
        ["import", "review.csv", "--into", "../watching"],
        ["report", "watching"],  # writes pages there, and makes no result
        ["verify", ".", "--replay"],
        ["rm", "-r", None],
    ],
)
def test_a_replay_runs_nothing_that_writes_elsewhere(run, world, capsys, monkeypatch, words):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("was run"))
    edit(run, commands=[{"words": words, "folder": str(world), "threads": 1}])
    assert "run: must name commands that write into this run alone, got pyws " in verify(capsys, run, "--replay")[1]


def test_a_replay_takes_no_modules_from_the_folder_that_a_run_names(run, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    for name in ("torch", "numpy", "pyws", "json"):
        (tmp_path / "elsewhere" / f"{name}.py").write_text("open('ran', 'w').close()\n")
    edit(run, commands=[{"words": ["features", "videos", "-o", None], "folder": str(tmp_path / "elsewhere"),
                         "threads": 1}])  # fmt: skip
    assert "ends with exit status 1 now: " in verify(capsys, run, "--replay")[1]
    assert not (tmp_path / "elsewhere" / "ran").exists()


def test_a_replay_of_one_of_several_results_leaves_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = [{"score": 0.9, "segment": [0.0, 4.0], "label": "run"}, {"score": 0.1, "segment": [2, 6], "label": "run"}]
    Path("found.json").write_text(json.dumps({"results": {"v": result}}))
    truth = {"subset": "test", "duration": 9, "annotations": [{"segment": [0, 4], "label": "run"}]}
    Path("truth.json").write_text(json.dumps({"database": {"v": truth}}))
    words = "segments labels found.json truth.json labels.safetensors --plot plots --quiet"
    assert cli.main(words.split(" ")) == 0, capsys.readouterr().err
    Path("labels.safetensors").write_text("mine")
    there = sorted(os.listdir())
    status, said = verify(capsys, "plots", "--replay")
    assert (status, said["replayed"]) == (0, {})
    assert Path("labels.safetensors").read_text() == "mine"
    assert sorted(os.listdir()) == there


def test_a_result_in_a_folder_of_others_is_only_what_was_written(tmp_path, capsys, monkeypatch):
    """Files that were there before are nobody's to compare; the same command again keeps to what it wrote."""
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("before")
    os.mkfifo("pipe")
    Path("gone").symlink_to("nowhere")
    result = {"score": 1.0, "segment": [0.0, 4.0], "label": "run"}
    Path("found.json").write_text(json.dumps({"results": {"v": [result], "w": [result]}}))
    truth = {name: {"subset": "test", "duration": 9, "annotations": [{"segment": [0, 4], "label": "run"}]}
             for name in ("v", "w")}  # fmt: skip
    Path("truth.json").write_text(json.dumps({"database": truth}))
    words = "segments compare found.json truth.json . --subset test --ious .5 --temperatures .5 --quiet"
    for _ in range(2):
        assert cli.main(words.split(" ")) == 0
        assert list(json.loads(Path("hashes.json").read_text())["files"]) == [
            "comparison.json",
            "iou.png",
            "temperature.png",
        ]
    Path("mine.txt").write_text("after")
    assert verify(capsys, ".")[0] == 0
    Path("comparison.json").write_text("{}")
    assert verify(capsys, ".")[1]["differences"].keys() == {"comparison.json"}


def test_a_file_is_compared_with_what_lies_beside_it(world, tmp_path, capsys, monkeypatch):
    """Files in one folder are results of their own; a run in whose folder they are written has no part in them."""
    monkeypatch.chdir(world)
    shutil.copytree("features", tmp_path / "run")
    assert cli.main(["data", "synthesize", str(tmp_path / "drawn"), "--layout", "wtalc", "--test", "2"]) == 0
    convert = ["data", "convert", str(tmp_path / "drawn")]
    assert cli.main([*convert, str(tmp_path / "run/annotations.json")]) == 0
    assert cli.main([*convert, str(tmp_path / "run/annotations.json.gz")]) == 0
    assert cli.main(words_of("features", str(tmp_path / "run"), str)) == 0
    assert not [name for name in json.loads((tmp_path / "run/hashes.json").read_text())["files"] if "annot" in name]
    (tmp_path / "run/annotations.json").write_text("{}")
    capsys.readouterr()
    assert [
        verify(capsys, tmp_path / "run" / name)[0] for name in ("annotations.json", "annotations.json.gz", ".")
    ] == [1, 0, 0]
    (tmp_path / "run/annotations.json").unlink()
    assert "must be a folder or a file" in verify(capsys, tmp_path / "run/annotations.json")[1]


def edit(run, **fields):
    path = run / "hashes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
