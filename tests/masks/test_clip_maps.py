"""Maps of clips, the frames that they belong to, and the pictures and videos that show them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from video_files import write_timed_video

from pyws import ops
from pyws.cli import main
from pyws.commands.masks.maps import _masks
from pyws.data.video.clips import Clip
from pyws.data.video.frames import open_frames, read_image, read_mask, write_picture
from pyws.masks import GradCAM
from pyws.masks.prediction.clip_maps import ClipMaps, _span, maps_of_video
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
    assert read_image(tmp_path / "out" / "clip_1.jpg").shape[1] == 3 * 33 + 2 * 4
    assert len(open_frames(tmp_path / "out" / "maps.mp4")) == 10
    assert main([str(word) for word in [*words, *sizes[:-1], "--label", "zebra"]]) == 1
    assert "label must be one of class 0, class 1, class 2" in capsys.readouterr().err
    assert main([str(word) for word in [*words, *sizes[:-1]]]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{video}: 10 frames, small3d, weights random: the maps say nothing about the video"
    for number, clip in enumerate(document["clips"]):
        rows = ", ".join(f"{row['map']} -> {row['frame']}" for row in clip["maps"] if row["frame"] is not None)
        frames = f"frames {clip['first']}..{clip['last']}"
        assert said[1 + number] == f"clip {number}, {frames}, {clip['label']}: map -> frame: {rows}"


def test_maps_of_the_best_segments(tmp_path, capsys):
    """By the times in the file: frames 0 to 19 last a tenth of a second, the others half of one."""
    times = [k / 10 for k in range(20)] + [2 + k / 2 for k in range(20)]
    video = write_timed_video(tmp_path / "v.mkv", times, size=(33, 25))
    rows = [("jump, leap", 0.9, [3.1, 4.4]), ("jump", 0.2, [0.0, 1.5]), ("run", 1.0, [0, 11])]
    found = {"v": [{"label": label.split(",")[0], "score": score, "segment": part} for label, score, part in rows]}
    (tmp_path / "found.json").write_text(json.dumps({"results": {**found, "other": found["v"]}}))
    (tmp_path / "names.txt").write_text("run\nJump, leap\n")
    torch.manual_seed(0)
    torch.save(build_classifier("small3d", 2).model.state_dict(), tmp_path / "clips.pth")
    words = ["masks", "maps", video, "-o", tmp_path / "out", "--network", "small3d", "--weights",
             tmp_path / "clips.pth", "--class-names", tmp_path / "names.txt", "--short-side", 24, "--clip-frames", 4,
             "--label", "Jump, leap", "--json"]  # fmt: skip
    for more, starts in (
        (["--segments", tmp_path / "found.json"], [0, 4, 8, 12, 20]),  # frames 0 to 14, and 22 to 24
        (["--segments", tmp_path / "found.json", "--max-clips", 1], [20]),
        (["--max-clips", 2], [8, 28]),
    ):
        assert main([str(word) for word in [*words, *more]]) == 0
        document = json.loads(capsys.readouterr().out)
        assert [clip["first"] for clip in document["clips"]] == starts
        assert len(open_frames(tmp_path / "out" / "maps.mp4")) == 4 * len(starts)


def test_masks_of_maps_are_cut_and_refined(video, tmp_path):
    words = ["masks", "maps", video, "-o", tmp_path / "out", "--network", "small3d", "--short-side", 24, "--quiet"]
    assert main([str(word) for word in [*words, "--clip-frames", 8, "--classes", 3]]) == 0
    document = json.loads((tmp_path / "out" / "maps.json").read_text())
    kept = load_file(tmp_path / "out" / "maps.safetensors")
    frames = {row["frame"]: kept[f"clip_{clip}"][row["map"]] for clip, one in enumerate(document["clips"])
              for row in one["maps"]}  # fmt: skip
    assert sorted(path.stem for path in (tmp_path / "out/masks").iterdir()) == sorted(map(str, frames))
    for frame, one in frames.items():
        mask = torch.from_numpy(read_mask(tmp_path / "out/masks" / f"{frame}.png").copy())
        picture = torch.from_numpy(read_image(video / f"{frame}.png").copy()).permute(2, 0, 1)[None]
        cut = ops.otsu_masks(one[None], (25, 33)).masks
        superpixels = ops.slic(picture, region_area=25 * 33 // 8)
        assert (mask == ops.superpixel_select(superpixels, cut, 0.5, 0.4).mask[0]).all()
    assert any(read_mask(path).any() for path in (tmp_path / "out/masks").iterdir())


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


def test_a_movie_is_the_same_each_time(tmp_path):
    """An encoder may spend its bits by what lies in memory, or as its threads happen to come."""
    noise = np.random.default_rng(0).integers(0, 60, (20, 64, 80, 3))
    ramps = np.stack([np.roll(np.arange(0, 160, 2), shift) for shift in range(20)])
    for number in range(40):
        write_video(tmp_path / f"{number}.mp4", (noise + ramps[:, None, :, None]).astype(np.uint8))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


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
    assert next(open_frames(tmp_path / "v.mp4").read([2])).shape == (34, 36, 3)
    with pytest.raises(ValueError, match="needs pictures, got none"):
        write_video(tmp_path / "none.mp4", [])
    assert not (tmp_path / "none.mp4").exists()


def test_real_clips_are_decoded(shared):
    for path in sorted((shared / "data" / "action_clips").glob("*.avi"))[:3]:
        frames = open_frames(path)
        picture = next(frames.read([len(frames) - 1]))
        assert len(frames) > 30
        assert picture.shape[0] == 240


def test_a_frame_of_several_maps_has_the_mask_of_the_first():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 200
    maps = torch.zeros(2, 32, 32)
    maps[0, :, :16] = maps[1, :, 16:] = 1
    one = ClipMaps(Clip(0, 1, 1), [picture], maps, [0, 0], [(0, 0), (0, 0)], "a", 1.0)
    mask = _masks(one)[0]
    assert mask[:, :16].mean() > 0.8
    assert mask[:, 16:].mean() < 0.2
