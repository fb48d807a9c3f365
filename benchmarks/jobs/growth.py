"""How every stage grows with the number of videos, beside networks and decoding.

    python benchmarks/jobs/growth.py WORK --videos 1000 10000

Each stage is a process of its own; figures are processor seconds (of the program and the system for it), seconds by the
clock, the most resident memory, seconds until something is printed, and bytes and files written. Videos are tiny: 8
snippets of width 8; for masks, one frame of 16x16 that an annotator without a network marks; for pyws label, six frames
of 32x40, linked, and networks of three layers; results have 20 segments a video. What is left is pyws's own work.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import run

PYWS = [sys.executable, "-m", "pyws"]
CLASSES = [f"class{number:02}" for number in range(20)]

BLANK = """
import sys
from pathlib import Path
import torch
from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.tagged.label_space import object_labels
from pyws.masks.initial_masks.annotator import Chunk, InitialMasks
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.pipeline import annotate

class Blank:
    config, space = InitialMaskConfig(region_area=64), object_labels(["fox"])
    def parameters(self): return {}
    def kept_tags(self, ids): return ids
    def describe(self, frames, ids, sampled): return {}
    def chunks(self, length): return [Chunk([0], [0])]
    def initial_masks(self, images, chunk, ids, about):
        masks = torch.zeros(images.shape[:3], dtype=torch.int64)
        masks[:, 4:12, 4:12] = 1
        return InitialMasks(masks, lambda labels: masks, masks.float())

