"""What two processes gain: the same work by one and by two, in turn, the two at the same time.

    python benchmarks/jobs/two_processes.py WORK --rounds 3

Two shards of features (r3d_18 with random weights), of LinPro's labels and of first masks, and a training as one over
gloo. "Gain" is the processor time of one process by that of the busier of the two, which is how much sooner it ends
where each has a processor to itself; "clock" is what the clock says here; "overhead" is what both take together beyond
one: mostly the second start.
"""

import argparse
import shutil
import socket
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from growth import PYWS, write_inputs
from measure import Cost, run

Commands = Callable[[int], list[list[str]]]
VIDEOS, FRAMES = 10000, 48


def stages(work: Path) -> Iterator[tuple[str, Path, Commands]]:
    """Name, what is written, and the commands of so many processes."""

    def sharded(*words: str) -> Commands:
        return lambda count: [[*PYWS, *words, "--shard", f"{n + 1}/{count}", "--quiet"] for n in range(count)]

    def joined(*words: str) -> Commands:
        def commands(count: int) -> list[list[str]]:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                meet = ["MASTER_ADDR=127.0.0.1", f"MASTER_PORT={free.getsockname()[1]}", f"WORLD_SIZE={count}"]
            return [["env", *meet, f"RANK={n}", f"LOCAL_RANK={n}", *PYWS, *words, "--quiet"] for n in range(count)]

        return commands

    out, growth = work / "out", work / str(VIDEOS)
    proposals, truth = str(growth / "proposals.json"), str(growth / "set/truth.json")
    frames = [str(path) for path in sorted((work / "frames").iterdir())]
    network = ["--network", "r3d_18", "--weights", "random", "--folder-fps", "25"]
    yield (
        f"`features`, {len(frames)} videos of {FRAMES} frames",
        out,
        sharded("features", *frames, "-o", str(out), *network),
    )
    labels = work / "out.safetensors"
    yield (
        f"`segments labels`, {VIDEOS:,} videos of 20 proposals",
        labels,
        sharded("segments", "labels", proposals, truth, str(labels)),
    )
    lite = [
        "--tag",
        "fox",
        "--classifier",
        "efficientnet-lite0",
        "--weights",
        str(work / "lite0.pth"),
        "--class-names",
        str(work / "names.txt"),
    ]
    yield (
        f"`masks init`, {len(frames)} videos of {FRAMES} frames",
        out,
        sharded("masks", "init", *frames, "-o", str(out), *lite),
    )
    train = ["--subset", "training", "--epochs", "5", "--preset", "baseline"]
    yield (
        "`segments train` over gloo, 5 epochs of 60 videos",
        out,
        joined("segments", "train", str(work / "drawn"), "-o", str(out), *train),
    )


def prepare(work: Path) -> None:
    """Videos of noise, proposals, features, and weights."""
    import torch
    from PIL import Image

    from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
    from pyws.models.image_networks.efficientnet_lite import EfficientNetLite

    write_inputs(work / str(VIDEOS), VIDEOS)
    if (work / "names.txt").exists():
        return
    rng = np.random.default_rng(0)
    for video in range(8):
        (work / "frames" / f"v{video}").mkdir(parents=True)
        for index in range(FRAMES):
            picture = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((320, 256))
            picture.save(work / "frames" / f"v{video}" / f"{index}.png")
    write_synthetic(work / "drawn", SyntheticConfig(width=1024, snippets=300), 60, 2)
    torch.save(EfficientNetLite(classes=2).state_dict(), work / "lite0.pth")
    (work / "names.txt").write_text("fox\nswan\n")


def clear(out: Path) -> None:
    for path in out.parent.glob(f"{out.stem}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="stages whose name holds this")
    given = parser.parse_args()
    prepare(given.work)
    print(
        "| work | one process, CPU s | two, CPU s each | gain | clock | overhead |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    for name, out, commands in stages(given.work):
        if given.only not in name:
            continue
        costs: dict[int, list[list[Cost]]] = {1: [], 2: []}
        for _ in range(given.rounds):
            for count, rounds in costs.items():
                clear(out)
                with ThreadPoolExecutor(count) as pool:
                    rounds.append(list(pool.map(run, commands(count))))
        clear(out)
        one, two = costs[1], costs[2]
        ratios = []
        for (alone,), both in zip(one, two, strict=True):
            cpu = [each.cpu for each in both]
            clock = alone.wall / max(each.wall for each in both)
            ratios.append((alone.cpu / max(cpu), clock, sum(cpu) / alone.cpu - 1))
        gain, clock, overhead = (statistics.median(column) for column in zip(*ratios, strict=True))
        whole = statistics.median(a[0].cpu for a in one)
        parts = [statistics.median(sorted(x.cpu for x in b)[place] for b in two) for place in (0, 1)]
        print(
            f"| {name} | {whole:.1f} | {parts[0]:.1f}, {parts[1]:.1f} | {gain:.2f}x | {clock:.2f}x | {overhead:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
