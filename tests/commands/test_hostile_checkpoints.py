"""Checkpoints whose checksum is right and whose facts are none: whoever makes a file can make that as well."""

import copy

import pytest

from pyws.checkpoint import read_tensors, write_checkpoint
from pyws.cli import main
from pyws.data.synthetic.features import SyntheticConfig, write_synthetic


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_synthetic(folder / "set", SyntheticConfig(classes=2, width=8, snippets=40), 2, 1)
    words = ["segments", "train", f"{folder}/set", "-o", f"{folder}/net", "--subset", "training", "--epochs", "1"]
    assert main([*words, "--batch", "2", "--preset", "pyws", "--quiet", "--device", "cpu"]) == 0
    return folder


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("config", "detection"), None),
        (("config", "detection"), [[1]]),
        (("config", "detection", "ranking"), 1e308),
        (("config", "detection", "method"), True),
        (("config", "batch_snippets"), None),
        (("config", "batch_snippets"), 0),
        (("config", "detection", "overlap"), "x"),
        (("config", "detection", "iou_threshold"), True),
        (("features",), 10**18),
        (("features",), 0),
        (("options", "mix"), ""),
        (("proposals", "scoring"), 0),
        (("proposals", "thresholds"), []),
        (("proposals", "thresholds"), [0.5, 0.3]),
        (("proposals", "thresholds"), -1e308),
    ],
)
def test_facts_that_cannot_be_are_named_with_the_file_and_the_setting(path, value, trained, tmp_path, capsys):
    tensors, header = read_tensors(trained / "net/last.safetensors")
    facts = copy.deepcopy(header["facts"])
    within = facts
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    if value is None:
        del within[path[-1]]
    write_checkpoint(tmp_path / "hostile.safetensors", header["kind"], tensors, facts)
    words = ["segments", "predict", f"{trained}/set", "--subset", "test", "-o", f"{tmp_path}/found.json", "--quiet"]
    assert main([*words, "--checkpoint", f"{tmp_path}/hostile.safetensors", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/hostile.safetensors: " in said
    assert path[-1] in said
