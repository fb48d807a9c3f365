"""Masks and instances of whole videos by the model of a run.

What is written under the output folder::

    manifest.json                  model, configuration, label space, and what became of each video
    masks/<video>/<frame>.png      palette PNG of the run's label ids
    instances/<video>.json         the same as COCO: images, categories, annotations with run lengths and track_id;
                                   pictures are those of the source or of frames/, relative to the output folder
    frames/<video>/<frame>.jpg     the frames of video files, which have no pictures of their own
    heat/<video>/<frame>.png       how probable any id but the background is, small and grey, for pictures
    slic/<parameters>/<video>/<frame>.png   superpixels, where masks are refined by them
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.checkpoint import load_into, read_checkpoint
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.tagged.rle import encode_mask
from pyws.data.video.ahead import ahead
from pyws.data.video.clips import around, check_one_size
from pyws.data.video.frames import (
    HEAT_SIDE,
    FrameFolder,
    VideoFile,
    open_frames,
    total_bytes,
    write_heat,
    write_mask,
    write_picture,
)
from pyws.data.video.remembered import Shown, nothing_again
from pyws.data.video.sources import check_same_source
from pyws.errors import DataError, reading
from pyws.files import made_of, write_json
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.masks.prediction.action_alignment import (
    ActionAligner,
    AlignedFrame,
    AlignmentConfig,
    ClassProbabilities,
    find_instances,
)
from pyws.masks.self_training.loop import FORMAT as RUN
from pyws.masks.self_training.loop import MODEL
from pyws.masks.self_training.pseudo_annotations import digest, superpixels_of
from pyws.masks.self_training.train_segmentation import TrainingConfig, best_ids, predict_scores, segmentation_network
from pyws.models.devices import Precision, set_precision
from pyws.models.image_networks.deeplab import DeepLabV2
from pyws.models.inference import for_inference
from pyws.progress import track
from pyws.run_manifest import Finished, RunManifest, open_run, read_manifest
from pyws.sharding import WHOLE, Shard, size_of_video

FORMAT = ("pyws masks predict", 4)  # kind and version of the manifest


@dataclass(frozen=True)
class Model:
    """What a run ended with.

    Parameters
    ----------
    init : parameters of the masks that it learned from first
    """

    network: DeepLabV2
    space: LabelSpace
    training: TrainingConfig
    init: dict[str, Any]
    sha256: str
    device: torch.device
    precision: Precision = "float32"


def load_model(run: Path, device: torch.device | None = None, precision: Precision = "float32") -> Model:
    """The model of a run that is done, to compute in a precision, see :func:`pyws.models.devices.set_precision`.

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
    training = made_of(
        run / "manifest.json", "parameters.training", TrainingConfig, manifest["parameters"].get("training")
    )
    with reading(run / "manifest.json", "parameters.training"):
        network = segmentation_network(training, space).eval()
    load_into(network, read_checkpoint(run / "model.safetensors", MODEL))
    place = device or torch.device("cpu")
    network = for_inference(network.to(place), (3 * training.clip_frames, 64, 64))
    set_precision(network, precision, place)
    init = manifest["parameters"]["init"]
    return Model(network, space, training, init, manifest["model_sha256"], place, precision)


def predict_videos(
    model: Model,
    videos: Mapping[str, Path],
    out: Path,
    tags: dict[str, list[int]] | None = None,
    every: int = 1,
    align: AlignmentConfig | None = None,
    on_error: Literal["error", "skip"] = "error",
    quiet: bool = False,
    refine: bool = False,
    shard: Shard = WHOLE,
    finished: Finished = lambda name, entry: None,
    shown: Shown = nothing_again,
) -> RunManifest:
    """Write masks and instances of videos; those that an earlier call with the same arguments finished are left alone.

    Parameters
    ----------
    model : result of :func:`load_model`
    videos : folders of frames or video files, by the names that their masks get
    out : the folder to write
    tags : ids that each video may show, by its name; None for all ids
    every : frames from one that is segmented to the next
    align : how instances are linked and actions voted
    on_error : "error" stops at the first bad video, "skip" notes the error in the manifest and goes on
    refine : each superpixel, of the size that ``pyws masks init`` had, takes the class of more than half its pixels
    shard : which of the videos this process predicts
    finished : called for each of its videos that has masks; what it writes into the folder is a part of the run
    shown : which of the frames that have masks ``finished`` reads

    Returns
    -------
    The manifest, with what other shards have written so far.

    Raises
    ------
    DataError : a bad video (see ``on_error``), ``out`` has masks of another video of that name,
        belongs to a run with other parameters, or is being written by another one
    """
    if every < 1:
        raise ValueError(f"every: must be >= 1, got {every}")
    align = align or AlignmentConfig()
    parameters = {
        "model_sha256": model.sha256, "every": every, "tags": tags, "align": asdict(align), "refine": refine,
        "precision": model.precision,
    }  # fmt: skip
    superpixels = superpixels_of(model.init, out) if refine else None
    facts = {"label_space": model.space.document(), "videos": {}}
    sizes, packages = {name: size_of_video(path) for name, path in videos.items()}, ("torch", "numpy", "pillow")
    with open_run(out, *FORMAT, parameters, packages, facts, ("masks",), shard, sizes) as manifest:
        entries = manifest.document["videos"]
        for name in manifest.mine:
            path = videos[name]
            with ExitStack() as stack:
                try:
                    frames = open_frames(path)
                    stack.callback(frames.again.forget)
                    frames.name = name
                    if not _is_done(entries.get(name, {}), frames, out, every):
                        indices = range(0, len(frames), every)
                        for places in shown(len(indices)):
                            frames.again.remember(indices[place] for place in places)
                        allowed = None if tags is None else tags.get(name, [])
                        made = _predict_video(model, frames, allowed, out, every, align, superpixels, quiet)
                        manifest.put(name, made)
                except DataError as error:
                    if entries.get(name, {}).get("source", os.path.abspath(path)) == os.path.abspath(path):
                        manifest.put(name, {"source": os.path.abspath(path), "error": str(error)})
                    if on_error == "error":
                        raise
                if "fingerprint" in entries.get(name, {}):
                    finished(name, entries[name])
    return manifest


