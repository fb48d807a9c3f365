"""Results to review: two small videos with first masks, detections and features, written as the commands do."""

import os

import numpy as np
from PIL import Image
from video_files import write_timed_video

from pyws.data.annotations.activitynet import read_detections, write_detections
from pyws.data.features.files import write_features
from pyws.data.tagged.label_space import object_labels
from pyws.data.video.frames import open_frames, total_bytes, write_mask
from pyws.files import write_json
from pyws.masks.initial_masks.pipeline import open_annotations

SIZE = (24, 32)
LABELS = ("fox", "white swan", "tabby")  # nothing is tagged with the last one
FPS = 30000 / 1001
FRAMES = 45
SAMPLED = (1, 10, 11)
SUPERPIXELS = {"region_area": 64, "compactness": 10.0, "iterations": 10, "superpixels": "pyws"}


def write_videos(folder):
    """A folder of JPEG frames, and a file of another rate; returns their paths by name."""
    random = np.random.default_rng(0)
    (folder / "videos/fox").mkdir(parents=True)
    for index in range(12):
        picture = random.integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"videos/fox/frame{index}.jpg")
    times = [round(k / FPS, 3) for k in range(FRAMES)]
    path = write_timed_video(folder / "videos/swan.mkv", times, size=SIZE[::-1])
    return {"fox": folder / "videos/fox", "swan": path}


def write_first_masks(folder, videos):
    """What ``pyws masks init`` writes: boxes that move, an empty mask, and two labels in one frame."""
    out = folder / "first"
    space = object_labels(LABELS)
    parameters = {**SUPERPIXELS, "tags": [{"id": k, "classes": []} for k in range(1, len(space))]}
    with open_annotations(out, parameters, space.document()) as manifest:
        for number, (name, path) in enumerate(videos.items(), 1):
            frames = open_frames(path)
            files = [out / "pa/v0" / name / f"{frames.stems[index]}.png" for index in SAMPLED]
            for index, file in zip(SAMPLED, files, strict=True):
                mask = np.zeros(SIZE, np.uint8)
                mask[4:15, index : index + 9] = number
                if name == "swan" and index == SAMPLED[1]:
                    mask[:] = 0
                if name == "swan" and index == SAMPLED[2]:
                    mask[10:20, 20:30] = 1
                    mask[0, 0] = 255
                write_mask(file, mask)
            ids = [1] if name == "fox" else [1, 2]
            manifest.document["videos"][name] = {
                "source": os.path.abspath(path), "tags": [LABELS[index - 1] for index in ids], "ids": ids, "subset": "",
                "fingerprint": frames.fingerprint(), "frames": len(frames), "sampled": list(SAMPLED), "status": "done",
                "bytes": total_bytes(files), "report": {},
            }  # fmt: skip
    return out


DETECTIONS = {
    "fox": [],
    "swan": [
        {"label": "dive & <turn>", "score": 0.9, "segment": [0.2002, 0.7007]},
        {"label": "dive & <turn>", "score": 0.25, "segment": [0.1, 0.4]},
        {"label": "run", "score": 0.5, "segment": [1.0, 1.5]},
    ],
}


def write_segments(folder, videos):
    """Detections, and a folder of features with tags that says where the videos are; a video of a file alone."""
    write_detections(folder / "detections.json", read_detections({"results": DETECTIONS}), {})
    features = folder / "features"
    entries = {"swan": {"source": str(videos["swan"])}, "fox": {"source": str(videos["fox"])}}
    write_json(features / "manifest.json", {"format": "pyws features 1", "videos": entries})
    write_json(features / "dataset.json", {"snippets_per_second": 10.0})
    (features / "tags.csv").write_text("video,tag\nswan,dive & <turn>\nswan,run\nfox,run\n")
    for name, count in (("swan", 15), ("fox", 12)):
        write_features(features / "features" / f"{name}.npy", np.ones((count, 4)))
    return folder / "detections.json", features
