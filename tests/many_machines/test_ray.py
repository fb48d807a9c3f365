"""A stage on a Ray cluster of two workers: the files of one process."""

import json

import pytest

from pyws import cli


def proposals(path):
    entries = [{"label": "a", "score": 0.5, "segment": [start, start + 4.0]} for start in (0.0, 1.0, 9.0)]
    path.write_text(json.dumps({"results": {f"v{number}": entries[: number % 3 + 1] for number in range(7)}}))
    return path


def test_a_cluster_of_two_workers_writes_the_file_of_one_process(tmp_path, monkeypatch):
    cluster = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    proposals(tmp_path / "proposals.json")
    assert cli.main(["segments", "fuse", "proposals.json", "one.json", "--quiet"]) == 0
    init = cluster.init
    monkeypatch.setattr(cluster, "init", lambda **options: init(num_cpus=2, include_dashboard=False, **options))
    assert cli.main(["ray", "segments fuse proposals.json two.json --quiet", "--shards", "3", "--quiet"]) == 0
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert not (tmp_path / "two.json.parts").exists()


@pytest.mark.parametrize("command", ["segments train set -o run", "no such", ""])
def test_only_commands_that_take_shards(command, capsys):
    assert cli.main(["ray", command]) == 1
    assert "must be a command that takes --shard" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3"])
def test_there_is_at_least_one_shard(count, capsys):
    """It is said with or without Ray."""
    assert cli.main(["ray", "segments fuse a.json b.json", "--shards", count]) == 1
    assert f"shards: must be >= 1, got {count}" in " ".join(capsys.readouterr().err.split())
