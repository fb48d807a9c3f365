"""pyws verify --replay of every command that writes results: the same again, and what changed is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import COMMANDS, results_of, words_of, write_inputs

from pyws import DataError, cli
from pyws.commands import verify

Made = dict[str, str]
# An input of each: what is changed, and a file of the run that says so.
INPUTS = {
    "features": ("videos/fox_a/2.png", "features/fox_a.safetensors"),
    "masks init": ("videos/fox_a/2.png", "manifest.json"),
    "masks refine": ("masks-init/pa/v0/fox_a/2.png", "pa/v0/fox_a/2.png"),
    "masks train": ("masks-init/pa/v0/fox_a/2.png", "manifest.json"),
    "masks predict": ("videos/swan_b/2.png", "manifest.json"),
    "segments train": ("watching/features/{last}", "last.safetensors"),
    "label": ("videos/fox_a/4.png", "masks/first/init/fox_a/4.png"),
}
WEIGHTS = {
    "features": "clips.pth",
    "masks init": "images.pth",
    "masks refine": "images.pth",
    "label": "images.pth",
}
SETTINGS = {
    "features": ("--stride", "1"),
    "masks init": ("--region-area", "30"),
    "masks refine": ("--rounds", "2"),
    "masks train": ("--crop", "16"),
    "segments train": ("--epochs", "3"),
    "label": ("--mask-frames", "3"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder)
    return folder, {}


@pytest.fixture(autouse=True)
def in_world(world: tuple[Path, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world[0])
    monkeypatch.setattr(verify, "_run_again", run_here)


def run_here(run: Path, command: Mapping[str, Any], out: Path, within: Path) -> None:
    """As the subprocess that it stands for, less the time that importing torch takes."""
    verify.check_words(run, command, verify.words_into(command, out), within)
    threads = torch.get_num_threads()
    torch.set_num_threads(command["threads"])
    status = cli.main([*verify.words_into(command, out), "--quiet"])
    torch.set_num_threads(threads)
    if status:
        raise DataError(run, f"exit status {status}")


def made(name: str, wholes: Made) -> str:
    if name not in wholes:
        out = name.replace(" ", "-")
        assert cli.main(words_of(name, out, lambda other: made(other, wholes))) == 0
        wholes[name] = out
    return wholes[name]


def replayed(run: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    capsys.readouterr()
    status = cli.main(["verify", run, "--replay", "--json"])
    said = capsys.readouterr()
    return status, json.loads(said.out)["replayed"] if said.out else {"": said.err}


@contextmanager
def changed(path: Path, raw: bytes) -> Iterator[None]:
    before, state = path.read_bytes(), path.stat()
    path.write_bytes(raw)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def another(path: Path) -> bytes:
    """An input of the same kind with other contents."""
    if path.suffix == ".png":  # a mask of another video, or another mask
        others = sorted(path.parent.parent.glob("*/*.png"))
        return next(raw for raw in (other.read_bytes() for other in reversed(others)) if raw != path.read_bytes())
    if path.suffix == ".pth":
        state = torch.load(path)
        torch.save({name: value.flip(0) + 0.25 for name, value in state.items()}, path.with_name("other"))
        return path.with_name("other").read_bytes()
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1  # the exponent of the last float
    return bytes(raw)


@pytest.mark.parametrize("name", [name for name in COMMANDS if not name.startswith("report")])  # which writes pages
def test_the_same_command_writes_the_same(name: str, world: Any, capsys: Any) -> None:
    for result in results_of(name, made(name, world[1])):
        assert replayed(result, capsys) == (0, {}), result


@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_input_shows(name: str, world: Any, capsys: Any) -> None:
    run = made(name, world[1])
    last = sorted(path.name for path in Path(INPUTS[name][0]).parent.iterdir())[-1]
    path, shown = (text.format(last=last) for text in INPUTS[name])
    with changed(Path(path), another(Path(path))):
        status, differ = replayed(run, capsys)
    assert (status, shown in differ) == (1, True), differ


@pytest.mark.parametrize("name", WEIGHTS)
def test_changed_weights_show(name: str, world: Any, capsys: Any) -> None:
    run, path = made(name, world[1]), Path(WEIGHTS[name])
    with changed(path, another(path)):
        status, differ = replayed(run, capsys)
    assert (status, bool(differ)) == (1, True)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_changed_setting_shows(name: str, world: Any, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(made(name, world[1]), tmp_path / "run")
    path = tmp_path / "run" / "hashes.json"
    document = json.loads(path.read_text())
    words, (option, value) = document["commands"][0]["words"], SETTINGS[name]
    if option in words:
        words[words.index(option) + 1] = value
    else:
        words += [option, value]
    path.write_text(json.dumps(document))
    status, differ = replayed(str(tmp_path / "run"), capsys)
    assert (status, bool(differ)) == (1, True)
