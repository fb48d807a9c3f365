"""The parsers, and what each must hold to: any bytes give a value or an error that names the file.

fuzzing.py drives them with atheris; test_corpus.py reads the kept inputs without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyws.checkpoint import read_checkpoint, read_facts, read_tensors
from pyws.data.annotations.activitynet import read_ambiguous, read_detections, read_truth
from pyws.data.annotations.ava import read_action_list, read_ava
from pyws.data.annotations.corrections import read_corrections
from pyws.data.annotations.other_forms import read_annotations
from pyws.data.annotations.pickle_index import index_npy
from pyws.data.annotations.safe_pickle import load_npy, load_pickle
from pyws.data.features.files import stored_videos, times_of
from pyws.data.features.layouts import read_tags
from pyws.data.tagged.a2d_files import read_annotation, read_instances, read_readme, read_videoset
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.tagged.rle import decode_mask
from pyws.data.tagged.tags_table import read_tags_table
from pyws.data.video.frames import open_frames, read_image, read_mask
from pyws.data.video.png import is_whole
from pyws.errors import DataError
from pyws.exchange.brush_rle import decode_brush
from pyws.exchange.readers.formats import read_review
from pyws.files import read_json
from pyws.masks.self_training.frame_selection import read_selection
from pyws.models.classifiers import read_state
from pyws.report.runs.segments_training import read_history
from pyws.run_manifest import read_hashes, read_manifest
from pyws.segments.detection.maps import open_maps
from pyws.settings import read_toml

Read = Callable[[Path], Any]


def _features(path: Path) -> list[Any]:
    """Every array of a file, its shape first, and its times."""
    return [(one.shape(), one.read(), times_of(one)) for one in stored_videos(path).values()]


def _maps(path: Path) -> list[Any]:
    maps = open_maps(path, ("run", "jump"))
    return [maps.read(video, 1.0) for video in maps.stored]


def _review(path: Path) -> list[Any]:
    """Corrections, and their masks, which are decoded when they are called for."""
    return [mask() for review in read_review(path).values() for mask in review.masks.values()]


def _frames(path: Path) -> list[Any]:
    video = open_frames(path)
    return list(video.read(range(min(2, len(video)))))


PARSERS: dict[str, tuple[str, Read]] = {
    # annotations
    "truth": ("truth.json", read_truth),
    "detections": ("found.json", read_detections),
    "annotations": ("other.csv", read_annotations),
    "corrections": ("corrections.json", read_corrections),
    "ambiguous": ("ambiguous.txt", read_ambiguous),
    "ava": ("ava.csv", read_ava),
    "ava_actions": ("actions.pbtxt", read_action_list),
    "pickle": ("names.npy", index_npy),
    "pickled_npy": ("labels.npy", load_npy),
    "pickled": ("annotations.pkl", load_pickle),
    # corrections from other tools
    "review": ("review.json", _review),
    "label_studio": ("tasks.json", _review),
    "coco": ("coco.json", _review),
    "youtube_vis": ("instances.json", _review),
    "fiftyone": ("labels.json", _review),
    "cvat": ("annotations.xml", _review),
    "segments": ("review.csv", _review),
    "brush": ("brush.bin", lambda path: decode_brush(list(path.read_bytes()), (8, 8))),
    "mask_rle": ("mask.json", lambda path: decode_mask(read_json(path))),
    # features
    "npy": ("v.npy", _features),
    "safetensors": ("v.safetensors", _features),
    "npz": ("v.npz", _features),
    "hdf5": ("v.h5", _features),
    "feature_pickle": ("v.pkl", _features),
    "pt": ("v.pt", _features),
    "feature_csv": ("v.csv", _features),
    "feature_tags": ("tags.csv", read_tags),
    "maps": ("maps.safetensors", _maps),
    # tagged videos
    "tags": ("tags.csv", read_tags_table),
    "workbook": ("tags.xlsx", read_tags_table),
    "videoset": ("videoset.csv", read_videoset),
    "a2d_readme": ("README", read_readme),
    "a2d_mat": ("00001.mat", lambda path: (read_annotation(path), read_instances(path))),
    "label_space": ("labels.json", lambda path: LabelSpace.read(read_json(path), path)),
    "image": ("frame.jpg", read_image),
    "mask": ("mask.png", lambda path: (is_whole(path), read_mask(path))),
    "video": ("v.avi", _frames),
    # what pyws writes
    "checkpoint": ("last.safetensors", lambda path: (read_tensors(path), read_checkpoint(path, "example"))),
    "facts": ("last.safetensors", read_facts),
    "weights": ("weights.pth", read_state),
    "manifest": ("manifest.json", lambda path: read_manifest(path, "pyws example", 1, {"lr": 0.1})),
    "hashes": ("hashes.json", lambda path: read_hashes(path.parent)),
    "history": ("history.jsonl", read_history),
    "selection": ("selection.jsonl", read_selection),
    "settings": ("run.toml", lambda path: read_toml(str(path))),
}
UNNAMED = {"brush"}  # is given numbers, no file that its errors could name


def parse(name: str, data: bytes, folder: Path) -> None:
    """Give a parser a file of these bytes; what it must not raise comes out."""
    file, read = PARSERS[name]
    path = folder / file
    path.write_bytes(data)
    try:
        read(path)
    except DataError:
        pass
    except ValueError:
        if name not in UNNAMED:
            raise
