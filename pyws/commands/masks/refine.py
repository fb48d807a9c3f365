"""pyws masks refine: pseudo-annotations refined by a model of each video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.masks.refinement.config import RefinementConfig


def refine(
    init: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    masks: Path | None = None,
    classifier_weights: str = "default",
    labels: Path | None = None,
    config: Annotated[RefinementConfig, tyro.conf.arg(name="")] = RefinementConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Refine masks by a model of each video: appearance, place and optical flow, fitted to all masks of the video.

    No tag beyond those of pyws masks init is needed, and no ground truth is read. The result has the layout of INIT:
    pyws masks train goes on from either. Needs OpenCV (pip install 'pyws-video[motion]'). An interrupted run is
    continued by the same command.

    Parameters
    ----------
    init
        Folder that pyws masks init wrote.
    out
        Folder to write: pa/v0 (refined masks), overlays, manifest.json.
    masks
        Folder of other masks of the same frames, e.g. RUN/pa/v1; pa/v0 of INIT where it is left out.
    classifier_weights
        State dict of the classifier of pyws masks init (the one of actors), whose early features are used, a local
        file; default: the published weights.
    labels
        Its labels, where pyws masks init was given a file of them.
    config
        Of the model.
    common
        Options of every command.

    Examples
    --------
    pyws masks refine first -o final
    pyws masks refine first -o final --masks run/pa/v1
    """
    from rich.table import Table

    from pyws.commands.masks.train import open_first_classifier
    from pyws.masks.refinement.pipeline import refine_annotations
    from pyws.report.pictures import draw_masks

    classifier = open_first_classifier(init, classifier_weights, labels)
    classifier.model.to(common.torch_device)
    manifest = refine_annotations(init, out, classifier, config, masks, common.quiet or common.json)
    table = Table("video", "masks", "area", "without mask")
    for name, video in manifest["videos"].items():
        folders = {"pseudo-annotation": (masks or init / "pa/v0") / name, "refined": out / "pa/v0" / name}
        draw_masks(video["source"], folders, out / "overlays" / name)
        report = video["report"]
        table.add_row(name, str(len(video["sampled"])), f"{report['refined_area']:.1%}", str(report["refined_empty"]))
    common.say(table)
    return manifest
