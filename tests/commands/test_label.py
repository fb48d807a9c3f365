"""pyws label: the stages of both systems in sequence, with random networks; each writes what its own command would."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from video_files import write_timed_video

from pyws import cli
from pyws.commands.common import Common
from pyws.commands.label import calibration, prepare
from pyws.commands.label import run as run_module
from pyws.commands.label.page import _amounts
from pyws.commands.label.plan import COARSER, Choices, Cost, Costs, Length, Work, fitted
from pyws.commands.label.prepare import Prepared
from pyws.commands.label.run import resumed, run_stages
from pyws.commands.label.stages import Job, MaskConfig, Networks, as_file_name, make_maps, mask_config_for
from pyws.commands.label.tags import Route, route_of
from pyws.data.video.frames import read_mask, write_picture
from pyws.errors import DataError
from pyws.models.classifiers import LITE0, load_classifier
from pyws.models.image_networks.small2d import Small2D
from pyws.models.video_networks.small3d import Small3D
from pyws.report.run import place_of
from pyws.report.runs.label import label_page
from pyws.run_manifest import open_run
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling

LABELS = ("red fox, Vulpes vulpes", "running shoe", "black swan")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 1.6 seconds, a table of their tags, and random networks of three classes."""
    folder = tmp_path_factory.mktemp("label")
    (folder / "videos" / "deep").mkdir(parents=True)
    for name in ("one.mkv", "deep/two.mkv", "three.mkv"):
        write_timed_video(folder / "videos" / name, [k / 10 for k in range(16)])
    (folder / "tags.csv").write_text("Video;Tags\nONE.mkv;red fox, running\ntwo;waving\nthree;running|waving\n")
    torch.manual_seed(0)
    torch.save(Small3D(3).state_dict(), folder / "clips.pth")
    torch.save(Small2D(3).state_dict(), folder / "images.pth")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    (folder / "actions.txt").write_text("clapping\nwaving, greeting\nhopping\n")
    return folder


def words(world: Path, out: Path, *more: object) -> list[str]:
    given = [
        "label", world / "videos", "--tags", world / "tags.csv", "-o", out, "--network", "small3d", "--weights",
        world / "clips.pth", "--classifier", "small2d", "--classifier-weights", world / "images.pth",
        "--classifier-class-names", world / "labels.txt", "--network-class-names", world / "actions.txt",
        "--mask-frames", 3, "--epochs", 2, "--versions", 1, "--json", *more,
    ]  # fmt: skip
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def done(world: Path) -> Path:
    assert cli.main(words(world, world / "out")) == 0
    return world / "out"


def test_tags_go_where_they_are_found(done: Path) -> None:
    document = json.loads((done / "manifest.json").read_text())
    assert {one["tag"]: (one["kind"], one["names"]) for one in document["plan"]["tags"]} == {
        "red fox": ("object", ["red fox"]),
        "running": ("action", []),  # no running shoe
        "waving": ("known action", ["waving, greeting"]),
    }
    assert sorted(path.name for path in (done / "masks/first/pa/v0").iterdir()) == ["one"]
    known = json.loads((done / "segments/known-classes.json").read_text())["results"]
    assert {label["label"] for found in known.values() for label in found} <= {"waving"}
    maps = {path.name: sorted(one.name for one in path.iterdir()) for path in (done / "maps").iterdir()}
    assert maps == {"one": ["running"], "two": ["waving"], "three": ["running", "waving"]}
    assert (done / "maps/two/waving/masks").is_dir()
    explained = json.loads((done / "maps/two/waving/maps.json").read_text())
    assert explained["segments"].endswith("known-classes.json")
    learned = json.loads((done / "segments/detections.json").read_text())["results"]
    tags = {"one": {"running"}, "two": {"waving"}, "three": {"running", "waving"}}
    for video, found in learned.items():
        assert {one["label"] for one in found} <= tags[video]
        assert all(0 <= one["segment"][0] < one["segment"][1] <= 1.7 for one in found)
    assert "running" in (done / "report.html").read_text()


def test_every_stage_of_masks_runs_or_says_why(done: Path) -> None:
    document = json.loads((done / "manifest.json").read_text())
    state = document["state"]
    assert len(list((done / "masks/first/pa/v0/one").iterdir())) == 3
    undone = {"predicted masks"} if state["notes"] else set()
    assert set(state["seconds"]) == set(document["plan"]["minutes"]) - undone  # what was planned was done
    assert all(seconds > 0 for seconds in state["seconds"].values())
    if state["mask_config"]["refine"]:
        assert len(list((done / "masks/refined/pa/v0/one").iterdir())) == 3
    if not state["notes"]:
        assert len(list((done / "masks/predicted/masks/one").iterdir())) == 4  # every fifth of 16
    else:  # no mask of a random network may be good enough to learn from
        assert "masks were not trained" in state["notes"][0]


