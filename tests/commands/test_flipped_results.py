"""A digit that flips in what one command left: the next one that reads it says so."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pyws.cli import main
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic

READERS = {
    "segments fuse": ["segments", "fuse", "FOUND", "OUT.json"],
    "segments evaluate": ["segments", "evaluate", "FOUND", "TRUTH", "--subset", "test"],
    "segments labels": ["segments", "labels", "FOUND", "TRUTH", "OUT.safetensors"],
    "segments compare": ["segments", "compare", "FOUND", "TRUTH", "OUT", "--subset", "test", "--temperatures", ".1"],
    "export": ["export", "FOUND", "--format", "csv", "-o", "OUT"],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    write_synthetic(folder / "set", SyntheticConfig(classes=2, width=8, snippets=40), 2, 2)
    words = ["segments", "train", f"{folder}/set", "-o", f"{folder}/net", "--subset", "training", "--epochs", "2"]
    assert main([*words, "--batch", "2", "--quiet", "--device", "cpu"]) == 0
    words = [
        "segments",
        "predict",
        f"{folder}/set",
        "--subset",
        "test",
        "-o",
        f"{folder}/found.json",
        "--method",
        "none",
    ]
    assert main([*words, "--checkpoint", f"{folder}/net/last.safetensors", "--quiet", "--device", "cpu"]) == 0
    for file in folder.glob("found.json*"):
        os.utime(file, ns=(10**18, 10**18))
    os.utime(folder / "found.json.hashes.json")
    return folder


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_score_is_refused_by_what_reads_it(name, found, tmp_path, capsys):
    for file in found.glob("found.json*"):
        if file.is_file():
            shutil.copy2(file, tmp_path)
    path = tmp_path / "found.json"
    places = {"FOUND": str(path), "TRUTH": f"{found}/set/truth.json", "OUT": f"{tmp_path}/{name}"}
    words = [places.get(word, word.replace("OUT", places["OUT"])) for word in READERS[name]]
    assert main([*words, "--quiet"]) == 0
    capsys.readouterr()
    text = path.read_text()
    score = next(entry["score"] for entries in json.loads(text)["results"].values() for entry in entries)
    written = path.stat().st_mtime_ns
    path.write_text(text.replace(repr(score), repr(score).replace("0.", "1.", 1), 1))
    assert path.read_text() != text
    os.utime(path, ns=(written, written))
    shutil.rmtree(places["OUT"], ignore_errors=True)
    assert main([*words, "--quiet"]) == 1
    assert f"{path}: is not what its command wrote" in capsys.readouterr().err


def test_a_score_that_somebody_changed_is_spoken_of(found, tmp_path):
    for file in found.glob("found.json*"):
        if file.is_file():
            shutil.copy2(file, tmp_path)
    path = tmp_path / "found.json"
    path.write_text(path.read_text().replace(": 0.", ": 1.", 1))
    words = ["segments", "fuse", str(path), f"{tmp_path}/out.json", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "pyws", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    warned = [line for line in done.stderr.splitlines() if "found.json" in line]
    assert warned == [
        f"warning: {path}: is not what its command wrote, says found.json.hashes.json; it was written since"
    ]
