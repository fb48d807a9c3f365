"""A manifest that is damaged anywhere is an error that names the folder, in every command that reads it."""

import copy
import json

import pytest
from review_sets import write_first_masks, write_videos

from pyws.errors import DataError
from pyws.exchange.applying import find_target
from pyws.exchange.sources import read_results
from pyws.masks.self_training.pseudo_annotations import Annotations
from pyws.report.run import write_report

GONE = object()


def places(document, before=()):
    """Where each member of a document is."""
    for key in document if isinstance(document, dict) else range(len(document)):
        yield (*before, key)
        if isinstance(document[key], dict | list):
            yield from places(document[key], (*before, key))


def damaged(document):
    """Copies that lack a member, or have something else in its place."""
    for *way, last in places(document):
        for other in (GONE, None, [], "x", -1, {"a": 1}):
            one = copy.deepcopy(document)
            at = one
            for key in way:
                at = at[key]
            if other is GONE:
                del at[last]
            else:
                at[last] = other
            yield one


def exported(folder, _):
    for video in read_results([folder]).videos:
        assert video.masks is None or video.masks.objects(next(iter(video.masks.files)))


def corrected(folder, _):
    target = find_target(folder)
    assert target.space
    target.media("fox")


def trained(folder, work):
    Annotations(folder, work)


def reported(folder, _):
    write_report(folder)


@pytest.mark.parametrize(("use", "every"), [(exported, 5), (corrected, 3), (trained, 2), (reported, 9)])
def test_whatever_is_damaged_is_said(tmp_path, use, every):
    folder = write_first_masks(tmp_path, write_videos(tmp_path))
    said = []
    for document in list(damaged(json.loads((folder / "manifest.json").read_text())))[::every]:
        (folder / "manifest.json").write_text(json.dumps(document))
        try:
            use(folder, tmp_path / "work")
        except DataError as error:  # nothing else is raised
            said.append(str(error))
    assert any("damaged" in one or "manifest.json" in one for one in said)
