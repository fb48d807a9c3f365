"""Commands load nothing that they do not use: what takes a second to import would be most of a short one's time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyws.cli import _NoCompiler
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic
from pyws.data.tagged.a2d_files import needed_h5py
from pyws.data.tagged.tags_table import _sheet
from pyws.data.video.optical_flow import why_no_opencv
from pyws.errors import DataError
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


def test_training_loads_no_compiler_and_whoever_wants_it_has_the_real_one(tmp_path):
    """The optimiser asks for it, to say that its steps are not to be compiled."""
    write_synthetic(tmp_path, SyntheticConfig(classes=2, width=8, snippets=40), 2, 1)
    code = (
        "import sys; from pyws.cli import main; assert main() == 0; assert 'sympy' not in sys.modules; import torch; "
        "three = torch.compile(lambda x: x + 1, backend='eager')(torch.full((1,), 2.0)); import torch._dynamo.config; "
        "again = torch._dynamo.disable(lambda: torch.compiler.is_compiling())(); "
        "print(three.item(), again, torch._dynamo is sys.modules['torch._dynamo'], torch._dynamo.__file__[-11:])"
    )
    words = ["segments", "train", str(tmp_path), "-o", str(tmp_path / "run"), "--subset", "training", "--epochs", "2"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "3.0 False True __init__.py"), run.stderr


def test_what_stands_for_the_compiler_leaves_functions_as_they_are():
    stand_in = _NoCompiler("torch._dynamo")
    assert stand_in.disable(len, False, wrapping=False) is len
    assert stand_in.disable(recursive=False)(len) is len
    assert stand_in.graph_break() is None
    assert not hasattr(stand_in, "__file__")  # as those ask who look for a module by its file


@pytest.mark.parametrize("words", [["--help"], ["segments", "fuse", "--help"], ["segments", "train", "--help-all"]])
def test_help(words):
    code = "import sys; from pyws.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("module", "asked"),
    [
        ("cv2", why_no_opencv),
        ("h5py", lambda: needed_h5py(Path("a2d"))),
        ("openpyxl", lambda: [*_sheet(Path("t"), b"")]),
    ],
)
def test_a_package_that_does_not_load_says_why(module, asked, tmp_path, monkeypatch):
    """As OpenCV on a machine without libGL: to install it, as people have, does not help."""
    (tmp_path / f"{module}.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        said = str(asked())
    except DataError as error:
        said = str(error)
    assert "install" in said
    assert said.endswith("; what is installed does not load: libGL.so.1: cannot open shared object file")
