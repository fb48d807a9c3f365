"""Snippet features of videos of known timing, by networks with random weights: windows, times, resume, bad videos."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import nn
from video_files import shown, write_timed_video

from pyws import DataError, cli
from pyws.data.features.dataset import open_features
from pyws.data.video.frames import open_frames, write_picture
from pyws.models.classifier import Classifier
from pyws.segments.snippets.extraction import _settings, extract
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling, default_sampling, source_of

CPU = torch.device("cpu")
NTSC = [round(k * 1001 / 30) / 1000 for k in range(61)]
LATE = [1.5 + k / 25 for k in range(30)]


class Levels(nn.Module):
    """Features are the mean level of each frame of the window, so that they tell which frames it had."""

    def __init__(self, frames):
        super().__init__()
        self.head = nn.Linear(frames or 1, 2)

    def forward(self, clips):
        return self.head(clips.mean((1, 3, 4)) if clips.ndim == 5 else clips.mean((1, 2, 3))[:, None])


def network(frames):
    classifier = Classifier("levels", Levels(frames), "head", (0.0,) * 3, (1 / 255,) * 3, ("a", "b"), frames, 32)
    return SnippetNetwork(classifier, CPU, "float32")


def frames_of(features):
    return np.round(features).astype(int).tolist()


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize(("times", "sound"), [(NTSC, False), (LATE, True), ([0.0, 0.1], False)])
@pytest.mark.parametrize(("fps", "window", "stride"), [(10, 4, 2), (25, 5, 5), (10, 3, 7), (8, 1, 1)])
def test_each_snippet_has_the_frames_that_its_times_say(tmp_path, times, sound, fps, window, stride, batch):
    path = write_timed_video(tmp_path / "v.mkv", times, sound=sound)
    sampling = Sampling(fps, window, stride)
    frames = window if window > 1 else 0
    manifest = extract(network(frames), sampling, [path], tmp_path / "out", batch=batch)
    found = load_file(tmp_path / "out/features/v.safetensors")
    end = manifest["videos"]["v"]["end"]
    assert len(found["features"]) == len(found["seconds"]) >= 1
    samples = int(np.ceil((end - times[0] - 1e-4) * fps))
    for row, (begin, over) in zip(found["features"], found["seconds"], strict=True):
        first = round((begin - times[0]) * fps)
        places = np.minimum(first + np.arange(window), samples - 1)
        expected = [4 * k % 240 for k in shown(times, times[0] + places / fps)]
        assert frames_of(row) == expected
        assert begin < over <= end
    assert found["seconds"][-1, 1] >= min(end, times[0] + ((samples - 1) // stride) * stride / fps)
    if stride <= window:
        assert found["seconds"][-1, 1] == pytest.approx(end, abs=1 / fps)


def test_a_set_of_features_uses_the_times_of_its_files(tmp_path):
    early, late = (write_timed_video(tmp_path / f"{name}.mkv", times, sound=True) for name, times in
                   (("early", [k / 25 for k in range(100)]), ("late", LATE)))  # fmt: skip
    extract(network(4), Sampling(8, 4, 4), [early, late], tmp_path / "out")
    data = open_features(tmp_path / "out")
    assert not [doubt for doubt in data.doubts if "ASSUMED" in doubt]
    assert data.rates.tolist() == pytest.approx([2, 2])
    seconds = data.seconds(np.array([0, 1, 1, 1]), np.array([3.0, 0.0, 1.0, 99.0]))
    np.testing.assert_allclose(seconds, [1.5, 1.5, 2.0, data.times[1].end])
    assert data.ends[1] == pytest.approx(2.7, abs=0.05)
    (tmp_path / "out" / "dataset.json").unlink()
    data = open_features(tmp_path / "out")
    assert data.snippets_per_second == pytest.approx(2)
    assert not [doubt for doubt in data.doubts if "ASSUMED" in doubt]


def test_resuming_leaves_what_is_done(tmp_path):
    paths = [write_timed_video(tmp_path / f"{name}.mkv", NTSC) for name in "ab"]
    sampling = Sampling(10, 4, 4)
    extract(network(4), sampling, paths[:1], tmp_path / "out")
    before = (tmp_path / "out/features/a.safetensors").stat().st_mtime_ns
    manifest = extract(network(4), sampling, paths, tmp_path / "out")
    assert set(manifest["videos"]) == {"a", "b"}
    assert (tmp_path / "out/features/a.safetensors").stat().st_mtime_ns == before
    extract(network(4), Sampling(10, 4, 2), paths, tmp_path / "out")
    assert (tmp_path / "out/features/a.safetensors").stat().st_mtime_ns > before
    assert len(load_file(tmp_path / "out/features/a.safetensors")["features"]) == 10


def test_a_frame_that_was_replaced_is_seen(tmp_path):
    """A frame of as many bytes, in a folder of as many frames."""
    for index in range(8):
        write_picture(tmp_path / "v" / f"{index}.png", np.full((8, 8, 3), 10, np.uint8))
    size = (tmp_path / "v" / "6.png").stat().st_size

    def features():
        extract(network(4), Sampling(10, 4, 4), [tmp_path / "v"], tmp_path / "out", folder_fps=10)
        return load_file(tmp_path / "out/features/v.safetensors")["features"]

    first = features()
    write_picture(tmp_path / "v" / "6.png", np.full((8, 8, 3), 100, np.uint8))
    assert (tmp_path / "v" / "6.png").stat().st_size == size
    second = features()
    assert (first[0] == second[0]).all()
    assert not np.allclose(first[1], second[1])


def test_a_folder_is_the_same_in_whatever_order_it_is_listed(tmp_path, monkeypatch):
    for index in range(5):
        write_picture(tmp_path / "v" / f"{index}.png", np.full((2, 2, 3), index, np.uint8))
    found, usual = [], type(tmp_path).iterdir
    for order in (sorted, lambda paths: sorted(paths, reverse=True)):
        monkeypatch.setattr(type(tmp_path), "iterdir", lambda path, order=order: iter(order(usual(path))))
        found.append(source_of(tmp_path / "v"))
    assert found[0] == found[1]


def test_bad_videos_stop_or_are_reported(tmp_path):
    (tmp_path / "in").mkdir()
    good = write_timed_video(tmp_path / "in" / "good one.mkv", NTSC)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "in" / "list.mkv").write_text("ffconcat version 1.0\nfile good one.mkv\n")
    write_picture(tmp_path / "in" / "folder" / "0.png", np.zeros((8, 8, 3), np.uint8))
    videos = sorted((tmp_path / "in").iterdir())
    with pytest.raises(DataError, match=r"bad.mp4"):
        extract(network(4), Sampling(10, 4, 4), videos, tmp_path / "out")
    manifest = extract(network(4), Sampling(10, 4, 4), videos, tmp_path / "out", on_error="skip")
    assert {name for name, one in manifest["videos"].items() if "error" not in one} == {"good one"}
    assert "--folder-fps" in manifest["videos"]["folder"]["error"]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["videos"] == manifest["videos"]
    with pytest.raises(DataError, match="no video could be read"):
        extract(network(4), Sampling(10, 4, 4), videos[:1], tmp_path / "none", on_error="skip")
    twin = tmp_path / "good one.mkv"
    twin.write_bytes(good.read_bytes())
    with pytest.raises(DataError, match="has the name of"):
        extract(network(4), Sampling(10, 4, 4), [good, twin], tmp_path / "twins")


def test_what_enters_the_last_layer_is_the_feature():
    from dataclasses import replace

    from pyws.models.classifiers import build_classifier

    torch.manual_seed(0)
    for name, width in (("s3d", 1024), ("small3d", 64), ("shufflenet_v2_x0_5", 1024), ("squeezenet1_1", 512)):
        built = replace(build_classifier(name, 3), labels=("a", "b", "c"))
        built.model.eval()
        shape = (2, 3, 16, 64, 64) if built.frames else (2, 3, 64, 64)
        inputs = torch.randn(shape)
        features, scores = SnippetNetwork(built, CPU, "float32")(inputs)
        assert features.shape == (2, width)
        with torch.inference_mode():
            torch.testing.assert_close(scores, built.model(inputs))
    assert SnippetNetwork(built, CPU, "bfloat16")(inputs)[0].dtype == torch.float32
    with pytest.raises(ValueError, match="no last layer of 2 classes"):
        SnippetNetwork(replace(built, labels=("a", "b")), CPU)


def test_default_sampling_has_about_two_snippets_a_second():
    from pyws.models.video_networks.catalogue import VIDEO_NETWORKS

    for name in VIDEO_NETWORKS:
        spec = VIDEO_NETWORKS[name]
        given = Classifier(name, nn.Identity(), "", (), (), (), spec.frames, fps=spec.fps)
        assert 1.5 <= default_sampling(given).rate <= 2.1


def test_the_command(tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_timed_video(tmp_path / "in" / "deep" / "café.mkv", NTSC)
    words = [
        "features",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "--network",
        "small3d",
        "--weights",
        "random",
    ]
    assert cli.main([*words, "--scores", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["videos"]["café"]["snippets"] == 3
    assert load_file(tmp_path / "out/features/café.safetensors")["scores"].shape[0] == 3
    assert cli.main(["data", "check", str(tmp_path / "out"), "--json"]) == 0
    for bad, message in (
        (["--fps", "-1"], "--fps: must be > 0"),
        (["--network", "r3d"], "got 'r3d'"),
        (["--batch", "0"], "--batch: must be >= 1"),
    ):
        assert cli.main([*words, *bad]) == 1
        assert message in capsys.readouterr().err


def test_the_page_of_features_decodes_no_video(tmp_path, monkeypatch, capsys):
    """Pictures are taken while videos are read; a page that is asked for alone looks into the files."""
    for name, count in (("a", 61), ("b", 30)):
        write_timed_video(tmp_path / f"{name}.mkv", [k / 10 for k in range(count)])
    (tmp_path / "bad.mkv").write_bytes(b"no video")
    out, opened = tmp_path / "out", []
    monkeypatch.setattr(
        "pyws.report.runs.segments.open_frames", lambda path: opened.append(path.name) or open_frames(path)
    )
    names = [str(tmp_path / f"{name}.mkv") for name in ("a", "b", "bad")]
    words = ["features", *names, "-o", str(out), "--weights", "random", "--on-error", "skip", "--quiet"]
    assert cli.main([*words, "--fps", "5", "--window", "2", "--stride", "2"]) == 0
    assert not opened
    strips = {name: json.loads((out / "report" / name / "strip.json").read_text()) for name in ("a", "b")}
    for name, seconds in (("a", 6.04), ("b", 2.94)):  # the last frame lasts as the header says
        strip = strips[name]
        count, width, height = len(strip["places"]), strip["width"], strip["height"]
        assert strip["places"] == pytest.approx([(k + 0.5) * seconds / count for k in range(count)], abs=2e-3)
        sheet = np.asarray(Image.open(out / strip["frames"]).convert("L"), float)
        for place, time in enumerate(strip["places"]):
            top, left = place // strip["columns"] * height, place % strip["columns"] * width
            level = sheet[top : top + height, left : left + width].mean()
            late = time * 10 - level / 4  # frames since the one that is shown
            assert -0.5 < late < seconds * 10 / count / 2 + 1.5
    shutil.rmtree(out / "report")
    assert cli.main(["report", str(out), "--quiet"]) == 0
    assert sorted(opened) == ["a.mkv", "b.mkv"]


def test_tokens_that_enter_the_last_layer_are_a_mean_and_the_last_call_counts():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, images):
            tokens = images.flatten(2).mT  # (B, H W, 3)
            self.head(tokens * 0)  # what an auxiliary loss would take
            return self.head(tokens).mean(1)

    classifier = Classifier("tokens", Tokens(), "head", (0.0,) * 3, (1 / 255,) * 3, ("a", "b"), 0, 32)
    images = torch.rand(2, 3, 4, 5)
    features, _ = SnippetNetwork(classifier, CPU, "float32")(images)
    torch.testing.assert_close(features, images.mean((2, 3)))


def test_settings_of_a_run_tell_weights_and_cuts_apart(tmp_path):
    """Features of other weights, or of other parts of a frame, must not be put beside those of a run."""
    files = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for file in files:
        file.write_bytes(file.name.encode())
    plain = replace(network(4).classifier, file=files[0])
    others = [{}, {"file": files[1]}, {"file": None}, {"crop": 9}, {"resize": (8, 9)}, {"short_side": 31}]
    found = [
        _settings(SnippetNetwork(replace(plain, **other), CPU, "float32"), Sampling(10, 4, 2), False)
        for other in others
    ]
    assert not [
        (one, other) for one, other in itertools.combinations(range(len(found)), 2) if found[one] == found[other]
    ]
