"""pyws label: from videos and tags to segments and masks, by the stages of both systems in sequence."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, check_options

FORMAT = ("pyws label", 1)  # kind and version of the manifest
MASK_EPOCHS = 8  # epochs of the training of masks, as measured


def label(
    videos: tyro.conf.Positional[tuple[Path, ...]],
    tags: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    network: str = "r3d_18",
    weights: str = "default",
    classifier: str = "efficientnet-lite0",
    classifier_weights: str = "default",
    network_class_names: Path | None = None,
    classifier_class_names: Path | None = None,
    dry_run: bool = False,
    budget: str | None = None,
    mask_frames: int = 20,
    map_clips: int = 8,
    versions: int = 0,
    every: int = 5,
    epochs: int = 60,
    folder_fps: float | None = None,
    on_error: Literal["error", "skip"] = "error",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Videos and tags to segments and masks. An interrupted run is continued by the same command.

    Tags that name classes of the image classifier are objects: they have first masks (pyws masks init) and refined ones
    (refine), and with --versions those of a network that learns from them (train, predict). Tags that are classes of
    the network of clips have segments and Grad-CAM maps at once, without training. All other tags are actions that pyws
    segments train learns from your videos. Each stage writes what its own command would.

    Parameters
    ----------
    videos
        Video files, folders of jpg or png frames, or folders that hold such, nested or not.
    tags
        A table of videos and their tags: CSV, TSV or xlsx, as a spreadsheet writes it.
    out
        Folder to write: manifest.json, features, segments, maps, masks, report.html.
    network
        Network of clips, see pyws features; needed only where a tag is no object.
    weights
        Its weights: default, the name of published ones, or a file.
    classifier
        Classifier of images, see pyws masks init.
    classifier_weights
        Its weights: default, the name of published ones, or a file.
    network_class_names
        Names of the classes of the network of clips, one a line, where a file of weights has other classes than
        Kinetics.
    classifier_class_names
        Names of the image classifier's classes, one a line, perhaps with synonyms, where they are not ImageNet's.
    dry_run
        Print the plan, its time and its disk, after a calibration of a few seconds; write nothing.
    budget
        Time that it may take, such as 30m or 2h: chooses the stride of snippets, the frames and clips of a video that
        get masks and maps, epochs and versions, and chooses again where a stage took longer than planned.
    mask_frames
        Frames of a video that get first masks.
    map_clips
        Clips of a video that get maps and masks of an action, those of its best segments.
    versions
        Versions of pseudo-annotations that masks are trained on. None by default: on real videos the refined masks are
        better; a trained network has coarse masks of all frames, and of new videos.
    every
        Frames from one that the trained network segments to the next.
    epochs
        Epochs of the training of actions.
    folder_fps
        Frames a second of folders of frames.
    on_error
        What a video that cannot be read or does not fit the table does: stop the run, or be reported and skipped.
    common
        Options of every command.

    Examples
    --------
    pyws label videos --tags tags.csv -o labels
    pyws label videos --tags tags.csv -o labels --dry-run --budget 30m
    """
    from pyws.commands.label.page import plan_table
    from pyws.commands.label.plan import Choices, minutes_of, plan_document
    from pyws.commands.label.prepare import prepare
    from pyws.commands.label.run import begun, resumed, run_stages
    from pyws.commands.label.stages import Job, Networks
    from pyws.report.run import write_report
    from pyws.run_manifest import MANIFEST, open_run, read_manifest
    from pyws.segments.snippets.windows import Sampling
    from pyws.sharding import this_shard

    check_options(">= 1", mask_frames=mask_frames, map_clips=map_clips, every=every, epochs=epochs)
    check_options(">= 0", versions=versions)
    check_options("> 0", folder_fps=folder_fps)
    if not this_shard().whole:
        raise ValueError("torchrun or Slurm started several processes, but pyws label is one: run its stages, such as"
                         " pyws features and pyws masks init, which part their videos")  # fmt: skip
    minutes = minutes_of(budget) if budget is not None else None
    networks = Networks(network, weights, network_class_names, classifier, classifier_weights, classifier_class_names)
    wanted = Choices(Sampling(1, 1, 1), epochs, mask_frames, versions, MASK_EPOCHS, every, map_clips)
    quietly = replace(common, json=False, quiet=common.silent)
    prepared = prepare(videos, tags, Job(networks, out, folder_fps, on_error, quietly), wanted)
    for problem in prepared.problems:
        common.say(f"left out: {problem}")
    parameters = {**networks.document(), **asdict(wanted), "budget": budget, "seed": common.seed}
    file = out / MANIFEST
    there = file.is_file()
    state = read_manifest(file, *FORMAT, parameters)["state"] if there else begun(prepared, minutes)
    prepared, choices, costs = resumed(prepared, state)
    plan = plan_document(prepared.work, choices, costs, prepared.job.routes)
    common.say(plan_table(plan, state["notes"]))
    if dry_run:
        return {**plan, "notes": state["notes"]}
    owned = ("features", "segments", "maps", "masks")
    with open_run(out, *FORMAT, parameters, ("torch",), {"state": state, "plan": plan}, owned) as manifest:
        manifest.document["plan"] = plan
        done = run_stages(prepared, minutes, manifest)
        document = {**manifest.document, "problems": list(prepared.problems), "stages": done}
    write_report(out, quiet=quietly.quiet)
    common.say(f"{out}: report.html shows what was found")
    return document
