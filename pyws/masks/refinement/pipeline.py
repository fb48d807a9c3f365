"""Refinement of a folder of pseudo-annotations, video by video, resumable and safe to interrupt.

What is written under the output folder has the layout of ``pyws masks init``, so that ``pyws masks train`` goes on from
either::

    manifest.json              that of the folder that is refined, with the configuration of refinement
    pa/v0/<video>/<frame>.png  refined masks, or those that people corrected
    corrections                what people corrected, as in the folder that is refined
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pyws import ops
from pyws.data.tagged.corrected_masks import write_corrected
from pyws.data.video.frames import Pixels, total_bytes, write_mask
from pyws.data.video.optical_flow import FlowMethod
from pyws.errors import DataError
from pyws.masks.initial_masks.pipeline import open_annotations
from pyws.masks.initial_masks.superpixels import area_of
from pyws.masks.refinement.appearance import early_layers, superpixel_features
from pyws.masks.refinement.config import RefinementConfig
from pyws.masks.refinement.local_crf import local_crf
from pyws.masks.refinement.video_model import Scores, refine_video
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame, digest
from pyws.models.classifier import Classifier
from pyws.models.image_networks.raft import Raft
from pyws.progress import track
from pyws.run_manifest import Finished, RunManifest
from pyws.sharding import WHOLE, Shard

COMPACTNESS, ITERATIONS = 10.0, 10  # SLIC's usual parameters


def refine_annotations(
    init: Path,
    out: Path,
    classifier: Classifier,
    config: RefinementConfig | None = None,
    masks: Path | None = None,
    quiet: bool = False,
    shard: Shard = WHOLE,
    flow: FlowMethod | Raft = "dis",
    finished: Finished = lambda name, entry: None,
) -> RunManifest:
    """Refine the pseudo-annotations of each video by a model of it; videos that are done are left alone.

    Parameters
    ----------
    init : what ``pyws masks init`` wrote
    out : the folder to write
    classifier : classifier of images; its early features tell what objects look like
    config : configuration of the model
    masks : a folder of other masks of the same frames, such as a later version of a run; None for pa/v0 of ``init``
    quiet : no progress
    shard : which of the videos this process refines
    flow : how optical flow is found
    finished : called for each of its videos; what it writes into the folder is a part of the run

    Returns
    -------
    The manifest, with what other shards have written so far.

    Raises
    ------
    DataError : ``init`` or ``masks`` is no such folder, ``out`` is ``init``, belongs to other masks or another
        configuration, or is being written by another run
    ValueError : OpenCV is not installed, or the early layers of the classifier are not known
    """
    config = config or RefinementConfig()
    if os.path.realpath(out) == os.path.realpath(init):
        raise DataError(out, "holds the masks that are to be refined; choose another folder")
    layers = config.layers or early_layers(classifier.name)
    data = Annotations(init, out / "frames")
    source = masks or init / "pa/v0"
    refinement = {"classifier": classifier.name, **asdict(config), "layers": list(layers), "flow": str(flow)}
    parameters = {**data.parameters, "refinement": refinement}
    by_video = {video: list(group) for video, group in groupby(data.frames, key=lambda frame: frame.video)}
    sizes = {video: len(frames) for video, frames in by_video.items()}
    with open_annotations(out, parameters, data.space.document(), shard, sizes) as manifest:
        entries = manifest.document["videos"]
        for video in manifest.mine:
            frames = by_video[video]
            files = [frame.png(out / "pa/v0") for frame in frames]
            before = digest(data.file(source, frame) for frame in frames)
            done = entries.get(video, {})
            if done.get("refined_from") != before or done.get("bytes") != total_bytes(files):
                scores = _scores(data, frames, source, classifier, layers, config, flow, quiet)
                facts = {
                    "masks": os.path.abspath(source),
                    "refined_from": before,
                    "report": _write_masks(data, frames, source, scores, config, files),
                    "bytes": total_bytes(files),
                }
                manifest.put(video, {**data.manifest["videos"][video], **facts})
            finished(video, entries[video])
        if data.corrected:
            kept = ((*frame, data.mask(source, frame)) for frame in data.corrected)
            write_corrected(out, kept, str(init))
    return manifest


def _write_masks(
    data: Annotations,
    frames: Sequence[Frame],
    source: Path,
    scores: Sequence[Scores],
    config: RefinementConfig,
    files: Sequence[Path],
) -> dict[str, Any]:
    areas = []
    for frame, file, score in zip(frames, files, scores, strict=True):
        score = local_crf(score, data.picture(frame, config.working_side), config.crf_weight)
        refined = _winners(score, data.tags[frame.video], data.picture(frame).shape[:2])
        refined = data.mask(source, frame) if frame in data.corrected else refined
        areas.append(float((refined > 0).mean()))
        write_mask(file, refined)
    return {"refined_area": round(sum(areas) / len(areas), 6), "refined_empty": areas.count(0.0)}


def _scores(
    data: Annotations,
    frames: Sequence[Frame],
    source: Path,
    classifier: Classifier,
    layers: Sequence[str],
    config: RefinementConfig,
    flow: FlowMethod | Raft,
    quiet: bool,
) -> list[Scores]:
    """Log-odds of the tags of a video at the working size."""
    pictures, superpixels, features, masks = [], [], [], []
    for frame in track(frames, f"{frames[0].video}, frames", quiet=quiet):
        picture = data.picture(frame, config.working_side)
        labels = ops.slic(
            torch.tensor(picture).permute(2, 0, 1)[None],
            region_area=area_of(picture, config.region_area),
            compactness=COMPACTNESS,
            iterations=ITERATIONS,
        )[0].numpy()
        pictures.append(picture)
        superpixels.append(labels)
        full = data.picture(frame)
        seen = superpixel_features(classifier, full, picture, labels, layers, config.feature_side)
        features.append(seen)
        masks.append(_scaled(data.mask(source, frame), picture.shape[:2]))
    return refine_video(pictures, superpixels, features, masks, data.tags[frames[0].video], config, flow)


def _scaled(mask: Pixels, size: tuple[int, ...]) -> Pixels:
    """A mask at another size, the id at the middle of each pixel."""
    return functional.interpolate(torch.tensor(mask)[None, None], size=size, mode="nearest-exact")[0, 0].numpy()


def _winners(scores: Scores, ids: Sequence[int], size: tuple[int, ...]) -> Pixels:
    """The id with the highest log-odds at each pixel of a frame of ``size``, 0 where none is above 0."""
    large = functional.interpolate(torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=False)[0]
    best, index = large.max(0)
    return np.where(best > 0, torch.tensor(ids)[index], 0).astype(np.uint8)
