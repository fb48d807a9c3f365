"""Features by shards: the files of one process."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.data.features.files import stored_in, write_snippets
from pyws.data.features.packs import move_packs, pack_videos


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
