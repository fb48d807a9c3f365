"""Features of many videos in one file: the same data set, byte for byte, whatever happens while it is written."""

import gc
import json
import os

import feature_sets
import numpy as np
import pytest
import torch

from pyws import cli
from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features
from pyws.data.features.files import stored_in, times_of, write_snippets
from pyws.data.features.packs import INDEX, PackedVideo, pack_videos, remove_packed
from pyws.data.features.writers import convert_features
from pyws.errors import DataError

NOTE = {"fps": 8.0, "window": 4, "stride": 2, "start": 0.0, "network": "small3d"}


def write(folder, videos, width=3):
    """Files as `pyws features` writes them; returns the arrays."""
    rng, arrays = np.random.default_rng(0), {}
    for number, name in enumerate(videos):
        length = 2 + number
        arrays[name] = rng.standard_normal((length, width)).astype(np.float32)
        seconds = np.arange(length)[:, None] / 4 + [0, 0.5]
        tensors = {"features": arrays[name], "seconds": seconds, "scores": arrays[name][:, :2]}
        write_snippets(folder / f"{name}.safetensors", tensors, {**NOTE, "end": length / 4 + 0.5, "first": number / 8})
    return arrays


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_packs_hold_what_the_files_held(tmp_path):
    names = ["b", "a", "c", "d", "e"]
    arrays = write(tmp_path, names)
    before = {name: (times_of(one), one.note(), one.tensor("scores")) for name, one in stored_in(tmp_path).items()}
    pack_videos(tmp_path, names, 2)
    assert sorted(os.listdir(tmp_path)) == [INDEX, *(f"pack-0000{number}.safetensors" for number in range(3))]
    found = stored_in(tmp_path)
    assert list(found) == sorted(names)
    for name, stored in found.items():
        times, note, scores = before[name]
        assert isinstance(stored, PackedVideo)
        assert stored.shape() == arrays[name].shape
        assert np.array_equal(stored.read(), arrays[name])
        assert stored.note() == note
        assert np.array_equal(stored.times().spans, times.spans)
        assert np.array_equal(stored.times().middles, times.middles)
        assert np.array_equal(stored.tensor("scores"), scores)
        assert stored.tensor("others") is None


