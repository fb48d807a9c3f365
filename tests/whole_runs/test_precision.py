"""The commands with a network in bfloat16: it says so in what it writes, and is near what it writes in float32."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs import words_of, write_inputs
from safetensors.numpy import load_file

from pyws import cli
from pyws.data.video.frames import read_mask

BOUND = 0.03  # share of the root mean square


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder)
    return folder, {}


def run(name, wholes, precision):
    """The folder that a command wrote; those before it ran in float32."""
    if (name, precision) not in wholes:
        out = f"{name}-{precision}".replace(" ", "-")
        words = words_of(name, out, lambda other: run(other, wholes, "float32"))
        assert cli.main([*words, "--precision", precision]) == 0
        wholes[name, precision] = out
    return wholes[name, precision]


def heat(folder):
    return np.stack([read_mask(path) for path in sorted(Path(folder, "heat").rglob("*.png"))])


def losses(folder):
    return [json.loads(line)["loss"] for line in Path(folder, "history.jsonl").read_text().splitlines()]


def curve(folder):
    return [epoch["loss"] for epoch in json.loads(Path(folder, "manifest.json").read_text())["versions"][0]["curve"]]


def losses_of_tags(folder):
    return json.loads(Path(folder, "tags.safetensors.json").read_text())["losses"]


def maps(folder):
    found = load_file(f"{folder}/maps.safetensors")
    return np.concatenate([found[name] for name in sorted(found) if not name.endswith("/seconds")])


RESULTS = {
    "masks init": (heat, "manifest.json"),
    "masks classify": (losses_of_tags, "tags.safetensors.json"),
    "masks train": (curve, "manifest.json"),
    "masks predict": (heat, "manifest.json"),
    "segments train": (losses, "run.json"),
    "segments predict": (maps, "found.json"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_bfloat16_is_near(name, world, monkeypatch):
    monkeypatch.chdir(world[0])
    read, document = RESULTS[name]
    plain, narrow = (run(name, world[1], precision) for precision in ("float32", "bfloat16"))
    one, other = (np.asarray(read(folder), dtype=float) for folder in (plain, narrow))
    said = [Path(folder, document).read_text().count('"precision": "bfloat16"') for folder in (plain, narrow)]
    assert said == [0, 1]
    assert 0 < np.linalg.norm(one - other) / np.linalg.norm(one) < BOUND
