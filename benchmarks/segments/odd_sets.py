"""Preset pyws at its defaults on odd data sets: the network without labels, the one with them, and the run's own.

python benchmarks/segments/odd_sets.py OUT --shared ../shared --sets width1024 easy --backbones wum facnet --seeds 31
python benchmarks/segments/odd_sets.py OUT --table

Average mAP of 0.1 to 0.7 on the test videos after the last epoch. What is in OUT is not computed again; with --again
runs of which --keep kept the networks are measured by the rule as it is now, without training, where videos are
synthetic perhaps on more of them: those of training stay the same. The seed is that of networks and, where videos are
synthetic, of the videos. docs/results/segments/trusted-labels.md has the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyws.data.annotations.activitynet import truth_document
from pyws.data.features.dataset import FeatureSet, open_features
from pyws.data.features.writers import FeatureVideo, write_data_set
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.data.synthetic.watch_streams import write_watch
from pyws.distributed import Group
from pyws.models import Backbone
from pyws.segments.config import PRESETS
from pyws.segments.detection.inference import average_map, detect
from pyws.segments.training.batches import Videos
from pyws.segments.training.run_folder import Run
from pyws.segments.training.train import begin, run_epoch, weigh

Change = Callable[[np.ndarray], np.ndarray]


def projected(width: int, rectified: bool = False) -> Change:
    """Features times a random matrix of unit columns on average, the same for all videos."""

    def change(rows: np.ndarray) -> np.ndarray:
        matrix = np.random.default_rng(0).normal(size=(rows.shape[1], width)) / np.sqrt(rows.shape[1])
        return np.maximum(rows @ matrix, 0) if rectified else rows @ matrix

    return change


def noisy(rows: np.ndarray) -> np.ndarray:
    """Features with white noise as strong as they are."""
    return rows + rows.std() * np.random.default_rng(len(rows)).normal(size=rows.shape)


def same(rows: np.ndarray) -> np.ndarray:
    return rows


@dataclass(frozen=True)
class OddSet:
    """A base set and what is changed in it.

    Parameters
    ----------
    base : "synthetic", "watch", "gtea" or "salads"
    change : change of the features of a video
    videos : training videos that are kept
    settings : fields of :class:`SyntheticConfig`
    """

    base: str
    change: Change = same
    videos: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()


SETS = {
    "synthetic": OddSet("synthetic"),
    "negated": OddSet("synthetic", np.negative),
    "x100": OddSet("synthetic", lambda rows: 100 * rows),
    "x0.01": OddSet("synthetic", lambda rows: 0.01 * rows),
    "width16": OddSet("synthetic", projected(16, True)),
    "width512": OddSet("synthetic", projected(512)),
    "width1024": OddSet("synthetic", projected(1024)),
    "width2048": OddSet("synthetic", projected(2048)),
    "drawn1024": OddSet("synthetic", settings=(("width", 1024),)),
    "videos16": OddSet("synthetic", videos=16),
    "classes20": OddSet("synthetic", settings=(("classes", 20),)),
    "several": OddSet("synthetic", settings=(("several", 1.0),)),
    "noisy": OddSet("synthetic", noisy),
    "easy": OddSet("synthetic", settings=(("difficulty", 0.1),)),
    "hard": OddSet("synthetic", settings=(("difficulty", 0.9),)),
    "watch": OddSet("watch"),
    "watch-negated": OddSet("watch", np.negative),
    "watch-videos14": OddSet("watch", videos=14),
    "watch-videos20": OddSet("watch", videos=20),
    "watch-videos30": OddSet("watch", videos=30),
    "watch-width512": OddSet("watch", projected(512)),
    "watch-width1024": OddSet("watch", projected(1024)),
    "watch-noisy": OddSet("watch", noisy),
    "gtea": OddSet("gtea"),
    "gtea-negated": OddSet("gtea", np.negative),
    "gtea-width32": OddSet("gtea", projected(32)),
    "gtea-videos30": OddSet("gtea", videos=30),
    "salads": OddSet("salads"),
    "salads-x10": OddSet("salads", lambda rows: 10 * rows),
}


def base_set(odd: OddSet, folder: Path, shared: Path, seed: int, test_videos: int) -> Path:
    """The unchanged set, written on first use; ``test_videos`` are drawn where videos are synthetic."""
    if odd.base == "gtea":
        return shared / "data" / "gtea_features" / "clips"
    if odd.base == "synthetic":
        name = "-".join(f"{field}{value}" for field, value in odd.settings)
        where = folder / f"synthetic{name}-{seed}"
        if not where.exists():
            write_synthetic(where, SyntheticConfig(**dict(odd.settings), seed=seed), 60, test_videos)
        return where
    where = folder / odd.base
    if not where.exists():
        if odd.base == "watch":
            write_watch(where, shared / "data" / "temporal" / "seglearn_watch_f32.npz")
        else:
            write_salads(where, shared / "data" / "tcn_frame_scores" / "50Salads" / "mid" / "mid_video_ED-TCN_L2_C15")
    return where


def write_salads(folder: Path, source: Path, size: int = 32) -> None:
    """Windows of frame-wise class scores of 50 Salads, of test videos alone; videos of three splits of five train."""
    from scipy.io import loadmat

    rate, videos = 2.58, []
    names = [f"class{label:02d}" for label in range(1, 18)]
    for split in range(1, 6):
        file = loadmat(source / f"{split}.mat")
        for number, (scores, labels) in enumerate(zip(file["S"][0], file["Y"][0], strict=True)):
            for first in range(0, len(scores) - size + 1, size):
                rows, truth = scores[first : first + size].astype(np.float32), labels.ravel()[first : first + size]
                cuts = [0, *(np.flatnonzero(np.diff(truth)) + 1).tolist(), size]
                found = [
                    {"label": names[int(truth[a]) - 1], "segment": [a / rate, b / rate]}
                    for a, b in pairwise(cuts)
                    if truth[a] > 0
                ]
                if found:
                    tags = sorted({one["label"] for one in found})
                    record = {"subset": "training" if split <= 3 else "test", "duration": size / rate, "tags": tags,
                              "annotations": found}  # fmt: skip
                    name = f"salad_{split}_{number:02d}_{first:05d}"
                    videos.append(FeatureVideo(name, record, rows.shape, lambda rows=rows: rows))
    write_data_set(folder, videos, {"snippets_per_second": rate, "classes": names}, {"source": "50Salads"})


def changed(odd: OddSet, source: Path, folder: Path) -> Path:
    """The set with the change, written on first use."""
    if odd.change is same and odd.videos is None:
        return source
    if not folder.exists():
        first = open_features(source, "training")
        assert first.truth is not None
        records = truth_document(first.truth)["database"]
        about = {"snippets_per_second": first.snippets_per_second, "classes": list(first.classes)}

        def videos() -> Iterator[FeatureVideo]:
            for subset, most in (("training", odd.videos), ("test", None)):
                data = open_features(source, subset)
                for index, name in list(enumerate(data.names))[:most]:
                    rows = odd.change(data.features(index)).astype(np.float32)
                    yield FeatureVideo(name, records[name], rows.shape, lambda rows=rows: rows)

        write_data_set(folder, videos(), about, {"source": source.name})
    return folder


def trained(backbone: str, data: FeatureSet, seed: int, lr: float | None = None, epochs: int | None = None) -> Run:
    """A run of preset pyws, every setting the default but for a learning rate and epochs that are given."""
    config = replace(PRESETS["pyws"], seed=seed, lr=lr, epochs=epochs)
    videos, run = Videos(data, torch.device("cpu")), begin(backbone, config, data, torch.device("cpu"))
    for epoch in range(run.config.schedule.epochs):
        run.history.append(run_epoch(run, videos, epoch))
    return run


def kept(path: Path, data: FeatureSet) -> Run:
    """A run of before, with the share that the rule as it is now gives the network with labels."""
    run: Run = torch.load(path, weights_only=False)
    run.config = replace(run.config, trust=PRESETS["pyws"].trust)
    if run.aside is not None:
        run.history.append({"share": asdict(weigh(run, Videos(data, torch.device("cpu")), Group()))})
    return run


def measured(run: Run, test: FeatureSet) -> dict[str, Any]:
    """Average mAP of the networks, and what the run decided."""
    tests = Videos(test, torch.device("cpu"))

    def average(network: Backbone, rule: str) -> float:
        config = run.config.detection if rule == "preset" else PRESETS["baseline"].detection
        found = detect(network, run.backbone.proposals, tests, config, run.config.batch_snippets)
        return average_map(found, test, "thumos14")

    networks: dict[str, Backbone] = {"run": run.network}
    if run.aside is not None:
        networks |= {"without": run.aside.without.backbone.model, "with": run.backbone.model}
    scores = {rule: {name: average(network, rule) for name, network in networks.items()} for rule in ("preset", "nms")}
    share = next((record["share"] for record in reversed(run.history) if "share" in record), None)
    return {"epochs": run.epoch, "mAP": scores, "trust": run.trust and asdict(run.trust), "share": share}


def row(found: dict[str, Any], rule: str = "preset") -> str:
    """Without, with, and the run (share); one number where labels are stopped."""
    scores = found["mAP"][rule]
    if "with" not in scores:
        return f"- ({scores['run']:.1f})"
    numbers = " ".join(f"{scores[name]:.1f}" for name in ("without", "with", "run"))
    return f"{numbers} ({found['share']['value']:g})"


def show(out: Path) -> None:
    """A line for each run in the folder, and the worst."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    for one in found:
        print(f"| {one['set']} | {one['backbone']} | {one['seed']} | {row(one)} | {row(one, 'nms')} |")
    for rule in ("preset", "nms"):
        gains = [
            one["mAP"][rule]["run"] - one["mAP"][rule]["without"] for one in found if "without" in one["mAP"][rule]
        ]
        if gains:
            below = sum(gain < -1 for gain in gains)
            print(f"{rule}: {len(gains)} of {len(found)} adopted, mean {np.mean(gains):+.2f}, "
                  f"worst {min(gains):+.2f}, below -1: {below}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--backbones", nargs="+", default=["rskp", "stpn", "bm", "wum", "facnet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[31])
    parser.add_argument("--lr", type=float, help="learning rate in place of the default; give it an OUT of its own")
    parser.add_argument("--epochs", type=int, help="likewise")
    parser.add_argument("--table", action="store_true", help="show what is there")
    parser.add_argument("--keep", action="store_true", help="keep the runs' networks too, as OUT/*.pt")
    parser.add_argument("--again", action="store_true", help="measure those that --keep kept by the rule as it is now")
    parser.add_argument("--networks", type=Path, help="where --keep kept them, if not in OUT")
    parser.add_argument(
        "--test-videos", type=int, default=30, help="that synthetic sets have; give it an OUT of its own"
    )
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for seed, name, backbone in () if asked.table else product(asked.seeds, asked.sets, asked.backbones):
        path = asked.out / f"{name}-{backbone}-{seed}.json"
        network = (asked.networks or asked.out) / f"{path.stem}.pt"
        if not network.exists() if asked.again else path.exists():
            continue
        odd = SETS[name]
        source = base_set(odd, asked.out / "data", asked.shared, seed, asked.test_videos)
        folder = changed(odd, source, asked.out / "data" / f"{name}-{seed}")
        began = time.perf_counter()
        data = open_features(folder, "training", need_tags=True)
        run = kept(network, data) if asked.again else trained(backbone, data, seed, asked.lr, asked.epochs)
        if asked.keep and not asked.again:
            torch.save(run, network)
        found = {"set": name, "backbone": backbone, "seed": seed, **measured(run, open_features(folder, "test"))}
        found["seconds"] = time.perf_counter() - began
        path.write_text(json.dumps(found))
        print(name, backbone, seed, row(found), f"{found['seconds']:.0f} s", flush=True)
    show(asked.out)


if __name__ == "__main__":
    main()
