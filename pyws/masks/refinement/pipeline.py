"""Refinement of a folder of pseudo-annotations, video by video, resumable and safe to interrupt.

What is written under the output folder has the layout of ``pyws masks init``, so that ``pyws masks train`` goes on from
either::

    manifest.json              that of the folder that is refined, with the configuration of refinement
    pa/v0/<video>/<frame>.png  refined masks, or those that people corrected
    corrections                what people corrected, as in the folder that is refined
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.data.tagged.corrected_masks import write_corrected
from pyws.data.tagged.label_space import with_ids
from pyws.data.video.ahead import map_in_threads, shared_workers
from pyws.data.video.clips import shrunk
from pyws.data.video.frames import Pixels, total_bytes, write_mask
from pyws.data.video.optical_flow import FlowMethod
from pyws.data.video.remembered import Shown, nothing_again
from pyws.errors import DataError
from pyws.masks.initial_masks.pipeline import open_annotations
from pyws.masks.initial_masks.superpixels import area_of
from pyws.masks.refinement.appearance import EarlyFeatures, early_layers, superpixel_features
from pyws.masks.refinement.config import RefinementConfig
from pyws.masks.refinement.local_crf import local_crf
from pyws.masks.refinement.video_model import Scores, refine_video, winners
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
    shown: Shown = nothing_again,
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
    shown : which of the frames that have masks ``finished`` reads

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
    space, early = data.space.document(), EarlyFeatures(classifier, layers, config.feature_side)
    with open_annotations(out, parameters, space, shard, sizes) as manifest, early as features, shared_workers():
        refiner, entries = _Refiner(data, source, features, config, flow, shown, quiet), manifest.document["videos"]
        for video in manifest.mine:
            frames = by_video[video]
            files = [frame.png(out / "pa/v0") for frame in frames]
            before = digest(data.file(source, frame) for frame in frames)
            done = entries.get(video, {})
            try:
                if done.get("refined_from") != before or done.get("bytes") != total_bytes(files):
                    facts = {
                        "masks": os.path.abspath(source),
                        "refined_from": before,
                        "report": refiner.write(frames, files),
                        "bytes": total_bytes(files),
                    }
                    manifest.put(video, {**data.manifest["videos"][video], **facts})
                finished(video, entries[video])
            finally:
                data.forget(video)
        if data.corrected:
            kept = ((*frame, data.mask(source, frame)) for frame in data.corrected)
            write_corrected(out, kept, str(init))
    return manifest


class _Seen(NamedTuple):
    """A frame as the model of its video sees it.

    Parameters
    ----------
    size : (H, W) of the frame; what follows is at the working size
    picture : (h, w, 3) uint8 RGB
    superpixels : (h, w) int32
    features : (K, D) of its superpixels
    mask : (h, w) uint8
    """

    size: tuple[int, int]
    picture: Pixels
    superpixels: NDArray[np.int32]
    features: NDArray[np.float32]
    mask: Pixels


class _Refiner(NamedTuple):
    """Refines videos; what its fields are, see :func:`refine_annotations`."""

    data: Annotations
    source: Path
    features: EarlyFeatures
    config: RefinementConfig
    flow: FlowMethod | Raft
    shown: Shown
    quiet: bool

    def write(self, frames: Sequence[Frame], files: Sequence[Path]) -> dict[str, Any]:
        """Write the refined masks of the frames of a video, and say how much of them they cover."""
        areas = []
        with closing(self.refined(frames)) as refined:
            for frame, file, mask in zip(frames, files, refined, strict=True):
                mask = self.data.mask(self.source, frame) if frame in self.data.corrected else mask
                areas.append(float((mask > 0).mean()))
                write_mask(file, mask)
        return {"refined_area": round(sum(areas) / len(areas), 6), "refined_empty": areas.count(0.0)}

    def refined(self, frames: Sequence[Frame]) -> Generator[Pixels, None, None]:
        """The masks (H, W) of the frames of a video."""
        pictures = self.data.pictures(frames, self.shown(len(frames)))
        read = zip(pictures, (self.data.mask(self.source, frame) for frame in frames), strict=True)
        with closing(map_in_threads(self.look, read)) as looked:
            seen = list(track(looked, f"{frames[0].video}, frames", len(frames), self.quiet))
        _, small, superpixels, features, masks = zip(*seen, strict=True)
        ids, config, video = self.data.tags[frames[0].video], self.config, frames[0].video

        def watch(scores: Iterator[Scores], number: int) -> Iterator[Scores]:
            return track(scores, f"{video}, round {number + 1} of {config.rounds}", len(frames), self.quiet)

        scores = refine_video(small, superpixels, features, masks, ids, config, self.flow, watch)
        for one, score in zip(seen, scores, strict=True):
            yield with_ids(winners(_enlarged(local_crf(score, one.picture, config.crf_weight), one.size)), ids)

    def look(self, pair: tuple[Pixels, Pixels]) -> _Seen:
        """A frame (H, W, 3) and its mask (H, W), as the model sees them."""
        picture, mask = pair
        small = shrunk(picture, self.config.working_side)
        superpixels = ops.slic(
            torch.tensor(small).permute(2, 0, 1)[None],
            region_area=area_of(small, self.config.region_area),
            compactness=COMPACTNESS,
            iterations=ITERATIONS,
        )[0].numpy()
        features = superpixel_features(self.features, picture, small, superpixels)
        found = small, superpixels, features, _scaled(mask, small.shape[:2])
        # What was made beside a network's tensors keeps their memory from the next frame: ten times as much in all.
        return _Seen((picture.shape[0], picture.shape[1]), *(np.array(one) for one in found))


def _scaled(mask: Pixels, size: tuple[int, ...]) -> Pixels:
    """A mask at another size, the id at the middle of each pixel."""
    return functional.interpolate(torch.tensor(mask)[None, None], size=size, mode="nearest-exact")[0, 0].numpy()


def _enlarged(scores: Scores, size: tuple[int, ...]) -> Tensor:
    """Scores (K, h, w) at the size of a frame, bilinear."""
    return functional.interpolate(torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=False)[0]
