"""Features by shards: the files of one process."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import cli


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
    """Every file, by its path within the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_shards_write_the_files_of_one_process(videos, tmp_path):
    assert features(videos, tmp_path / "whole") == 0
    for order in (("2/2", "1/2"), ("1/3", "3/3", "2/3")):
        out = tmp_path / str(len(order))
        for shard in order:
            assert not (out / "dataset.json").exists()
            assert features(videos, out, "--shard", shard) == 0
        assert files_of(out) == files_of(tmp_path / "whole")
    assert len([name for name in files_of(tmp_path / "whole") if not name.startswith("report/")]) == 7


def test_label_is_one_process(videos, tmp_path, capsys, monkeypatch):
    (tmp_path / "tags.csv").write_text("video,tag\na,run\n")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["label", str(videos), "--tags", str(tmp_path / "tags.csv"), "-o", str(tmp_path / "out")]) == 1
    assert "pyws label is one: run its stages" in capsys.readouterr().err