videos = [TaggedVideo(path.name, path, (1,)) for path in sorted(Path(sys.argv[1]).iterdir())]
annotate(Blank(), videos, Path(sys.argv[2]), quiet=True)
"""


def write_inputs(work: Path, count: int) -> None:
    """A set of features with its truth, proposals, and folders of frames."""
    from PIL import Image

    from pyws.data.features.files import write_features
    from pyws.files import write_json

    if (work / "proposals.json").exists():
        return
    rng = np.random.default_rng(0)
    database, results = {}, {}
    frame = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for number in range(count):
        name, label = f"v{number:07}", CLASSES[number % len(CLASSES)]
        write_features(work / "set/features" / f"{name}.npy", rng.random((8, 8)))
        subset = "training" if number % 2 else "test"
        entry = {"label": label, "segment": [1.0, 3.0]}
        database[name] = {"subset": subset, "duration": 8 * 16 / 25, "tags": [label], "annotations": [entry]}
        found = np.sort(rng.uniform(0, 5, (20, 2)), 1).tolist()
        results[name] = [{"label": label, "score": rng.random(), "segment": one} for one in found]
        (work / "frames" / name).mkdir(parents=True)
        frame.save(work / "frames" / name / "0.png")
    write_json(work / "set/truth.json", {"database": database})
    write_json(work / "set/dataset.json", {"snippets_per_second": 25 / 16, "classes": CLASSES})
    write_clips(work, count)
    write_json(work / "proposals.json", {"results": results})


def write_clips(work: Path, count: int) -> None:
    """Folders of six frames, in which a square moves, their tags and a classifier of them with random weights."""
    import torch
    from PIL import Image

    from pyws.files import write_lines
    from pyws.models.image_networks.small2d import Small2D

    names = {f"v{number:07}": ("fox", "swan")[number % 2] for number in range(count)}
    for name, tag in names.items():
        (work / "clips" / name).mkdir(parents=True)
        for index in range(6):
            first = work / f"{tag}{index}.png"
            if not first.exists():
                frame = np.random.default_rng(index).integers(0, 60, (32, 40, 3), dtype=np.uint8)
                frame[4:28, 2 * index : 2 * index + 24] = (220, 90, 30) if tag == "fox" else (40, 90, 220)
                Image.fromarray(frame).save(first)
            os.link(first, work / "clips" / name / f"{index}.png")
    torch.manual_seed(0)
    torch.save(Small2D(2).state_dict(), work / "images.pth")
    write_lines(work / "labels.txt", ["fox", "swan"])
    write_lines(work / "tags.csv", ["video,tag", *map(",".join, names.items())])


def stages(work: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, command, and what it writes, in an order in which each finds what it needs."""
    data, packed, model, masks = (str(work / name) for name in ("set", "packed", "model", "masks"))
    proposals, fused, labels, found = (
        str(work / name) for name in ("proposals.json", "fused.json", "labels.safetensors", "found.json")
    )
    opening = "import sys; from pyws.data.features import open_features; open_features(sys.argv[1])"
    trained = ["--subset", "training", "--backbone", "bm", "--preset", "baseline", "--epochs", "1"]
    blank = [sys.executable, "-c", BLANK, str(work / "frames"), masks]
    review = ["--format", "activitynet", "-o", str(work / "review")]
    frames = ["--format", "coco", "-o", str(work / "coco")]
    images = ["--classifier", "small2d", "--classifier-weights", str(work / "images.pth")]
    clips = [str(work / "clips"), "--tags", str(work / "tags.csv"), "--folder-fps", "8", *images]
    names, clip_labels = ["--classifier-class-names", str(work / "labels.txt")], str(work / "label")
    yield "open features", [sys.executable, "-c", opening, data], []
    yield "data check", [*PYWS, "data", "check", data, "--quiet"], []
    yield "data convert to packs", [*PYWS, "data", "convert", data, packed, "--videos-per-file", "1000"], [packed]
    yield "open packs", [sys.executable, "-c", opening, packed], []
    yield "data check of packs", [*PYWS, "data", "check", packed, "--quiet"], []
    yield "segments train, an epoch", [*PYWS, "segments", "train", packed, "-o", model, *trained], [model]
    weights = ["--checkpoint", f"{model}/last.safetensors", "--subset", "test", "-o", found]
    yield "segments predict", [*PYWS, "segments", "predict", packed, *weights], [found]
    yield "segments fuse", [*PYWS, "segments", "fuse", proposals, fused], [fused]
    yield "segments labels", [*PYWS, "segments", "labels", proposals, f"{data}/truth.json", labels], [labels]
    yield "segments evaluate", [*PYWS, "segments", "evaluate", fused, f"{data}/truth.json"], []
    yield "export of segments", [*PYWS, "export", fused, *review], [str(work / "review")]
    yield "masks init", blank, [masks]
    yield "masks init, all done", blank, []
    yield "report of masks", [*PYWS, "report", masks], [f"{masks}/report.html", f"{masks}/report"]
    yield "label", [*PYWS, "label", *clips, *names, "--mask-frames", "2", "-o", clip_labels], [clip_labels]
    yield "verify", [*PYWS, "verify", model], []
    yield "export of masks", [*PYWS, "export", masks, *frames], [str(work / "coco")]


def written(paths: list[str]) -> tuple[int, int]:
    """Bytes and files under some paths."""
    sizes = []
    for path in paths:
        if os.path.isfile(path):
            sizes.append(os.path.getsize(path))
        for parent, _, names in os.walk(path):
            sizes += [os.path.getsize(os.path.join(parent, name)) for name in names]
    return sum(sizes), len(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--only", default="", help="stages whose name holds this")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    for count in given.videos:
        work = given.work / str(count)
        child = multiprocessing.Process(target=write_inputs, args=(work, count))
        child.start()  # the most memory of a stage is never below that of the process that starts it: torch stays out
        child.join()
        if child.exitcode:
            raise SystemExit(child.exitcode)
        for name, command, outputs in stages(work):
            if given.only in name:
                for path in outputs:
                    shutil.rmtree(path, ignore_errors=True)
                quiet = [] if command[1] == "-c" or "--quiet" in command else ["--quiet"]
                cost = run([*command, *quiet], given.threads)
                size, files = written(outputs)
                said = {"videos": count, "stage": name, "cpu": round(cost.cpu, 2), "wall": round(cost.wall, 2)}
                said |= {"MiB": round(cost.peak), "first": round(cost.first, 2)}
                print(json.dumps({**said, "bytes": size, "files": files}), flush=True)


if __name__ == "__main__":
    main()
