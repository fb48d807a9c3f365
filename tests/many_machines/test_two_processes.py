"""What two processes over gloo do is what one does: training, evaluation, stages over videos, and dying."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import feature_sets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.ops import StochasticDepth

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.data.video.frames import write_mask
from pyws.distributed import Group, JoinedLayers
from pyws.errors import DataError
from pyws.folders import only_writer
from pyws.masks.self_training import train_segmentation as training
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.report import pictures

QUIET = ["--device", "cpu", "--quiet"]
SIZE = (40, 56)


def draw(folder):
    """Five videos of squares, tagged; a classifier of a moment; first masks that are the squares."""
    rng = np.random.default_rng(0)
    rows = ["video,tag,subset\n"]
    for number in range(5):
        name, color = f"v{number}", (220, 90, 30) if number % 2 else (40, 90, 220)
        (folder / "set/videos" / name).mkdir(parents=True)
        for index in range(2 + number % 2):
            frame = rng.integers(0, 120, (*SIZE, 3), dtype=np.uint8)  # batch norm of flat pictures magnifies rounding
            frame[4:36, 4 * index : 4 * index + 32] //= 4
            frame[4:36, 4 * index : 4 * index + 32] += np.array(color, np.uint8)
            Image.fromarray(frame).save(folder / "set/videos" / name / f"{index}.png")
        rows.append(f"{name},{'fox' if number % 2 else 'swan'},{'train' if number < 3 else 'test'}\n")
    (folder / "set/tags.csv").write_text("".join(rows))
    torch.manual_seed(0)
    torch.save(EfficientNetLite(classes=3).state_dict(), folder / "weights.pth")
    (folder / "labels.txt").write_text("fox\nswan\ntabby\n")


def init(folder, out):
    words = ["masks", "init", "--data", folder / "set", "--classifier", "efficientnet-lite0", "--short-side", 32]
    words += [
        "--weights",
        folder / "weights.pth",
        "--class-names",
        folder / "labels.txt",
        "--region-area",
        64,
        "-o",
        out,
    ]
    return [str(word) for word in [*words, *QUIET]]


def classify(folder, out, *words):
    fixed = ["--what", "actor", "--network", "small2d", "--epochs", 2, "--batch", 2, "--crop", 40, "--short-side", 40]
    fixed = [*fixed, "--head-lr", 0.01, *QUIET, *words]
    return [str(word) for word in ["masks", "classify", folder / "set", "-o", out, *fixed]]


def train(folder, out):
    words = [
        "masks",
        "train",
        folder / "first",
        "-o",
        out,
        "--label-tests",
        "discriminator",
        "--min-per-class",
        2,
        "--crop",
        40,
    ]
    words += ["--discriminator.patch-size", 36, "--discriminator.width", 2, "--discriminator.steps", 2, "--batch", 3]
    words += ["--discriminator.threshold", 0, "--max-epoch", 2, "--lr", 0.2, "--max-versions", 2, "--choose-after", 0]
    words += ["--validation", "frames", "--json", "--device", "cpu"]
    return [str(word) for word in words]


def segments(folder, out):
    words = ["segments", "predict", folder / "features", "--checkpoint", folder / "network/last.safetensors"]
    return [str(word) for word in [*words, "--subset", "test", "-o", out, *QUIET]]


def together(folder, jobs):
    """Exit statuses of both processes for each job."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests)))}
    script = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(script, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as run:
        try:
            out, errors = run.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # all that it forked too
            raise
    assert run.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Everything once by one process and once by two."""
    folder = tmp_path_factory.mktemp("both")
    draw(folder)
    feature_sets.write(folder / "features", feature_sets.draw(5), feature_sets.draw(5, "test", seed=1))
    words = ["--subset", "training", "--epochs", "1", *QUIET]
    assert cli.main(["segments", "train", str(folder / "features"), "-o", str(folder / "network"), *words]) == 0
    assert cli.main(init(folder, folder / "first")) == 0
    for path in (folder / "first/pa/v0").rglob("*.png"):
        mask, start = np.zeros(SIZE, np.uint8), 4 * int(path.stem)
        mask[4:36, start : start + 32] = 1 + (int(path.parent.name[1:]) % 2 == 0)
        write_mask(path, mask)
    one, two = folder / "one", folder / "two"
    for out in (one, two):
        out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        sys.path.insert(0, str(Path(__file__).parent))
        import two_processes

        sys.path.pop(0)
        patch.setattr(training, "build_deeplab", two_processes.small)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        assert cli.main(classify(folder, one / "c.safetensors")) == 0
        assert cli.main(train(folder, one / "run")) == 0
        assert cli.main(init(folder, one / "first")) == 0
        assert cli.main(segments(folder, one / "found.json")) == 0
        torch.set_num_threads(threads)
    statuses = together(folder, [
        {"words": classify(folder, two / "c.safetensors")},
        {"words": train(folder, two / "run"), "out": str(two / "said")},
        {"words": init(folder, two / "first"), "alone": True},
        {"words": segments(folder, two / "found.json"), "alone": True},
        {"words": classify(folder, two / "killed.safetensors"), "kill": 1, "steps": 3, "out": str(two / "killed")},
        {"words": classify(folder, two / "killed.safetensors")},
    ])  # fmt: skip
    return one, two, statuses


def files_of(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def close(one, two):
    for name, tensor in load_file(one).items():
        torch.testing.assert_close(load_file(two)[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_classifiers_are_those_of_one_process(both):
    """Three videos in batches of two: the last batch has a process without any. Batch norm sees all rows."""
    one, two, statuses = both
    assert statuses[0] == [0, 0]
    close(one / "c.safetensors", two / "c.safetensors")


def test_masks_are_trained_as_by_one_process(both):
    one, two, statuses = both
    assert statuses[1] == [0, 0]
    said = json.loads((two / "said.0").read_text())
    assert not (two / "said.1").read_text()
    alone = json.loads((one / "run/manifest.json").read_text())
    assert said == json.loads((two / "run/manifest.json").read_text())
    assert len(said["versions"]) == 2
    for first, second in zip(alone["versions"], said["versions"], strict=True):
        assert first["selection"] == second["selection"]
        for row, other in zip(first["curve"], second["curve"], strict=True):
            assert other["loss"] == pytest.approx(row["loss"], rel=1e-3)
            assert other["score"] == pytest.approx(row["score"], abs=0.02)
    close(one / "run/models/v0.safetensors", two / "run/models/v0.safetensors")
    assert set(files_of(one / "run")) == set(files_of(two / "run"))


def test_stages_over_videos_need_no_group(both):
    """Both processes start at once in one folder, without an address to meet at, and end with the files of one."""
    one, two, statuses = both
    assert statuses[2:4] == [[0, 0], [0, 0]]
    assert files_of(two / "first") == files_of(one / "first")
    assert (two / "found.json").read_bytes() == (one / "found.json").read_bytes()
    assert not (two / "found.json.parts").exists()


@pytest.mark.parametrize("stage", ["init", "predict", "refine"])
def test_pictures_are_drawn_while_the_folder_is_held(both, stage, tmp_path, monkeypatch):
    """Else the last one notes the hashes, and writes the page, of what another one has not drawn yet."""
    folder, out, drawn = both[0].parent, tmp_path / "out", []

    def draw(source, folders, path, *rest, **options):
        drawn.append(path.name)
        with pytest.raises(DataError, match="is being written by another run"), only_writer(out):
            pass

    monkeypatch.setattr(pictures, "draw_masks", draw)
    monkeypatch.setattr(training, "build_deeplab", sys.modules["two_processes"].small)
    words = {
        "init": init(folder, out),
        "predict": ["masks", "predict", str(both[0] / "run"), str(folder / "set/videos"), "-o", str(out), *QUIET],
        "refine": ["masks", "refine", str(folder / "first"), "-o", str(out), *QUIET],
    }
    words["refine"] += [
        "--classifier-weights",
        str(folder / "weights.pth"),
        "--class-names",
        str(folder / "labels.txt"),
    ]
    assert cli.main(words[stage]) == 0
    assert sorted(drawn) == [f"v{number}" for number in range(5)]


def test_a_process_that_is_killed_ends_the_other_and_the_next_run_goes_on(both):
    _, two, statuses = both
    assert statuses[4] == [1, -9]
    assert (
        "another process of this run ended or cannot be reached; run the same command again"
        in (two / "killed.0.err").read_text()
    )
    assert statuses[5] == [0, 0]
    assert (two / "killed.safetensors").read_bytes() == (two / "c.safetensors").read_bytes()


class Lonely(Group):
    """The first of two processes, whose partner has no row."""

    def add(self, tensors):
        pass


@pytest.mark.parametrize("layer", [torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, momentum=None, affine=False)])
def test_joined_batch_norm_is_torchs(layer, monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    own = pickle.loads(pickle.dumps(layer))
    images = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn(4, 3, 5, 6)
    results = []
    for one, group in ((layer, Group()), (own, Lonely(0, 2))):
        images.grad = None
        with JoinedLayers(one, group):
            shown = one(images)
        (shown * weights).sum().backward()
        results.append([shown.detach(), images.grad, *one.state_dict().values()])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(second, first)
    assert own.forward.__func__ is torch.nn.BatchNorm2d.forward


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.4), torch.nn.Dropout2d(0.4), StochasticDepth(0.4, "row")])
def test_joined_dropout_is_that_of_the_whole_batch(layer):
    images = torch.rand(5, 3, 4, 2)
    torch.manual_seed(3)
    whole = layer(images)
    for rank in range(2):
        torch.manual_seed(3)
        with JoinedLayers(layer, Lonely(rank, 2)) as layers:
            layers.rows = 5
            assert torch.equal(layer(images[rank::2]), whole[rank::2])


def test_features_are_read_by_workers_that_are_spawned(both):
    """A data set goes to another process as it is; nothing open travels with it."""
    data = open_features(both[0].parent / "features", "test")
    code = "import pickle, sys; data = pickle.load(sys.stdin.buffer); print(repr(float(data.features(1).sum())))"
    shown = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(data), capture_output=True, check=True)
    assert float(shown.stdout) == float(data.features(1).sum())
