"""Streams joined of recordings: what they hold, where it was cut, and the statistics of a snippet."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.data.synthetic.watch_streams import BACKGROUND, WIDTH, join_stream, read_watch, window_features
from pyws.errors import DataError

EXERCISES = ("PEN", "ABD", *BACKGROUND)


def archive(path, **changes):
    """Two persons with two recordings of each of four exercises; a sample's values tell where it comes from."""
    length = np.full(16, 1000)
    samples = np.arange(16000)[:, None] * 10.0 + np.arange(6)
    arrays = {
        "X": samples,
        "length": length,
        "y": np.tile(np.arange(4), 4),
        "subject": np.repeat([1, 2], 8),
        "y_labels": np.array(EXERCISES),
        **changes,
    }
    np.savez(path, **arrays)
    return path


def test_the_package_is_read_where_no_file_is_given(monkeypatch):
    signals = [np.full((8, 6), 1, np.float64), np.full((9, 6), 2, np.float64)]
    data = {"X": signals, "y": np.array([1.0, 0.0]), "y_labels": ["PEN", "ABD"], "subject": np.array([3.0, 4.0])}
    package = SimpleNamespace(load_watch=lambda: data)
    monkeypatch.setitem(sys.modules, "seglearn", SimpleNamespace(datasets=package))
    monkeypatch.setitem(sys.modules, "seglearn.datasets", package)
    found = read_watch()
    assert (found.exercise, found.subject) == (("ABD", "PEN"), (3, 4))
    assert [(one.shape, one.dtype, one[0, 0]) for one in found.signals] == [((8, 6), "f4", 1), ((9, 6), "f4", 2)]
    monkeypatch.setitem(sys.modules, "seglearn.datasets", None)
    with pytest.raises(DataError, match=r"seglearn: must be installed \(pip install seglearn\), or its data given"):
        read_watch()


def test_streams_are_cut_from_the_recordings_of_one_person(tmp_path):
    recordings = read_watch(archive(tmp_path / "watch.npz"))
    for seed in range(20):
        stream = join_stream(recordings, 2, np.random.default_rng(seed))
        sample = (stream.signal[:, 0] / 10).astype(int)
        assert len(np.unique(sample)) == len(sample)
        names = [name for name, _, _ in stream.excerpts]
        assert names[0] in BACKGROUND
        assert set(names) - set(BACKGROUND)
        assert stream.excerpts[0][1] == 0
        for (name, first, last), after in zip(stream.excerpts, [*stream.excerpts[1:], None], strict=True):
            origin = sample[first:last]
            assert (np.diff(origin) == 1).all()
            assert len(set(origin // 1000)) == 1
            assert origin[0] >= 8000
            assert EXERCISES[origin[0] // 1000 % 4] == name
            assert (after[1] if after else len(sample)) == last
            assert after is None or name in BACKGROUND or after[0] != name


def test_statistics_of_a_snippet():
    time = np.arange(64) / 50
    signal = np.zeros((64, 6))
    signal[:, 0] = 3 + np.sin(2 * np.pi * 6.25 * time)
    signal[:, 4] = np.linspace(-1, 1, 64)
    signal[:, 5] = -2 * signal[:, 4]
    rows = window_features(signal)
    assert rows.shape == (2, WIDTH)
    first, rotation = rows[0, :32], rows[0, 32:]
    assert first[[0, 3, 6, 9]] == pytest.approx([3, np.sqrt(0.5), 2, 4], abs=0.01)  # mean, deviation, least, largest
    assert first[15:27:3].argmax() == 1  # 6.25 Hz lies in the second band
    assert rotation[29] == pytest.approx(-1, abs=1e-3)  # correlation of the last two axes
    assert first[27:30].tolist() == [0, 0, 0]
    assert first[30] == pytest.approx(3)
    assert np.isfinite(rows).all()
    assert window_features(np.ones((31, 6))).shape == (0, WIDTH)


def test_bands_hold_the_frequencies_from_1_to_25_hertz_once():
    """A wave in bin k has a power of 32 / 4 there and none elsewhere; a band has the mean of its bins."""
    widths = [2, 2, 4, 8]
    band_of = np.repeat(range(4), widths)
    for k in range(1, 16):
        wave = np.cos(2 * np.pi * k * np.arange(32) / 32 + 1)
        found = window_features(np.repeat(wave[:, None], 6, 1))[0, 15:27:3]
        expected = [np.log((8 / width if band == band_of[k - 1] else 0) + 1e-4) for band, width in enumerate(widths)]
        assert found == pytest.approx(expected, abs=1e-3)


def test_command_on_the_real_recordings(shared, tmp_path, capsys):
    source = shared / "data" / "temporal" / "seglearn_watch_f32.npz"
    words = ["data", "watch", str(tmp_path / "set"), "--source", str(source), "--streams", "2", "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == {"test": 6, "training": 14}
    training, test = (open_features(tmp_path / "set", name, need_tags=True) for name in ("training", "test"))
    assert training.classes == test.classes == ("ABD", "ER", "FEL", "IR", "PEN")
    assert training.width == WIDTH
    assert {name.split("_")[1] for name in test.names} == {"08", "09", "10"}
    assert {name.split("_")[1] for name in training.names} == {f"{person:02d}" for person in range(1, 8)}
    rows = np.concatenate([training.features(index) for index in range(len(training))])
    assert np.abs(rows.mean(0)).max() < 1e-4
    assert rows.std(0) == pytest.approx(1, abs=1e-3)
    truth = training.truth.instances
    assert (truth.end - truth.start).min() >= 3
    for index, name in enumerate(training.names):
        mine = truth.video == truth.videos.index(name)
        tagged = {training.classes[column] for column in np.flatnonzero(training.tags[index])}
        assert {truth.labels[label] for label in truth.label[mine]} == tagged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.ones((10, 6))}, r"X must hold the 16000 samples of length, .*, got \(10, 6\)"),
        ({"length": np.array([15999, 1])}, "32 or more in a recording"),
        ({"y": np.full(16, 9)}, "y must be indices into y_labels"),
        ({"subject": np.ones(3)}, "one entry for each recording"),
        ({"y_labels": np.array([{}], dtype=object)}, "is not an .npz archive"),
    ],
)
def test_bad_sources(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_watch(archive(tmp_path / "watch.npz", **changes))


def test_other_bad_sources(tmp_path, capsys):
    np.savez(tmp_path / "part.npz", X=np.ones(3))
    with pytest.raises(DataError, match="must hold an array"):
        read_watch(tmp_path / "part.npz")
    (tmp_path / "text.npz").write_text("PK no archive")
    with pytest.raises(DataError, match="is not an .npz archive"):
        read_watch(tmp_path / "text.npz")
    source = str(archive(tmp_path / "watch.npz"))
    assert cli.main(["data", "watch", str(tmp_path / "x"), "--source", source, "--test-subjects", "7"]) == 1
    assert r"test subjects must be some of [1, 2], got [7]" in capsys.readouterr().err


def test_statistics_of_single_precision_are_computed_in_double():
    signal = np.random.default_rng(0).normal(900, 0.1, (64, 6)).astype(np.float32)
    first = window_features(signal)[0]
    exact = signal[:32, 0].astype(np.float64)
    assert first[[0, 3]] == pytest.approx([exact.mean(), exact.std()], rel=1e-12)
