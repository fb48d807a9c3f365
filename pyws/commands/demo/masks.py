"""The demo's first half: masks of actors from the tags of synthetic clips (WS^2), measured against the true pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyws.commands.demo.config import DemoConfig
from pyws.commands.demo.train import as_input
from pyws.data.csv_table import write_table
from pyws.data.synthetic.clips import ACTORS, Clip
from pyws.data.video.clips import map_places
from pyws.data.video.frames import write_mask, write_picture
from pyws.evaluation.segmentation import evaluate_masks
from pyws.masks import GradCAM
from pyws.masks.initial_masks.cam_to_mask import initial_masks, refine_masks
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.models.video_networks.small3d import Small3D
from pyws.progress import track
from pyws.report.pictures import contact_sheet, overlay

SHEETS = 12  # clips of which a picture is made: each pair of an actor and an action once


def annotate_clips(
    model: Small3D, clips: list[Clip], config: DemoConfig, out: Path, device: torch.device, quiet: bool
) -> dict[str, Any]:
    """Write frames, true masks, initial and refined masks and pictures of the annotated clips.

    Returns the mean IoU of each kind of mask. A mask is made from the clip's frames and its actor tag alone.
    """
    chosen = clips[: config.annotated]
    tags = [(clip.name, tag) for clip in chosen for tag in (clip.actor, clip.action)]
    write_table(out / "clips" / "tags.csv", [("video", "tag"), *tags])
    superpixels = Superpixels(out / "masks" / "slic", config.region_area)
    with GradCAM(model, "layers", head=model.head) as cam:
        for number, clip in enumerate(track(chosen, "masks from tags", quiet=quiet)):
            indices, initial = _initial(cam, clip, device)
            labels = superpixels.of_frames(clip.frames[indices], clip.name, [f"{i:05d}" for i in indices])
            refined = refine_masks(torch.from_numpy(labels), initial)
            _write_clip(clip, indices, initial.numpy(), refined.numpy(), out, number < SHEETS)
    scores = {name: evaluate_masks(out / "masks" / name, out / "clips" / "truth") for name in ("init", "pa/v0")}
    return {
        "clips": len(chosen),
        "frames": scores["init"]["frames"],
        "iou_init": scores["init"]["mean_iou"],
        "iou_refined": scores["pa/v0"]["mean_iou"],
        "by_actor": {actor: _mean_iou(scores["pa/v0"], chosen, actor) for actor in ACTORS},
    }


def _initial(cam: GradCAM, clip: Clip, device: torch.device) -> tuple[list[int], Tensor]:
    """The frames that the activation maps stand for, and M_init (t', H, W), 0 or 1 + the index of the actor."""
    actor = ACTORS.index(clip.actor)
    maps = cam(as_input(clip.frames[None], device), actor)[0].cpu()  # (t', h, w)
    found = initial_masks(maps[:, None], clip.frames.shape[1:3])
    indices = map_places(len(clip.frames), len(maps))
    return indices, found * (actor + 1)


def _write_clip(
    clip: Clip, indices: list[int], initial: np.ndarray, refined: np.ndarray, out: Path, sheet: bool
) -> None:
    truth = clip.masks[indices] * (ACTORS.index(clip.actor) + 1)
    folders = {"masks/init": initial, "masks/pa/v0": refined, "clips/truth": truth}
    for position, index in enumerate(indices):
        write_picture(out / "clips/frames" / clip.name / f"{index:05d}.png", clip.frames[index])
        for folder, masks in folders.items():
            write_mask(out / folder / clip.name / f"{index:05d}.png", masks[position].astype(np.uint8))
    if sheet:
        rows = [
            [clip.frames[index], *(overlay(clip.frames[index], masks[position]) for masks in folders.values())]
            for position, index in enumerate(indices)
        ]
        captions = (f"{clip.actor} {clip.action}", "M_init", "M_refine", "truth")
        write_picture(out / "masks/overlays" / f"{clip.name}.jpg", contact_sheet(rows, captions, width=256))


def _mean_iou(scores: dict[str, Any], clips: list[Clip], actor: str) -> float | None:
    found = [scores["videos"][clip.name]["iou"] for clip in clips if clip.actor == actor]
    return float(np.mean(found)) if found else None
