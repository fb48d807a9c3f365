"""Presets of pyws masks train: what each sets, what wins over them, and that a run keeps its own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pyws import DataError, cli
from pyws.masks.self_training.loop import FORMAT, SelfTrainingConfig
from pyws.masks.self_training.presets import PRESETS, preset_config
from pyws.run_manifest import open_run

GROUPS = ("selection", "training", "loop", "discriminator")
CHANGED = {
    "paper": {
        "training.backbone": "resnet50",
        "training.output_stride": 16,
        "loop.choose_after": 0.0,
        "loop.noise": 0.0,
        "loop.returned": "last",
        "loop.constrain_labels": False,
    },
    "pyws": {"selection.label_tests": "classifier", "selection.select_share": 0.5, "training.equal_steps": True},
}


def parsed(*words: str, command: str = "masks train") -> dict[str, Any]:
    """Values of options by group and field."""
    first = ["data", "first"] if command == "masks ablate" else ["first"]
    found = cli.parse(command, [*first, "-o", "run", *words])
    return {f"{group}.{name}": value for group in GROUPS for name, value in vars(found[group]).items()}


@pytest.mark.parametrize("command", ["masks train", "masks ablate"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_its_table_says(preset: Any, command: str) -> None:
    usual, found = parsed(), parsed("--preset", preset, command=command)
    assert {name: value for name, value in found.items() if value != usual[name]} == CHANGED[preset]
    config = asdict(preset_config(preset, seed=3))
    assert (config.pop("seed"), config.pop("preset")) == (3, preset)
    assert {f"{group}.{name}": value for group, values in config.items() for name, value in values.items()} == found


def test_options_win_over_a_preset_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('preset = "paper"\n[loop]\nreturned = "best"\nnoise = 0.5\n')
    found = parsed("--config", str(file), "--noise", "1.0", "--set", "training.output-stride=8")
    assert (found["loop.returned"], found["loop.noise"]) == ("best", 1.0)
    assert (found["training.output_stride"], found["training.backbone"]) == (8, "resnet50")
    back = parsed("--constrain-labels", "--preset=paper", "--backbone", "resnet101")
    assert (back["loop.constrain_labels"], back["training.backbone"], back["loop.noise"]) == (True, "resnet101", 0.0)
    assert parsed("--config", str(file), "--preset", "pyws")["training.backbone"] == "resnet101"  # the last one counts


def test_a_run_keeps_its_preset(tmp_path: Path) -> None:
    began = preset_config("pyws")
    with open_run(tmp_path, *FORMAT, asdict(began), ()) as manifest:
        assert manifest.document["parameters"]["preset"] == "pyws"
    same_values = replace(began, preset="paper")
    refused = pytest.raises(DataError, match="holds a run with preset 'pyws', not 'paper'; choose another folder")
    with refused, open_run(tmp_path, *FORMAT, asdict(same_values), ()):
        pass
    assert SelfTrainingConfig().preset is None
    with pytest.raises(ValueError, match="preset: must be one of paper, pyws, got 'released'"):
        preset_config("released")  # type: ignore[arg-type]
