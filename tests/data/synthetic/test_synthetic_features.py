"""The synthetic benchmark has the difficulties that it is drawn for, and data sets are written whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.data.features.files import write_features
from pyws.data.features.writers import FeatureVideo, write_data_set
from pyws.data.synthetic.features import (
    BACKGROUND,
    CONTEXT,
    SALIENT,
    WEAK,
    SyntheticConfig,
    SyntheticWorld,
    write_synthetic,
)
from pyws.errors import DataError


def world(**changes):
    return SyntheticWorld(SyntheticConfig(**{"classes": 4, "width": 16, "snippets": 60, **changes}))


def test_same_seed_same_video_whatever_else_is_drawn():
    first, again = world(), world()
    for _ in again.videos("training", 3):
        pass
    one, other = first.video("training", 5), again.video("training", 5)
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.instances, other.instances)
    for different in (first.video("test", 5), first.video("training", 6), world(seed=1).video("training", 5)):
        assert different.features.shape != one.features.shape or not np.array_equal(different.features, one.features)


def test_videos_are_untrimmed_and_their_truth_fits():
    sizes, several = [], 0
    for video in world(several=0.5).videos("training", 80):
        label, start, end = video.instances.T
        length = len(video.features)
        assert video.features.dtype == np.float32
        assert (video.features >= 0).all()
        assert start[0] >= 1
        assert end[-1] < length
        assert (start[1:] > end[:-1]).all()
        assert (end - start >= 2).all()
        inside = np.zeros(length, bool)
        for first, last in zip(start, end, strict=True):
            inside[first:last] = True
            assert (video.parts[first:last] == SALIENT).any()
        assert np.array_equal(inside, np.isin(video.parts, (WEAK, SALIENT)))
        assert video.tags == tuple(sorted(set(label.tolist())))
        sizes.append(length)
        several += len(video.tags) > 1
    assert max(sizes) > 4 * min(sizes)
    assert 25 <= several <= 55


def strength(videos, part, direction):
    """How far snippets of a part lie along a direction, over all classes."""
    found = []
    for video in videos:
        for label, start, end in video.instances.tolist():
            rows = video.features[start:end][video.parts[start:end] == part]
            found += (rows @ direction[label]).tolist()
    return np.mean(found)


def test_weak_parts_tell_less_of_their_class_than_the_core():
    for difficulty in (0.0, 1.0):
        drawn = world(width=64, difficulty=difficulty)
        videos = list(drawn.videos("training", 20))
        gap = strength(videos, SALIENT, drawn.action) - strength(videos, WEAK, drawn.action)
        assert gap > (5 if difficulty == 0 else 10)


def test_context_goes_with_the_tag_and_sometimes_without_it():
    drawn = world(width=64, difficulty=0.5)
    with_tag, without = [], []
    for video in drawn.videos("training", 60):
        outside = video.features[np.isin(video.parts, (BACKGROUND, CONTEXT))]
        shows = (outside @ drawn.context.T > 0.6 * 0.5 * 64).mean(0)
        for label in range(4):
            (with_tag if label in video.tags else without).append(shows[label] > 0.02)
    assert np.mean(with_tag) > 2 * np.mean(without)
    assert np.mean(without) > 0


def test_difficulty_puts_context_beside_instances():
    shares = []
    for difficulty in (0.0, 1.0):
        beside = []
        for video in world(difficulty=difficulty).videos("training", 30):
            beside += (video.parts[video.instances[:, 2]] != BACKGROUND).tolist()
        shares.append(np.mean(beside))
    assert shares[0] < 0.5
    assert shares[1] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 0}, "classes must be >= 1, got 0"),
        ({"width": 7}, "width must be even, got 7"),
        ({"snippets": 8}, "snippets must be >= 32, got 8"),
        ({"difficulty": 1.5}, r"difficulty must be in \[0, 1\], got 1.5"),
        ({"several": float("nan")}, r"several must be in \[0, 1\], got nan"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        world(**changes)


def test_synthesize_writes_a_data_set(tmp_path, capsys):
    words = ["data", "synthesize", str(tmp_path / "set"), "--training", "3", "--test", "2", "--classes", "2"]
    words += ["--width", "8", "--snippets", "40", "--seed", "7", "--json"]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["videos"] == {"test": 2, "training": 3}
    assert report["synthetic"] is True
    videos = open_features(tmp_path / "set", "training", need_tags=True)
    expected = SyntheticWorld(SyntheticConfig(2, 8, snippets=40, seed=7)).video("training", 1)
    assert videos.names[1] == expected.name == "synthetic_training_00001"
    assert np.array_equal(videos.features(1), expected.features)
    assert videos.classes == ("action00", "action01")
    instances = videos.truth.instances
    mine = instances.video == instances.videos.index(expected.name)
    assert (instances.start[mine] * 25 / 16).round().tolist() == expected.instances[:, 1].tolist()
    assert (instances.end[mine] * 25 / 16).round().tolist() == expected.instances[:, 2].tolist()
    assert "SYNTHETIC" in json.loads((tmp_path / "set" / "dataset.json").read_text())["description"]
    assert cli.main(words) == 1
    assert "must be a new or empty folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must be at least one"):
        write_synthetic(tmp_path / "other", SyntheticConfig(), 0, 0)


RECORD = {"subset": "training", "duration": 3.2, "tags": ["a"], "annotations": []}


def videos_read(reads, stop_after=None):
    """Three videos that note when they are read; an interrupt comes instead of the one after ``stop_after``."""

    def read(number):
        if number == stop_after:
            raise KeyboardInterrupt
        reads.append(number)
        return np.full((5, 4), number, np.float32)

    return [FeatureVideo(f"v{number}", RECORD, (5, 4), lambda number=number: read(number)) for number in range(3)]


def test_interrupted_writing_goes_on_where_it_stopped(tmp_path):
    out, reads = tmp_path / "set", []
    with pytest.raises(KeyboardInterrupt):
        write_data_set(out, videos_read(reads, stop_after=2), {}, {"from": "x"})
    assert not out.exists()
    write_features(tmp_path / "set.partial" / "features" / "v1.npy", np.ones((2, 4)))  # not what it was to be
    (tmp_path / "set.partial" / "features" / ".v2.npy.x743js6_.tmp").write_text("of a write that was killed")
    counts = write_data_set(out, videos_read(reads), {}, {"from": "x"})
    assert reads == [0, 1, 1, 2]
    assert counts["resumed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert open_features(out).features(1)[0, 0] == 1
    assert sorted(path.name for path in (out / "features").iterdir()) == ["v0.npy", "v1.npy", "v2.npy"]


@pytest.mark.parametrize("origin", ["x", "y"])
def test_writers_of_one_set_exclude_each_other(tmp_path, origin):
    out, other = tmp_path / "set", []

    def read():
        with pytest.raises(DataError, match="set.partial: is being written by another"):
            write_data_set(out, videos_read(other), {}, {"from": origin})
        return np.zeros((5, 4), np.float32)

    write_data_set(out, [FeatureVideo("v", RECORD, (5, 4), read)], {}, {"from": "x"})
    assert other == []
    assert [path.name for path in (out / "features").iterdir()] == ["v.npy"]


def test_a_set_that_has_its_name_is_held_to_its_last_step(tmp_path, monkeypatch):
    """Whoever comes then is told who writes there, and leaves nothing behind."""
    out, unlink, found = tmp_path / "set", Path.unlink, []

    def watched(path, **options):
        if path.name == "origin.json" and path.parent == out:
            with pytest.raises(DataError, match="set: is being written by another run") as raised:
                write_data_set(out, videos_read([]), {}, {"from": "x"})
            found.append(raised)
            assert [path.name for path in tmp_path.iterdir()] == ["set"]
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    write_data_set(out, videos_read([]), {}, {"from": "x"})
    assert len(found) == 1
    with pytest.raises(DataError, match="set: must be a new or empty folder"):
        write_data_set(out, videos_read([]), {}, {"from": "x"})
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "features", "truth.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_where_a_killed_run_left_its_lock_is_empty(tmp_path):
    (tmp_path / "set" / ".run").mkdir(parents=True)
    (tmp_path / "set" / ".run" / "1-of-1.jsonl").touch()
    write_data_set(tmp_path / "set", videos_read([]), {}, {"from": "x"})
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["dataset.json", "features", "truth.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suffix": ".npz"}, "suffix must be one of .*, got '.npz'"),
        ({"layout": "other"}, "layout must be one of .*, got 'other' with .npy"),
        ({"layout": "wtalc", "suffix": ".safetensors"}, "layout must be one of .*, got 'wtalc' with .safetensors"),
        ({"videos_per_file": 2}, "packs are .safetensors, got .npy"),
    ],
)
def test_sets_that_cannot_be_written(options, message, tmp_path):
    with pytest.raises(ValueError, match=f"write_data_set: {message}"):
        write_data_set(tmp_path / "set", videos_read([]), {}, {"from": "x"}, **options)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_of_something_else_starts_anew(tmp_path):
    out, reads = tmp_path / "set", []
    with pytest.raises(KeyboardInterrupt):
        write_data_set(out, videos_read(reads, stop_after=2), {}, {"from": "x"})
    write_data_set(out, videos_read(reads), {}, {"from": "y"}, suffix=".safetensors")
    assert reads == [0, 1, 0, 1, 2]
    assert {path.suffix for path in (out / "features").iterdir()} == {".safetensors"}


def test_writing_touches_nothing_that_is_not_its_own(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    with pytest.raises(DataError, match="full: must be a new or empty folder"):
        write_data_set(tmp_path / "full", [], {}, {})
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial" / "precious").write_text("")
    with pytest.raises(DataError, match="set.partial: is not left from writing set"):
        write_data_set(tmp_path / "set", [], {}, {})
    bad = FeatureVideo("../escape", RECORD, (5, 4), lambda: np.ones((5, 4)))
    with pytest.raises(DataError, match="must be a plain file name, got '../escape'"):
        write_data_set(tmp_path / "new", [bad], {}, {})
    assert not (tmp_path / "escape.npy").exists()
