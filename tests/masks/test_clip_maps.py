"""Maps of clips, the frames that they belong to, and the pictures and videos that show them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pyws.cli import main
from pyws.data.video.clips import Clip
from pyws.data.video.frames import open_frames, read_image, write_picture
from pyws.masks import GradCAM
from pyws.masks.prediction.clip_maps import _span, maps_of_video
from pyws.models.classifiers import build_classifier
from pyws.report.movies import heat, titled, write_video


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(10):
        write_picture(tmp_path / "v" / f"{index}.png", rng.integers(0, 255, (25, 33, 3), dtype=np.uint8))
    return tmp_path / "v"


def test_frames_that_a_map_stands_for():
    assert [_span(Clip(0, 16, 16), index, 4) for index in range(4)] == [(0, 3), (4, 7), (8, 11), (12, 15)]
    assert [_span(Clip(10, 5, 16), index, 4) for index in range(4)] == [(10, 13), (14, 14), None, None]
    for maps in (1, 2, 3, 5, 7, 16):  # the parts cover the clip, and a frame's map is the one whose part it is in
        clip = Clip(0, 16, 16)
        spans = [_span(clip, index, maps) for index in range(maps)]
        owner = [next(k for k, (a, b) in enumerate(spans) if a <= frame <= b) for frame in range(16)]
        assert owner == [frame * maps // 16 for frame in range(16)]


def test_maps_command(video, tmp_path, capsys):
    words = ["masks", "maps", video, "-o", tmp_path / "out", "--network", "small3d", "--short-side", 24]
    sizes = ["--clip-frames", 8, "--classes", 3, "--device", "cpu", "--json"]
    assert main([str(word) for word in words + sizes]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "out" / "maps.json").read_text())
    assert document["weights"].startswith("random")
    first, second = document["clips"]
    assert (first["first"], first["last"], second["first"], second["last"]) == (0, 7, 2, 9)
    assert [(row["map"], row["frame"], row["stands_for"]) for row in second["maps"]] == [(0, 4, [2, 5]), (1, 8, [6, 9])]
    kept = load_file(tmp_path / "out" / "maps.safetensors")
    assert list(kept["clip_0"].shape) == first["size"] == [2, 3, 4]
    assert read_image(tmp_path / "out" / "clip_1.jpg").shape[1] == 2 * 33 + 4
    assert len(open_frames(tmp_path / "out" / "maps.mp4")) == 10
    assert main([str(word) for word in [*words, *sizes[:-1], "--label", "zebra"]]) == 1
    assert "label must be one of class 0, class 1, class 2" in capsys.readouterr().err


def test_maps_are_those_of_gradcam(video):
    torch.manual_seed(0)
    made = replace(build_classifier("small3d", 3), labels=("a", "b", "c"), frames=8, short_side=24)
    made.model.eval()
    one = list(maps_of_video(made, open_frames(video), "b"))[1]
    frames = torch.from_numpy(np.stack(list(open_frames(video).read(range(2, 10)))))
    with GradCAM(made.model, "layers", head="autograd") as cam:
        expected = cam(made.prepare(frames[None], 24), 1)[0]
    torch.testing.assert_close(one.maps, expected)
    assert [one.map_at(frame) for frame in range(2, 10)] == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="the network must classify clips"):
        list(maps_of_video(replace(made, frames=0), open_frames(video)))


def test_pictures_of_maps(tmp_path):
    frame = np.full((5, 7, 3), 100, np.uint8)
    scores = np.zeros((5, 7))
    assert (heat(frame, scores) == frame).all()
    scores[2, 3], scores[0, 0] = 1.0, np.nan
    warm = heat(frame, scores)
    assert (warm != frame).any(2).nonzero() == (np.array([2]), np.array([3]))
    assert titled(frame, "one", "two").shape == (5 + 32, 7, 3)
    with pytest.raises(ValueError, match="heat: frame must be"):
        heat(frame, scores[:2])
    assert (
        write_video(tmp_path / "v.mp4", (heat(np.zeros((33, 35, 3), np.uint8), np.ones((33, 35))) for _ in range(3)))
        == 3
    )
    assert next(open_frames(tmp_path / "v.mp4").read([2])).shape == (32, 34, 3)
    with pytest.raises(ValueError, match="needs pictures, got none"):
        write_video(tmp_path / "none.mp4", [])
    assert not (tmp_path / "none.mp4").exists()


def test_real_clips_are_decoded(shared):
    for path in sorted((shared / "data" / "action_clips").glob("*.avi"))[:3]:
        frames = open_frames(path)
        picture = next(frames.read([len(frames) - 1]))
        assert len(frames) > 30
        assert picture.shape[0] == 240
