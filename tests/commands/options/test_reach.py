"""Options reach what they are for, of every command, and documents say what was done."""

from __future__ import annotations

import importlib
import inspect
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import feature_sets
import numpy as np
import pytest
import torch
from tyro.conf import Positional

from pyws import cli
from pyws.commands.common import Common
from pyws.commands.demo.train import _right
from pyws.commands.masks.init import opened_set
from pyws.commands.masks.train import open_first_classifier
from pyws.commands.segments.feature_sets import say_skipped
from pyws.commands.segments.postprocessing import Postprocessing
from pyws.data.features.files import write_features
from pyws.data.synthetic.clips import ACTIONS, ACTORS
from pyws.data.video.frames import write_mask, write_picture
from pyws.distributed import Group
from pyws.files import file_sha256, write_json
from pyws.models.classifiers import load_classifier
from pyws.models.image_networks.small2d import Small2D
from pyws.models.video_networks.small3d import Small3D
from pyws.segments.config import PRESETS
from pyws.segments.detection.postprocess import PostprocessConfig


def document(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_config_show_has_every_option_and_nothing_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mark = get_args(Positional[int])[1]
    hints = get_type_hints(cli.load(name), include_extras=True)
    known = [key for key in inspect.signature(cli.load(name)).parameters if mark not in get_args(hints[key])]
    assert [*document(capsys, "config", "show", name), "common"] == known


class Reached(Exception):
    """The function that does the work was called, with these arguments."""


def arguments_of(monkeypatch: pytest.MonkeyPatch, work: str, *words: object) -> dict[str, Any]:
    """What a command hands to the function that does its work, by name."""
    module, _, name = work.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))

    def record(*given: Any, **named: Any) -> None:
        raise Reached(dict(signature.bind(*given, **named).arguments))

    command, rest = cli.split(list(map(str, words)))
    assert command is not None
    with monkeypatch.context() as patched, pytest.raises(Reached) as reached:
        patched.setattr(work, record)
        cli.load(command)(**cli.parse(command, rest))
    return dict(reached.value.args[0])


WATCH = "pyws.data.synthetic.watch_streams.write_watch"
CONVERT = "pyws.data.features.writers.convert_features"


