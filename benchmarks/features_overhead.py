"""How much longer `pyws features` takes than its network alone on the same windows.

``python benchmarks/features_overhead.py VIDEO...`` prints seconds of both and their ratio; the goal is 1.15 at most.
Weights are random: they change no time.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

from pyws.data.video.sources import find_videos
from pyws.models.classifiers import load_classifier
from pyws.segments.snippets.extraction import extract
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import default_sampling


def main(paths: list[str]) -> None:
    videos = find_videos(paths)
    for name in ("small3d", "s3d", "r3d_18"):
        network = SnippetNetwork(load_classifier(name, "random"), torch.device("cpu"), "float32")
        sampling, seen = default_sampling(network.classifier), []

        def watched(windows: torch.Tensor, network: SnippetNetwork = network, seen: list = seen) -> tuple:
            seen.append(windows.clone())
            return network(windows)

        watched.classifier, watched.precision = network.classifier, network.precision
        with tempfile.TemporaryDirectory() as folder:
            extract(watched, sampling, videos, Path(folder) / "warm")
            alone, whole = [], []
            for _ in range(3):
                start = time.perf_counter()
                for windows in seen:
                    network(windows)
                alone.append(time.perf_counter() - start)
                start = time.perf_counter()
                extract(network, sampling, videos, Path(folder) / str(len(whole)))
                whole.append(time.perf_counter() - start)
        print(f"{name}: network {min(alone):.2f} s, all {min(whole):.2f} s, ratio {min(whole) / min(alone):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
