"""Tutorials run from top to bottom: Python in one namespace, commands one after the other, on twins of their data.

A command runs as the page shows it, but for what would take hours: sizes, epochs, and pretrained networks.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from pyws import cli
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.models.image_networks.small2d import Small2D
from pyws.models.video_networks.small3d import Small3D
from pyws.segments.backbones import BACKBONES

TUTORIALS = Path(__file__).parent.parent.parent / "docs" / "tutorials"


def shown(page: str, language: str) -> list[str]:
    text = (TUTORIALS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def own_videos() -> None:
    """Three videos with tags of every kind, and random networks of three classes."""
    drawn = GeneratedConfig(train=3, validation=0, test=0, frames=8)
    write_generated_a2d(Path("drawn"), config=drawn)
    Path("videos").mkdir()
    names = ("park", "kitchen", "river")
    for name, frames in zip(names, sorted(Path("drawn/Release/pngs320H").iterdir()), strict=True):
        with av.open(f"videos/{name}.mp4", "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            pictures = [Image.open(path).convert("RGB") for path in sorted(frames.iterdir())]
            stream.width, stream.height = pictures[0].size
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
    (table,) = (block for block in shown("own-videos.md", "text") if block.startswith("video,tags"))
    Path("tags.csv").write_text(table)
    torch.manual_seed(0)
    torch.save(Small3D(3).state_dict(), "clips.pth")
    torch.save(Small2D(3).state_dict(), "images.pth")
    Path("labels.txt").write_text("dog\nrunning shoe\nblack swan, swan\n")
    Path("actions.txt").write_text("clapping\ncutting onions\nhopping\n")


def thumos14() -> None:
    """ActivityNet's twin; that of THUMOS14 is drawn by the page."""
    write_synthetic(Path("anet"), SyntheticConfig(classes=2, width=8, snippets=40), training=6, test=3)
    truth = Path("anet/truth.json")
    truth.write_text(truth.read_text().replace('"test"', '"validation"'))


def a2d() -> None:
    """YouTube-Objects in its own layout; A2D's twin is drawn by the page."""
    write_generated_a2d(Path("drawn"), config=GeneratedConfig(train=4, validation=0, test=0, frames=3))
    videos = sorted(Path("drawn/Release/pngs320H").iterdir())
    for number, video in enumerate(videos):
        shot = Path(f"YTO/{('cat', 'dog')[number % 2]}/data/{number:04}/shots/001")
        for folder in ("images", "labels")[: 1 + number // 2]:  # the second half has masks
            (shot / folder).mkdir(parents=True)
        for k, frame in enumerate(sorted(video.iterdir()), 1):
            picture = Image.open(frame).convert("RGB")
            picture.save(shot / "images" / f"frame{k:04}.jpg")
            if (shot / "labels").is_dir():
                picture.convert("L").point(lambda level: 255 * (level > 127)).save(shot / "labels" / f"{k:05}.jpg")


CLIPS = "--network small3d --weights clips.pth --network-class-names actions.txt"
IMAGES = "--classifier small2d --classifier-weights images.pth --classifier-class-names labels.txt"
PATCHES = "--label-tests none --discriminator.patch-size 36 --discriminator.width 2 --discriminator.steps 1"
TRAINING = f"--crop 40 --batch 2 --max-epoch 1 {PATCHES}"
ONE_EPOCH = "--short-side 48 --epochs 1 --samples 1"
SMALLER: dict[str, dict[str, str]] = {  # by page, what a command says instead
    "own-videos.md": {
        r"^(pyws label .*)$": rf"\1 {CLIPS} {IMAGES} --mask-frames 3 --epochs 2",
        r"--budget 30m": "",
    },
    "thumos14.md": {
        r"--training 200 --test 212 --classes 20": "--training 4 --test 2 --classes 2 --width 8 --snippets 40",
        r"^(pyws .*\bthumos14 .*)--subset validation": r"\1--subset training",
        r"^(pyws segments train .*)$": r"\1 --epochs 7",
        r"--epochs 350 --lr 5e-5": "--epochs 7 --seeds 1 --backbones rskp",
    },
    "a2d.md": {
        r"--train 60 --validation 12 --test 24": "--train 8 --validation 2 --test 2 --frames 4",
        r"--network resnet50 --weights resnet50.pth": f"--network small2d {ONE_EPOCH}",
        r"--network i3d --weights i3d.pth --crop 224": f"--network small3d --frames 4 {ONE_EPOCH}",
        r"^(pyws masks init .*)$": r"\1 --region-area 80",
        r"--weights resnet101.pth --classifier-weights (\S+)": r"--weights \1 --classifier-weights \1",
        r"^(pyws masks train .*)$": rf"\1 --backbone small2d --max-versions 2 --classifier-size 48 {TRAINING}",
        r"--backbone resnet101": f"--backbone small2d --seeds 0 --max-versions 1 --classifier-size 48 {TRAINING}",
        r"^pyws masks (attention|classify AVA) .*$": "",  # AVA's key frames begin at the fifteenth minute
    },
}


def test_every_tutorial_runs() -> None:
    pages = {page.name for page in TUTORIALS.glob("*.md")} - {"index.md"}
    assert pages == {*SMALLER, "training-loop.md", "add-a-backbone.md"}
    assert all(shown(page, "bash" if page in SMALLER else "python") for page in pages)


BEFORE = {"own-videos.md": own_videos, "thumos14.md": thumos14, "a2d.md": a2d}


def words_of(line: str) -> list[str]:
    """What a shell would make of a line: patterns of files become the files."""
    words = shlex.split(line, comments=True)
    return [each for word in words for each in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


@pytest.mark.parametrize("page", SMALLER)
def test_commands_run_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    BEFORE[page]()
    used = set()
    for line in "".join(shown(page, "bash")).splitlines():
        line = line.partition("#")[0].strip()
        for pattern, replacement in SMALLER[page].items():
            line, count = re.subn(pattern, replacement, line)
            used |= {pattern} if count else set()
        if words := words_of(line):
            assert cli.main([*words[1:], "--quiet"]) == 0, line
    assert used == set(SMALLER[page])  # what is said to be smaller is on the page


def watching() -> None:
    write_synthetic(Path("watching"), SyntheticConfig(classes=2, width=8), training=6, test=2)


@pytest.mark.parametrize(("page", "before"), [("training-loop.md", None), ("add-a-backbone.md", watching)])
def test_python_runs_in_order(page, before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BACKBONES, "gated", None)  # gone again after the test
    if before:
        before()
    names: dict[str, object] = {}
    for block in shown(page, "python"):
        exec(compile(block, page, "exec"), names)