def test_masks_of_actions_are_exported_where_they_are_asked_for(done: Path, tmp_path: Path) -> None:
    """What is exported of the folder alone comes back by pyws import, which reads masks of objects."""
    for given, labels in (([done], {"red fox"}), ([done, done / "maps"], {"red fox", "running", "waving"})):
        out = tmp_path / str(len(given))
        assert cli.main(["export", *map(str, given), "--format", "coco", "-o", str(out), "--quiet"]) == 0
        document = json.loads((out / "annotations/instances_default.json").read_text())
        assert {one["name"] for one in document["categories"]} == labels
    assert {Path(one["file_name"]).parent.name for one in document["images"]} == {"one", "two", "three"}


def test_page_has_a_row_for_each_video(done: Path) -> None:
    page = place_of(done)
    videos = label_page(page, json.loads((done / "manifest.json").read_text())).videos.videos
    assert sorted(video.name for video in videos) == ["one", "three", "two"]
    one = next(video for video in videos if video.name == "one")
    assert set(one.tags) == {"red fox", "running"}
    assert one.strip is not None
    assert one.strip.layers  # the masks, at the times of their frames
    assert max(one.strip.places) <= one.duration < 2


def test_masks_end_with_the_refined_ones(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No network is trained on them, nor is the training of one calibrated or missed, unless that is asked for."""
    given = words(world, tmp_path / "out", "--dry-run")
    place = given.index("--versions")
    assert cli.main(given[:place] + given[place + 2 :]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert not {"trained masks", "predicted masks"} & set(plan["minutes"])
    assert (plan["choices"]["versions"], plan["predicted_frames"]) == (0, 0)
    assert "first masks" in plan["minutes"]  # what takes no time is left out; on a fast machine it is 0.00
    assert not any("trained" in note for note in plan["notes"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("choices",), "a"),
        (("choices", "sampling"), None),
        (("choices", "sampling", "fps"), []),
        (("choices", "sampling", "fps"), -1),
        (("costs", "stages", "first masks", "unit"), "x"),
        (("mask_config", "missing"), -1),
        (("seconds",), -1),
        (("begun",), 0),
    ],
)
def test_a_state_that_cannot_be_is_named_with_its_manifest(path, value, world, done, tmp_path, capsys) -> None:
    copy = shutil.copytree(done, tmp_path / "out")
    document = json.loads((copy / "manifest.json").read_text())
    within = document["state"]
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    (copy / "manifest.json").write_text(json.dumps(document))
    assert cli.main(words(world, copy)) == 1
    said = capsys.readouterr().err
    assert f"{copy}/manifest.json: state: " in said
    assert path[0] in said or path[-1] in said


def test_masks_are_those_of_their_own_command(world: Path, done: Path, tmp_path: Path) -> None:
    mask_config = json.loads((done / "manifest.json").read_text())["state"]["mask_config"]
    alone = [
        "masks", "init", world / "videos/one.mkv", "-o", tmp_path, "--classifier", "small2d", "--weights",
        world / "images.pth", "--class-names", world / "labels.txt", "--tag", "red fox", "--max-frames", 3, "--quiet",
        "--scales", 0.6, 1, 1.67, "--mirror", "--power", 1.5, "--region-area", mask_config["region_area"],
        *(["--motion"] if mask_config["motion"] else []),
    ]  # fmt: skip
    assert cli.main([str(word) for word in alone]) == 0
    found = sorted((tmp_path / "pa/v0/one").iterdir())
    assert len(found) == 3
    for path in found:
        assert read_mask(path).tolist() == read_mask(done / "masks/first/pa/v0/one" / path.name).tolist()


def test_the_same_command_goes_on(world: Path, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the choices of the run that was begun: nothing is calibrated again, and no file of results changes."""
    monkeypatch.setattr(run_module, "calibrated", lambda *given: pytest.fail("calibrated again"))
    kept = [*done.rglob("*.safetensors"), *done.rglob("pa/v0/*/*.png")]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}
    assert before
    assert cli.main(words(world, done)) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == before


