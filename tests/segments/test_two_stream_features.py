"""Features of RGB and optical flow side by side: equal rows and times, resume, shards, readers, errors."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from pyws import DataError, cli
from pyws.data.features.dataset import open_features
from pyws.data.features.files import scores_of, write_snippets
from pyws.data.video.frames import write_picture
from pyws.models.classifier import Classifier
from pyws.models.classifiers import load_classifier
from pyws.models.video_networks.i3d import I3D
from pyws.segments.snippets.extraction import FlowNetwork, extract
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling
from pyws.sharding import Shard

cv2 = pytest.importorskip("cv2")
CPU = torch.device("cpu")
SAMPLING = Sampling(8, 4, 2)


class Middle(nn.Module):
    """Features are the median of each channel in each frame of the window."""

    def __init__(self, channels, frames):
        super().__init__()
        self.head = nn.Linear(channels * frames, 2)

    def forward(self, clips):
        return self.head(clips[..., 12:-12, 12:-12].flatten(3).median(3).values.flatten(1))


def network(channels, side=64):
    torch.manual_seed(0)
    about = ("middle", Middle(channels, 4), "head", (0.0,) * 3, (1 / 255,) * 3, ("a", "b"), 4, side)
    return SnippetNetwork(Classifier(*about, channels=channels), CPU, "float32")


def streams(method="dis", side=64):
    return {"network": network(3, side), "flow": FlowNetwork(network(2, side), method)}


def moving(folder, steps, size=(64, 80)):
    """A folder of frames whose texture goes ``steps[k]`` = (right, down) after frame k."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pattern, place = cv2.GaussianBlur(noise, (0, 0), 2), np.zeros(2, int)
    for index, step in enumerate([*steps, (0, 0)]):
        write_picture(folder / f"{index:03}.png", np.roll(pattern, place[::-1], (0, 1)))
        place += step
    return folder


@pytest.fixture
def videos(tmp_path):
    return [
        moving(tmp_path / "in" / "right", [(3, 0)] * 8),
        moving(tmp_path / "in" / "left", [(-3, 1)] * 5),
        moving(tmp_path / "in" / "one frame", []),
    ]


def run(videos, out, **more):
    return extract(sampling=SAMPLING, videos=videos, out=out, folder_fps=8, **{**streams(), **more})


def files_of(folder):
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def test_snippets_of_flow_have_the_motion_over_twenty_pixels(videos, tmp_path):
    manifest = run(videos, tmp_path / "out")
    for name, motion, frames in (("right", (3, 0), 9), ("left", (-3, 1), 6), ("one frame", (0, 0), 1)):
        rgb, flow = (load_file(tmp_path / "out" / "features" / one / f"{name}.safetensors") for one in ("rgb", "flow"))
        assert len(rgb["features"]) == len(flow["features"]) == SAMPLING.snippets(frames)
        np.testing.assert_array_equal(rgb["seconds"], flow["seconds"])
        found = flow["features"].reshape(-1, 2, 4) * 20
        np.testing.assert_allclose(found, np.broadcast_to(np.array(motion)[:, None], found.shape), atol=0.2)
        assert manifest["videos"][name]["snippets"] == len(rgb["features"])
    assert (manifest["flow"]["method"], manifest["fps"]) == ("dis", 8)


def test_flow_is_that_of_the_frames_as_the_network_sees_them(tmp_path):
    """At half the size everything moves half as far."""
    moving(tmp_path / "v", [(6, 0)] * 4, (128, 160))
    run([tmp_path / "v"], tmp_path / "out")
    flow = load_file(tmp_path / "out/features/flow/v.safetensors")["features"].reshape(-1, 2, 4)
    np.testing.assert_allclose(flow[:, 0] * 20, 3, atol=0.2)


def test_flow_is_clipped_scaled_and_cut_from_the_middle():
    flow = torch.zeros(1, 6, 8, 2)
    flow[0, 1:5, 2:6] = torch.tensor([10.0, -50.0])
    flow[0, 0] = 7
    classifier = Classifier("x", nn.Identity(), "", (), (), (), 4, 4, crop=4, channels=2)
    view = classifier.flow_view(flow)
    assert view.shape == (2, 1, 4, 4)
    assert view[0].unique().tolist() == [0.5]
    assert view[1].unique().tolist() == [-1]


def test_readers_take_both_streams(videos, tmp_path):
    run(videos, tmp_path / "out", scores=True)
    (tmp_path / "out" / "tags.csv").write_text("video,tag\nright,go\nleft,come\n")
    data = open_features(tmp_path / "out")
    assert not [doubt for doubt in data.doubts if "ASSUMED" in doubt]
    assert data.width == 3 * 4 + 2 * 4
    place = data.names.index("right")
    assert data.rates[place] == pytest.approx(4)
    assert data.ends[place] == pytest.approx(9 / 8)
    folder = tmp_path / "out" / "features"
    rgb, flow = (load_file(folder / stream / "right.safetensors") for stream in ("rgb", "flow"))
    np.testing.assert_array_equal(data.features(place), np.concatenate([rgb["features"], flow["features"]], 1))
    np.testing.assert_allclose(scores_of(data.stored[place]), (rgb["scores"] + flow["scores"]) / 2, rtol=1e-6)
    note = {"fps": 8, "window": 4, "stride": 2, "start": 0.0, "end": 9 / 8, "first": 0.0}
    write_snippets(folder / "flow" / "right.safetensors", {**flow, "seconds": flow["seconds"] + 0.01}, note)
    with pytest.raises(DataError, match="rgb and flow must have the same times"):
        _ = open_features(tmp_path / "out").times


