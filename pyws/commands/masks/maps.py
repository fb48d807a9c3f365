"""pyws masks maps: what a classifier of clips looks at, and which frame each map belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from pyws import ops
from pyws.commands.common import Common, CommonOptions, check_options
from pyws.data.annotations.activitynet import read_detections
from pyws.data.annotations.names import first_synonym
from pyws.data.video.clips import clips_of, clips_within
from pyws.data.video.frames import FrameFolder, Pixels, VideoFile, write_mask, write_picture
from pyws.exchange.media import Media
from pyws.files import atomic_write, write_json
from pyws.masks.initial_masks.cam_to_mask import cut_maps, refine_masks, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.superpixels import area_of
from pyws.masks.prediction.clip_maps import ClipMaps, maps_of_video
from pyws.models.classifier import Classifier
from pyws.models.classifiers import build_classifier, load_classifier, open_classifier
from pyws.models.pretrained import clip_networks
from pyws.progress import track
from pyws.report.movies import heat, titled, write_video
from pyws.report.pictures import contact_sheet, overlay


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
    max_clips: int = 0,
    segments: Path | None = None,
    folder_fps: float | None = None,
    fps: int = 12,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """3D Grad-CAM of a video's clips: maps, and masks of the frames that they belong to.

    Writes maps.json (for every map its clip, the frame that it belongs to, and the frames that it stands for),
    maps.safetensors (the maps), masks/<frame>.png (each map cut at Otsu's threshold and refined by superpixels),
    clip_<n>.jpg (map and mask over their frame) and maps.mp4 (every frame under the map that stands for it).

    Parameters
    ----------
    video
        Video file or folder of frames.
    out
        Folder to write.
    network
        Network of clips, see pyws features; a file of pyws masks classify says its own. clip:NAME scores the words of
        --label, or of a file of --class-names, in sequences of frames.
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
        Short side of the frames that the network sees; 0 for what it was made for.
    clip_frames
        Frames of a clip; 0 for what the network was made for.
    max_clips
        Maximum number of clips that get maps, spread evenly, or those of the segments of the highest scores; 0 for all.
    segments
        Detections in ActivityNet form: only clips within those of the video and the label get maps.
    folder_fps
        Frames a second of a folder of frames, by which its segments are found.
    fps
        Frames a second of maps.mp4.
    common
        Options of every command.

    Examples
    --------
    pyws masks maps clip.avi -o maps --network i3d --weights i3d.pth --class-names kinetics.txt --label juggling
    """
    check_options(">= 0", short_side=short_side, clip_frames=clip_frames, max_clips=max_clips)
    check_options(">= 1", fps=fps, classes=classes)
    check_options("> 0", folder_fps=folder_fps)
    torch.manual_seed(common.seed)
    classifier = _classifier(network, weights, class_names, classes, label)
    classifier.model.to(common.use_device())
    classifier = replace(
        classifier,
        short_side=short_side or classifier.short_side,
        frames=(clip_frames or classifier.frames) if classifier.frames else 0,
    )
    return write_maps_of_video(classifier, video, out, label, map_rule, max_clips, segments, folder_fps, fps, common)


def write_maps_of_video(
    classifier: Classifier,
    video: Path,
    out: Path,
    label: str | None,
    map_rule: Literal["centre", "start", "linspace"] = "centre",
    max_clips: int = 0,
    segments: Path | None = None,
    folder_fps: float | None = None,
    fps: int = 12,
    common: Common = Common(),  # noqa: B008
) -> dict[str, Any]:
    """What :func:`maps` writes, by a network that is loaded; clip after clip, whatever the length of the video."""
    media = Media(video, folder_fps)
    source = media.frames
    spans = [] if segments is None else _frames_of_segments(media, segments, label)
    clips = clips_within(clips_of(len(source), max(1, classifier.frames)), spans, max_clips)
    made = maps_of_video(classifier, source, label, map_rule, clips)
    found = _Written(out, source)
    write_video(out / "maps.mp4", found.pictures(made, len(clips), common.silent), fps)
    with atomic_write(out / "maps.safetensors", "wb") as file:
        file.write(save(found.maps))
    document = {
        "video": os.path.abspath(video),
        "frames": len(source),
        "network": classifier.name,
        "weights": str(classifier.file) if classifier.file else "random: the maps say nothing about the video",
        "map_rule": map_rule,
        "segments": segments and str(segments),
        "clips": found.clips,
    }
    write_json(out / "maps.json", document)
    common.say(_said(document))
    return document


def _frames_of_segments(video: Media, segments: Path, label: str | None) -> list[tuple[float, float]]:
    """First and last frame of the segments of a video, those of the highest score first."""
    rows = read_detections(segments).of_videos([video.frames.name])
    named = [label is None or one.casefold() == first_synonym(label).casefold() for one in rows.labels]
    rows = rows.where(np.array(named, bool)[rows.label])
    order = np.argsort(-rows.score, kind="stable")
    return [video.first_and_last(rows.start[row], rows.end[row]) for row in order]


@dataclass(frozen=True)
class _Written:
    """Writes pictures and masks of each clip as it comes; keeps what is written at the end."""

    out: Path
    source: FrameFolder | VideoFile
    maps: dict[str, Tensor] = field(default_factory=dict)
    clips: list[dict[str, Any]] = field(default_factory=list)

    def pictures(self, found: Iterator[ClipMaps], clips: int, quiet: bool) -> Iterator[Pixels]:
        """Every frame of the clips once, under the map of the first clip that has it."""
        done = -1
        for number, one in enumerate(track(found, self.source.name, total=clips, quiet=quiet)):
            self.maps[f"clip_{number}"] = one.maps.contiguous()
            self.clips.append(_described(one))
            scores = _scores(one)
            masks = _masks(one)
            for frame, mask in masks.items():
                write_mask(self.out / "masks" / f"{self.source.stems[frame]}.png", mask)
            _sheet(one, scores, masks, self.out / f"clip_{number}.jpg")
            for place, picture in enumerate(one.frames):
                frame = one.clip.start + place
                if frame > done:
                    index = one.map_at(frame)
                    said = f"{self.source.name} frame {frame}: map {index + 1}/{len(one.maps)}, of frame"
                    yield titled(heat(picture, scores[index]), f"{said} {one.frame_of[index]}", one.label)
                    done = frame


def _masks(one: ClipMaps) -> dict[int, Pixels]:
    """The mask of each frame that a map belongs to: Otsu's threshold, then the superpixels that it covers."""
    config, masks = InitialMaskConfig(), {}
    for index, frame in enumerate(one.frame_of):
        if frame is not None and frame not in masks:
            picture = np.array(one.frames[frame - one.clip.start])
            cut = cut_maps(one.maps[index][None], (picture.shape[0], picture.shape[1]))
            images = torch.from_numpy(picture).permute(2, 0, 1)[None]
            superpixels = ops.slic(images, region_area=area_of(picture, config.region_area))
            masks[frame] = refine_masks(superpixels, cut, *config.selection)[0].numpy().astype(np.uint8)
    return masks


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


def _sheet(one: ClipMaps, scores: NDArray[np.float32], masks: dict[int, Pixels], path: Path) -> None:
    """One row a map: its frame, the map over it, and the mask."""
    rows = []
    for index, frame in enumerate(one.frame_of):
        if frame is not None:
            picture, span = one.frames[frame - one.clip.start], one.span_of[index] or (frame, frame)
            caption = f"map {index + 1} of {len(one.maps)}: frame {frame}, for {span[0]}..{span[1]}"
            score = titled(heat(picture, scores[index]), f"{one.label} ({one.score:.2f})")
            rows.append([titled(picture, caption), score, titled(overlay(picture, masks[frame]), "mask")])
    write_picture(path, contact_sheet(rows, width=one.frames[0].shape[1]))


def _said(document: dict[str, Any]) -> str:
    lines = [f"{document['video']}: {document['frames']} frames, {document['network']}, weights {document['weights']}"]
    for number, clip in enumerate(document["clips"]):
        rows = ", ".join(f"{row['map']} -> {row['frame']}" for row in clip["maps"] if row["frame"] is not None)
        lines.append(f"clip {number}, frames {clip['first']}..{clip['last']}, {clip['label']}: map -> frame: {rows}")
    return "\n".join(lines)
