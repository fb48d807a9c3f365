"""Corrected masks: kept as they are in every version, trained on, and handed on by refinement."""

import numpy as np
import pytest
import torch
from review_sets import SIZE, write_first_masks, write_videos

import pyws.masks.self_training.loop as loop
import pyws.masks.self_training.train_segmentation as training
from pyws import DataError
from pyws.data.tagged.corrected_masks import corrected_frames, write_corrected
from pyws.data.video.frames import read_mask
from pyws.exchange.sources import read_results
from pyws.files import write_json
from pyws.masks.self_training.frame_selection import SelectionConfig, read_selection
from pyws.masks.self_training.loop import SelfTraining, SelfTrainingConfig
from pyws.masks.self_training.next_version import NextVersion, Prediction
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame, split
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig
from pyws.models.classifiers import build_classifier
from pyws.models.image_networks.deeplab import DeepLabV2

CONFIG = SelfTrainingConfig(
    SelectionConfig(label_tests="discriminator", min_per_class=1),
    DiscriminatorConfig(patch_size=36, width=2, steps=1, threshold=2.0),  # no frame passes by itself
    TrainingConfig(crop=24, batch=2, max_epoch=1, lr=0.1),
    LoopConfig(max_versions=2, outer_tolerance=0.0, validation="frames", choose_after=0.0, noise=0.0),
)


@pytest.fixture(autouse=True)
def _small_network(monkeypatch):
    def small(backbone="", classes=3, weights=None, **options):
        options.pop("output_stride", None)
        nn = torch.nn
        layers = (nn.Conv2d(3, 8, 3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        return DeepLabV2(nn.Sequential(*layers), 8, classes, **options)

    monkeypatch.setattr(training, "build_deeplab", small)


@pytest.fixture
def first(tmp_path):
    return write_first_masks(tmp_path, write_videos(tmp_path))


def drawn():
    """A frame that had a mask, one that had none, and one that shows nothing."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:9, 3:30] = 3  # a tabby, which is no tag of the video
    mask[20, 20] = 255
    return {("fox", "frame10"): mask, ("fox", "frame4"): (mask == 3).astype(np.uint8), ("swan", "00011"): 0 * mask}


def test_training_keeps_and_selects_them(first, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "why_stop", lambda versions, _: None if len(versions) < 2 else "two are enough")
    everywhere = torch.ones(SIZE, dtype=torch.uint8)
    monkeypatch.setattr(loop, "predict_frames", lambda model, data, frames, *_: [(one, everywhere) for one in frames])
    predicted = Prediction(torch.zeros(2, *SIZE), everywhere.numpy(), np.ones(SIZE, bool))
    monkeypatch.setattr(NextVersion, "predict", lambda self, frame: predicted)
    masks = drawn()
    write_corrected(first, [(*key, mask) for key, mask in masks.items()], "review.json")
    run = SelfTraining(first, tmp_path / "run", CONFIG, quiet=True)
    assert run.data.tags["fox"] == (1, 3)  # what people drew is a tag
    stems = [frame.stem for frame in run.data.frames if frame.video == "fox"]
    assert stems == ["frame1", "frame4", "frame10", "frame11"]
    assert {Frame(*key) for key in masks} <= set(run.training)
    manifest = run.run()
    assert len(manifest["versions"]) == 2
    for version in (0, 1):
        rows = {(row["video"], row["frame"]): row for row in read_selection(run.selection_file(version))}
        for key, mask in masks.items():
            frame = Frame(*key)
            assert rows[key]["selected"]
            assert rows[key]["corrected"]
            assert frame in run._frames(version)[0]
            assert np.array_equal(run.data.mask(run.annotations(version), frame), mask)
    for key, mask in masks.items():
        assert np.array_equal(read_mask(Frame(*key).png(tmp_path / "run/pa/v1")), mask)
    assert run.data.mask(run.annotations(1), Frame("fox", "frame1")).all()  # the others are the network's


def test_a_run_goes_on_only_with_the_same(first, tmp_path):
    """Masks that are corrected after a run began are other pseudo-annotations."""
    keys, masks = list(drawn()), list(drawn().values())
    write_corrected(first, [(*keys[0], masks[0])], "review.json")
    run = SelfTraining(first, tmp_path / "run", CONFIG, quiet=True)
    run.manifest, run._save_manifest = {}, lambda: None
    version = run._version(0)
    write_corrected(first, [(*keys[0], 0 * masks[0])], "review.json")
    again = SelfTraining(first, tmp_path / "run", CONFIG, quiet=True)
    again.versions = [version]
    with pytest.raises(DataError, match="changed since version 0 began"):
        again._version(0)


def test_whole_videos_with_corrections_are_not_held_out(first, tmp_path):
    write_corrected(first, [("fox", "frame10", drawn()["fox", "frame4"])], "review.json")
    data = Annotations(first, tmp_path)
    data.tags = {"fox": (1,), "swan": (1,)}
    for seed in range(4):
        learned, held_out = split(data, LoopConfig(), seed)
        assert {frame.video for frame in held_out} == {"swan"}
        assert Frame("fox", "frame10") in learned


def test_they_are_shown_at_their_place_among_the_others(first):
    masks = drawn()
    write_corrected(first, [(*key, mask) for key, mask in masks.items()], "review.json")
    found = {video.name: [*video.masks.files] for video in read_results([first]).videos}
    assert found["fox"] == sorted(found["fox"], key=lambda stem: int(stem.removeprefix("frame")))
    assert {"frame4", "frame10"} < set(found["fox"])
    assert found["swan"] == sorted(found["swan"])


def test_refinement_hands_them_on(first, tmp_path, monkeypatch):
    import pyws.masks.refinement.pipeline as refinement

    monkeypatch.setattr(
        refinement,
        "refine_video",
        lambda pictures, superpixels, features, masks, ids, *_: [np.ones((len(ids), 4, 4), np.float32)] * len(pictures),
    )
    masks = drawn()
    write_corrected(first, [(*key, mask) for key, mask in masks.items()], "review.json")
    classifier = build_classifier("small2d", 3)
    classifier.model.eval()
    refinement.refine_annotations(first, tmp_path / "final", classifier, quiet=True)
    found = Annotations(tmp_path / "final", tmp_path / "work")
    assert set(found.corrected) == {Frame(*key) for key in masks}
    for key, mask in masks.items():
        assert np.array_equal(read_mask(Frame(*key).png(tmp_path / "final/pa/v0")), mask)
    assert found.mask(tmp_path / "final/pa/v0", Frame("fox", "frame1")).all()


def test_files_that_are_none(first):
    about = {"format": "pyws corrected masks", "version": 1}
    for document in ([], *({**about, "videos": {"fox": {"frames": {"a": [number]}}}} for number in (0, 255, True))):
        write_json(first / "corrections/corrections.json", document)
        with pytest.raises(DataError, match="must be corrections that pyws import wrote"):
            corrected_frames(first)
    strange = {**about, "videos": {"hen": {"frames": {"a": [1]}}}}
    write_json(first / "corrections/corrections.json", strange)
    assert not Annotations(first, first / "work").corrected  # its video is not there
