"""A disk that is full at any write: the file is named, nothing half-written is left, the same command goes on."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from pyws import cli
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.errors import WriteError
from pyws.files import append_line, atomic_write, write_json
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite

DETECTIONS = {"results": {"synthetic_training_00000": [{"label": "action00", "score": 1, "segment": [1, 9]}]}}
COMMANDS = {
    "synthesize": "data synthesize OUT/syn --training 2 --test 1",
    "convert": "data convert SPLIT OUT/converted",
    "fuse": "segments fuse PROPOSALS OUT/fused.json",
    "labels": "segments labels PROPOSALS DATA/truth.json OUT/labels.safetensors",
    "features": "features FRAMES -o OUT/features --network small3d --weights random --folder-fps 8 --fps 8 --window 4"
    " --stride 2 --videos-per-file 1 --device cpu",
    "masks": "masks init FRAMES -o OUT/first --tag fox --classifier efficientnet-lite0 --weights WEIGHTS"
    " --class-names LABELS --short-side 32 --region-area 64 --device cpu",
    "train": "segments train DATA -o OUT/run --subset training --epochs 1 --preset baseline",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    config = SyntheticConfig(classes=2, width=8, snippets=40)
    write_synthetic(folder / "data", config, 2, 1)
    write_synthetic(folder / "split", config, 2, 1, layout="split")
    write_json(folder / "proposals.json", DETECTIONS)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "frames" / name).mkdir(parents=True)
        for index in range(4):
            frame = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            frame.save(folder / "frames" / name / f"{index}.png")
    torch.manual_seed(0)
    torch.save(EfficientNetLite(classes=2).state_dict(), folder / "weights.pth")
    (folder / "labels.txt").write_text("fox\nswan\n")
    return folder


def contents(folder):
    """Every file but reports and times, by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".html", ".png", ".jsonl")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "run.json"}


def run(command, inputs, out):
    words = command.replace("DATA", str(inputs / "data")).replace("SPLIT", str(inputs / "split"))
    for name, file in (("FRAMES", "frames"), ("WEIGHTS", "weights.pth"), ("LABELS", "labels.txt")):
        words = words.replace(name, str(inputs / file))
    words = words.replace("PROPOSALS", str(inputs / "proposals.json")).replace("OUT", str(out))
    return cli.main([*words.split(), "--quiet"])


class Disk:
    """Counts what is made durable, and is full at one of these times."""

    def __init__(self, monkeypatch):
        self.writes, self.full_at, self.before = 0, -1, os.fsync
        monkeypatch.setattr("pyws.files.os.fsync", self)

    def __call__(self, descriptor):
        self.writes += 1
        if self.writes == self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.before(descriptor)


NEW = ("synthesize", "convert")  # their folder is whole once it has its hashes, and not before


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_go_on_after_a_full_disk(name, inputs, tmp_path, monkeypatch, capsys):
    disk = Disk(monkeypatch)
    assert run(COMMANDS[name], inputs, tmp_path / "whole") == 0
    wanted, writes = contents(tmp_path / "whole"), disk.writes
    for number in sorted({1, max(1, writes // 2), writes}):
        out = tmp_path / str(number)
        disk.writes, disk.full_at = 0, number
        capsys.readouterr()
        assert run(COMMANDS[name], inputs, out) == 1
        said = capsys.readouterr().err
        assert str(out) in said
        whole = number == writes and name not in NEW  # what was left to write are the hashes
        how = "results are whole" if whole else "nothing half-written is left"
        assert f"cannot be written: No space left on device; {how}" in said
        assert not list(out.rglob("*.tmp"))
        disk.full_at = -1
        assert run(COMMANDS[name], inputs, out) == 0
        found = contents(out)
        assert set(found) == set(wanted)
        assert [file for file in wanted if not file.endswith(".json") and found[file] != wanted[file]] == []


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch):
    append_line(tmp_path / "h.jsonl", "one")
    Disk(monkeypatch).full_at = 1
    with pytest.raises(WriteError, match=r"h.jsonl: cannot be written: No space left on device"):
        append_line(tmp_path / "h.jsonl", "two")
    assert (tmp_path / "h.jsonl").read_text() == "one\n"


def test_a_short_write_leaves_nothing(tmp_path, monkeypatch):
    """The last bytes of a disk take a part of a line, and no error is raised."""
    append_line(tmp_path / "h.jsonl", "one")
    write = os.write
    monkeypatch.setattr("pyws.files.os.write", lambda descriptor, data: write(descriptor, data[:2]))
    with pytest.raises(WriteError, match=r"h.jsonl: cannot be written: No space left on device"):
        append_line(tmp_path / "h.jsonl", "two")
    assert (tmp_path / "h.jsonl").read_text() == "one\n"


def test_errors_of_other_files_are_theirs(tmp_path):
    """What is read while another file is written is not what cannot be written."""
    with pytest.raises(FileNotFoundError, match=r"source\.bin"), atomic_write(tmp_path / "a.txt") as file:
        file.write((tmp_path / "source.bin").read_text())
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"a\.txt: cannot be written: (Not a directory|File exists)"):
        write_json(tmp_path / "file" / "a.txt", {})
