"""Masks and instances of whole videos by the model of a run.

What is written under the output folder::

    manifest.json                  model, configuration, and what became of each video
    masks/<video>/<frame>.png      palette PNG of the run's label ids
    instances/<video>.json         the same as COCO: images, categories, annotations with run lengths and track_id
    slic/<parameters>/<video>/<frame>.png   superpixels, where masks are refined by them
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pyws import ops
from pyws.checkpoint import load_into, read_checkpoint
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.tagged.rle import encode_mask
from pyws.data.video.frames import FrameFolder, Pixels, VideoFile, open_frames, write_mask
from pyws.errors import DataError
from pyws.files import SpacedJson, read_json, write_json
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.masks.prediction.action_alignment import (
    Aligned,
    AlignmentConfig,
    ClassProbabilities,
    Instance,
    align_actions,
    find_instances,
)
from pyws.masks.self_training.loop import FORMAT as RUN
from pyws.masks.self_training.loop import MODEL
from pyws.masks.self_training.pseudo_annotations import digest, superpixels_of
from pyws.masks.self_training.train_segmentation import TrainingConfig, best_ids, predict_scores, segmentation_network
from pyws.models.deeplab import DeepLabV2
from pyws.progress import track
from pyws.run_manifest import read_manifest

FORMAT = "pyws masks predict 2"


@dataclass(frozen=True)
class Model:
    """What a run ended with."""

    network: DeepLabV2
    space: LabelSpace
    short_side: int | None
    init: dict[str, Any]
    """Parameters of the masks that it learned from first."""
    sha256: str
    device: torch.device


def load_model(run: Path, device: torch.device | None = None) -> Model:
    """The model of a run that is done.

    Raises
    ------
    DataError : no run, one that is not done, or a damaged model
    """
    manifest = read_manifest(run / "manifest.json", *RUN)
    if "returned" not in manifest:
        raise DataError(run, "holds a run that is not done; continue it with pyws masks train")
    if digest([run / "model.safetensors"]) != manifest["model_sha256"]:
        raise DataError(run / "model.safetensors", "is not the model that the manifest of its run names")
    space = LabelSpace.read(manifest["label_space"], run / "manifest.json")
    training = manifest["parameters"]["training"]
    network = segmentation_network(TrainingConfig(**training), space).eval()
    load_into(network, read_checkpoint(run / "model.safetensors", MODEL))
    place = device or torch.device("cpu")
    init = manifest["parameters"]["init"]
    return Model(network.to(place), space, training["short_side"], init, manifest["model_sha256"], place)


def predict_videos(
    model: Model,
    videos: Sequence[str | os.PathLike[str]],
    out: Path,
    tags: dict[str, list[int]] | None = None,
    every: int = 1,
    align: AlignmentConfig | None = None,
    on_error: Literal["error", "skip"] = "error",
    quiet: bool = False,
    refine: bool = False,
) -> dict[str, Any]:
    """Write masks and instances of videos; those that an earlier call with the same arguments finished are left alone.

    Parameters
    ----------
    model : of :func:`load_model`
    videos : folders of frames or video files
    out : the folder to write
    tags : ids that each video may show, by its name; None for all ids
    every : frames from one that is segmented to the next
    align : how instances are linked and actions voted
    on_error : "error" stops at the first bad video, "skip" notes the error in the manifest and goes on
    refine : each superpixel, of the size that ``pyws masks init`` had, takes the class of more than half its pixels

    Returns
    -------
    The manifest.
    """
    if every < 1:
        raise ValueError(f"every: must be >= 1, got {every}")
    align = align or AlignmentConfig()
    parameters = {
        "model_sha256": model.sha256, "every": every, "tags": tags, "align": asdict(align), "refine": refine
    }  # fmt: skip
    superpixels = superpixels_of(model.init, out) if refine else None
    manifest, file = _open_manifest(out, parameters), SpacedJson(out / "manifest.json")
    try:
        for path in videos:
            try:
                frames = open_frames(path)
                if manifest["videos"].get(frames.name, {}).get("fingerprint") == frames.fingerprint():
                    continue
                allowed = None if tags is None else tags.get(frames.name, [])
                manifest["videos"][frames.name] = _predict_video(
                    model, frames, allowed, out, every, align, superpixels, quiet
                )
            except DataError as error:
                manifest["videos"][Path(path).name] = {"source": str(path), "error": str(error)}
                if on_error == "error":
                    raise
            file.write(manifest)
    finally:
        file.flush(manifest)
    return manifest


def _predict_video(
    model: Model,
    frames: FrameFolder | VideoFile,
    allowed: list[int] | None,
    out: Path,
    every: int,
    align: AlignmentConfig,
    superpixels: Superpixels | None,
    quiet: bool,
) -> dict[str, Any]:
    indices = list(range(0, len(frames), every))
    masks: list[Pixels] = []
    instances: list[Instance] = []
    stems = [frames.stems[index] for index in indices]
    pictures = track(frames.read(indices), frames.name, len(indices), quiet)
    for stem, picture in zip(stems, pictures, strict=True):
        ids, scores = predict_scores(model.network, [picture], allowed, model.short_side, model.device)
        found = best_ids(ids, scores)
        if superpixels is not None:
            labels = torch.from_numpy(superpixels(picture, frames.name, stem))
            found = ops.superpixel_vote(labels[None], found, len(model.space)).classes
        masks.append(found[0].numpy())
        probabilities = (
            ClassProbabilities(ids.numpy(), scores[0].softmax(0).cpu().numpy()) if align.vote == "prob" else None
        )
        instances += find_instances(len(masks) - 1, masks[-1], model.space, align, probabilities)
        if masks[-1].shape != masks[0].shape:
            raise DataError(frames.path, f"frames must have one size, got {masks[0].shape} and {masks[-1].shape}")
    aligned = align_actions(masks, model.space, align, every, instances)
    for stem, mask in zip(stems, aligned.masks, strict=True):
        write_mask(out / "masks" / frames.name / f"{stem}.png", mask)
    write_json(out / "instances" / f"{frames.name}.json", as_coco(aligned, model.space, frames.name, stems), None)
    return {
        "source": str(frames.path),
        "fingerprint": frames.fingerprint(),
        "frames": len(indices),
        "empty": sum(not mask.any() for mask in aligned.masks),
        "instances": len(aligned.instances),
        "tracks": len({one.track for one in aligned.instances}),
    }


def as_coco(aligned: Aligned, space: LabelSpace, video: str, stems: Sequence[str]) -> dict[str, Any]:
    """Instances as a COCO document; ``track_id`` tells which belong together over time."""
    images = [
        {"id": index, "file_name": f"{video}/{stem}.png", "height": mask.shape[0], "width": mask.shape[1]}
        for index, (stem, mask) in enumerate(zip(stems, aligned.masks, strict=True))
    ]
    pairs, annotations = space.pairs(), []
    for number, one in enumerate(aligned.instances, start=1):
        top, left, bottom, right = one.box
        annotations.append(
            {
                "id": number,
                "image_id": one.frame,
                "category_id": int(pairs[one.actor, one.action]),
                "segmentation": encode_mask(one.mask),
                "area": one.area,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
                "track_id": one.track,
            }
        )
    categories = [{"id": index, "name": name} for index, name in enumerate(space.names) if index]
    return {"images": images, "categories": categories, "annotations": annotations}


def _open_manifest(out: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    path = out / "manifest.json"
    parameters = json.loads(json.dumps(parameters))
    if not path.is_file():
        return {"format": FORMAT, "parameters": parameters, "videos": {}}
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(path, f"must be a manifest of format {FORMAT!r}; choose another folder")
    if manifest["parameters"] != parameters:
        raise DataError(out, "holds masks of another model or another configuration; choose another folder")
    return manifest