@pytest.mark.parametrize(
    ("words", "work", "said"),
    [
        ("data watch out", WATCH, {"seed": 0, "streams": 8}),
        ("data watch out --seed 5 --streams 2 --source a.npz --test-subjects 1 3", WATCH,
         {"seed": 5, "streams": 2, "source": Path("a.npz"), "test_subjects": (1, 3)}),
        ("data convert a b --on-error skip --suffix .npy --quiet", CONVERT,
         {"on_error": "skip", "suffix": ".npy", "videos_per_file": None, "quiet": True}),
        ("data check d --annotations t.json --need-tags", "pyws.data.features.check.check_data_set",
         {"source": Path("d"), "need_tags": True, "annotations": Path("t.json")}),
        ("data convert a b --videos-per-file 10000", CONVERT, {"videos_per_file": 10000, "on_error": "error"}),
    ],
)  # fmt: skip
def test_options_reach_the_work(words: str, work: str, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments_of(monkeypatch, work, *words.split())
    assert {key: given.get(key) for key in said} == said


def test_the_truth_of_a_report_and_the_rules_of_an_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments_of(monkeypatch, "pyws.report.run.write_report", "report", tmp_path, "--truth", "masks")
    assert (given["run"], given["truth"]) == (tmp_path, Path("masks"))
    words = ("segments", "ablate", tmp_path, "--preset", "paper")
    usual = arguments_of(monkeypatch, "pyws.segments.ablation.ablate", *words)["ablation"]
    assert usual.detection is None
    own = arguments_of(monkeypatch, "pyws.segments.ablation.ablate", *words, "--iou", "0.3")["ablation"].detection
    assert own == replace(PRESETS["paper"].detection, iou_threshold=0.3)


@pytest.mark.parametrize("method", [None, "gaussian", "exponential"])
def test_options_of_postprocessing_are_on_top_of_the_usual_ones(method: Any) -> None:
    """The usual method named again changes nothing; another begins with its own defaults."""
    usual = PostprocessConfig("gaussian", temperature=0.07, iou_threshold=0.33, ranking="support")
    found = Postprocessing(method, snap="none").over(usual)
    begun = usual if method != "exponential" else usual.with_method("exponential")
    assert found == replace(begun, snap=False)
    assert found.temperature == 0.07 or method == "exponential"


def test_doubts_of_every_set_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (SimpleNamespace(doubts=doubts, skipped=()) for doubts in (["a", "b"], ["b", "c"]))
    say_skipped(Common(), first, None, second)  # type: ignore[arg-type]
    assert capsys.readouterr().err == "warning: a\nwarning: b\nwarning: c\n"


def test_videos_that_every_set_lacks_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    class Opened(SimpleNamespace):
        def __len__(self) -> int:
            return 3

    sets = [
        Opened(doubts=[], skipped=left) for left in (("video 'v': must", "video 'w': got"), (), ("video 'x': has",))
    ]
    say_skipped(Common(), *sets)  # type: ignore[arg-type]
    said = "left out 2 of 5 videos:\n  video 'v': must\n  video 'w': got\nleft out 1 of 4 videos:\n  video 'x': has\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(("rates", "said"), [((2.0, 2.0), "2 snippets"), ((1.5, 2.0), "1.5 to 2 snippets")])
def test_one_rate_or_two_are_said_of_a_data_set(
    rates: tuple[float, float], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = {}
    for name, rate in zip("vw", rates, strict=True):
        values = np.random.default_rng(0).random((20, 4), np.float32)
        write_features(tmp_path / "features" / f"{name}.npy", values)
        labelled = [{"label": "a", "segment": [0.0, 2.0]}]
        database[name] = {"subset": "training", "duration": 20 / rate, "annotations": labelled}
    write_json(tmp_path / "truth.json", {"database": database})
    write_json(tmp_path / "dataset.json", {"snippets_per_second": dict(zip("vw", rates, strict=True))})
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert f"layout native, {said} a second\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "refused"),
    [
        ("own", ""),
        ("other", "must be the file that pyws masks init was given"),
        ("clips", "must be a classifier of images"),
        ("default", r"classifier_weights: the selection rule uses the classifier of pyws masks init; give its file \("),
        ("missing", r"^\S*missing\.pth: "),
    ],
)
def test_the_first_classifier_is_the_one_that_made_the_masks(weights: str, refused: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("fox\nswan\ncat\n")
    for seed, name in enumerate(("own", "other")):
        torch.manual_seed(seed)
        torch.save(Small2D(3).state_dict(), tmp_path / f"{name}.pth")
    torch.save(Small3D(3).state_dict(), tmp_path / "clips.pth")
    name, file = ("small3d", "clips") if weights == "clips" else ("small2d", "own")
    built = load_classifier(name, tmp_path / f"{file}.pth", tmp_path / "names.txt")
    known = {"classifier": name, "layer": built.layer, "weights_sha256": file_sha256(tmp_path / f"{file}.pth")}
    document = {"format": "pyws masks init", "version": 4, "parameters": known, "videos": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=refused) if refused else nullcontext():
        given = weights if weights == "default" else str(tmp_path / f"{weights}.pth")
        open_first_classifier(tmp_path, given, tmp_path / "names.txt")


@pytest.mark.parametrize(("returned", "warned"), [(0, True), (1, False)])
def test_the_version_that_is_returned_is_the_one_that_is_warned_of(
    returned: int, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = [{"version": 0, "odd": True}, {"version": 1}]
    manifest = {"versions": versions, "returned": returned, "stopped": "patience"}
    run = SimpleNamespace(run=lambda: manifest)
    monkeypatch.setattr("pyws.masks.self_training.loop.SelfTraining", lambda *given: run)
    monkeypatch.setattr(
        "pyws.masks.self_training.stopping.unlike_its_masks", lambda version: "odd" * ("odd" in version)
    )
    monkeypatch.setattr("pyws.commands.masks.train._draw_versions", lambda run: None)
    monkeypatch.setattr("pyws.report.run.write_report", lambda *given, **named: None)
    assert cli.main(["masks", "train", "first", "-o", str(tmp_path), "--label-tests", "none"]) == 0
    shown = capsys.readouterr().out
    assert ("warning: odd" in shown) == warned
    assert f"model of version {returned}" in shown


def test_random_weights_are_those_of_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that loads a network does so from the seed: shards must have the same one."""
    write_picture(tmp_path / "v" / "0.png", np.zeros((24, 24, 3), np.uint8))

    def load(*given: Any, **named: Any) -> None:
        raise Reached(torch.initial_seed())

    monkeypatch.setattr("pyws.models.classifiers.load_classifier", load)
    monkeypatch.setattr("pyws.commands.masks.maps.build_classifier", load)
    for words in ("features VIDEO -o out --network small3d --weights random --folder-fps 5", "masks maps VIDEO -o out"):
        for seed in (7, 8):
            torch.manual_seed(1)
            name, rest = cli.split([*words.replace("VIDEO", str(tmp_path / "v")).split(), "--seed", str(seed)])
            assert name is not None
            with pytest.raises(Reached) as reached:
                cli.load(name)(**cli.parse(name, rest))
            assert reached.value.args == (seed,)


@pytest.mark.parametrize("command", ["data convert a b", "data convert a b.json", "features v -o out"])
@pytest.mark.parametrize("count", [-1, 0, 10001])
def test_packs_of_no_videos_are_refused_before_anything_is_read(
    command: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), "--videos-per-file", str(count)]) == 1
    assert f"--videos-per-file: must be from 1 to 10000, got {count}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more",
    ["--classifier small2d", "--weights w.pth", "--tag cat", "--tags tags.csv", "--classifier small2d --weights w.pth"],
)
@pytest.mark.parametrize("clips", ["--actor-classifier", "--action-classifier"])
def test_classifiers_of_clips_stand_alone(
    clips: str, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "videos" / "v" / "0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "tags.csv").write_text("video,tag,subset\nv,cat,train\n")
    words = ["masks", "init", "--data", str(tmp_path), "-o", str(tmp_path / "out"), clips, "x.safetensors"]
    assert cli.main([*words, *more.split()]) == 1
    assert "need --data, and no other classifier or tags" in capsys.readouterr().err
    assert cli.main(words) == 1
    assert "no other classifier" not in capsys.readouterr().err  # but that the file is not there


@pytest.mark.parametrize(
    ("rows", "refused"),
    [("v,cat,train\nw,cat,val\n", True), ("v,cat,val\n", True), ("v,cat,train\nw,cat,train\n", False)],
)
def test_a_set_that_names_validation_videos_has_none_drawn(rows: str, refused: bool, tmp_path: Path) -> None:
    for line in rows.splitlines():
        write_picture(tmp_path / "videos" / line[0] / "0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "tags.csv").write_text(f"video,tag,subset\n{rows}")
    with pytest.raises(ValueError, match="itself which videos are for validation") if refused else nullcontext():
        opened_set(tmp_path, "auto", "all", 1, 0)


def test_a_layout_that_is_named_is_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of masks is no data set, and is not taken for true masks where its layout is said."""
    for folder in ("truth", "found"):
        write_mask(tmp_path / folder / "v" / "0.png", np.eye(4, dtype=np.uint8))
    words = ["masks", "evaluate", str(tmp_path / "found"), str(tmp_path / "truth")]
    assert cli.main(words) == 0
    capsys.readouterr()
    for layout in ("a2d", "youtube-objects", "plain"):
        assert cli.main([*words, "--layout", layout]) == 1
        assert str(tmp_path / "truth") in capsys.readouterr().err


def test_shares_of_actors_and_actions_are_not_exchanged() -> None:
    class Certain(torch.nn.Module):
        """Names the actor of every clip, and never its action."""

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(clips), len(ACTORS) + len(ACTIONS))
            logits[:, 1] = logits[:, len(ACTORS) + 1] = 1
            return logits

    tags = torch.tensor([[1, 0]] * 3)
    right = _right(Certain(), np.zeros((3, 2, 4, 4, 3), np.uint8), tags, 2)  # type: ignore[arg-type]
    assert right.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("done", "said"), [([(1, 0), (0, 0)], False), ([(0, 1), (0, 0)], False), ([(0, 0), (0, 0)], True), ([(0, 0)], True)]
)
def test_nothing_was_corrected_where_no_review_has_a_correction(
    done: list[tuple[int, int]], said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    @dataclass
    class Done:
        videos: int
        frames: int

    reviews = iter(done)
    monkeypatch.setattr("pyws.exchange.applying.find_target", lambda into, folder_fps: None)
    monkeypatch.setattr("pyws.exchange.applying.apply", lambda *given: (Done(*next(reviews)), []))
    monkeypatch.setattr("pyws.exchange.readers.formats.read_review", lambda path: None)
    assert cli.main(["import", *(f"r{k}" for k in range(len(done))), "--into", str(tmp_path)]) == 0
    assert ("nothing was corrected" in capsys.readouterr().out) == said


def test_what_makes_scores_doubtful_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = [{"label": "a", "segment": [1.0, 2.0]}]
    truth = {"database": {"v": {"subset": "test", "duration": 9.0, "annotations": labelled}}}
    for name, document in (("truth", truth), ("found", {"results": {"v": []}})):
        write_json(tmp_path / f"{name}.json", document)
    words = ["segments", "evaluate", str(tmp_path / "found.json"), str(tmp_path / "truth.json")]
    assert cli.main(words) == 0
    assert "warning: there are no predictions in the evaluated videos\n" in capsys.readouterr().out


def test_videos_and_instances_of_each_subset_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = feature_sets.draw(1, "test"), feature_sets.draw(5)
    feature_sets.write(tmp_path / "set", *sets)
    assert cli.main(["data", "convert", str(tmp_path / "set"), str(tmp_path / "out")]) == 0
    one, five = (len(part.truth.instances) for part in sets if part.truth is not None)
    shown = capsys.readouterr().out
    assert f"test: 1 video, {one} instances\n" in shown
    assert f"training: 5 videos, {five} instances\n" in shown


@pytest.mark.parametrize("command", ["features", "masks predict run"])
def test_headers_are_read_first_where_an_error_stops_the_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where it does not, a video that cannot be read keeps none of the others back."""
    write_picture(tmp_path / "good" / "0.png", np.zeros((24, 24, 3), np.uint8))
    (tmp_path / "bad.mp4").write_bytes(b"no video")

    def work(*given: Any, **named: Any) -> None:
        raise Reached

    monkeypatch.setattr("pyws.masks.prediction.predict.load_model", lambda *given: None)
    monkeypatch.setattr("pyws.masks.prediction.predict.predict_videos", work)
    monkeypatch.setattr("pyws.models.classifiers.load_classifier", work)
    words = [*command.split(), str(tmp_path / "good"), str(tmp_path / "bad.mp4"), "-o", str(tmp_path / "out")]
    words += ["--folder-fps", "5", "--weights", "random"] if command == "features" else []
    assert cli.main(words) == 1
    assert "bad.mp4: cannot be decoded" in " ".join(capsys.readouterr().err.split())
    name, rest = cli.split([*words, "--on-error", "skip"])
    assert name is not None
    with pytest.raises(Reached):
        cli.load(name)(**cli.parse(name, rest))


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_one_speaks(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feature_sets.write(tmp_path / "set", feature_sets.draw(3))
    monkeypatch.setattr("pyws.distributed.processes", lambda device: nullcontext(Group(rank, 2)))
    arguments_of(
        monkeypatch, "pyws.segments.training.train.train", "segments", "train", tmp_path / "set", "-o", tmp_path / "out"
    )
    assert bool(capsys.readouterr().out) == (rank == 0)


@pytest.mark.parametrize("last", [True, False])
def test_the_process_that_leaves_last_writes_the_report(
    last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would write of what is not done yet."""
    written: list[Any] = []
    write_picture(tmp_path / "v" / "0.png", np.zeros((24, 24, 3), np.uint8))
    done = SimpleNamespace(document={"videos": {"v": {"frames": 1}}}, last=last, missing=())
    monkeypatch.setattr("pyws.masks.prediction.predict.load_model", lambda *given: None)
    monkeypatch.setattr("pyws.masks.prediction.predict.predict_videos", lambda *given: done)
    monkeypatch.setattr("pyws.report.run.write_report", lambda *given, **named: written.append(given))
    out = tmp_path / "out"
    assert cli.main(["masks", "predict", "run", str(tmp_path / "v"), "-o", str(out), "--shard", "1/2"]) == 0
    assert written == [(out,)] * last
