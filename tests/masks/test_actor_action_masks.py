"""Classifiers from tags, and first masks of actors and actions: the pieces, the commands, resuming, bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from pyws import DataError
from pyws.cli import main
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.tagged.layouts import open_mask_set
from pyws.data.video.clips import Clip, FrameStore, clips_of, map_places, shrunk
from pyws.data.video.frames import read_mask, write_picture
from pyws.masks.initial_masks.actor_action_annotator import ActorActionConfig, Branch, join_branches, refine_class_masks
from pyws.masks.initial_masks.cam_to_mask import Scope, class_masks, refine_masks, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.train_classifier import examples_of, names_of

pytest.importorskip("h5py")
NETWORK = {"network": "small3d", "epochs": 2, "batch": 4, "frames": 8, "short-side": 24, "head-lr": 0.01}
CLASSIFY = [
    *(word for key, value in NETWORK.items() for word in (f"--{key}", str(value))),
    "--device",
    "cpu",
    "--quiet",
]
INIT = ["--region-area", "64", "--device", "cpu", "--quiet"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def classify(data: Path, out: Path, what: str, *words: Any) -> list[str]:
    return [str(word) for word in ("masks", "classify", data, "-o", out, "--what", what, *CLASSIFY, *words)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthetic set, and classifiers of it that have hardly learned."""
    folder = tmp_path_factory.mktemp("world")
    sizes: dict[str, Any] = {"frames": 10, "height": 24, "width": 32, "actor_size": (12.0, 16.0), "pan": 1.0}
    config = GeneratedConfig(**sizes, train=6, validation=0, test=2, pairs=(35, 39, 55, 59), several=0.5)
    write_generated_a2d(folder / "set", seed=1, config=config, quiet=True)
    for what in ("actor", "action"):
        assert main(classify(folder / "set", folder / f"{what}.safetensors", what)) == 0
    return folder


def init(world: Path, out: Path, *words: Any) -> list[str]:
    files = ["--actor-classifier", world / "actor.safetensors", "--action-classifier", world / "action.safetensors"]
    return [str(word) for word in ("masks", "init", "--data", world / "set", "-o", out, *files, *INIT, *words)]


# Clips


def test_places_of_maps() -> None:
    assert map_places(64, 8) == [4, 12, 20, 28, 36, 44, 52, 60]
    assert map_places(16, 2) == [4, 12]
    assert map_places(20, 3) == [3, 10, 16]
    assert map_places(20, 3, "start") == [0, 6, 13]
    assert map_places(20, 3, "linspace") == [0, 9, 19]
    assert map_places(1, 1, "linspace") == [0]
    with pytest.raises(ValueError, match="frames and maps must be >= 1"):
        map_places(0, 1)


