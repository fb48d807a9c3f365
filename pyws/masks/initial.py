"""The first stage of WS^2 over a set of videos: frames and tags to PA.v0, resumable and safe to interrupt.

What is written under the output folder::

    manifest.json                      parameters, versions, and what became of each video
    init/<video>/<frame>.png           M_init, before superpixels
    pa/v0/<video>/<frame>.png          M_refine, the pseudo-annotation
    slic/<parameters>/<video>/<frame>.png   superpixels, for the stages to come

Masks are palette PNGs: 0 is background, k the k-th tag of ``parameters["tags"]``. Every file appears whole or not at
all, so that its presence means that it is done.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pyws.data.frames import FrameFolder, Pixels, VideoFile, open_frames, read_mask, write_mask
from pyws.errors import DataError
from pyws.files import read_json, write_json
from pyws.masks.cam import GradCAM
from pyws.masks.pseudo import Superpixels, initial_masks, refine_masks
from pyws.models.classifiers import Classifier
from pyws.progress import track

FORMAT = "pyws masks init 1"
CHOOSING_FRAMES = 32
MAX_TAGS = 254  # ids 1..254 of an 8-bit mask; 255 is left for "ignore"


@dataclass(frozen=True)
class Settings:
    """How masks are made; a folder holds masks of one setting."""

    short_side: int = 384
    """Pixels of the short side of the frames that the classifier sees."""
    output_stride: int = 32
    """Input pixels between two positions of the last feature map: 32, or 16 with dilated kernels."""
    region_area: int = 768
    """Frame pixels of a superpixel, on average."""
    compactness: float = 10.0
    """Of SLIC: weight of position against colour."""
    iterations: int = 10
    """Of SLIC."""
    alpha: float = 0.5
    """Least share of a superpixel that the initial mask must cover."""
    beta: float = 0.4
    """Bound on the share of the frame that one superpixel may cover."""
    overlap: Literal["superpixel", "iou", "min"] = "superpixel"
    """What alpha bounds: the share of the superpixel, the IoU of superpixel and mask, or the share of the smaller."""
    batch: int = 8
    """Frames that go through the classifier together."""

    def __post_init__(self) -> None:
        for name in ("short_side", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"masks init: {name} must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"masks init: alpha must be in [0, 1], got {self.alpha}")
        if not self.beta >= 0:
            raise ValueError(f"masks init: beta must be >= 0, got {self.beta}")
        self.superpixels(Path())

    def superpixels(self, out: Path) -> Superpixels:
        """The superpixels of these settings, kept under ``out``."""
        return Superpixels(out / "slic", self.region_area, self.compactness, self.iterations)


@dataclass(frozen=True)
class Task:
    """Everything that the masks of a run depend on, beside the frames."""

    classifier: Classifier
    weights: Path
    tags: dict[str, list[int]]
    """Classes of each tag, in the order of the ids in the masks."""
    settings: Settings = Settings()
    device: torch.device | None = None
    """Where the classifier is; None for the CPU."""

    def parameters(self) -> dict[str, Any]:
        """What must agree for a folder to be continued."""
        labels = "\n".join(self.classifier.labels).encode()
        return {
            "classifier": self.classifier.name,
            "layer": self.classifier.layer,
            "weights_sha256": hashlib.sha256(self.weights.read_bytes()).hexdigest(),
            "labels_sha256": hashlib.sha256(labels).hexdigest(),
            "tags": [
                {"id": index, "tag": tag, "classes": classes}
                for index, (tag, classes) in enumerate(self.tags.items(), start=1)
            ],
            **asdict(self.settings),
        }


def annotate(
    task: Task,
    videos: Sequence[str | os.PathLike[str]],
    tags_of: dict[str, list[str]],
    out: Path,
    on_error: Literal["error", "skip"] = "error",
    quiet: bool = False,
) -> dict[str, Any]:
    """Make PA.v0 of videos, going on where an earlier run of the same parameters stopped.

    Parameters
    ----------
    task : classifier, tags and settings
    videos : folders of frames or video files, of different names
    tags_of : tags of each video, by its name; all of them in ``task.tags``
    out : the folder to write
    on_error : "error" stops at the first bad video, "skip" notes the error in the manifest and goes on

    Returns
    -------
    The manifest.

    Raises
    ------
    DataError : a bad video (see ``on_error``), two videos of one name, a video without a tag, or ``out`` holds masks of
        other parameters
    """
    names = [_video_name(video) for video in videos]
    for name in names:
        if names.count(name) > 1:
            raise DataError(name, "two videos have this name, and so would their masks")
        if not tags_of.get(name):
            raise DataError(name, "has no tag")
    manifest = _open_manifest(out, task.parameters())
    for name, path in zip(names, videos, strict=True):
        try:
            manifest["videos"][name] = _annotate_video(task, open_frames(path), tags_of[name], out, manifest, quiet)
        except DataError as error:
            manifest["videos"][name] = {"source": str(path), "status": "failed", "error": str(error)}
            if on_error == "error":
                raise
        finally:
            write_json(out / "manifest.json", manifest)
    return manifest


def _annotate_video(
    task: Task, frames: FrameFolder | VideoFile, tags: list[str], out: Path, manifest: dict[str, Any], quiet: bool
) -> dict[str, Any]:
    name = frames.name
    state: dict[str, Any] = {
        "source": str(frames.path),
        "fingerprint": frames.fingerprint(),
        "tags": tags,
        "frames": len(frames),
        "status": "started",
    }
    files = [(out / "init" / name / f"{stem}.png", out / "pa/v0" / name / f"{stem}.png") for stem in frames.stems]
    before = manifest["videos"].get(name, {})
    if any(before.get(key) != state[key] for key in ("fingerprint", "tags")):
        for path in itertools.chain(*files):
            path.unlink(missing_ok=True)
        before = {}
    elif before.get("status") == "done" and all(path.is_file() for path in itertools.chain(*files)):
        return before
    state["classes"] = before.get("classes") or _choose_classes(task, frames, tags)
    manifest["videos"][name] = state
    write_json(out / "manifest.json", manifest)

    # Whole batches of the same frames as in an uninterrupted run: a resumed run writes the same bytes.
    step = task.settings.batch
    batches = [range(start, min(start + step, len(frames))) for start in range(0, len(frames), step)]
    open_batches = [batch for batch in batches if not all(p.is_file() for i in batch for p in files[i])]
    pictures = frames.read([index for batch in open_batches for index in batch])
    ids = torch.tensor([0, *(list(task.tags).index(tag) + 1 for tag in tags)])
    classes = [state["classes"][tag] for tag in tags]
    superpixels = task.settings.superpixels(out)
    with GradCAM(task.classifier.model, task.classifier.layer) as cam:
        for batch in track(open_batches, name, quiet=quiet):
            images = _stack(list(itertools.islice(pictures, len(batch))), frames)
            first = _first_masks(task, cam, images, classes)
            labels = _superpixels(superpixels, images, name, [frames.stems[index] for index in batch])
            refined = refine_masks(
                labels.to(first.device), first, task.settings.alpha, task.settings.beta, task.settings.overlap
            )
            for kind, masks in enumerate((first, refined)):
                for index, mask in zip(batch, ids[masks.cpu()].to(torch.uint8).numpy(), strict=True):
                    write_mask(files[index][kind], mask)
    return {**state, "status": "done", "report": _report(files)}


@torch.no_grad()
def _choose_classes(task: Task, frames: FrameFolder | VideoFile, tags: list[str]) -> dict[str, int]:
    """The class that stands for each tag: where several show it ("dog"), the one with the highest mean score.

    One map of many classes is worse: those that score low add their own mistakes. The mean is over at most
    CHOOSING_FRAMES frames spread over the video.
    """
    count = min(len(frames), CHOOSING_FRAMES)
    chosen = [int((k + 0.5) * len(frames) / count) for k in range(count)]
    total = torch.zeros(len(task.classifier.labels), dtype=torch.float64)
    if any(len(task.tags[tag]) > 1 for tag in tags):
        for picture in frames.read(chosen):
            inputs = task.classifier.prepare(torch.tensor(picture[None], device=task.device), task.settings.short_side)
            total += task.classifier.model(inputs)[0].double().cpu()
    return {tag: task.tags[tag][int(total[task.tags[tag]].argmax())] for tag in tags}


def _first_masks(task: Task, cam: GradCAM, images: Tensor, classes: list[int]) -> Tensor:
    """M_init (B, H, W): 0, or k + 1 for the k-th of ``classes``."""
    inputs = task.classifier.prepare(images.to(task.device), task.settings.short_side)
    return initial_masks(cam(inputs, [classes]), (images.shape[1], images.shape[2]))[0]


def _superpixels(superpixels: Superpixels, images: Tensor, video: str, stems: list[str]) -> Tensor:
    # scikit-image releases the interpreter lock in SLIC.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        frames = (image.numpy() for image in images)
        labels = pool.map(lambda frame, stem: superpixels(frame, video, stem), frames, stems)
        return torch.from_numpy(np.stack(list(labels)))


def _stack(pictures: list[Pixels], frames: FrameFolder | VideoFile) -> Tensor:
    sizes = sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures})
    if len(sizes) > 1:
        raise DataError(frames.path, f"frames must have one size, got {' and '.join(sizes)}")
    return torch.from_numpy(np.stack(pictures))


def _report(files: list[tuple[Path, Path]]) -> dict[str, Any]:
    """Shares of the frames that the masks cover, and frames without a mask."""
    report: dict[str, Any] = {}
    for kind, name in enumerate(("init", "refined")):
        shares = [float((read_mask(pair[kind]) > 0).mean()) for pair in files]
        report[f"{name}_area"] = round(sum(shares) / len(shares), 6)
        report[f"{name}_empty"] = shares.count(0.0)
    return report


def _video_name(path: str | os.PathLike[str]) -> str:
    return Path(path).resolve().name if Path(path).is_dir() else Path(path).stem


def _open_manifest(out: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run that is continued, or a new one."""
    path = out / "manifest.json"
    versions = {name: importlib.metadata.version(name) for name in ("torch", "scikit-image", "numpy", "pillow")}
    fresh = {"format": FORMAT, "parameters": json.loads(json.dumps(parameters)), "versions": versions, "videos": {}}
    if not path.is_file():
        if any((out / folder).exists() for folder in ("init", "pa")):
            raise DataError(out, "holds masks but no manifest.json; choose another folder")
        write_json(path, fresh)
        return fresh
    manifest = read_json(path)
    fits = isinstance(manifest, dict) and isinstance(manifest.get("videos"), dict)
    if not fits or manifest.get("format") != FORMAT or not isinstance(manifest.get("parameters"), dict):
        raise DataError(path, f"must be a manifest of format {FORMAT!r}; choose another folder")
    for key, value in fresh["parameters"].items():
        if manifest["parameters"].get(key) != value:
            was = manifest["parameters"].get(key)
            raise DataError(out, f"holds masks made with {key} {was}, not {value}; choose another folder")
    return manifest
