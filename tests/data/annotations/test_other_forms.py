"""Ground truth in BSN's and G-TAD's forms gives what the same in ActivityNet's form gives."""

import gzip
import json

import numpy as np
import pytest

from pyws.data.annotations.activitynet import read_truth
from pyws.errors import DataError


def test_real_tables_of_thumos14_agree_with_the_other_releases(shared):
    folder = shared / "data" / "thumos_gt"
    truth = read_truth(folder / "gtad" / "test_Annotation.csv")
    other = read_truth(folder / "gtad" / "thumos14_test_groundtruth.csv")
    assert truth.counts()["instances"] == other.counts()["instances"] == {"test": 3358}
    assert (len(truth.instances.labels), len(other.instances.labels)) == (20, 20)
    assert sum(map(len, truth.ambiguous.values())) == sum(map(len, other.ambiguous.values())) == 99
    assert np.array_equal(np.sort(truth.instances.start), np.sort(other.instances.start))
    assert not np.isnan(other.duration).any()
    assert read_truth(folder / "gtad" / "val_Annotation.csv").counts()["instances"] == {"validation": 3007}


def test_real_annotations_of_bsn(shared, tmp_path):
    folder = shared / "data" / "thumos_gt" / "anet13_bmn"
    for name in ("anet_anno_action.json", "video_info_new.csv"):
        (tmp_path / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    truth = read_truth(tmp_path / "anet_anno_action.json")
    assert truth.counts()["videos"] == {"testing": 4851, "training": 9649, "validation": 4728}
    assert len(truth.instances) == 22152
    assert (truth.duration > 0).all()
    (tmp_path / "video_info_new.csv").unlink()
    assert set(read_truth(tmp_path / "anet_anno_action.json").subset) == {""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start,end\nv,1,2\n", "must have the columns of annotations, label or type or class or label-idx too"),
        ("video,type,start,end\nv,a,1\n", "line 2: must name a video and a type and a start and an end"),
        ("video,type,start,end\nv,a,3,2\n", "video 'v', entry 0: segment must be"),
        ("video,type,start,end,subset\nv,a,1,2,x\nv,a,1,2,y\n", "line 3: video 'v' must be in one subset, got 'x'"),
    ],
)
def test_bad_tables_of_segments(text, message, tmp_path):
    (tmp_path / "val_Annotation.csv").write_text(text)
    with pytest.raises(DataError, match=rf"val_Annotation.csv.*{message}"):
        read_truth(tmp_path / "val_Annotation.csv")


def test_own_table_of_segments(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "video_id,class,start,end,duration,subset\nv,Diving,1,2,9,test\nv,Diving,3,4,9,test\n"
    )
    truth = read_truth(tmp_path / "mine.csv")
    assert (truth.subset, truth.duration.tolist(), truth.instances.end.tolist()) == (("test",), [9], [2, 4])
    for record in ({"duration": 3}, {"duration_second": 3}, {"annotations": []}):
        (tmp_path / "none.json").write_text(json.dumps({"v": record}))
        with pytest.raises(DataError, match="none.json: must hold an object 'database', got 'v'"):
            read_truth(tmp_path / "none.json")
