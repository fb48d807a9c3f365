"""What makes the host wait for the card, counted on a stand-in: no step of a training does, answers once a batch."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import feature_sets
import pytest
import torch
from stand_in import CARD, OnCard, card
from torch.nn.functional import softmax

import pyws.masks.self_training.train_segmentation as segmentation
from pyws import Segments, ops
from pyws.data.annotations.corrections import Corrected
from pyws.data.tagged.label_space import actor_actions
from pyws.distributed import Group
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks import image_annotator
from pyws.masks.initial_masks.actor_action_annotator import ActorActionAnnotator, ActorActionConfig, Branch
from pyws.masks.initial_masks.annotator import Chunk
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.image_annotator import ImageAnnotator
from pyws.masks.initial_masks.train_classifier import ClassifierConfig, _Training
from pyws.masks.self_training.frame_selection import FrameSelector, SelectionConfig, _Candidate
from pyws.masks.self_training.pseudo_annotations import Frame
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig, _scores, _step
from pyws.models.classifiers import build_classifier
from pyws.models.devices import on_device
from pyws.models.image_networks.deeplab import build_deeplab
from pyws.models.image_networks.discriminator import PatchDiscriminator
from pyws.segments.backbones import BACKBONES
from pyws.segments.config import PRESETS
from pyws.segments.detection.inference import activation_maps
from pyws.segments.pseudo_labels import PseudoLabels
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.training.batches import Videos
from pyws.segments.training.train import begin, fill_memory, label_round, train_epoch

ONCE = {"copy to the host": 1}


@pytest.fixture
def gpu(monkeypatch):
    with card(monkeypatch) as found:
        yield found


def waits(gpu):
    """What has been counted since the last time."""
    found = {name: count for name, count in gpu.waits.items() if count}
    gpu.waits.clear()
    return found


def pictures(*size):
    return torch.randint(0, 255, size, dtype=torch.uint8)


def test_the_stand_in_counts_what_waits(gpu):
    values = torch.arange(6.0).to(CARD)
    assert isinstance(values, OnCard)
    assert waits(gpu) == {"copy to the card": 1}
    assert (values * 2).sum().item() == 30
    assert values[values > 3].tolist() == [4, 5]
    assert bool((values == 0).any())
    values.to(CARD, torch.float64)
    counted = {"_local_scalar_dense": 2, "index by a mask or from the host": 1, "copy to the host": 1}
    assert waits(gpu) == counted
    with pytest.raises(RuntimeError, match="same device"):
        values + torch.ones(6)


def test_what_goes_to_the_card_is_pinned_and_not_waited_for(gpu):
    found = on_device(torch.ones(3), CARD)
    assert (type(found), gpu.copies, waits(gpu)) == (OnCard, 1, {})
    assert on_device(found, CARD) is found


@pytest.mark.parametrize("name", BACKBONES)
def test_no_step_of_segments_train_waits(name, gpu):
    data = feature_sets.draw(12)
    config = replace(PRESETS["pyws"], epochs=200, batch=4, trust=None, clip_norm=1.0)
    run, videos = begin(name, config, data, CARD), Videos(data, CARD)
    columns = {(video, video % 2): torch.rand(length).tolist() for video, length in enumerate(data.lengths.tolist())}
    run.latest = PseudoLabels.of(columns)
    last = run.config.schedule.epochs - 1
    assert run.config.schedule.target(last) is not None
    fill_memory(run, videos, Group())
    waits(gpu)
    record = train_epoch(run, videos, last, Group())
    assert record["distribution_loss"] != 0
    assert waits(gpu) == ONCE  # the mean losses of the epoch, three steps
    run.backbone.model.eval()
    maps = next(activation_maps(run.backbone.model, videos, 16384, batches=[[0, 1, 2], [3, 4]]))
    assert waits(gpu) == {}
    maps.cpu()
    assert sum(waits(gpu).values()) <= 4  # lengths, maps, scores and the actionness, of all batches at once


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("name", ["wum", "bm"])
def test_pseudo_labels_are_made_on_the_card(name, corrected, gpu):
    """They are those of the CPU; LinPro counts what it takes to the host: what has known labels does not stay."""
    data = feature_sets.draw(6)
    if corrected:
        data = replace(data, corrections={data.names[1]: Corrected((("run", 2.0, 4.0),), (("run", 4.0, 6.0),))})
    config = replace(PRESETS["pyws"], seed=3)
    made = []
    for device in ("cpu", CARD):
        run, videos = begin(name, config, data, torch.device(device)), Videos(data, torch.device(device))
        made.append(label_round(run, videos, 0, 0.2, Group()))
    assert len(made[0].video) >= len(data)
    for field, values in made[0].tensors().items():
        if field != "on_host":
            found = made[1].tensors()[field]  # maps are float32
            torch.testing.assert_close(found, values, atol=1e-6, rtol=1e-5, msg=field)
    assert not made[0].on_host.any()
    on_host = made[1].on_host[(made[1].video == 1) & (made[1].label == data.classes.index("run"))]
    assert on_host.tolist() == [corrected]


def test_no_step_of_masks_train_waits(gpu, monkeypatch):
    config = segmentation.TrainingConfig(backbone="small2d", crop=32, batch=2)
    model = build_deeplab("small2d", 3).to(CARD)
    monkeypatch.setattr(segmentation, "_crop", lambda *args: (torch.rand(3, 32, 32), torch.ones(32, 32).long()))
    frames, optimizer = [Frame("a", str(number)) for number in range(6)], segmentation.make_optimizer(model, config)
    waits(gpu)
    segmentation.train_epoch(model, optimizer, None, Path(), frames, config, 0, 0, CARD)
    assert waits(gpu) == {"_local_scalar_dense": 1}  # the mean loss of the epoch, three steps


def test_no_step_of_masks_classify_waits(gpu, monkeypatch):
    classifier = replace(build_classifier("small2d", 2), labels=("a", "b"))
    classifier.model.to(CARD)
    head = list(classifier.model.parameters())[-2:]
    config = ClassifierConfig(network="small2d", batch=2)
    training = _Training(classifier, head, config, [None] * 6, 0, CARD, True, Group())
    drawn = [(torch.rand(2, 3, 32, 32), softmax(torch.rand(2, 2), 1), 2)]
    monkeypatch.setattr(training, "_groups", lambda *args: drawn)
    waits(gpu)
    training._epoch(None, 0)
    assert waits(gpu) == {"_local_scalar_dense": 1}


def test_no_step_of_the_discriminator_waits(gpu):
    model, patches = PatchDiscriminator(36).to(CARD), pictures(4, 3, 36, 36)
    waits(gpu)
    optimizer = torch.optim.Adam(model.parameters())
    _step(model, optimizer, patches, patches, DiscriminatorConfig(patch_size=36), torch.Generator(), CARD)
    assert waits(gpu) == {}
    _scores(model, patches, 2, CARD)
    assert waits(gpu) == {"copy to the host": 2}


@pytest.mark.parametrize("allowed", [None, [2]])
def test_masks_of_frames_are_read_once(allowed, gpu):
    model = build_deeplab("small2d", 3).to(CARD).eval()
    waits(gpu)
    segmentation.predict(model, list(pictures(2, 40, 48, 3).numpy()), allowed, 24, CARD)
    assert waits(gpu) == ONCE


def test_features_are_read_once_and_so_are_scores(gpu):
    classifier = replace(build_classifier("small2d", 2), labels=("a", "b"))
    network = SnippetNetwork(classifier, CARD, "float32")
    waits(gpu)
    network(torch.rand(2, 3, 32, 32))
    assert waits(gpu) == {"copy to the host": 2}


def test_initial_masks_are_read_for_their_head_their_nans_and_their_tags(gpu):
    classifier = replace(build_classifier("small2d", 3), labels=("a", "b", "c"))
    classifier.model.to(CARD).eval()
    config = InitialMaskConfig(short_side=32)
    annotator = ImageAnnotator(classifier, Path(), {"a": [0], "b": [1]}, config, CARD)
    waits(gpu)
    found = annotator.initial_masks([0, 1], {}, pictures(2, 40, 48, 3), Chunk([0, 1], [0, 1]))
    # Whether the head is linear, and whether a map is NaN.
    assert waits(gpu) == {"_local_scalar_dense": 1, "copy to the host": 1}
    found.refine(on_device(pictures(2, 40, 48).long() % 4, CARD))
    # How many tags the masks have, and how many superpixels there are.
    assert waits(gpu) == {"_local_scalar_dense": 1, "copy to the host": 1}


def test_frames_are_scaled_on_the_card_to_levels_beside_the_hosts(gpu):
    classifier = build_classifier("small2d", 3)
    frames = pictures(2, 40, 48, 3)
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    on_host, on_card = (
        (one.cpu() * std + mean) * 255
        for one in (classifier.prepare(frames, 32), classifier.prepare(on_device(frames, CARD), 32))
    )
    assert (on_card - on_card.round()).abs().max() < 1e-3
    apart = (on_card - on_host).abs()
    assert apart.max() < 1.001
    assert apart.mean() < 0.3


def test_choosing_classes_reads_the_head_and_the_scores_of_a_batch(gpu, monkeypatch):
    # The stand-in is this thread's alone.
    monkeypatch.setattr(image_annotator, "map_in_threads", lambda function, items: (function(item) for item in items))
    classifier = replace(build_classifier("small2d", 3), labels=("a", "b", "c"))
    classifier.model.to(CARD).eval()
    config = InitialMaskConfig(short_side=32, batch=2)
    annotator = ImageAnnotator(classifier, Path(), {"a": [0], "b": [1, 2]}, config, CARD)
    frames = SimpleNamespace(
        read=lambda places: iter(pictures(len(places), 40, 48, 3).numpy()), path=Path(),
        again=SimpleNamespace(remember=lambda places: None),
    )  # fmt: skip
    waits(gpu)
    annotator.of_video(frames, (1, 2), range(6))
    # In each of three batches: whether the head is linear, and the scores of all classes.
    assert waits(gpu) == {"_local_scalar_dense": 3, "copy to the host": 3}


def test_masks_of_actors_and_actions_are_read_as_those_of_objects(gpu):
    annotator = ActorActionAnnotator.__new__(ActorActionAnnotator)
    classifier = replace(build_classifier("small2d", 2), labels=("a", "b"))
    cam = GradCAM(classifier.model.to(CARD).eval(), classifier.layer).attached()
    annotator.space, annotator.device, annotator.frames = actor_actions([("a", "run"), ("b", "run")]), CARD, 0
    annotator.config, annotator.clip_config = InitialMaskConfig(), ActorActionConfig()
    annotator.actor, annotator.action = Branch(classifier, Path(), (-1, 0, 1), cam), None
    waits(gpu)
    annotator.initial_masks((1, 2), pictures(2, 40, 48, 3), Chunk([0, 1], [0, 1]))
    found = waits(gpu)
    assert sum(found.values()) <= 2, found
    assert not found.keys() & {"index by a mask or from the host", "copy to the card"}


def test_the_classifier_of_frame_selection_is_read_once_a_batch(gpu):
    classifier = replace(build_classifier("small2d", 2), labels=("a", "b"))
    classifier.model.to(CARD).eval()
    found = [_Candidate(Frame("v", "0"), {"label": 1}, pictured=torch.rand(3, 32, 32)) for _ in range(3)]
    data = SimpleNamespace(classes=((), (0,)))
    selector = FrameSelector(data, Path(), SelectionConfig(), DiscriminatorConfig(), classifier, 0, CARD)
    waits(gpu)
    selector._test_by_classifier(found)
    assert waits(gpu) == ONCE
    assert all(0 <= one.about["classifier"] <= 1 for one in found)


LABELS = torch.arange(16).view(1, 4, 4) // 4
SEGMENTS = Segments.of([[(0, 4, 0.5), (2, 6, 0.4)], [(1, 3, 0.2)]])
MAPS, LENGTHS, ENDS = torch.rand(1, 4, 4), torch.tensor([8, 8]), torch.tensor([0, 8])
# What each operation reads, by the tensors that it gets. Those on segments size their answers.
OPERATIONS = {
    "gradcam3d": (lambda maps: ops.gradcam3d(maps[:, None], maps[:, None], "minmax"), (MAPS,), 0),
    "slic": (lambda images: ops.slic(images, 4), (LABELS.expand(1, 3, 4, 4).byte(),), 0),
    "slic, whether floats are in [0, 1]": (lambda images: ops.slic(images, 4), (MAPS.expand(1, 3, 4, 4),), 2),
    "otsu, whether maps are finite": (ops.otsu, (MAPS,), 1),
    "otsu_masks, whether maps are finite": (lambda maps: ops.otsu_masks(maps, (6, 6)), (MAPS,), 1),
    "otsu_masks unchecked": (lambda maps: ops.otsu_masks(maps, (6, 6), check_finite=False), (MAPS,), 0),
    "superpixel_select, labels": (lambda labels: ops.superpixel_select(labels, labels > 1), (LABELS,), 1),
    "superpixel_vote, labels and ids": (lambda labels: ops.superpixel_vote(labels, labels, 4), (LABELS,), 2),
    "superpixel_confusion, labels and ids": (
        lambda labels: ops.superpixel_confusion(labels, labels, labels, 4, num_superpixels=4), (LABELS,), 1
    ),
    "class_mean, ids": (lambda ids: ops.class_mean(ids[:, None].double(), ids, 8), (torch.arange(8),), 1),
    "snippet_classes": (lambda lengths: ops.snippet_classes(SEGMENTS.to(CARD), lengths), (LENGTHS,), 4),
    "propose_segments": (ops.propose_segments, (torch.rand(8, 2), ENDS), 2),
    "fuse_segments": (lambda: ops.fuse_segments(SEGMENTS.to(CARD)), (), 1),
    "suppress_segments": (lambda: ops.suppress_segments(SEGMENTS.to(CARD)), (), 1),
    "linpro": (lambda lengths: ops.linpro(SEGMENTS.to(CARD), lengths), (LENGTHS,), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_an_operation_reads(name, gpu):
    call, given, reads = OPERATIONS[name]
    given = [on_device(one, CARD) for one in given]
    waits(gpu)
    call(*given)
    found = waits(gpu)
    found.pop("copy to the card", None)  # the test brings the segments
    assert sum(found.values()) == reads, found