def test_another_run_in_the_folder_is_refused(world: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(world, done, "--budget", "3h")) == 1
    assert "holds a run with budget None, not '3h'" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(world, tmp_path / "out", "--dry-run", "--budget", "2h")) == 0
    plan = json.loads(capsys.readouterr().out)
    choices = plan["choices"]
    assert (plan["videos"], choices["mask_frames"], choices["epochs"], choices["versions"]) == (3, 3, 2, 1)
    assert choices["mask_epochs"] == 8  # as docs/how-to/label-videos.md plans by
    assert plan["total_minutes"] > 0
    assert plan["megabytes"] > 0
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tags.csv").write_text("video,tag\none,red fox\nnowhere,red fox\n")
    (tmp_path / "one.csv").write_text("video,tag\none,red fox\n")
    few = ["--tags", tmp_path / "one.csv", "--on-error", "skip"]
    for more, said in (
        ([*few, "--budget", "0.001s"], "--budget: 1.66667e-05 minutes are too few"),
        (["--budget", "soon"], "--budget: must be a time such as 30m"),
        (["--tags", tmp_path / "tags.csv"], "row 3: nowhere is none of the videos"),
        (["--mask-frames", 0], "--mask-frames: must be >= 1, got 0"),
        (["--versions", -1], "--versions: must be >= 0, got -1"),
        (["--folder-fps", 0], "--folder-fps: must be > 0, got 0.0"),
    ):
        assert cli.main(words(world, tmp_path / "out", "--dry-run", *more)) == 1
        assert said in capsys.readouterr().err


