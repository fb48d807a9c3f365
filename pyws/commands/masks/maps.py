"""pyws masks maps: what a classifier of clips looks at, and which frame each map belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from safetensors.torch import save

from pyws.commands.common import Common, CommonOptions
from pyws.data.video.frames import Pixels, open_frames, write_picture
from pyws.files import atomic_write, write_json
from pyws.masks.initial_masks.cam_to_mask import scaled_maps
from pyws.masks.prediction.clip_maps import ClipMaps, maps_of_video
from pyws.models.classifiers import (
    Classifier,
    build_classifier,
    load_classifier,
    open_classifier,
)
from pyws.models.pretrained import clip_networks
from pyws.progress import track
from pyws.report.movies import heat, titled, write_video
from pyws.report.pictures import contact_sheet


def maps(
    video: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    network: str = "i3d",
    weights: str | None = None,
    class_names: Path | None = None,
    label: str | None = None,
    classes: int = 400,
    map_rule: Literal["centre", "start", "linspace"] = "centre",
    short_side: int = 0,
    clip_frames: int = 0,
    fps: int = 12,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """3D Grad-CAM of a video's clips, drawn over the frames that the maps belong to.

    Writes maps.json (for every map its clip, the frame that it belongs to, and the frames that it stands for),
    maps.safetensors (the maps), clip_<n>.jpg (each map over its frame) and maps.mp4 (every frame under the map that
    stands for it).

    Parameters
    ----------
    video
        Video file or folder of frames.
    out
        Folder to write.
    network
        Of clips, see pyws features; a file of pyws masks classify says its own. clip:NAME scores the words of --label,
        or of a file of --class-names, in sequences of frames.
    weights
        State dict of the network, a file of pyws masks classify, or default for the published ones. Left out: random
        weights, which show how maps and frames go together and nothing about the video.
    class_names
        Text file with the names of the classes, one a line; those of Kinetics or class 0, class 1, ... where it is
        left out.
    label
        Class to explain; the one with the highest score of each clip where it is left out.
    classes
        Number of classes of random weights.
    map_rule
        The frame that a map belongs to: the middle of its part of the clip, its start, or evenly from the
        first to the last.
    short_side
        Of the frames that the network sees; 0 for what it was made for.
    clip_frames
        Frames of a clip; 0 for what the network was made for.
    fps
        Frames a second of maps.mp4.
    common
        Options of every command.

    Examples
    --------
    pyws masks maps clip.avi -o maps --network i3d --weights i3d.pth --class-names kinetics.txt --label juggling
    """
    if short_side < 0 or clip_frames < 0 or fps < 1 or classes < 1:
        raise ValueError("maps: short_side and clip_frames must be >= 0, fps and classes >= 1")
    torch.manual_seed(common.seed)
    classifier = _classifier(network, weights, class_names, classes, label)
    classifier.model.to(common.torch_device)
    classifier = replace(
        classifier,
        short_side=short_side or classifier.short_side,
        frames=(clip_frames or classifier.frames) if classifier.frames else 0,
    )
    source = open_frames(video)
    found = list(
        track(maps_of_video(classifier, source, label, map_rule), source.name, quiet=common.quiet or common.json)
    )
    document = {
        "video": str(video),
        "frames": len(source),
        "network": classifier.name,
        "weights": str(weights) if weights else "random: the maps say nothing about the video",
        "map_rule": map_rule,
        "clips": [_described(one) for one in found],
    }
    with atomic_write(out / "maps.safetensors", "wb") as file:
        file.write(save({f"clip_{index}": one.maps.contiguous() for index, one in enumerate(found)}))
    for index, one in enumerate(found):
        _sheet(one, out / f"clip_{index}.jpg")
    write_video(out / "maps.mp4", _movie(found, source.name), fps)
    write_json(out / "maps.json", document)
    common.say(_said(document))
    return document


def _classifier(
    network: str, weights: str | None, class_names: Path | None, classes: int, label: str | None
) -> Classifier:
    """A network with the weights of a file, or with random ones; without labels its classes are numbered."""
    if network.startswith(clip_networks.PREFIX):
        words = [label] if label is not None else []
        found = load_classifier(network, weights or "default", class_names, words=words)
        return replace(found, frames=clip_networks.FRAMES)
    if weights is not None and class_names is None and weights.endswith(".safetensors"):
        return open_classifier(weights)
    if weights is not None:
        return load_classifier(network, weights, class_names)
    built = build_classifier(network, classes)
    built.model.eval()
    return replace(built, labels=tuple(f"class {index}" for index in range(classes)))


def _described(one: ClipMaps) -> dict[str, Any]:
    rows = [
        {
            "map": index,
            "frame": frame,
            "stands_for": span and list(span),
            "mean": round(float(one.maps[index].mean()), 6),
        }
        for index, (frame, span) in enumerate(zip(one.frame_of, one.span_of, strict=True))
    ]
    start, real = one.clip.start, one.clip.real
    return {
        "first": start,
        "last": start + real - 1,
        "repeated": one.clip.frames - real,
        "label": one.label,
        "score": round(one.score, 6),
        "size": list(one.maps.shape),
        "maps": rows,
    }


def _scores(one: ClipMaps) -> NDArray[np.float32]:
    """The maps at the size of the frames, in [0, 1] over the clip (t', H, W): faint maps stay faint."""
    size = one.frames[0].shape[:2]
    return scaled_maps(one.maps[:, None], (size[0], size[1]), "clip")[:, 0].numpy()


def _sheet(one: ClipMaps, path: Path) -> None:
    """One row a map: its frame, and the map over it."""
    rows = []
    for index, (frame, scores) in enumerate(zip(one.frame_of, _scores(one), strict=True)):
        if frame is not None:
            picture, span = one.frames[frame - one.clip.start], one.span_of[index] or (frame, frame)
            caption = f"map {index + 1} of {len(one.maps)}: frame {frame}, for {span[0]}..{span[1]}"
            rows.append([titled(picture, caption), titled(heat(picture, scores), f"{one.label} ({one.score:.2f})")])
    write_picture(path, contact_sheet(rows, width=one.frames[0].shape[1]))


def _movie(found: list[ClipMaps], name: str) -> Iterator[Pixels]:
    """Every frame of the video once, under the map of the first clip that has it."""
    done = -1
    for one in found:
        scores = _scores(one)
        for place, picture in enumerate(one.frames):
            frame = one.clip.start + place
            if frame > done:
                index = one.map_at(frame)
                said = f"{name} frame {frame}: map {index + 1}/{len(one.maps)}, of frame {one.frame_of[index]}"
                yield titled(heat(picture, scores[index]), said, one.label)
                done = frame


def _said(document: dict[str, Any]) -> str:
    lines = [f"{document['video']}: {document['frames']} frames, {document['network']}, weights {document['weights']}"]
    for number, clip in enumerate(document["clips"]):
        rows = ", ".join(f"{row['map']} -> {row['frame']}" for row in clip["maps"] if row["frame"] is not None)
        lines.append(f"clip {number}, frames {clip['first']}..{clip['last']}, {clip['label']}: map -> frame: {rows}")
    return "\n".join(lines)
