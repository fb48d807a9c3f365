"""What is said of a set of features as a whole: assumed rates, annotations that were not read, odd lengths."""

import json
import re

import numpy as np
import pytest

from pyws import cli
from pyws.data.features.check import check_data_set
from pyws.data.features.dataset import open_features
from pyws.data.features.files import write_features
from pyws.errors import DataError
from pyws.files import write_json


def write_set(folder, lengths=(16, 25, 50), rate=25 / 16, **about):
    """Videos of these lengths, which last what they do at a rate; the rate 0 gives no durations."""
    database = {}
    for number, length in enumerate(lengths):
        record = {"subset": "test", "annotations": [{"label": "a", "segment": [0, 1]}]}
        database[f"v{number}"] = record | ({"duration": length / rate} if rate else {})
        write_features(folder / "features" / f"v{number}.npy", np.ones((length, 4)))
    write_json(folder / "truth.json", {"database": database})
    if about:
        write_json(folder / "dataset.json", about)
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, ["1.5625 is ASSUMED, and all seconds follow from it. Say it"]),
        ({"rate": 0}, ["1.5625 is ASSUMED, and all seconds follow from it; no durations speak for it"]),
        ({"rate": 3.75}, ["1.5625 is ASSUMED, and all seconds follow from it; by their durations it is 3.75"]),
        ({"rate": 3.75, "snippets_per_second": 3.75}, []),
        ({"rate": 3.75, "snippets_per_second": 2}, ["3 of 3 videos do not last .* at 2 snippets a second; by .* 3.75"]),
        ({"lengths": (100, 100), "rescaled": True}, []),
        ({"rate": 2, "snippets_per_second": {"v0": 2, "v1": 2, "v_v2": 2.0}}, []),
        (
            {"rate": 2, "snippets_per_second": {"v0": 2, "v1": 3, "v2": 3}},
            ["2 of 3 videos .* at their own rates; .* 2"],
        ),
    ],
)
def test_rates_that_are_only_assumed(arguments, said, tmp_path, capsys):
    """In every command that opens features the same, once, on standard error."""
    folder = write_set(tmp_path, **arguments)
    doubts = open_features(folder).doubts
    assert len(doubts) == len(said)
    assert check_data_set(folder).doubts == doubts
    for doubt, wanted in zip(doubts, said, strict=True):
        assert re.search(wanted, doubt)
    assert cli.main(["data", "check", str(folder), "--json"]) == 0
    assert capsys.readouterr().err.count("ASSUMED") == sum("ASSUMED" in wanted for wanted in said)


def test_features_of_one_length_look_rescaled(tmp_path):
    write_set(tmp_path, (100, 100))
    document = json.loads((tmp_path / "truth.json").read_text())
    document["database"]["v1"]["duration"] = 200
    document["database"]["v0"]["duration"] = 20
    write_json(tmp_path / "truth.json", document)
    (doubt,) = open_features(tmp_path).doubts
    assert doubt == 'every video has 100 snippets: they look rescaled. Say it in dataset.json: {"rescaled": true}'


def test_what_was_not_read_is_said(tmp_path):
    write_set(tmp_path, snippets_per_second=25 / 16)
    write_json(tmp_path / "annotations" / "thumos14.json", {"database": {}})
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "val_Annotation.csv").write_text("video,type,start,end\n")
    write_json(tmp_path / "other.json", {"colour": "red"})
    (doubt,) = open_features(tmp_path).doubts
    assert doubt == (
        "not read: broken.json, val_Annotation.csv, annotations/thumos14.json; the annotations are those of truth.json"
        " (--annotations FILE reads another)"
    )
    assert open_features(tmp_path, annotations=tmp_path / "truth.json").doubts == ()


def test_no_classes_at_all_is_said(tmp_path):
    write_features(tmp_path / "v.npy", np.ones((5, 4)))
    assert any("there are 0 classes" in doubt for doubt in open_features(tmp_path).doubts)


def test_tables_of_segments_beside_flat_features(tmp_path):
    write_features(tmp_path / "v1.npy", np.ones((5, 4)))
    (tmp_path / "test_Annotation.csv").write_text("video,type,start,end\nv_v1,Diving,0,1\n")
    videos = open_features(tmp_path, "test")
    assert (videos.names, videos.classes) == (("v_v1",), ("Diving",))
    (tmp_path / "gt.json").write_text("{")
    with pytest.raises(DataError, match="gt.json: is not valid JSON"):
        open_features(tmp_path)


@pytest.mark.parametrize("subset", ["test", None, 3])
def test_bad_records_matter_where_they_are_chosen(subset, tmp_path):
    """A record that cannot be read stops its own subset, and every subset where it does not say one."""
    write_set(tmp_path, snippets_per_second=25 / 16)
    document = json.loads((tmp_path / "truth.json").read_text())
    document["database"]["v0"]["subset"] = "training"
    bad = {"annotations": [{"label": "a", "segment": [3, 1]}]}
    document["database"]["v2"] = bad if subset is None else {"subset": subset, **bad}
    write_json(tmp_path / "truth.json", document)
    with pytest.raises(DataError, match=r"truth.json: video 'v2': .*(segment must be|with a subset)"):
        open_features(tmp_path, "test")
    if subset == "test":
        assert open_features(tmp_path, "training").names == ("v0",)
        assert any(problem.video == "v2" for problem in check_data_set(tmp_path).problems)
    else:
        with pytest.raises(DataError, match=r"truth.json: video 'v2'"):
            open_features(tmp_path, "training")
    document["database"]["v2"]["subset"] = "test"
    write_json(tmp_path / "truth.json", document | {"ambiguous": {"v1": [[3, 1]]}})
    with pytest.raises(DataError, match=r"truth.json: ambiguous 'v1' must be"):
        open_features(tmp_path, "training")
