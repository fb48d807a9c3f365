"""The synthetic data set in A2D's layout: seeded, true to its tags, and read back as it was drawn."""

import json

import numpy as np
import pytest

from pyws import DataError
from pyws.cli import main
from pyws.data.synthetic.a2d import GeneratedConfig, _visible, draw_video, write_generated_a2d
from pyws.data.tagged.a2d_files import read_videoset
from pyws.data.tagged.label_space import a2d_codes
from pyws.data.tagged.layouts import open_mask_set
from pyws.data.video.frames import open_frames, read_image

pytest.importorskip("h5py")
SMALL = {"frames": 4, "height": 40, "width": 56, "actor_size": (16.0, 24.0), "pan": 2.0}


def test_videos_are_seeded():
    config = GeneratedConfig(**SMALL)
    one, again, other = draw_video(3, 7, config), draw_video(3, 7, config), draw_video(4, 7, config)
    assert (one.frames == again.frames).all()
    assert (one.masks == again.masks).all()
    assert one.codes == again.codes
    assert (one.frames != other.frames).any()


def test_without_h5py_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'pyws-video\[hdf5\]'"):
        write_generated_a2d(tmp_path / "a", config=GeneratedConfig(**SMALL))
    assert not (tmp_path / "a").exists()


def test_difficulty_is_adjustable():
    alone = GeneratedConfig(**SMALL, several=0.0, clutter=0, occlusion=0.0)
    crowd = GeneratedConfig(**SMALL, several=1.0, max_actors=3, occlusion=1.0)
    assert all(len(draw_video(0, index, alone).codes) == 1 for index in range(6))
    counts = {len(draw_video(0, index, crowd).codes) for index in range(6)}
    assert counts <= {2, 3}
    area = [np.mean([draw_video(0, index, config).masks[0].mean() for index in range(6)]) for config in (alone, crowd)]
    assert area[1] < 0.9 * area[0]  # others and posts hide a part


def test_masks_of_several_actors_do_not_meet():
    video = draw_video(1, 0, GeneratedConfig(**SMALL, several=1.0))
    assert video.masks.sum(0).max() == 1
    assert len(set(video.codes)) == len(video.codes) == 2


def test_a_pixel_belongs_to_the_layer_with_most_of_it():
    back = np.full((2, 4), 255, np.uint8)
    front = np.array([[0, 0, 0, 255], [0, 255, 255, 255]], np.uint8)
    assert _visible([back, front]).tolist() == [[[True, False]], [[False, True]]]
    assert _visible([front // 255 * 0, front]).tolist() == [[[False, False]], [[False, True]]]


def test_written_and_read_back(tmp_path, capsys):
    words = ["--train", 3, "--validation", 1, "--test", 2, "--frames", 4, "--annotated", 2]
    words += ["--height", 40, "--width", 56]
    sizes = ["--actor-size", 16, 24, "--pan", 2, "--several", 1, "--seed", 5, "--json"]
    assert main([str(word) for word in ("data", "synthesize-a2d", tmp_path / "a", *words, *sizes)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["videos"] == {"train": 3, "val": 1, "test": 2}
    assert said["synthetic"]
    assert "background" not in said["labels"]
    assert said["labels"] == list(open_mask_set(tmp_path / "a").space.names[1:])
    config = GeneratedConfig(**SMALL, annotated=2, several=1.0)
    data = open_mask_set(tmp_path / "a")
    codes = np.array(a2d_codes(data.space))
    assert data.layout == "a2d"
    assert [video.subset for video in data.videos] == ["train"] * 3 + ["val"] + ["test"] * 2
    assert "SYNTHETIC" in (tmp_path / "a" / "Release" / "README").read_text()
    for index, video in enumerate(data.videos):
        drawn = draw_video(5, index, config)
        assert {int(codes[tag]) for tag in video.tags} == set(drawn.codes)
        assert codes[video.tags[0]] == drawn.codes[0]
        frames = open_frames(video.source)
        assert all((one == two).all() for one, two in zip(frames.read(range(4)), drawn.frames, strict=True))
        assert list(video.truth) == ["00002", "00004"]  # the middle of each half, from 1
        for stem in video.truth:
            truth = data.truth(video, stem, (40, 56))
            for code, mask in zip(drawn.codes, drawn.masks[:, int(stem) - 1], strict=True):
                assert ((codes[truth] == code) == mask).all()
    row = read_videoset(tmp_path / "a" / "Release" / "videoset.csv")[0]
    assert (row.height, row.width, row.frames, row.annotated) == (40, 56, 4, 2)

    again = tmp_path / "b"
    write_generated_a2d(again, 5, GeneratedConfig(**SMALL, train=3, validation=1, test=2, annotated=2, several=1), True)
    files = sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert len(files) > 40
    assert all((again / path).read_bytes() == (tmp_path / "a" / path).read_bytes() for path in files)
    with pytest.raises(DataError, match="holds a data set already"):
        write_generated_a2d(again, 5)


def test_colours_say_the_same_as_hdf5(tmp_path):
    write_generated_a2d(tmp_path, 0, GeneratedConfig(**SMALL, train=1, validation=0, test=0), quiet=True)
    first = open_mask_set(tmp_path)
    masks = [first.truth(first.videos[0], stem) for stem in first.videos[0].truth]
    for path in (tmp_path / "Release/Annotations/mat").rglob("*.mat"):
        path.unlink()
    second = open_mask_set(tmp_path)
    assert list(second.videos[0].truth) == list(first.videos[0].truth)
    for stem, mask in zip(second.videos[0].truth, masks, strict=True):
        assert (second.truth(second.videos[0], stem) == mask).all()
        assert read_image(second.videos[0].truth[stem]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": (37,)}, r"pairs must be among \[34, 35, 36, 39, "),
        ({"pairs": ()}, "pairs must be among"),
        ({"train": 0}, "train must be >= 1, got 0"),
        ({"several": 1.5}, r"several must be in \[0, 1\], got 1.5"),
        ({"clutter": -1}, "clutter must be >= 0, got -1"),
        ({"height": 32}, "actor_size must be 8 <= smallest <= largest <= short side - 2 pan of 128x32 frames"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        GeneratedConfig(**change)