def test_clips_cover_a_video() -> None:
    for length in range(1, 40):
        clips = clips_of(length, 8)
        assert {index for clip in clips for index in clip.indices()} == set(range(length))
        assert all(len(clip.indices()) == 8 for clip in clips)
        assert len(clips) == -(-length // 8)


def test_maps_of_repeated_frames_are_dropped() -> None:
    assert Clip(0, 5, 8).indices() == [0, 1, 2, 3, 4, 4, 4, 4]
    assert Clip(0, 5, 8).of_maps(4) == [(0, 1), (1, 3)]
    assert Clip(7, 1, 64).of_maps(8) == [(0, 7)]


def test_frames_in_memory_are_frames_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for index in range(3):
            write_picture(tmp_path / name / f"{index}.png", rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    kept, none = FrameStore(6), FrameStore(6, limit=0)
    for name in ("a", "b", "a"):
        one, two = (store.frames(tmp_path / name, [0, 2, 2]) for store in (kept, none))
        assert one.shape == (3, 6, 8, 3)
        assert (one == two).all()
    assert not none._kept
    assert shrunk(np.zeros((5, 9, 3), np.uint8), 6).shape == (5, 9, 3)
    write_picture(tmp_path / "a" / "3.png", np.zeros((12, 12, 3), np.uint8))
    with pytest.raises(DataError, match="frames must have one size, got 6x6 and 8x6"):
        FrameStore(6).frames(tmp_path / "a", [0, 3])


# Union and assignment


def test_union_of_both_branches() -> None:
    actor = (torch.tensor([[[[0.9, 0.2]]]]), torch.tensor([[[[True, False]]]]))
    action = (torch.tensor([[[[0.1, 0.7]]]]), torch.tensor([[[[False, True]]]]))
    masks, scores = join_branches([actor, action], [1], [1])
    assert masks.all()
    assert scores.flatten().tolist() == pytest.approx([0.9, 0.7])
    masks, scores = join_branches([action], [1], [1])
    assert masks.flatten().tolist() == [False, True]


def test_the_map_that_differs_decides() -> None:
    torch.manual_seed(0)
    scores = [torch.rand(1, 2, 3, 3) for _ in range(2)]
    branches = [(one, one > 0.5) for one in scores]
    assert join_branches(branches, [1, 1], [1, 2])[1] is scores[1]
    assert join_branches(branches, [1, 2], [1, 1])[1] is scores[0]
    assert (join_branches(branches, [1, 2], [1, 2])[1] == torch.maximum(*scores)).all()


def test_superpixels_go_to_the_pair_with_the_highest_mean() -> None:
    rng = np.random.default_rng(0)
    superpixels = torch.tensor(rng.integers(0, 9, (2, 8, 8)))
    masks, scores = torch.tensor(rng.random((2, 3, 8, 8)) < 0.6), torch.tensor(rng.random((2, 3, 8, 8)))
    found = refine_class_masks(superpixels, masks, scores, 0.5, 0.4, "superpixel")
    for frame in range(2):
        for label in range(9):
            inside = superpixels[frame] == label
            best, owner = -1.0, 0
            for pair in range(3):
                covered = masks[frame, pair][inside].double().mean() > 0.5 and inside.double().mean() < 0.4
                mean = float(scores[frame, pair][inside].mean())
                if covered and mean > best:
                    best, owner = mean, pair + 1
            assert set(found[frame][inside].tolist()) <= {owner}
    one = refine_class_masks(superpixels, masks[:, :1], scores[:, :1], 0.5, 0.4, "superpixel")
    assert (one == refine_masks(superpixels, masks[:, 0].long())).all()


def test_scope_of_otsu() -> None:
    """An actor that has left: its map is faint in the second frame, and masks nothing when the clip is one whole."""
    maps = torch.zeros(2, 1, 4, 4)
    maps[0, 0, :2, :2], maps[1, 0, 2:, 2:] = 8.0, 0.1
    found = [
        class_masks(scaled_maps(maps, (8, 8), scope), scope).flatten(1).any(1).tolist() for scope in get_args(Scope)
    ]
    frame, clip = found
    assert frame == [True, True]
    assert clip == [True, False]
    assert (
        class_masks(scaled_maps(maps[:1], (8, 8)), "frame")
        == class_masks(scaled_maps(maps[:1], (8, 8), "clip"), "clip")
    ).all()


# Classifiers


def test_classifiers_learn_from_videos_of_one_tag(world: Path) -> None:
    data = open_mask_set(world / "set")
    both = {len(video.tags) for video in data.videos}
    assert both == {1, 2}
    assert names_of(data.space, "actor") == ("ball", "car")
    examples = examples_of(data, "actor", ("train",))
    of_one = [v for v in data.part("train").videos if len({data.space.actor[tag] for tag in v.tags}) == 1]
    assert [example.video for example in examples] == of_one
    assert len(examples_of(data, "action", ("train",), "bce")) == 6
    assert len(examples_of(data, "action", ("train",))) < 6


def test_killed_training_goes_on_to_the_same_file(world: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, pyws.masks.initial_masks.train_classifier as c, pyws.cli\n"
        "keep = c._Training._keep\n"
        "def dying(self, path, losses):\n"
        "    keep(self, path, losses); os.kill(os.getpid(), signal.SIGKILL)\n"
        "c._Training._keep = dying\n"
        "pyws.cli.main(sys.argv[1:])\n"
    )
    words = classify(world / "set", tmp_path / "a.safetensors", "actor")
    assert subprocess.run([sys.executable, "-c", program, *words], check=False).returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors.training"]
    assert main([*words, "--seed", "1"]) == 1
    assert main(words) == 0
    made = ["a.html", "a.safetensors", "a.safetensors.hashes.json", "a.safetensors.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == made
    assert (tmp_path / "a.safetensors").read_bytes() == (world / "actor.safetensors").read_bytes()


def test_page_of_a_classifier(world: Path) -> None:
    page = (world / "actor.html").read_text()
    about = json.loads((world / "actor.safetensors.json").read_text())
    assert about["format"] == "pyws masks classify"
    assert len(about["losses"]) == about["parameters"]["epochs"]
    for name, count in about["videos_by_class"].items():
        assert f"{name} ({count})" in page  # all have fewer than ten
    (world / "actor.html").unlink()
    assert main(["report", str(world / "actor.safetensors")]) == 0
    assert (world / "actor.html").read_text() == page


def test_classifier_of_frames_from_other_weights(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(0)
    torch.save(shufflenet_v2_x0_5(weights=None, num_classes=5).state_dict(), tmp_path / "w.pth")
    words = ["masks", "classify", world / "set", "-o", tmp_path / "f.safetensors", "--what", "actor", "--loss", "bce"]
    rest = ["--network", "shufflenet_v2_x0_5", "--weights", tmp_path / "w.pth", "--short-side", 32, "--crop", 32]
    steps = ["--epochs", 2, "--schedule", "one-cycle", "--optimizer", "adamw", "--device", "cpu", "--json"]
    assert main([str(word) for word in words + rest + steps]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labels"] == ["ball", "car"]
    assert report["train_videos"] == 6
    assert 0 <= report["accuracy"] <= 1
    out = tmp_path / "out"
    alone = ["masks", "init", "--data", world / "set", "-o", out, "--actor-classifier", tmp_path / "f.safetensors"]
    assert main([str(word) for word in [*alone, "--subset", "test", *INIT, "--max-frames", 3]]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert [video["sampled"] for video in manifest["videos"].values()] == [[1, 5, 8]] * 2


def test_bad_classifiers(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (classify(world / "set", tmp_path / "a.pth", "actor"), "--out: must end in .safetensors"),
        (classify(world / "set", tmp_path / "a.safetensors", "actor", "--train", "dev"), "has no video of one actor"),
        (classify(world / "set", tmp_path / "a.safetensors", "actor", "--lr", "0"), "lr must be > 0"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err
    write_picture(tmp_path / "plain/videos/v/0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "plain/tags.csv").write_text("video,tag\nv,cat\n")
    (tmp_path / "plain/videos/bad.mp4").write_bytes(b"junk")
    (tmp_path / "plain/tags.csv").write_text("video,tag\nv,cat\nbad,dog\n")
    words = classify(tmp_path / "plain", tmp_path / "b.safetensors", "actor", "--train", "", "--test")
    assert main(words) == 1
    assert "bad.mp4: cannot be decoded" in capsys.readouterr().err
    assert main([*(word for word in words if word != "--quiet"), "--on-error", "skip"]) == 0
    assert "left out bad" in capsys.readouterr().out
    assert main(classify(tmp_path / "plain", tmp_path / "c.safetensors", "action", "--train", "")) == 1
    assert "the labels have no actions" in capsys.readouterr().err


def test_a_size_that_a_network_cannot_take_is_named_with_it(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Networks say so in words of their own, or by torch's."""
    words = ["masks", "classify", world / "set", "-o", tmp_path / "f.safetensors", "--what", "actor", "--quiet"]
    rest = ["--network", "squeezenet1_1", "--crop", 4, "--epochs", 1, "--loss", "bce", "--device", "cpu"]
    assert main([str(word) for word in words + rest]) == 1
    said = capsys.readouterr().err
    assert "squeezenet1_1 cannot take frames of 4x4 pixels; other sizes are given by --short-side and --crop" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("damage", ["no picture", "another size"])
def test_a_video_that_is_damaged_further_on_is_left_out_of_training(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat_a", "cat_b", "dog_a", "dog_b"):
        for index in range(5):
            pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            write_picture(tmp_path / f"set/videos/{name}/{index}.png", pixels)
    for part, names in (("set", "cat_a cat_b dog_a dog_b"), ("rest", "cat_a dog_a dog_b")):
        (tmp_path / part).mkdir(exist_ok=True)
        rows = "".join(f"{name},{name[:3]}\n" for name in names.split())
        (tmp_path / part / "tags.csv").write_text(f"video,tag\n{rows}")
    shutil.copytree(tmp_path / "set/videos", tmp_path / "rest/videos", ignore=shutil.ignore_patterns("cat_b"))
    last = tmp_path / "set/videos/cat_b/4.png"
    if damage == "no picture":
        last.write_text("text")
    else:
        write_picture(last, np.zeros((24, 30, 3), np.uint8))
    steps = ["--train", "", "--test", "--samples", "8"]  # every frame is drawn sooner or later
    assert main(classify(tmp_path / "set", tmp_path / "all.safetensors", "actor", *steps)) == 1
    assert "cat_b" in capsys.readouterr().err
    for part in ("set", "rest"):
        assert (
            main(classify(tmp_path / part, tmp_path / f"{part}.safetensors", "actor", *steps, "--on-error", "skip"))
            == 0
        )
    failed = json.loads((tmp_path / "set.safetensors.json").read_text())["failed"]
    assert list(failed) == ["cat_b"]
    assert "cat_b" in failed["cat_b"]
    assert (tmp_path / "set.safetensors").read_bytes() == (tmp_path / "rest.safetensors").read_bytes()
    for limit in (1, 1 << 30):  # what is too large to keep is read as well
        store = FrameStore(8, limit)
        store.check(tmp_path / "rest/videos/cat_a", range(5))
        with pytest.raises(DataError, match="cat_b"):
            store.check(tmp_path / "set/videos/cat_b", range(5))


# Masks


def test_masks_of_a_data_set(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(init(world, out, "--subset", "train")) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    data = open_mask_set(world / "set")
    assert LabelSpace.read(manifest["label_space"], "manifest") == data.space
    train = data.part("train").videos
    assert list(manifest["videos"]) == [video.name for video in train]
    for video in train:
        entry = manifest["videos"][video.name]
        assert entry["ids"] == list(video.tags)
        assert entry["tags"] == [data.space.names[tag] for tag in video.tags]
        assert entry["sampled"] == [2, 6, 4, 8]  # two clips of eight frames, the second from frame 2
        assert entry["clips"] == [[0, 8], [2, 8]]
        for kind in ("init", "pa/v0"):
            masks = sorted((out / kind / video.name).iterdir())
            assert [path.stem for path in masks] == ["00003", "00005", "00007", "00009"]
            assert set(np.unique([read_mask(path) for path in masks])) <= {0, *video.tags}
    assert any(read_mask(path).any() for path in (out / "init").rglob("*.png"))
    assert manifest["parameters"]["tags"][0] == {"id": 1, "tag": "ball-jumping", "classes": [0]}
    before = files_of(out)
    assert main(init(world, out, "--subset", "train")) == 0
    assert files_of(out) == before
    assert main(init(world, out, "--otsu-per", "clip")) == 1


@pytest.mark.parametrize("what", ["actor", "action"])
def test_maps_of_several_scales(world: Path, what: str) -> None:
    space = open_mask_set(world / "set").space
    names, part = (space.actors, space.actor) if what == "actor" else (space.actions, space.action)
    branch = Branch.open(world / f"{what}.safetensors", names, part, 32, None)
    images = torch.randint(0, 256, (8, 24, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def maps(of: torch.Tensor, scope: Scope = "frame", **options: Any) -> torch.Tensor:
        return branch.maps(
            of, [2, 6], Clip(0, 8, 8), ActorActionConfig(otsu_per=scope), InitialMaskConfig(**options), (1, 2)
        )

    assert maps(images).shape[2:] != (24, 32)
    for scope in get_args(Scope):
        each = [scaled_maps(maps(images, scales=(scale,)), (24, 32), scope) for scale in (1.0, 2.0)]
        both = maps(images, scope, scales=(1.0, 2.0), power=2.0)
        torch.testing.assert_close(both, ((each[0] + each[1]) / 2) ** 2)
    mirrored = maps(images, mirror=True)
    torch.testing.assert_close(maps(images.flip(2), mirror=True), mirrored.flip(3), rtol=1e-3, atol=1e-4)


def test_killed_masks_go_on_to_the_same_bytes(world: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, pyws.masks.initial_masks.pipeline as initial, pyws.cli\n"
        "write, done = initial.write_mask, []\n"
        "def dying(path, ids):\n"
        "    write(path, ids); done.append(path)\n"
        "    if len(done) == 11: os.kill(os.getpid(), signal.SIGKILL)\n"
        "initial.write_mask = dying\n"
        "pyws.cli.main(sys.argv[1:])\n"
    )
    killed = init(world, tmp_path / "killed", "--subset", "test")
    assert subprocess.run([sys.executable, "-c", program, *killed], check=False).returncode == -9
    assert main(killed) == 0
    assert main(init(world, tmp_path / "whole", "--subset", "test")) == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("rule", ["skip", "single"])
def test_videos_of_several_tags(world: Path, tmp_path: Path, rule: str) -> None:
    assert main(init(world, tmp_path, "--subset", "train", "--multi-label", rule, "--map-rule", "start")) == 0
    videos = json.loads((tmp_path / "manifest.json").read_text())["videos"]
    for video in open_mask_set(world / "set").part("train").videos:
        entry = videos[video.name]
        if len(video.tags) > 1 and rule == "skip":
            assert entry["status"] == "left out"
            assert entry["error"] == "shows 2 tags"
            assert not (tmp_path / "pa/v0" / video.name).exists()
        else:
            assert entry["ids"] == [video.tags[0]]
            assert entry["sampled"] == [0, 4, 2, 6]


def test_videos_are_set_aside_for_validation(world: Path, tmp_path: Path) -> None:
    words = ("--subset", "train", "val", "--validation", 2)
    assert main(init(world, tmp_path / "out", *words)) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    subsets = {name: entry["subset"] for name, entry in manifest["videos"].items()}
    expected = open_mask_set(world / "set", validation=2).part("train", "val").videos
    assert subsets == {video.name: video.subset for video in expected}
    assert sorted(subsets.values()) == ["train"] * 4 + ["val"] * 2


def test_bad_use(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actor = ["--actor-classifier", world / "actor.safetensors"]
    out = ["-o", tmp_path / "out"]
    write_picture(tmp_path / "plain/videos/v/0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "plain/tags.csv").write_text("video,tag\nv,zebra\n")
    write_picture(tmp_path / "own/videos/v/0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "own/tags.csv").write_text("video,tag,subset\nv,zebra,val\n")
    for words, message in (
        ([tmp_path, *out, *actor], "need --data, and no other classifier or tags"),
        (["--data", world / "set", tmp_path, *out, *actor], "or a data set as --data, not both"),
        (["--data", world / "set", *out], "--classifier is needed"),
        (["--data", tmp_path / "plain", *out, *actor], "must know zebra; it knows ball, car"),
        (["--data", tmp_path / "plain", *out, "--action-classifier", world / "action.safetensors"], "objects alone"),
        (
            ["--data", world / "set", *out, *actor, "--otsu-resolution", "map", "--otsu-per", "clip"],
            "needs otsu_per 'frame'",
        ),
        ([tmp_path, *out, "--subset", "train", "--layout", "a2d"], "--layout, --subset: only with --data"),
        (["--data", tmp_path / "own", *out, *actor, "--validation", 1], "says itself which videos are for validation"),
        (["--data", world / "set", *out, *actor, "--short-side", 9], "--short-side: only with --classifier"),
        (["--data", world / "set", *out, "--map-rule", "start"], "--map-rule: only with --actor-classifier or"),
    ):
        assert main(["masks", "init", *(str(word) for word in words)]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_frame_and_odd_sizes(world: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count, size in (("one", 1, (25, 33)), ("few", 3, (31, 17))):
        for index in range(count):
            picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            write_picture(tmp_path / "plain/videos" / name / f"{index}.png", picture)
    rows = "one,ball,none\nfew,car,jumping\nfew,ball,jumping\n"
    (tmp_path / "plain/tags.csv").write_text("video,actor,action\n" + rows)
    words = [word if word != str(world / "set") else str(tmp_path / "plain") for word in init(world, tmp_path / "out")]
    assert main(words) == 0
    videos = json.loads((tmp_path / "out" / "manifest.json").read_text())["videos"]
    assert (videos["one"]["sampled"], videos["few"]["sampled"]) == ([0], [2])
    assert read_mask(tmp_path / "out/pa/v0/few/2.png").shape == (31, 17)


def test_a_video_of_varying_rate_and_odd_size(world: Path, tmp_path: Path) -> None:
    """Frames count in their order, however long each is shown."""
    av = pytest.importorskip("av")
    (tmp_path / "plain/videos").mkdir(parents=True)
    with av.open(str(tmp_path / "plain/videos/odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 33, 25, "bgr0"
        for index, shown_at in enumerate((0, 1, 7, 8, 20, 41, 42, 43, 90)):
            frame = av.VideoFrame.from_ndarray(np.full((25, 33, 3), 20 * index, np.uint8), format="rgb24")
            frame.pts = shown_at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "plain/tags.csv").write_text("video,actor,action\nodd,ball,none\n")
    words = [word if word != str(world / "set") else str(tmp_path / "plain") for word in init(world, tmp_path / "out")]
    assert main(words) == 0
    entry = json.loads((tmp_path / "out/manifest.json").read_text())["videos"]["odd"]
    assert (entry["frames"], entry["sampled"]) == (9, [2, 6, 3, 7])
    assert read_mask(tmp_path / "out/pa/v0/odd/00007.png").shape == (25, 33)
    frames = FrameStore(99).frames(tmp_path / "plain/videos/odd.mkv", list(range(9)))
    assert frames[:, 0, 0, 0].tolist() == [20 * index for index in range(9)]


def test_classifiers_of_avas_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Key frames with several actions are learned from with a score for each; masks are not made of them."""
    for index in range(60):
        write_picture(tmp_path / "ava/videos/v" / f"{index:04}.png", np.full((24, 32, 3), 2 * index, np.uint8))
    rows = "v,0900,0,0,1,1,15,0\nv,0900,0,0,1,1,27,0\nv,0901,0,0,1,1,27,1\n"
    (tmp_path / "ava/ava_train_v2.2.csv").write_text(rows)
    (tmp_path / "ava/ava_val_v2.2.csv").write_text("v,0902,0,0,1,1,15,0\n")
    words = classify(tmp_path / "ava", tmp_path / "action.safetensors", "action", "--loss", "bce", "--json")
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["train_videos"], report["test_videos"]) == (2, 1)
    assert report["videos_by_class"]["drink"] == 2
    assert (
        main(["masks", "init", "--data", str(tmp_path / "ava"), "-o", str(tmp_path / "out"), "--actor-classifier", "x"])
        == 1
    )
    assert "has key frames of AVA, for masks classify and attention" in capsys.readouterr().err


def test_videos_set_aside_are_not_learned_from(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same number and seed part the set as pyws masks init does."""
    words = ["--validation", "2", "--test", "val", "--loss", "bce", "--json"]
    assert main(classify(world / "set", tmp_path / "actor.safetensors", "actor", *words)) == 0
    assert json.loads(capsys.readouterr().out)["train_videos"] == 4
