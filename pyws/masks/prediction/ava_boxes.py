"""Boxes and peaks of a clip classifier's activation maps at AVA's key frames (WS^2 section 4.5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyws import ops
from pyws.data.annotations.ava import Attention, Boxes, KeyFrame
from pyws.data.video.clips import Clip, map_places, stack
from pyws.data.video.frames import open_frames
from pyws.errors import DataError
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks.cam_to_mask import scaled_maps
from pyws.models.classifier import Classifier


def attend(
    classifier: Classifier,
    videos: dict[str, Path],
    keys: list[KeyFrame],
    actions: dict[str, int],
    min_probability: float = 0.1,
) -> Iterator[Attention]:
    """Boxes of every action that the classifier sees at each key frame.

    The clip lies around the key frame, and the map whose frame is nearest to it counts. A box scores the probability
    of the action (sigmoid: several may be there at once) times the mean of the map inside.

    Parameters
    ----------
    classifier : classifier of clips
    videos : source of each video, whose frames start at second 900
    keys : sorted by video
    actions : AVA's id of each label of the classifier
    min_probability : actions below it are left out, but for the likeliest

    Raises
    ------
    DataError : a video is missing or unreadable, or has no such frame
    """
    if not classifier.frames:
        raise ValueError(f"attention: the network must classify clips, {classifier.name} classifies images")
    by_video: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        by_video.setdefault(key.video, []).append(index)
    for name, indices in by_video.items():
        if name not in videos:
            raise DataError(name, "is in the truth, but not among the videos")
        source = open_frames(videos[name])
        for index in indices:
            if keys[index].frame >= len(source):
                raise DataError(source.path, f"has {len(source)} frames, the key frame is {keys[index].frame}")
            start = min(max(keys[index].frame - classifier.frames // 2, 0), max(len(source) - classifier.frames, 0))
            clip = Clip(start, min(classifier.frames, len(source)), classifier.frames)
            frames = stack(list(source.read(range(clip.start, clip.start + clip.real))), source.path)
            yield from _of_clip(classifier, clip, frames, index, keys[index].frame, actions, min_probability)


def boxes_of_map(scores: NDArray[np.floating], min_share: float = 0.005) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes around the parts of a map above Otsu's threshold.

    Parameters
    ----------
    scores : (H, W) in [0, 1]
    min_share : least share of the frame that a connected part (8 neighbours) must cover

    Returns
    -------
    boxes (N, 4) x1, y1, x2, y2 in [0, 1], and the mean (N,) of the map over each part; none for a constant map

    Examples
    --------
    >>> boxes_of_map(np.array([[0.0, 1.0, 0.8, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    (array([[0.25, 0.  , 0.75, 0.5 ]]), array([0.9]))
    """
    from scipy import ndimage

    height, width = scores.shape
    threshold = float(ops.otsu(torch.tensor(np.asarray(scores, np.float32))[None])[0])
    parts, _ = ndimage.label(scores > threshold, structure=np.ones((3, 3), int))
    boxes, means = [], []
    for part, place in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[place] == part
        if inside.sum() >= min_share * height * width:
            rows, columns = place
            boxes.append([columns.start / width, rows.start / height, columns.stop / width, rows.stop / height])
            means.append(float(scores[place][inside].mean()))
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(means, np.float64)


def _of_clip(
    classifier: Classifier,
    clip: Clip,
    frames: torch.Tensor,
    index: int,
    frame: int,
    actions: dict[str, int],
    min_probability: float,
) -> Iterator[Attention]:
    inputs = classifier.prepare(frames[[k - clip.start for k in clip.indices()]][None], classifier.short_side)
    device = next(classifier.model.parameters()).device
    with torch.no_grad(), GradCAM(classifier.model, classifier.layer) as cam:
        maps = cam(inputs.to(device))[0].cpu()  # (classes, t', h, w)
        assert cam.logits is not None
        probability = cam.logits[0].sigmoid().double().cpu().numpy()
    places = np.array(map_places(clip.frames, maps.shape[1]))
    nearest = int(np.abs(places - (frame - clip.start)).argmin())
    size = (frames.shape[1], frames.shape[2])
    scores = scaled_maps(maps[None, :, nearest], size)[0].numpy()
    for label, of_class, likely in zip(classifier.labels, scores, probability, strict=True):
        if label in actions and (likely >= min_probability or likely == probability.max()):
            boxes, means = boxes_of_map(of_class)
            row, column = np.unravel_index(int(of_class.argmax()), of_class.shape)
            peak = ((column + 0.5) / size[1], (row + 0.5) / size[0]) if of_class.any() else None
            yield Attention(index, actions[label], boxes, likely * means, peak)
