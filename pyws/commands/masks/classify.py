"""pyws masks classify: classifiers of actors and actions from the tags of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.commands.masks.init import opened_set
from pyws.masks.initial_masks.train_classifier import ClassifierConfig


def classify(
    data: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    what: Literal["actor", "action"],
    weights: str | None = None,
    layout: Literal["auto", "a2d", "youtube-objects", "ava", "plain"] = "auto",
    tags: Literal["all", "main"] = "all",
    train: tuple[str, ...] | None = None,
    test: tuple[str, ...] | None = None,
    validation: int = 0,
    on_error: Literal["error", "skip"] = "error",
    config: Annotated[ClassifierConfig, tyro.conf.arg(name="")] = ClassifierConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Train a classifier of actors or actions from tags, for pyws masks init. An interrupted training goes on;
    under torchrun several processes train as one.

    Parameters
    ----------
    data
        Folder of a data set of tagged videos: A2D, YouTube-Objects, AVA, or videos/ and tags.csv.
    out
        File to write, ending in .safetensors; beside it go OUT.json, what came of the training, and its page.
    what
        Which part of the tags; objects without actions are actors.
    weights
        State dict to begin with, such as one trained on ImageNet or Kinetics, or default for the published one; its
        last layer is replaced.
    layout
        Layout of the data set; auto finds out.
    tags
        Tags of a video of A2D: all, or the main one of videoset.csv alone.
    train
        Subsets to learn from; left out, train, or all but val and test where there is no train. Videos of no subset
        are of the one named "".
    test
        Subsets on which right answers are counted; left out, test, or val where there is no test.
    validation
        Videos of train to set aside as val, as pyws masks init does with the same number and seed, so that nothing is
        learned from them; for data sets that do not say which.
    on_error
        What an unreadable video does: stop the run, or be left out and reported.
    config
        How it is trained.
    common
        Options of every command.

    Examples
    --------
    pyws masks classify A2D -o actor.safetensors --what actor --network resnet50 --weights default
    pyws masks classify AVA -o action.safetensors --what action --network i3d --weights i3d.pth --loss bce --crop 224
    pyws masks classify mine -o action.safetensors --what action --network r3d_18 --weights default --frozen-body
    """
    from dataclasses import asdict, replace

    from pyws.data.tagged.dataset import FEW_VIDEOS, classes_of_few_videos
    from pyws.distributed import own_device, processes
    from pyws.files import write_json
    from pyws.masks.initial_masks.train_classifier import train_classifier
    from pyws.models.pretrained.weights import weights_file
    from pyws.report.run import write_report
    from pyws.report.runs.classifier import CLASSIFIER

    if out.suffix != ".safetensors":
        raise ValueError(f"--out: must end in .safetensors, got {out}")
    found = opened_set(data, layout, tags, validation, common.seed)
    test = found.measured if test is None else test
    device = own_device(common.use_device())
    with processes(device) as group:
        common = common if group.first else replace(common, quiet=True)
        report = train_classifier(
            found,
            what,
            out,
            config,
            None if weights is None else weights_file(config.network, weights),
            found.learned if train is None else train,
            test,
            on_error,
            common.seed,
            device,
            common.silent,
            group,
        )
        if group.first:
            about = {name: value for name, value in report.items() if name != "out"}
            parameters = {"weights": weights, "tags": tags, "test": test, "seed": common.seed, **asdict(config)}
            write_json(f"{out}.json", {"format": CLASSIFIER, "parameters": parameters, **about})
            write_report(out)
    right = "" if report["accuracy"] is None else f", right on {report['accuracy']:.1%} of {report['test_videos']}"
    common.say(f"{out}: {report['network']} of {len(report['labels'])} {what}s, {report['train_videos']} videos{right}")
    if few := classes_of_few_videos(report["videos_by_class"]):
        named = ", ".join(f"{name} {count}" for name, count in few.items())
        common.say(f"warning: few videos to learn from, {FEW_VIDEOS} and more of each are wanted: {named}")
    for name, error in report["failed"].items():
        common.say(f"left out {name}: {error}")
    return report
