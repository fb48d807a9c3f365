"""Commands load nothing that they do not use: what takes a second to import would be most of a short one's time."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pyws.models.image_networks.efficientnet_lite import EfficientNetLite

HEAVY = {
    "torch._dynamo", "torch._inductor", "sympy", "torchvision", "timm", "matplotlib.pyplot", "pandas", "scipy",
    "skimage", "av",
}  # fmt: skip


def loaded(arguments):
    """The modules that are there after commands, one after another in one process."""
    code = (
        "import json, sys; from pyws.cli import main; words = json.loads(sys.argv[1]); "
        "assert [main(each) for each in words] == [0] * len(words); print(json.dumps(sorted(sys.modules)))"
    )
    words = [[str(word) for word in each] for each in arguments]
    run = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_segments(tmp_path):
    proposals = {"results": {"v": [{"label": "Run", "segment": [1.0, 4.0], "score": 0.5}]}}
    truth = {
        "database": {
            "v": {"duration": 10.0, "subset": "test", "annotations": [{"label": "Run", "segment": [1.0, 5.0]}]}
        }
    }
    for name, document in (("proposals", proposals), ("truth", truth)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    given, known = tmp_path / "proposals.json", tmp_path / "truth.json"
    found = loaded(
        [
            ["segments", "fuse", given, tmp_path / "fused.json", "--quiet"],
            ["segments", "labels", given, known, tmp_path / "labels.safetensors", "--quiet"],
            ["segments", "evaluate", tmp_path / "fused.json", known, "--quiet"],
        ]
    )
    assert not found & HEAVY
    without = [
        ["export", tmp_path / "fused.json", "--format", "activitynet", "-o", tmp_path / "review", "--quiet"],
        ["verify", tmp_path / "fused.json", "--quiet"],
    ]
    assert "torch" not in loaded(without)


def test_masks_init(tmp_path):
    torch.manual_seed(0)
    torch.save(EfficientNetLite(classes=1000).state_dict(), tmp_path / "weights.pth")
    (tmp_path / "dog").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)).save(tmp_path / "dog/1.png")
    words = ["masks", "init", tmp_path / "dog", "-o", tmp_path / "out", "--tag", "dog=151-268", "--short-side", 64]
    words += ["--classifier", "efficientnet-lite0", "--weights", tmp_path / "weights.pth", "--quiet"]
    assert not loaded([words]) & HEAVY


@pytest.mark.parametrize("words", [["--help"], ["segments", "fuse", "--help"], ["segments", "train", "--help-all"]])
def test_help(words):
    code = "import sys; from pyws.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
