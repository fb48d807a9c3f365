"""pyws segments ablate: what variants share and what they change, results that are kept, tables."""

import json
import shutil
from dataclasses import replace

import feature_sets
import numpy as np
import pytest
import torch

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.segments.ablation import METHODS, VARIANTS, Ablation, Variant, at_test, label_worth, variant_of
from pyws.segments.config import PRESETS
from pyws.segments.detection.postprocess import PostprocessConfig
from pyws.segments.pseudo_labels import PseudoLabels
from pyws.segments.training.train import train

SHORT = ("warm-up", "longer", "trusted")  # variants of backbones other than the first
WORDS = ("--epochs", "7", "--lr", "0.01", "--seeds", "1", "--backbones", "stpn", "bm", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return feature_sets.write(root, feature_sets.draw(6), feature_sets.draw(4, "test", seed=1))


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("ablation") / "out"
    assert cli.main(["segments", "ablate", str(path), "--data", str(folder), *WORDS]) == 0
    return path


def cell(out, backbone, variant):
    return json.loads((out / "cells" / f"{backbone}-0-{variant}.json").read_text())


def test_all_variants_of_the_first_backbone(out):
    names = {path.stem for path in (out / "cells").glob("*.json")}
    assert names == {f"stpn-0-{variant}" for variant in VARIANTS} | {f"bm-0-{variant}" for variant in SHORT}
    assert cell(out, "stpn", "warm-up")["epochs"] == 4
    assert cell(out, "stpn", "delta")["epochs"] == 7
    assert set(cell(out, "bm", "longer")["mAP"]) == set(METHODS)
    assert cell(out, "stpn", "longer")["labels"] is None
    assert cell(out, "stpn", "gaussian")["labels"]["optimal"] > 0


def test_a_variant_is_a_run_of_its_own(out, folder):
    """The copy of the warmed-up network goes on exactly as a run that trains like this from the start."""
    preset = replace(PRESETS["pyws"], epochs=7, lr=0.01, trust=None)
    run = train("stpn", preset, open_features(folder, "training"), open_features(folder, "test"))
    assert run.history[-1]["mAP"] == cell(out, "stpn", "gaussian")["mAP"]["preset"]["average"]


def test_what_variants_change():
    preset = PRESETS["pyws"]
    plain = Variant().of(preset, 350)
    assert plain.schedule.target(300) is None
    assert plain.schedule.rates == preset.schedule.rates
    assert plain.trust is None
    nms = Variant("nms").of(preset, 350)
    assert nms.pseudo_labels.postprocess == preset.pseudo_labels.postprocess.with_method("nms")
    assert Variant("gaussian").of(preset, 350) == replace(preset, trust=None)
    assert Variant("gaussian", trust=True).of(preset, 350) == preset
    delta = Variant("gaussian", delta=True)
    assert [delta.of(preset, 350).schedule.target(epoch).delta for epoch in (250, 251)] == [False, True]
    assert delta.of(preset, 70).schedule.targets[1].first == 50
    assert (delta.of(preset, 350).schedule.targets[1].scale, delta.of(preset, 350).pseudo_labels.rows) == (1.0, "sum")
    assert delta.of(PRESETS["paper"], 350) == PRESETS["paper"]
    assert not Variant("gaussian").of(PRESETS["paper"], 350).schedule.target(349).delta
    assert [Ablation(preset=name).whole for name in ("pyws", "paper", "released")] == ["trusted", "delta", "delta"]


def test_the_rules_of_a_preset_are_as_they_are():
    rules = PostprocessConfig(temperature=0.3)
    assert at_test("preset", rules) is rules


def test_what_a_temperature_changes():
    swept = variant_of("T=0.5").of(PRESETS["paper"], 350)
    plain = Variant("gaussian").of(PRESETS["paper"], 350)
    assert swept.schedule.temperatures == (0.5,) * 6
    assert replace(swept, schedule=plain.schedule) == plain
    tested = at_test("T=0.01", PRESETS["pyws"].detection)
    assert (tested.method, tested.temperature, tested.ranking, tested.iou_threshold) == (
        "gaussian",
        0.01,
        "score",
        None,
    )


def test_results_are_kept(out, folder, capsys):
    path = out / "cells" / "stpn-0-gaussian.json"
    before, other = path.read_text(), out / "cells" / "stpn-0-warm-up.json"
    stamp = other.stat().st_mtime_ns
    path.unlink()
    assert cli.main(["segments", "ablate", str(out), "--data", str(folder), *WORDS]) == 0
    again, kept = json.loads(path.read_text()), json.loads(before)
    assert {**again, "seconds": 0} == {**kept, "seconds": 0}
    assert other.stat().st_mtime_ns == stamp
    assert cli.main(["segments", "ablate", str(out), "--data", str(folder), *WORDS, "--lr", "0.02"]) == 1
    assert "is of another ablation: lr was 0.01, now 0.02" in capsys.readouterr().err


def test_tables(out):
    text = (out / "report.md").read_text()
    assert "| + delta pseudo labels |" in text
    assert "bm" in text
    assert (out / "report.html").read_text().count("<table") == 4
    score = cell(out, "stpn", "delta")["mAP"]["gaussian"]["average"]
    assert f"{score:.1f}" in text


def test_synthetic_videos_are_drawn_and_named(tmp_path):
    words = ["--epochs", "3", "--lr", "0.01", "--seeds", "1", "--backbones", "bm", "--quiet", "--videos", "6"]
    assert cli.main(["segments", "ablate", str(tmp_path / "out"), *words]) == 0
    assert len(open_features(tmp_path / "out/data/seed-0", "training")) == 6
    assert "SYNTHETIC" in (tmp_path / "out/report.md").read_text()


def test_unusable_data_leave_no_folder(folder, tmp_path, capsys):
    """What is wrong with the data is said before anything is written or trained."""
    document = json.loads((folder / "truth.json").read_text())
    shutil.copytree(folder / "features", tmp_path / "bare" / "features")
    for record in document["database"].values():
        record["annotations"] = record["annotations"] if record["subset"] == "training" else []
    (tmp_path / "bare" / "truth.json").write_text(json.dumps(document))
    rules = {"none": "must be a folder with features", "bare": "videos such as 'test_00' must have annotated segments"}
    for name, rule in rules.items():
        assert cli.main(["segments", "ablate", str(tmp_path / "out"), "--data", str(tmp_path / name), *WORDS]) == 1
        assert rule in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()


def test_worth_of_labels(folder):
    data = open_features(folder, "training")
    truth = data.truth.instances
    first = np.flatnonzero(truth.video == list(truth.videos).index(data.names[0]))[0]
    label = data.classes.index(truth.labels[truth.label[first]])
    start, end = (round(s * data.snippets_per_second) for s in (truth.start[first], truth.end[first]))
    values = torch.zeros(int(data.lengths[0]))
    values[start:end] = 0.5
    assert label_worth(PseudoLabels.of({(0, label): values}), data)["inside"] == pytest.approx(100)
    values[:] = 1.0
    whole = PseudoLabels.of({(0, label): values})
    assert 0 < label_worth(whole, data)["inside"] < 100
    moved = torch.zeros_like(values)
    moved[start] = 2.0  # rises inside by 1, falls elsewhere: of what fell all but the rest of the segments is outside
    changed = label_worth(PseudoLabels.of({(0, label): moved}), data, whole)
    others = label_worth(PseudoLabels.of({(0, label): torch.where(moved > 0, 0.0, values)}), data)
    assert changed["risen_inside"] == pytest.approx(100)
    assert changed["fallen_inside"] == pytest.approx(others["inside"])


def test_temperatures_are_added_to_results_that_are_there(out, folder, capsys):
    stamp = (out / "cells" / "stpn-0-gaussian.json").stat().st_mtime_ns
    words = [word for word in WORDS if word != "--quiet"]
    swept = ("--temperatures", "0.1", "1")
    assert cli.main(["segments", "ablate", str(out), "--data", str(folder), *words, *swept, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == len(VARIANTS) + len(SHORT) + 2
    assert (out / "cells" / "stpn-0-gaussian.json").stat().st_mtime_ns == stamp
    tenth, one = cell(out, "stpn", "T=0.1"), cell(out, "stpn", "T=1")
    # Preset pyws trains at 0.1 in all rounds, and 0.2 is the temperature of the plain Gaussian at test.
    assert {name: tenth["mAP"][name] for name in METHODS} == cell(out, "stpn", "gaussian")["mAP"]
    assert tenth["mAP"]["T=0.2"] == tenth["mAP"]["gaussian"]
    assert one["labels"] != tenth["labels"]
    page = (out / "report.md").read_text()
    assert "| temperature in training | NMS at test | Gaussian, T=0.01 |" in page
    assert (out / "temperatures.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="temperatures must be > 0, got 0"):
        Ablation(temperatures=(0.0,))


def test_what_is_asked_of_the_detections_has_rows_of_its_own(folder, tmp_path):
    """The rows as published keep the preset's rules; what is asked for is measured, shown and named."""
    words = ["--epochs", "3", "--lr", "0.01", "--seeds", "1", "--backbones", "bm", "--quiet", "--data", str(folder)]
    asked = ["--method", "nms", "--iou", "0.1"]
    for name, more in (("plain", []), ("asked", asked)):
        assert cli.main(["segments", "ablate", str(tmp_path / name), *words, *more]) == 0
    plain, own = (cell(tmp_path / name, "bm", "warm-up")["mAP"] for name in ("plain", "asked"))
    assert {name: plain[name] for name in METHODS[:-1]} == {name: own[name] for name in METHODS[:-1]}
    page = (tmp_path / "asked" / "report.md").read_text()
    assert "| warm-up, at test nms, iou_threshold 0.1 |" in page
    assert "| nms, iou_threshold 0.1 |" in page
    assert f"{own['preset']['average']:.1f}" in page
    assert "at test nms" not in (tmp_path / "plain" / "report.md").read_text()