def _is_done(entry: dict[str, Any], frames: FrameFolder | VideoFile, out: Path, every: int) -> bool:
    """Whether the masks of a video are there, as they were written.

    Raises
    ------
    DataError : they belong to another video of the same name
    """
    if "fingerprint" not in entry:
        return False
    if entry["fingerprint"] != frames.fingerprint():
        check_same_source(entry, frames.path, out)
        return False
    return total_bytes(_files(out, frames, frames.stems[::every])) == entry.get("bytes")


def _files(out: Path, frames: FrameFolder | VideoFile, stems: Sequence[str]) -> list[Path]:
    """What is written of a video."""
    masks = [out / "masks" / frames.name / f"{stem}.png" for stem in stems]
    pictures = [] if isinstance(frames, FrameFolder) else [_picture(out, frames, stem) for stem in stems]
    return [out / "instances" / f"{frames.name}.json", *masks, *pictures]


def _picture(out: Path, frames: FrameFolder | VideoFile, stem: str) -> Path:
    """Where the picture of a frame is: in its folder, or of a video file in ``out``."""
    return frames.file(stem) if isinstance(frames, FrameFolder) else out / "frames" / frames.name / f"{stem}.jpg"


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
    stems = [frames.stems[index] for index in indices]
    shown = [os.path.relpath(_picture(out, frames, stem), out) for stem in stems]
    aligner, coco, empty = ActionAligner(model.space, align, every), CocoVideo(model.space, shown, allowed or ()), 0
    size: tuple[int, ...] | None = None

    def write(aligned: Iterable[AlignedFrame]) -> int:
        """The frames that are final; returns how many have no mask."""
        without = 0
        for frame in aligned:
            write_mask(out / "masks" / frames.name / f"{stems[frame.number]}.png", frame.mask)
            coco.add(frame)
            without += not frame.mask.any()
        return without

    offsets = model.training.offsets
    with closing(ahead(around(frames, indices, offsets), 2)) as incoming:
        pictures = track(incoming, f"{frames.name}, frames", len(indices), quiet)
        for number, (stem, clip) in enumerate(zip(stems, pictures, strict=True)):
            picture = clip[..., 3 * (len(offsets) // 2) :][..., :3]
            size = size or picture.shape[:2]
            check_one_size((size, picture.shape), frames.path)
            if not isinstance(frames, FrameFolder):
                write_picture(_picture(out, frames, stem), picture, quality=95)
            ids, scores = predict_scores(model.network, [clip], allowed, model.training.short_side, model.device)
            found = best_ids(ids, scores)
            write_heat(out / "heat" / frames.name / f"{stem}.png", _foreground(scores))
            if superpixels is not None:
                labels = torch.from_numpy(superpixels(picture, frames.name, stem))
                found = ops.superpixel_vote(labels[None], found, len(model.space)).classes
            mask, probabilities = found[0].numpy(), None
            if align.vote == "prob":
                probabilities = ClassProbabilities(ids.numpy(), scores[0].softmax(0).cpu().numpy())
            empty += write(aligner.add(mask, find_instances(number, mask, model.space, align, probabilities)))
    empty += write(aligner.finish())
    write_json(out / "instances" / f"{frames.name}.json", coco.document(), None)
    return {
        "source": os.path.abspath(frames.path),
        "fingerprint": frames.fingerprint(),
        "tags": [model.space.names[index] for index in allowed or ()],
        "frames": len(indices),
        "empty": empty,
        "instances": len(coco.annotations),
        "tracks": aligner.tracks,
        "bytes": total_bytes(_files(out, frames, stems)),
    }


def _foreground(scores: Tensor) -> NDArray[np.float32]:
    """The probability of any id but the background, small, of scores (1, K, H, W): (h, w)."""
    share = min(1.0, HEAT_SIDE / min(scores.shape[2:]))
    size = [max(1, round(side * share)) for side in scores.shape[2:]]
    small = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)
    return (1 - small.softmax(1)[0, 0]).cpu().numpy()


class CocoVideo:
    """The instances of a video as a COCO document, built frame by frame; ``track_id`` links them over time.

    Parameters
    ----------
    space : label space of the ids
    files : picture of each frame
    tags : ids that are categories even where no instance has them
    """

    def __init__(self, space: LabelSpace, files: Sequence[str], tags: Sequence[int] = ()) -> None:
        self.space, self.files, self._used = space, files, set(tags)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._pairs = space.pairs()

    def add(self, frame: AlignedFrame) -> None:
        """Add a frame and its instances; masks are kept as run lengths."""
        height, width = frame.mask.shape
        file = self.files[frame.number]
        self.images.append({"id": frame.number, "file_name": file, "height": height, "width": width})
        for one in frame.instances:
            top, left, bottom, right = one.box
            category = int(self._pairs[one.actor, one.action])
            self._used.add(category)
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": one.frame,
                    "category_id": category,
                    "segmentation": encode_mask(one.mask),
                    "area": one.area,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                    "track_id": one.track,
                }
            )

    def document(self) -> dict[str, Any]:
        """The COCO document of the frames added so far; its categories are what the video shows or is tagged with."""
        categories = [{"id": index, "name": self.space.names[index]} for index in sorted(self._used)]
        return {"images": self.images, "categories": categories, "annotations": self.annotations}