def test_resuming_and_shards_write_the_same_bytes(videos, tmp_path):
    run(videos, tmp_path / "whole")
    whole = files_of(tmp_path / "whole")
    for shard in (Shard(2, 2), Shard(1, 2)):
        run(videos, tmp_path / "parts", shard=shard)
    assert files_of(tmp_path / "parts") == whole
    gone, kept = (tmp_path / "parts/features" / name for name in ("flow/left.safetensors", "rgb/left.safetensors"))
    gone.unlink()
    before = kept.stat().st_mtime_ns
    run(videos, tmp_path / "parts", decoders=1, batch=3)
    assert files_of(tmp_path / "parts") == whole
    assert kept.stat().st_mtime_ns == before
    run(videos, tmp_path / "parts", **streams("farneback"))
    changed = files_of(tmp_path / "parts")
    names = {name for name in whole if changed[name] != whole[name]}
    assert names == {"manifest.json", *(f"features/flow/{video.name}.safetensors" for video in videos)}


def test_flow_joins_features_of_rgb_that_are_there(videos, tmp_path):
    run(videos, tmp_path / "both")
    run(videos, tmp_path / "later", flow=None)
    before = (tmp_path / "later/features/left.safetensors").stat().st_mtime_ns
    run(videos, tmp_path / "later")
    assert files_of(tmp_path / "later") == files_of(tmp_path / "both")
    assert (tmp_path / "later/features/rgb/left.safetensors").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="has flow beside RGB, and none is asked for: give --flow"):
        run(videos, tmp_path / "later", flow=None)


def test_a_bad_video_has_neither_stream(videos, tmp_path):
    write_picture(tmp_path / "in" / "two sizes" / "0.png", np.zeros((64, 80, 3), np.uint8))
    write_picture(tmp_path / "in" / "two sizes" / "1.png", np.zeros((80, 80, 3), np.uint8))
    manifest = run([*videos, tmp_path / "in" / "two sizes"], tmp_path / "out", on_error="skip")
    assert "frames must have one size" in manifest["videos"]["two sizes"]["error"]
    written = {name for name in files_of(tmp_path / "out") if name.startswith("features/")}
    assert written == {f"features/{one}/{video.name}.safetensors" for one in ("rgb", "flow") for video in videos}


def test_the_command_with_i3d(tmp_path, capsys):
    videos, out = tmp_path / "in", tmp_path / "out"
    moving(videos / "v", [(3, 0)] * 9)
    for name, channels in (("rgb.pt", 3), ("flow.pt", 2)):
        torch.manual_seed(channels)
        torch.save(I3D(3, channels).state_dict(), tmp_path / name)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert cli.main(["features", str(videos), "-o", str(out), "--network", "i3d", "--weights", "random"]) == 1
    assert "v: is a folder of frames, which have no times" in capsys.readouterr().err
    assert not out.exists()
    words = ["features", str(videos), "-o", str(out), "--folder-fps", "25", "--window", "8", "--stride", "8"]
    words += ["--device", "cpu", "--precision", "float32"]
    network = ["--network", "i3d", "--weights", str(tmp_path / "rgb.pt"), "--class-names", str(tmp_path / "labels.txt")]
    flow = ["--flow", "dis", "--flow-weights", str(tmp_path / "flow.pt")]
    assert cli.main([*words, *network, *flow, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"]["v"]["snippets"] == 2
    assert open_features(out).width == 2048
    found = load_file(out / "features/flow/v.safetensors")["features"]
    model = load_classifier("i3d", tmp_path / "flow.pt", tmp_path / "labels.txt", channels=2)
    clip = torch.zeros(1, 2, 8, 224, 224)
    clip[:, 0] = 3 * 256 / 64 / 20
    expected, _ = SnippetNetwork(model, CPU, "float32")(clip)
    far = np.linalg.norm(found[0] - expected[0].numpy()) / np.linalg.norm(expected[0])
    assert far < 0.1  # but for the borders, the flow is that of the pattern everywhere
    assert cli.main(["data", "check", str(out), "--json"]) == 0
    capsys.readouterr()
    shutil.rmtree(out)
    swapped = ["--flow", "dis", "--flow-weights", str(tmp_path / "rgb.pt")]
    for bad, message in (
        ([*network, "--flow", "dis"], "--flow, --flow-weights: needed together, got --flow alone"),
        ([*network, *flow[2:]], "needed together, got --flow-weights alone"),
        ([*network, *swapped], "does not hold the weights of i3d of optical flow"),
        (["--network", "small3d", "--weights", "random", *flow], "network: of 2 channels must be i3d, got 'small3d'"),
    ):
        assert cli.main([*words, *bad]) == 1
        assert message in capsys.readouterr().err
        assert not out.exists()
