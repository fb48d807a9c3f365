"""Features by shards: the files of one process."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.data.features.files import stored_in, write_snippets
from pyws.data.features.packs import move_packs, pack_videos
from pyws.folders import run_entries
from pyws.segments.snippets import extraction, network
from pyws.segments.snippets.extraction import precision_in


@pytest.fixture
def videos(tmp_path):
    rng = np.random.default_rng(0)
    for name, frames in (("a", 4), ("b", 9), ("c", 6)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for index in range(frames):
            Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(
                tmp_path / "videos" / name / f"{index}.png"
            )
    (tmp_path / "videos" / "d").mkdir()
    (tmp_path / "videos" / "d" / "0.png").write_bytes(b"damaged")
    return tmp_path / "videos"


def features(videos: Path, out: Path, *words: str) -> int:
    fixed = ("--network", "small3d", "--weights", "random", "--folder-fps", "8", "--device", "cpu", "--quiet")
    sampling = ("--fps", "8", "--window", "4", "--stride", "2", "--on-error", "skip")
    return cli.main(["features", str(videos), "-o", str(out), *fixed, *sampling, *words])


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file, by its path within the folder, but the hashes, which say where the folder is."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "hashes.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def without_pages(folder: Path) -> dict[str, bytes]:
    found = files_of(folder)
    return {name: found[name] for name in found if not name.startswith("report")}


def test_shards_write_the_files_of_one_process(videos, tmp_path):
    assert features(videos, tmp_path / "whole") == 0
    for order in (("2/2", "1/2"), ("1/3", "3/3", "2/3")):
        out = tmp_path / str(len(order))
        for shard in order:
            assert not (out / "dataset.json").exists()
            assert features(videos, out, "--shard", shard) == 0
        assert files_of(out) == files_of(tmp_path / "whole")
    assert len([name for name in files_of(tmp_path / "whole") if not name.startswith("report/")]) == 6


def precision_of(out):
    return json.loads((out / "manifest.json").read_text())["precision"]


@pytest.mark.parametrize("native", [True, False])
def test_all_features_of_a_folder_have_the_precision_of_the_first(native, videos, tmp_path, monkeypatch):
    """Also where the next shards run on machines of another kind."""
    monkeypatch.setattr(network, "has_bfloat16", lambda device: native)
    first, other = ("bfloat16", "float32") if native else ("float32", "bfloat16")
    assert features(videos, tmp_path, "--shard", "1/2") == 0
    monkeypatch.setattr(network, "has_bfloat16", lambda device: not native)
    assert features(videos, tmp_path, "--shard", "2/2") == 0
    assert precision_of(tmp_path) == first
    assert {stored.note()["precision"] for stored in stored_in(tmp_path / "features").values()} == {first}
    assert len(stored_in(tmp_path / "features")) == 3
    assert features(videos, tmp_path, "--precision", other) == 0
    assert {stored.note()["precision"] for stored in stored_in(tmp_path / "features").values()} == {other}
    (tmp_path / "manifest.json").write_text(json.dumps({"network": "r3d_18", "precision": first}))
    assert features(videos, tmp_path) == 0  # what another network computed in says nothing
    assert precision_of(tmp_path) == other


def test_shards_of_other_settings_do_not_write_together(videos, tmp_path, capsys, monkeypatch):
    """Nor do those that were killed leave their share to a run of other settings."""
    inside = tmp_path / "out"
    write = extraction._write

    def begun(*words):
        assert features(videos, inside, "--shard", "2/2", "--precision", "bfloat16") == 1
        words_of_error = capsys.readouterr().err
        assert "holds a run with precision 'float32', not 'bfloat16'" in words_of_error
        assert precision_in(inside, "small3d") == "float32"
        return write(*words)

    monkeypatch.setattr(extraction, "_write", begun)
    assert features(videos, inside, "--shard", "1/2", "--precision", "float32") == 0
    monkeypatch.setattr(extraction, "_write", write)

    def killed(*words):
        raise SystemExit(9)

    whole = extraction.only_writer

    @contextlib.contextmanager
    def without_end(*words):
        with whole(words[0], words[1], words[2], lambda last: killed()) as writer:
            yield writer

    monkeypatch.setattr(extraction, "only_writer", without_end)
    killed_run = tmp_path / "killed"
    with pytest.raises(SystemExit):
        features(videos, killed_run, "--shard", "1/2", "--precision", "float32")
    monkeypatch.undo()
    assert run_entries(killed_run)[""]["precision"] == "float32"
    assert precision_in(killed_run, "small3d") == "float32"
    assert features(videos, killed_run, "--shard", "2/2", "--precision", "bfloat16") == 0
    assert not (killed_run / "dataset.json").exists()  # shard 1 is to be done in bfloat16 too
    assert features(videos, killed_run, "--shard", "1/2") == 0
    assert {stored.note()["precision"] for stored in stored_in(killed_run / "features").values()} == {"bfloat16"}
    assert precision_of(killed_run) == "bfloat16"


def test_packs_are_those_of_one_process(videos, tmp_path):
    """Also where files of their own, one video and then its contents change between runs."""
    assert features(videos, tmp_path / "whole", "--videos-per-file", "2") == 0
    assert sorted(path.name for path in (tmp_path / "whole/features").iterdir()) == [
        "index.jsonl", "pack-00000.safetensors", "pack-00001.safetensors"]  # fmt: skip
    for shard in ("3/3", "1/3", "2/3"):
        assert features(videos, tmp_path / "parts", "--shard", shard, "--videos-per-file", "2") == 0
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert features(videos, tmp_path / "later") == 0
    assert features(videos, tmp_path / "later", "--videos-per-file", "2") == 0
    assert without_pages(tmp_path / "later") == without_pages(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole/features").iterdir()}
    assert features(videos, tmp_path / "whole", "--videos-per-file", "2") == 0  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "whole/features").iterdir()} == before
    (videos / "b" / "8.png").rename(videos / "a" / "4.png")
    (videos / "b" / "4.png").write_bytes(b"damaged")
    assert features(videos, tmp_path / "whole", "--videos-per-file", "2") == 0
    assert features(videos, tmp_path / "new") == 0
    found, wanted = (open_features(tmp_path / name) for name in ("whole", "new"))
    assert found.names == wanted.names == ("a", "c")
    assert all(np.array_equal(found.features(index), wanted.features(index)) for index in range(2))


def test_packs_go_where_rgb_lies_beside_flow(tmp_path):
    write_snippets(tmp_path / "a.safetensors", {"features": np.ones((2, 3), np.float32)}, {})
    pack_videos(tmp_path, ["a"], 5)
    (tmp_path / "rgb").mkdir()
    move_packs(tmp_path, tmp_path / "rgb")
    assert list(stored_in(tmp_path / "rgb")) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["rgb"]


def test_label_is_one_process(videos, tmp_path, capsys, monkeypatch):
    (tmp_path / "tags.csv").write_text("video,tag\na,run\n")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["label", str(videos), "--tags", str(tmp_path / "tags.csv"), "-o", str(tmp_path / "out")]) == 1
    assert "pyws label is one: run its stages" in capsys.readouterr().err
