"""What has to be shown of two processes over gloo, check by check, on training of segments.

All ten are here but for the speed of two processes (10), which no test measures; shards by hand are in
test_two_processes.py, test_segment_stages.py and test_shards_of_features.py too.
"""

import json

import feature_sets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_two_processes import QUIET, files_of, together
from torch.utils.data import DataLoader, Dataset

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.folders import only_writer
from pyws.sharding import this_shard

EPOCHS = 4


def words(folder, out, subset="training", *more):
    fixed = ["--subset", subset, "--epochs", EPOCHS, "--preset", "paper", "--backbone", "bm", "--batch", 3, *QUIET]
    return [str(word) for word in ["segments", "train", folder / "set", "-o", out, *fixed, *more]]


def labels(folder, out):
    return ["segments", "labels", str(folder / "proposals.json"), str(folder / "set/truth.json"), str(out), *QUIET]


def history(run):
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: row.get(key) for key in ("epoch", "loss", "mAP")} for row in rows]


def results_of(run):
    """Files of a run but for its times, its pages and how it was called."""
    left_out = ("report", "hashes.json", "run.json", "history.jsonl")
    return {name: data for name, data in files_of(run).items() if not name.startswith(left_out)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Training of 7 videos, and of 1, by one process and by two: whole, killed, raced for, and started again."""
    folder = tmp_path_factory.mktemp("ten")
    sets = feature_sets.draw(7), feature_sets.draw(5, "test", seed=1, longest=300), feature_sets.draw(1, "lonely")
    feature_sets.write(folder / "set", *sets)
    (folder / "set/dataset.json").write_text('{"snippets_per_second": 1.5625}')
    evaluated = ("--evaluate", "test", "--evaluate-every", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for out, subset, more in (("one", "training", evaluated), ("one-lonely", "lonely", ())):
        assert cli.main(words(folder, folder / out, subset, *more)) == 0
    torch.set_num_threads(threads)
    whole = words(folder, folder / "two", "training", *evaluated)
    killed = words(folder, folder / "killed", "training", *evaluated)
    elastic = words(folder, folder / "elastic", "training", *evaluated)
    raced = words(folder, folder / "raced", "training", *evaluated)
    proposals = {f"test_{number:02}": [(0.1 * number, 3.0, 0.5), (1.0, 4.0 + number, 0.25)] for number in range(5)}
    results = {video: [{"label": "run", "segment": [start, end], "score": score} for start, end, score in several]
               for video, several in proposals.items()}  # fmt: skip
    (folder / "proposals.json").write_text(json.dumps({"results": results}))
    assert cli.main(labels(folder, folder / "one.safetensors")) == 0
    statuses = together(folder, [
        {"words": whole},
        {"words": words(folder, folder / "two-lonely", "lonely")},
        {"words": killed, "kill": 1, "steps": 7, "out": str(folder / "said-killed")},
        {"words": killed},
        {"words": raced, "race": True, "out": str(folder / "said-raced")},
        {"words": labels(folder, folder / "two.safetensors"), "alone": True},
        {"words": elastic, "kill": 1, "steps": 7, "elastic": True},
        {"words": words(folder, folder / "told"), "told": 1.5},
    ])  # fmt: skip
    return folder, statuses


def test_1_pseudo_labels_of_one_and_two_are_the_same_bytes(runs):
    """Shards by hand, two and three, see test_segment_stages.py; of the rounds of training tests/segments."""
    folder, statuses = runs
    assert statuses[5] == [0, 0]
    assert (folder / "two.safetensors").read_bytes() == (folder / "one.safetensors").read_bytes()


@pytest.mark.parametrize("subset", ["", "-lonely"])
def test_2_parameters_and_losses_are_those_of_one_process(subset, runs):
    """Seven videos in batches of three, and one video, which leaves a process without any."""
    folder, statuses = runs
    assert statuses[1] == [0, 0]
    one, two = folder / f"one{subset}", folder / f"two{subset}"
    for row, other in zip(history(one), history(two), strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)
    for name, tensor in load_file(one / "last.safetensors").items():
        torch.testing.assert_close(load_file(two / "last.safetensors")[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_3_scores_of_uneven_videos_are_those_of_one_process(runs):
    """Five videos of 20 to 300 snippets, three for one process and two for the other."""
    folder, _ = runs
    scores = [row["mAP"] for row in history(folder / "one") if row["mAP"] is not None]
    assert len(scores) == EPOCHS // 2
    assert [row["mAP"] for row in history(folder / "two") if row["mAP"] is not None] == pytest.approx(scores, abs=1e-6)


def test_4_a_killed_process_ends_the_other_and_the_next_run_ends_the_same(runs):
    folder, statuses = runs
    assert statuses[2] == [1, -9]
    assert "another process of this run ended" in (folder / "said-killed.0.err").read_text()
    assert statuses[3] == [0, 0]
    assert results_of(folder / "killed") == results_of(folder / "two")
    assert history(folder / "killed") == history(folder / "two")


def test_5_two_launches_into_one_folder_do_not_mix(runs):
    """One is told so, or both ran one after the other; the files are those of one."""
    folder, statuses = runs
    assert 0 in statuses[4]
    for rank, status in enumerate(statuses[4]):
        assert (status == 1) == ("is being written by another run" in (folder / f"said-raced.{rank}.err").read_text())
    assert results_of(folder / "raced") == results_of(folder / "one")


def test_6_torchrun_starts_again_from_the_checkpoint(runs):
    """Its agent notices the killed process, starts both again once, and they end with the bytes of a whole run."""
    folder, statuses = runs
    assert statuses[6] == [0, 0]
    assert results_of(folder / "elastic") == results_of(folder / "two")
    assert history(folder / "elastic") == history(folder / "two")


def test_6_a_process_that_waits_for_another_ends_when_told(runs):
    """Python would not come to its handler of SIGTERM for six hours."""
    _, statuses = runs
    assert statuses[7] == [143, 0]


def test_7_shards_need_no_torch_distributed(monkeypatch):
    monkeypatch.setattr(torch.distributed, "init_process_group", None)
    assert str(this_shard("2/3")) == "2/3"


class Snippets(Dataset):
    """Features as a loader of one's own reads them."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return float(np.asarray(self.data.features(index), np.float64).sum())


def test_8_features_are_read_by_spawned_workers(runs):
    data = open_features(runs[0] / "set", "training")
    loader = DataLoader(Snippets(data), batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert [float(one) for one in loader] == [Snippets(data)[index] for index in range(len(data))]


def test_9_stages_without_gradients_need_no_group(tmp_path, monkeypatch):
    """RANK and WORLD_SIZE are enough, as test_two_processes.py shows of two; a group is not asked for."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "init_process_group", None)
    proposals = {"v": [{"label": "a", "score": 1.0, "segment": [0.0, 1.0]}]}
    (tmp_path / "in.json").write_text(json.dumps({"results": proposals}))
    assert cli.main(["segments", "fuse", str(tmp_path / "in.json"), str(tmp_path / "out.json"), *QUIET]) == 0
    with only_writer(tmp_path / "free"):
        pass