def test_all_that_is_wrong_is_in_one_report(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, tags and files: nothing is left for the next try."""
    for name in ("a/one.mkv", "b/one.mkv", "text.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((world / "videos/one.mkv").read_bytes() if "one" in name else b"hello")
    (tmp_path / "tags.csv").write_text(
        "video,tag\na/one,red fox\nb/one,red fox\ntext,red fox\nx,red fox\ntext,mole\nbare,\n"
    )
    given = words(world, tmp_path / "out", "--dry-run", "--tags", tmp_path / "tags.csv")
    given[given.index(str(world / "videos"))] = str(tmp_path)
    assert cli.main(given) == 1
    said = capsys.readouterr().err
    for part in (
        "row 5: x is none of the videos",
        "row 7: bare is none",
        "/b/one.mkv: is called as ",
        "text.mp4: cannot",
    ):
        assert part in said
    assert cli.main([*given, "--on-error", "skip"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["videos"], [one["tag"] for one in plan["tags"]]) == (
        1,
        ["red fox"],
    )  # and no mole, which nothing shows
    assert cli.main([*(word for word in given if word != "--json"), "--on-error", "skip"]) == 0
    left = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    for part in ("row 5: x is none", "row 7: bare is none", "/b/one.mkv", "text.mp4"):
        assert sum(part in line for line in left) == 1


@pytest.mark.parametrize(
    ("kind", "videos", "said"),
    [
        ("action", 1, "learned from 1 video alone; 10 and more are wanted"),
        ("action", 9, "learned from 9 videos alone; 10 and more are wanted"),
        ("action", 10, ""),
        ("object", 1, ""),
        ("known action", 1, ""),
    ],
)
def test_what_is_learned_from_few_videos_is_doubtful_and_nothing_else(kind: str, videos: int, said: str) -> None:
    assert Route("tag", kind, (), (), videos).warning() == said


def test_folders_of_actions_need_a_rate_before_anything_is_done(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks of objects need no times; snippets do, and the last video's rate is asked for before the first's."""
    shutil.copytree(world / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "four").mkdir()
    for number in range(3):
        write_picture(tmp_path / "videos/four" / f"{number}.png", np.full((32, 32, 3), 90, np.uint8))
    given = words(world, tmp_path / "out", "--tags", tmp_path / "tags.csv")
    given[given.index(str(world / "videos"))] = str(tmp_path / "videos")
    (tmp_path / "tags.csv").write_text((world / "tags.csv").read_text() + "four;red fox\n")
    assert cli.main([*given, "--dry-run"]) == 0
    (tmp_path / "tags.csv").write_text((world / "tags.csv").read_text() + "four;running\n")
    capsys.readouterr()
    assert cli.main(given) == 1
    assert f"{tmp_path}/videos/four: is a folder of frames, which have no times" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.main([*given, "--dry-run", "--folder-fps", "10"]) == 0


def test_maps_are_of_so_many_clips_and_a_budget_has_fewer() -> None:
    """A video of 60 s has 94 clips of 16 frames."""
    work = Work({"a": Length(60, 1500), "b": Length(1, 20)}, ["a", "b"], [], False, ["a", "a", "b"], 16)
    assert work.units(CHOICES)["maps"] == 8 + 8 + 2
    chosen, taken = fitted(0.1, work, CHOICES, Costs({"maps": Cost(0, 1)}))
    assert (chosen.map_clips, taken) == (2, pytest.approx(6 / 60))
    assert fitted(0.01, work, CHOICES, Costs({"maps": Cost(0, 1)}))[0].map_clips == 1


def test_a_network_whose_first_batch_is_slow_takes_time(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features were planned at nothing where the first four snippets alone took longer than the calibration."""
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    video = world / "videos/deep/two.mkv"
    classifier = load_classifier("small3d", world / "clips.pth", world / "actions.txt")
    route = Route("waving", "known action", (1,), ("waving, greeting",), 1)
    job = Job(Networks("small3d", "x", None, "small2d", "x", None), world, None, "error", Common(), {video: ["waving"]},
              [route])  # fmt: skip
    network = SnippetNetwork(classifier, torch.device("cpu"))
    for sampling in (Sampling(10, 16, 1), Sampling(10, 16, 8)):  # a batch and more, and less than one
        cost, decoding, width = calibration._features(job, replace(CHOICES, sampling=sampling), network)
        assert cost.unit > 0
        assert decoding > 0
        assert width == 64


def test_training_of_actions_is_tried_to_its_end(tmp_path: Path) -> None:
    """Segments were planned at nothing: the files that the calibration trains on could not be read."""
    tag = 'say "hello", twice'
    job = Job(Networks("small3d", "x", None, "small2d", "x", None), tmp_path, None, "error", Common(quiet=True), {},
              [Route(tag, "action", (), (), 2)])  # fmt: skip
    cost = calibration._segments(job, CHOICES, 2, 8, 5)
    assert cost.unit > 0
    for epochs in calibration.EPOCHS:
        out = tmp_path / f"epochs{epochs}/segments"
        assert len((out / "run/history.jsonl").read_text().splitlines()) == epochs
        assert set(json.loads((out / "detections.json").read_text())["results"]) <= {"v0", "v1"}


WORK = Work({"a": Length(60, 1500), "b": Length(60, 1500)}, ["a"], ["a", "b"], True, [], 16)
CHOICES = Choices(Sampling(15, 16, 8), 60, 20, 1, 8, 5)
COSTS = Costs(
    {
        "features": Cost(0, 1), "segments": Cost(0, 1), "first masks": Cost(10, 3), "refined masks": Cost(0, 0.5),
        "trained masks": Cost(5, 0.5), "predicted masks": Cost(0, 0.2),
    },
    decoding=0.1,
)  # fmt: skip


def test_minutes_are_sums_over_units() -> None:
    minutes = WORK.minutes(CHOICES, COSTS)
    expected = {
        "features": 113 + 0.1 * 60,  # 60 s at 15 / 8 snippets a second; b shows no action
        "segments": 60,
        "first masks": 10 + 3 * 40,
        "refined masks": 0.5 * 40,
        "trained masks": 5 + 0.5 * 40 * 8,
        "predicted masks": 0.2 * 600,
    }
    assert {stage: round(60 * one, 6) for stage, one in minutes.items()} == expected


@pytest.mark.parametrize("budget", [30.0, 10.0, 6.0, 4.0, 2.0, 1.5])
def test_budgets_are_kept(budget: float) -> None:
    chosen, taken = fitted(budget, WORK, CHOICES, COSTS)
    assert taken <= budget
    assert taken == pytest.approx(sum(WORK.minutes(chosen, COSTS).values()))
    assert chosen.mask_frames <= 20
    assert (chosen == CHOICES) == (budget >= sum(WORK.minutes(CHOICES, COSTS).values()))


def test_no_budget_is_too_small_to_be_answered() -> None:
    chosen, taken = fitted(0.01, WORK, CHOICES, COSTS)
    assert taken > 0.01
    assert (chosen.versions, chosen.mask_frames, chosen.epochs, chosen.sampling.stride) == (0, 4, 5, 128)


def test_what_has_begun_is_not_chosen_anew() -> None:
    chosen, _ = fitted(0.01, WORK, CHOICES, COSTS, ["features", "segments", "first masks"])
    assert (chosen.sampling, chosen.epochs, chosen.mask_frames) == (CHOICES.sampling, 60, 20)
    assert chosen.versions == 0


def prepared_in(folder: Path) -> Prepared:
    networks = Networks("small3d", "x", None, "small2d", "x", None)
    mask_config = MaskConfig(True, True, "small2d", (), 768)
    job = Job(networks, folder, None, "error", Common(quiet=True), {}, (), mask_config)
    return Prepared(job, WORK, None, CHOICES, ())


def state_of(prepared: Prepared) -> dict[str, object]:
    mask_config = {"motion": True, "refine": True, "backbone": "small2d", "missing": [], "region_area": 768}
    costs = {"costs": asdict(COSTS), "choices": asdict(CHOICES)}
    return {**costs, "mask_config": mask_config, "seconds": {}, "begun": [], "notes": []}


def test_a_slow_stage_leaves_less_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features take ten minutes instead of two: masks are trained for less, what has begun stays."""
    clock = [0.0]
    seen: dict[str, Choices] = {}

    def stage(name: str, seconds: float) -> object:
        def run(job: Job, choices: Choices) -> str:
            seen[name], clock[0] = choices, clock[0] + seconds
            return name

        return run

    monkeypatch.setattr(run_module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(
        run_module, "RUNS", {name: stage(name, 600 if name == "features" else 60) for name in COSTS.stages}
    )
    prepared = prepared_in(tmp_path)
    with open_run(tmp_path, "pyws label", 1, {}, (), {"state": state_of(prepared)}) as manifest:
        run_stages(prepared, 14.0, manifest)
        state = manifest.document["state"]
    assert seen["features"] == CHOICES  # all would have fitted
    assert seen["first masks"].mask_frames < 20 or seen["trained masks"].mask_epochs < 8
    assert seen["predicted masks"].mask_frames == seen["first masks"].mask_frames
    assert state["choices"] == asdict(seen["predicted masks"])
    assert state["seconds"]["features"] == 600
    with open_run(tmp_path / "again", "pyws label", 1, {}, (), {"state": state}) as manifest:
        run_stages(prepared, None, manifest)
        assert manifest.document["state"]["seconds"]["features"] == 1200  # both runs together


def test_maps_that_are_not_whole_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without maps.json, which is written last, is of a run that was cut off."""
    made: list[str] = []
    monkeypatch.setattr(
        "pyws.commands.masks.maps.write_maps_of_video",
        lambda network, video, folder, *given, **named: made.append(video.stem),
    )
    videos = {tmp_path / f"{name}.mkv": ["waving"] for name in ("new", "cut", "whole")}
    for name in ("cut", "whole"):
        (tmp_path / "maps" / name / "waving").mkdir(parents=True)
    (tmp_path / "maps/whole/waving/maps.json").write_text("{}")
    torch.save(Small3D(3).state_dict(), tmp_path / "clips.pth")
    (tmp_path / "names.txt").write_text("clapping\nwaving\nhopping\n")
    networks = Networks("small3d", str(tmp_path / "clips.pth"), tmp_path / "names.txt", "small2d", "x", None)
    routes = [Route("waving", "known action", (1,), ("waving",), 3)]
    make_maps(Job(networks, tmp_path, None, "error", Common(quiet=True), videos, routes), CHOICES)
    assert made == ["new", "cut"]


def test_masks_that_cannot_be_learned_from_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: Job, choices: Choices) -> None:
        raise DataError("run", "no frame of version 0 is selected")

    runs = dict.fromkeys(COSTS.stages, lambda job, choices: "done")
    monkeypatch.setattr(run_module, "RUNS", {**runs, "trained masks": refuse})
    prepared = prepared_in(tmp_path)
    with open_run(tmp_path, "pyws label", 1, {}, (), {"state": state_of(prepared)}) as manifest:
        done = run_stages(prepared, None, manifest)
        assert manifest.document["state"]["notes"] == ["masks were not trained: no frame of version 0 is selected"]
    assert "predicted masks" not in done
    assert "refined masks" in done


def test_names_of_folders_differ_and_stay_inside() -> None:
    tags = ["a/b", "a-b", "..", ".hidden", "clean & jerk", "Füße"]
    names = [as_file_name(tag) for tag in tags]
    assert len(set(names)) == len(tags)
    assert not any("/" in name or name.startswith(".") for name in names)


def test_predicted_masks_are_in_the_amounts_where_some_are_predicted() -> None:
    choices = {"sampling": {"fps": 15, "stride": 15}, "mask_frames": 4, "versions": 2, "mask_epochs": 8, "every": 5}
    plan = {"choices": choices, "snippets": 0, "trained_actions": 0, "map_clips": 0, "mask_frames": 9}
    assert _amounts(plan | {"predicted_frames": 0}) == "9 first masks (4 a video)"
    assert _amounts(plan | {"predicted_frames": 3}).endswith("2 versions of 8 epochs, 3 masks predicted (every 5)")


def test_an_action_is_known_however_it_is_written() -> None:
    assert route_of("Juggling", 3, [], ["juggling, juggling balls"]).kind == "known action"


@pytest.mark.parametrize("stage", COARSER)
def test_coarser_choices_are_of_the_same_kinds_and_come_to_an_end(stage: str) -> None:
    """Whole numbers stay whole, odd ones too."""
    choices = replace(CHOICES, epochs=47, mask_frames=21, mask_epochs=9, versions=3, map_clips=11, every=3)
    kinds, seen = {name: type(value) for name, value in vars(choices).items()}, [choices]
    while (after := COARSER[stage](seen[-1])) != seen[-1]:
        assert {name: type(value) for name, value in vars(after).items()} == kinds
        assert after not in seen
        seen.append(after)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("name", "there", "refined", "trained", "missing"),
    [
        ("resnet50", True, True, "resnet50", ()),
        ("vgg11", True, False, LITE0, ("the early layers of vgg11 are not known",)),
        ("vgg11", False, False, None, ("the early layers of vgg11 are not known", "masks are not trained")),
    ],
)
def test_masks_have_the_stages_that_their_classifier_can_have(
    name: str,
    there: bool,
    refined: bool,
    trained: str | None,
    missing: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def weights_file(name: str) -> None:
        if not there:
            raise DataError(name, "are not here")

    monkeypatch.setattr("pyws.models.pretrained.weights.weights_file", weights_file)
    classifier = SimpleNamespace(name=name)
    for train, backbone in ((True, trained), (False, None)):
        found = mask_config_for(classifier, 854 * 480, train)
        assert (found.motion, found.refine, found.backbone, found.region_area) == (True, refined, backbone, 3072)
        said = missing if train else missing[:1]
        assert len(found.missing) == len(said)
        assert all(part in one for part, one in zip(said, found.missing, strict=True))
    assert [mask_config_for(classifier, pixels, False).region_area for pixels in (1, 854 * 240)] == [64, 1536]
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = mask_config_for(classifier, 854 * 480, False)
    assert (found.motion, found.refine) == (False, False)
    assert "masks are neither weighted by motion nor refined: optical flow: needs OpenCV" in found.missing[0]


def test_a_run_goes_on_with_the_stages_of_masks_that_it_began_with(tmp_path: Path) -> None:
    """OpenCV has been installed in between: the work that is left is that of before."""
    job = Job(Networks("small3d", "x", None, "small2d", "x", None), tmp_path, None, "error", Common(), {}, (),
              MaskConfig(True, True, "small2d"))  # fmt: skip
    state = {
        "choices": asdict(CHOICES), "costs": asdict(COSTS), "mask_config": asdict(MaskConfig()), "seconds": {},
        "begun": [], "notes": [],
    }  # fmt: skip
    prepared, choices, costs = resumed(Prepared(job, WORK, None, replace(CHOICES, versions=7), ()), state)
    assert (prepared.job.mask_config, prepared.work.steps) == (MaskConfig(), MaskConfig().steps)
    assert (choices, costs) == (CHOICES, COSTS)


def test_a_network_of_clips_that_is_not_here_says_what_it_is_needed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise DataError("weights", "are not here")

    monkeypatch.setattr(prepare, "load_classifier", refuse)
    networks = Networks("small3d", "default", None, "images", "w", None)
    with pytest.raises(
        DataError, match=r"are not here\. It is needed for what is no object \(running, waving\): leave"
    ):
        prepare._clips(networks, ("running", "waving"))
    with pytest.raises(DataError, match="are not here$"):
        prepare._clips(replace(networks, weights="own.pth"), ("running",))


def test_a_table_of_videos_that_none_can_be_used_of(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tags.csv").write_text("video,tag\nfour,red fox\n")
    assert cli.main([*words(world, tmp_path / "out", "--tags", tmp_path / "tags.csv"), "--on-error", "skip"]) == 1
    assert "no video can be used: row 2: four is none" in capsys.readouterr().err
