"""Commands that write the folder of a run, on inputs so small that each takes about a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

VIDEOS = {"fox_a": "fox", "fox_b": "fox", "swan_a": "swan", "swan_b": "swan"}
FRAMES = "videos/fox_a videos/fox_b videos/swan_a videos/swan_b"
CLASSIFIER = "--classifier small2d --weights images.pth --class-names labels.txt"
TINY = (
    "--backbone small2d --crop 32 --batch 2 --max-epoch 2 --max-versions 2 --outer-tolerance 0 --validation frames "
    "--label-tests none --classifier-weights images.pth --class-names labels.txt --choose-after 0 --noise 0"
)
COMMANDS = {
    "features": "features videos -o OUT --network small3d --weights clips.pth --class-names labels.txt --folder-fps 8 "
    "--fps 8 --window 4 --stride 2",
    "masks init": f"masks init {FRAMES} -o OUT --tags tags.csv {CLASSIFIER} --short-side 32 --region-area 64",
    "masks refine": "masks refine FIRST -o OUT --classifier-weights images.pth --class-names labels.txt --rounds 1",
    "masks classify": "masks classify . -o OUT/tags.safetensors --what actor --network small2d --crop 32 --epochs 2",
    "masks train": f"masks train FIRST -o OUT {TINY}",
    "masks predict": f"masks predict TRAINED {FRAMES} -o OUT",
    "segments train": "segments train watching -o OUT --subset training --epochs 4 --batch 4 --preset pyws",
    "segments predict": "segments predict watching --subset test --checkpoint NETWORK/last.safetensors "
    "-o OUT/found.json --maps OUT/maps.safetensors",
    "segments propose": "segments propose FOUND/maps.safetensors OUT/proposals.json",
    "segments fuse": "segments fuse FOUND/found.json OUT/fused.json --method gaussian",
    "segments labels": "segments labels FOUND/found.json watching/truth.json OUT/labels.safetensors",
    "segments compare": "segments compare FOUND/found.json watching/truth.json OUT --subset test --ious .1 .5 "
    "--temperatures .1 .5",
    "segments ablate": "segments ablate OUT --data watching --seeds 1 --epochs 2 --backbones stpn",
    "export coco": "export FIRST --format coco -o OUT",
    "export davis": "export FIRST --format davis -o OUT",
    "export csv": "export FOUND/found.json --format csv -o OUT",
    "import masks": "import MASKS --into OUT",
    "import segments": "import review.csv --into OUT",
    "report masks": "report OUT",
    "report segments": "report OUT",
    "label": "label videos --tags tags.csv -o OUT --network small3d --weights clips.pth "
    "--network-class-names labels.txt --classifier small2d --classifier-weights images.pth "
    "--classifier-class-names labels.txt --mask-frames 2 --epochs 2 --versions 1 --every 2 --folder-fps 8",
    "data convert": "data convert split OUT",
    "data convert to truth": "data convert DRAWN OUT/truth.json.gz",
    "data synthesize": "data synthesize OUT --training 3 --test 2 --layout wtalc",
    "data synthesize-a2d": "data synthesize-a2d OUT --train 1 --validation 0 --test 1 --frames 2",
    "masks maps": "masks maps videos/fox_a -o OUT --network small3d --weights clips.pth --class-names labels.txt",
    "masks ablate": "masks ablate . FIRST -o OUT --weights images.pth --classifier-weights images.pth "
    "--class-names labels.txt --variants baseline --seeds 0 --backbone small2d --crop 32 --batch 2 --max-epoch 1 "
    "--max-versions 1",
}
PLACES = {
    "FIRST": "masks init",
    "TRAINED": "masks train",
    "NETWORK": "segments train",
    "FOUND": "segments predict",
    "MASKS": "export davis",
    "DRAWN": "data synthesize",
}
# What works in a folder begins with a copy of it: an input, or what another command wrote.
WITHIN = {
    "import masks": "masks init",
    "import segments": "watching",
    "report masks": "masks init",
    "report segments": "segments train",
}


def results_of(name: str, out: str) -> list[str]:
    """What a command writes into the folder of :func:`words_of`: files that it names, or the folder itself."""
    files = [word.replace("OUT/", f"{out}/") for word in COMMANDS[name].split() if word.startswith("OUT/")]
    return files or [out]


def write_inputs(folder: Path) -> None:
    """Four videos of six frames with their tags, random networks, and features with segments."""
    import torch

    from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
    from pyws.models.image_networks.small2d import Small2D
    from pyws.models.video_networks.small3d import Small3D

    rng = np.random.default_rng(0)
    for video, tag in VIDEOS.items():
        (folder / "videos" / video).mkdir(parents=True)
        for index in range(6):
            frame = rng.integers(0, 60, (32, 40, 3), dtype=np.uint8)
            frame[4:28, 2 * index : 2 * index + 24] = (220, 90, 30) if tag == "fox" else (40, 90, 220)
            Image.fromarray(frame).save(folder / "videos" / video / f"{index}.png")
    (folder / "tags.csv").write_text("video,tag\n" + "".join(f"{video},{tag}\n" for video, tag in VIDEOS.items()))
    (folder / "labels.txt").write_text("fox\nswan\ntabby\n")
    torch.manual_seed(0)
    torch.save(Small2D(3).state_dict(), folder / "images.pth")
    torch.save(Small3D(3).state_dict(), folder / "clips.pth")
    config = SyntheticConfig(classes=2, width=8, snippets=40)
    write_synthetic(folder / "watching", config, 6, 2)
    rows = [f"synthetic_training_{number:05},action00,{number},{number + 9.5}\n" for number in range(6)]
    (folder / "review.csv").write_text("video,label,start,end\n" + "".join(rows))
    write_synthetic(folder / "split", config, 6, 2, layout="split")


def words_of(name: str, out: str, made: Callable[[str], str]) -> list[str]:
    """The command line of a command, from within the folder of its inputs.

    Parameters
    ----------
    name : key of COMMANDS
    out : the folder to write
    made : the folder that a command that it needs has written, given that one's name
    """
    if name in WITHIN and not Path(out).exists():
        pages = shutil.ignore_patterns("report*", "overlays") if name.startswith("report") else None
        shutil.copytree(made(WITHIN[name]) if WITHIN[name] in COMMANDS else WITHIN[name], out, ignore=pages)
    Path(out).mkdir(exist_ok=True)  # what names a file in it expects the folder
    words = []
    for word in COMMANDS[name].split():
        place, slash, rest = word.partition("/")
        place = made(PLACES[place]) if place in PLACES else out if place == "OUT" else place
        words.append(place + slash + rest)
    return [*words, "--device", "cpu", "--quiet"]
