"""WS^2 on real videos: DAVIS-2016 sequences, each tagged with its object. Prints the tables of docs/results/.

python benchmarks/davis_masks.py prepare DAVIS WORK        tags.csv; frames and truth at 427x240, every fifth
pyws masks init ... --motion && pyws masks refine WORK/first -o WORK/refined
python benchmarks/davis_masks.py compare DAVIS WORK/first WORK/refined
pyws masks init DAVIS/JPEGImages/480p/* -o WORK/first --tags WORK/tags.csv ...
pyws masks train WORK/first -o WORK/run ...
pyws masks predict WORK/run DAVIS/JPEGImages/480p/* -o WORK/final --tags WORK/tags.csv
python benchmarks/davis_masks.py score DAVIS WORK/first WORK/run WORK/final
pyws masks init WORK/videos/* -o WORK/init --tags WORK/tags.csv ...
python benchmarks/davis_masks.py rank DAVIS WORK           RII and RIC of two methods' masks against their true IoU
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pyws.data.video.frames import read_mask, write_mask, write_picture
from pyws.evaluation.segmentation import mask_iou
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.ric import Criterion, Scores

TAGS = {"blackswan": "swan", "car-shadow": "car", "dog": "dog", "horsejump-high": "horse", "scooter-black": "scooter"}
TEST = {
    "camel": "camel",
    "drift-straight": "car",
    "libby": "dog",
    "motocross-jump": "motorbike",
}  # nothing is chosen on
SIZE, EVERY = (427, 240), 5
METHODS = ("semi-supervised/osvos", "unsupervised/rvos")


def small(path: Path) -> NDArray[np.uint8]:
    """A mask file at the size of the experiment, 0 or 1: whatever is not background is the object."""
    return (np.asarray(Image.open(path).resize(SIZE, Image.Resampling.NEAREST)) > 0).astype(np.uint8)


def prepare(davis: Path, work: Path) -> None:
    """Write videos/, truth/ and tags.csv."""
    for video in TAGS:
        for path in sorted((davis / "JPEGImages/480p" / video).glob("*.jpg"))[::EVERY]:
            picture = Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
            write_picture(work / "videos" / video / f"{path.stem}.png", np.asarray(picture))
            write_mask(
                work / "truth" / video / f"{path.stem}.png",
                small(davis / "Annotations/480p" / video / f"{path.stem}.png"),
            )
    held = {path.name for path in (davis / "JPEGImages/480p").iterdir()}
    rows = [f"{video},{tag}\n" for video, tag in {**TAGS, **TEST}.items() if video in held]
    (work / "tags.csv").write_text("video,tag\n" + "".join(rows))


def score(davis: Path, first: Path, run: Path, final: Path) -> None:
    """Mean IoU of each video on the frames with pseudo-annotations: M_init, each version of them, the models' masks."""
    folders = {"M_init": first / "init", "PA.v0": first / "pa/v0"}
    folders |= {f"PA.{path.name}": path for path in sorted(run.glob("pa/v*"))}
    folders |= {"final": final / "masks"}
    data = Annotations(first, run / "frames")
    print("| video |", " | ".join(folders), "|")
    means = []
    for video in TAGS:
        frames = [frame for frame in data.frames if frame.video == video]
        truth = np.stack([read_mask(frame.png(davis / "Annotations/480p")) for frame in frames])
        rows = [
            mask_iou(np.stack([read_mask(frame.png(folder)) for frame in frames]), truth) for folder in folders.values()
        ]
        means.append([float(row.mean()) for row in rows])
        print(f"| {video} |", " | ".join(f"{value:.3f}" for value in means[-1]), "|")
    print("| mean |", " | ".join(f"{value:.3f}" for value in np.mean(means, 0)), "|")


def compare(davis: Path, first: Path, refined: Path) -> None:
    """Mean IoU of each video on its sampled frames: M_init, PA.v0 and the refined masks; development and test apart."""
    data = Annotations(first, first / "frames")
    for title, videos in (("development", TAGS), ("test", TEST)):
        print(f"| {title} | M_init | PA.v0 | refined |")
        means = []
        for video in (name for name in videos if name in data.tags):
            frames = [frame for frame in data.frames if frame.video == video]
            truth, *found = (
                np.stack([read_mask(frame.png(folder)) for frame in frames])
                for folder in (davis / "Annotations/480p", first / "init", first / "pa/v0", refined / "pa/v0")
            )
            means.append([float(mask_iou(masks, truth).mean()) for masks in found])
            print(f"| {video} |", " | ".join(f"{value:.3f}" for value in means[-1]), "|")
        if means:
            print("| mean |", " | ".join(f"{value:.3f}" for value in np.mean(means, 0)), "|")


def rank(davis: Path, work: Path) -> None:
    """Spearman's correlation of RII, mIoU_PA and RIC with the true IoU, over ten results of two methods."""
    from scipy.stats import spearmanr

    data = Annotations(work / "init", work / "frames")
    ious, found = [], []
    for method in METHODS:
        for video in TAGS:
            iou, scores = scored(data, davis, method, video)
            ious.append(iou)
            found.append((scores.rii, scores.miou_pa, scores.ric))
            print(f"| {method} | {video} | {iou:.3f} |", " | ".join(f"{value:.3f}" for value in found[-1]), "|")
    for name, values in zip(("RII", "mIoU_PA", "RIC"), zip(*found, strict=True), strict=True):
        print(f"{name}: rank correlation {spearmanr(ious, values).statistic:.2f}")


def scored(data: Annotations, davis: Path, method: str, video: str) -> tuple[float, Scores]:
    """The mean IoU of a method on a video, and what is known without the truth."""
    criterion, ious = Criterion(2), []
    for frame, mask, truth in results(data, davis, method, video):
        annotation = (data.mask(data.folder / "pa/v0", frame) > 0).astype(np.uint8)
        tensors = (torch.from_numpy(one)[None] for one in (mask, annotation))
        criterion.add(*tensors, data.superpixels_of(frame)[None])
        ious.append(float(mask_iou(mask, truth)))
    return float(np.mean(ious)), criterion.scores()


def results(
    data: Annotations, davis: Path, method: str, video: str
) -> Iterator[tuple[Frame, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Frames of a video with a method's mask and the true one."""
    for frame in data.frames:
        if frame.video == video:
            yield frame, small(frame.png(davis / "results" / method)), small(frame.png(davis / "Annotations/480p"))


if __name__ == "__main__":
    command = {"prepare": prepare, "compare": compare, "score": score, "rank": rank}[sys.argv[1]]
    command(*map(Path, sys.argv[2:]))
