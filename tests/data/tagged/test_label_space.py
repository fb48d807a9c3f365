"""Train ids and what they mean."""

import json

import numpy as np
import pytest

from pyws import DataError
from pyws.data.tagged.label_space import (
    A2D_ACTIONS,
    A2D_ACTORS,
    A2D_CODES,
    LabelSpace,
    a2d,
    a2d_codes,
    a2d_table,
    actor_actions,
    object_labels,
    youtube_objects,
)


def test_a2d_has_43_pairs_in_the_order_of_their_codes():
    space = a2d()
    assert len(space) == 44
    assert list(A2D_CODES) == sorted(set(A2D_CODES))
    assert a2d_codes(space) == (0, *A2D_CODES)
    counts = [sum(code // 10 == actor for code in A2D_CODES) for actor in range(1, 8)]
    assert counts == [8, 5, 4, 7, 5, 7, 7]
    for index, code in enumerate(A2D_CODES, start=1):
        assert space.names[index] == f"{A2D_ACTORS[code // 10 - 1]}-{A2D_ACTIONS[code % 10 - 1]}"
        assert (space.actor[index], space.action[index]) == divmod(code, 10)
    assert space.names[-1] == "dog-none"


def test_codes_to_train_ids_and_back():
    table = a2d_table(a2d())
    valid = table[list(A2D_CODES)]
    assert valid.tolist() == list(range(1, 44))
    assert table[0] == 0
    assert set(table[[code for code in range(1, 256) if code not in A2D_CODES]]) == {255}


def test_a_part_of_a2d_keeps_its_order():
    space = a2d([65, 39, 55, 35])
    assert space.names == ("background", "ball-jumping", "ball-none", "car-jumping", "cat-jumping")
    assert space.actors == ("background", "ball", "car", "cat")
    assert space.actions == ("background", "jumping", "none")
    assert space.pairs().tolist() == [[0, 0, 0], [0, 1, 2], [0, 3, 0], [0, 4, 0]]
    assert a2d_table(space)[[35, 39, 55, 65, 36]].tolist() == [1, 2, 3, 4, 255]


def test_merging():
    space = actor_actions([("cat", "running"), ("dog", "running"), ("cat", "eating")])
    ids = np.array([[0, 1, 2], [3, 255, 7]])
    assert space.merge(ids, "joint").tolist() == [[0, 1, 2], [3, 255, 255]]
    assert space.merge(ids, "actor").tolist() == [[0, 1, 2], [1, 255, 255]]
    assert space.merge(ids.astype(np.uint8), "action").tolist() == [[0, 1, 1], [2, 255, 255]]
    assert space.merge(np.array([-1, 300]), "actor").tolist() == [255, 255]
    assert space.view("action") == ("background", "running", "eating")
    assert space.has_actions


def test_objects():
    space = youtube_objects()
    assert len(space) == 11
    assert not space.has_actions
    assert space.id_of("train") == 10
    assert space.merge(np.arange(11), "action").tolist() == [0] * 11
    with pytest.raises(ValueError, match="'zebra' is not among the labels: dog, cat"):
        object_labels(["dog", "cat"]).id_of("zebra")


def test_as_json():
    space = a2d([11, 12, 79])
    assert LabelSpace.read(json.loads(json.dumps(space.document())), "x.json") == space


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["background", "a", "a"]},
        {"names": ["a", "b", "c"]},
        {"actor": [0, 1]},
        {"actor": [0, 1, 9]},
        {"actor": [0, -1, 1]},
        {"actor": [1, 0, 2]},
        {"action": [1, 0, 0]},
        {"action": [0, "x", 0]},
        {"actor": [0, 1, 2.0]},
        {"action": [0, 0.0, 0]},
        {"actors": []},
        {"names": [str(index) for index in range(256)]},
    ],
)
def test_bad_label_spaces_are_named(change):
    document = {**object_labels(["a", "b"]).document(), **change}
    with pytest.raises(DataError, match=r"x\.json: must hold a label space"):
        LabelSpace.read(document, "x.json")
    with pytest.raises(DataError, match=r"x\.json: must hold a label space"):
        LabelSpace.read(None, "x.json")


def test_bad_codes():
    with pytest.raises(ValueError, match="got 80"):
        a2d([11, 80])