def test_interrupted_packing_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    names = [f"v{number}" for number in range(5)]
    for out in ("whole", "cut"):
        write(tmp_path / out, names)
    pack_videos(tmp_path / "whole", names, 2)
    real = os.fsync
    for writes in range(9):  # dies later and later: while a pack, a line of the index, or the next is written
        left = [writes]

        def dies(descriptor, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr("pyws.files.os.fsync", dies)
            try:
                pack_videos(tmp_path / "cut", names, 2)
            except KeyboardInterrupt:
                assert len(stored_in(tmp_path / "cut")) == 5
                with open(tmp_path / "cut" / INDEX, "a") as index:
                    index.write('{"pack": "pack-000')  # and half a line, as a loss of power leaves it
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_file_of_its_own_counts_and_later_packs_do(tmp_path):
    write(tmp_path, ["a", "b"])
    pack_videos(tmp_path, ["a", "b"], 2)
    newer = write(tmp_path, ["b"])["b"]
    assert np.array_equal(stored_in(tmp_path)["b"].read(), newer)
    pack_videos(tmp_path, ["a", "b"], 2)
    assert np.array_equal(stored_in(tmp_path)["b"].read(), newer)
    remove_packed(tmp_path, ["b", "never there"])
    assert list(stored_in(tmp_path)) == ["a"]


def test_every_command_reads_packs_as_it_reads_files(tmp_path, capsys):
    one = feature_sets.write(tmp_path / "one", feature_sets.draw(5), feature_sets.draw(3, "test", seed=1))
    (one / "corrections.json").write_text(json.dumps(
        {"format": "pyws corrections", "version": 1,
         "videos": {"test_00": {"present": [{"label": "run", "segment": [1.0, 4.0]}], "absent": [], "from": ""}}}
    ))  # fmt: skip
    assert cli.main(["data", "convert", str(one), str(tmp_path / "packed"), "--videos-per-file", "3", "--quiet"]) == 0
    packed = open_features(tmp_path / "packed")
    single = open_features(one)
    assert [path.name for path in sorted((tmp_path / "packed/features").iterdir())] == [
        INDEX, *(f"pack-0000{number}.safetensors" for number in range(3))]  # fmt: skip
    assert packed.names == single.names
    assert packed.corrections == single.corrections
    assert all(np.array_equal(packed.features(index), single.features(index)) for index in range(8))
    report = check_data_set(tmp_path / "packed").to_dict()
    assert {**report, "doubts": []} == {**check_data_set(one).to_dict(), "doubts": []}
    for source, out in ((one, "a"), (tmp_path / "packed", "b")):
        words = ["segments", "train", str(source), "-o", str(tmp_path / out), "--subset", "training", "--epochs", "1"]
        assert cli.main([*words, "--preset", "baseline", "--quiet", "--device", "cpu"]) == 0
        words = ["--checkpoint", str(tmp_path / "a/last.safetensors"), "-o", str(tmp_path / f"{out}.json")]
        assert cli.main(["segments", "predict", str(source), "--subset", "test", "--quiet", *words]) == 0
    assert (tmp_path / "a/last.safetensors").read_bytes() == (tmp_path / "b/last.safetensors").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    convert_features(tmp_path / "packed", tmp_path / "back")  # and back to a file a video
    assert len(stored_in(tmp_path / "back/features")) == 8
    assert np.array_equal(open_features(tmp_path / "back").features(4), single.features(4))


def test_times_tags_and_scores_go_with_a_conversion(tmp_path):
    arrays = write(tmp_path / "set/features", ["a", "b", "c"])
    (tmp_path / "set/tags.csv").write_text("video,tag,subset\na,run,training\na,jump,training\nb,run,test\nc,,test\n")
    (tmp_path / "set/dataset.json").write_text('{"snippets_per_second": 4.0}')
    convert_features(tmp_path / "set", tmp_path / "packed", videos_per_file=2)
    one, other = open_features(tmp_path / "set"), open_features(tmp_path / "packed")
    assert (other.names, other.classes, other.truth) == (one.names, one.classes, None)
    assert np.array_equal(other.tags, one.tags)
    assert open_features(tmp_path / "packed", "test").names == ("b", "c")
    assert other.grids == one.grids
    assert np.array_equal(other.stored[1].tensor("scores"), arrays["b"][:, :2])
    convert_features(tmp_path / "packed", tmp_path / "back")
    assert open_features(tmp_path / "back").grids == one.grids
    with pytest.raises(ValueError, match=r"times of snippets, which this set has, are kept in .safetensors, got .npy"):
        convert_features(tmp_path / "packed", tmp_path / "other", suffix=".npy")


LINE = {"pack": "pack-00000.safetensors", "bytes": 9, "videos": {"a": {"shape": [2, 3], "times": False}}}


@pytest.mark.parametrize(
    "line",
    [
        "[]", "nonsense", "[" * 10**5, json.dumps({**LINE, "pack": "../pack-00000.safetensors"}),
        json.dumps({**LINE, "bytes": True}),
        json.dumps({**LINE, "videos": {"a": {"shape": [2, -3], "times": False}}}), json.dumps({"removed": [3]}),
        json.dumps({**LINE, "videos": {"a": {"shape": [2, 3]}}}), json.dumps({**LINE, "videos": ["a"]}),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be(line, tmp_path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / INDEX).write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"index.jsonl: line 1 must name a pack, its bytes and its videos"):
        open_features(tmp_path)


def test_packs_that_are_not_what_the_index_says(tmp_path):
    write(tmp_path / "features", ["a", "b"])
    pack_videos(tmp_path / "features", ["a", "b"], 2)
    pack, index = (tmp_path / "features" / name for name in ("pack-00000.safetensors", INDEX))
    whole, said = pack.read_bytes(), index.read_text()
    pack.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=rf"video 'a'.*must have {len(whole)} bytes as index.jsonl says"):
        open_features(tmp_path)
    pack.write_bytes(b"\xff" * len(whole))
    (tmp_path / "dataset.json").write_text('{"snippets_per_second": 4.0}')
    with pytest.raises(DataError, match=r"video 'a'.*not safetensors"):
        open_features(tmp_path).features(0)
    with pytest.raises(DataError, match=r"video 'a'.*not safetensors"):
        _ = open_features(tmp_path).times
    pack.write_bytes(whole)
    index.write_text(said.replace('"shape": [2, 3]', '"shape": [7, 3]'))
    with pytest.raises(DataError, match=r"must be floating-point of shape \(7, 3\)"):
        open_features(tmp_path).features(0)
    index.write_text(said.replace('"a"', '"x"'))
    with pytest.raises(DataError, match="must hold features of 'x'"):
        open_features(tmp_path).features(1)
    pack.unlink()
    os.mkfifo(pack)
    with pytest.raises(DataError, match="pack-00000"):
        open_features(tmp_path)


@pytest.mark.parametrize("name", ["../../other", "/other", "..", "", "a/b", "a\0b"])
def test_an_index_whose_names_lead_elsewhere(name, tmp_path):
    write(tmp_path / "set" / "features", ["a", "b"])
    pack_videos(tmp_path / "set" / "features", ["a", "b"], 2)
    index = tmp_path / "set" / "features" / INDEX
    index.write_text(index.read_text().replace('"a"', json.dumps(name)))
    with pytest.raises(DataError, match="video name must be a plain file name"):
        convert_features(tmp_path / "set", tmp_path / "out")
    assert set(os.listdir(tmp_path)) <= {"set", "out.partial"}  # what is not whole yet lies in the latter
    assert set(os.listdir(tmp_path / "out.partial")) == {"origin.json"}
    assert not any(tmp_path.rglob("*other*"))


@pytest.mark.parametrize("offsets", [[-4, 20], [0, 1 << 40], [1 << 62, 1 << 63], [24, 24], [20, 44], [24, 0]])
def test_a_pack_whose_tensors_lie_elsewhere(offsets, tmp_path):
    write(tmp_path / "features", ["a", "b"])
    pack_videos(tmp_path / "features", ["a", "b"], 2)
    pack, index = (tmp_path / "features" / name for name in ("pack-00000.safetensors", INDEX))
    raw = pack.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["a/features"]["data_offsets"] = offsets
    said = json.dumps(header).encode()
    pack.write_bytes(len(said).to_bytes(8, "little") + said + raw[8 + size :])
    line = json.loads(index.read_text())
    index.write_text(json.dumps({**line, "bytes": pack.stat().st_size}) + "\n")
    (tmp_path / "dataset.json").write_text('{"snippets_per_second": 4.0}')
    with pytest.raises(DataError, match=r"video 'a'.*not safetensors"):
        open_features(tmp_path).features(0)


def test_packs_go_to_another_process_and_stay_mapped(tmp_path):
    """A data set is pickled as it is; a video is read without the rest of its pack."""
    feature_sets.write(tmp_path / "set", feature_sets.draw(4))
    convert_features(tmp_path / "set", tmp_path / "packed", videos_per_file=4)
    gc.collect()  # a decoder of another test that the child collects waits for threads that it does not have
    loader = torch.utils.data.DataLoader(
        open_features(tmp_path / "packed").stored, batch_size=None, num_workers=1,
        multiprocessing_context="fork", collate_fn=None,
    )  # fmt: skip
    read = [one.read() for one in loader]
    assert all(np.array_equal(one, open_features(tmp_path / "set").features(index)) for index, one in enumerate(read))


def test_nothing_is_taken_out_where_nothing_is_packed(tmp_path):
    write(tmp_path, ["a", "b"])
    remove_packed(tmp_path, ["a", "c"])
    assert not (tmp_path / INDEX).exists()
    pack_videos(tmp_path, ["a"], 2)
    before = (tmp_path / INDEX).read_bytes()
    remove_packed(tmp_path, ["b", "c"])
    assert (tmp_path / INDEX).read_bytes() == before
