"""pyws label: from videos and tags to segments and masks, by the stages of both systems in sequence."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions


def label(
    videos: tyro.conf.Positional[tuple[Path, ...]],
    tags: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    network: str = "r3d_18",
    weights: str = "default",
    classifier: str = "efficientnet-lite0",
    classifier_weights: str = "default",
    network_labels: Path | None = None,
    classifier_labels: Path | None = None,
    dry_run: bool = False,
    budget: str | None = None,
    mask_frames: int = 20,
    epochs: int = 60,
    folder_fps: float | None = None,
    on_error: Literal["error", "skip"] = "error",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Videos and tags to segments and masks. An interrupted run is continued by the same command.

    Tags that are whole names of the image classifier are objects: pyws masks init masks them. Tags that are classes of
    the network of clips have segments and Grad-CAM maps at once, without training. All other tags are actions that
    pyws segments train learns from your videos. Each stage writes what its own command would.

    Parameters
    ----------
    videos
        Video files, folders of jpg or png frames, or folders that hold such, nested or not.
    tags
        A table of videos and their tags: CSV, TSV or xlsx, as a spreadsheet writes it.
    out
        Folder to write: plan.json, features, segments, masks, maps, report.html.
    network
        Of clips, see pyws features.
    weights
        Its weights: default, the name of published ones, or a file.
    classifier
        Of images, see pyws masks init.
    classifier_weights
        Its weights: default, the name of published ones, or a file.
    network_labels
        Names of the classes of the network of clips, one a line, where a file of weights does not have Kinetics'.
    classifier_labels
        Names of the image classifier's classes, one a line, perhaps with synonyms, where they are not ImageNet's.
    dry_run
        Print the plan, its time and its disk, after a calibration of a few seconds; write nothing.
    budget
        Time that it may take, such as 30m or 2h: chooses the stride of snippets, the frames a video and the epochs.
    mask_frames
        Frames of a video that get masks.
    epochs
        Of the training of actions.
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
    from pyws.commands.label.plan import Choices, fitted, measured, minutes_of, plan_document, seconds_of
    from pyws.commands.label.tags import route_of
    from pyws.data.tagged.tags_table import tags_of
    from pyws.data.video.sources import find_videos
    from pyws.errors import DataError
    from pyws.files import write_json
    from pyws.models.classifiers import load_classifier
    from pyws.segments.snippets.network import SnippetNetwork
    from pyws.segments.snippets.windows import default_sampling

    minutes = minutes_of(budget) if budget is not None else None
    if mask_frames < 1 or epochs < 1:
        raise ValueError(f"--mask-frames, --epochs: must be >= 1, got {mask_frames} and {epochs}")
    sources = tags_of(tags, find_videos(videos), on_error)
    problems = list(sources.problems)
    lasts: dict[Path, float] = {}
    for path in sources.tags:
        try:
            lasts[path] = seconds_of(path, folder_fps)
        except DataError as error:
            if on_error == "error":
                raise
            problems.append(str(error))
    tagged = {path: sources.tags[path] for path in lasts}
    if not tagged:
        raise DataError(tags, f"no video can be used: {'; '.join(problems[:5])}")
    for problem in problems:
        common.say(f"left out: {problem}")

    clips = load_classifier(network, weights, network_labels)
    images = load_classifier(classifier, classifier_weights, classifier_labels)
    images.model.to(common.torch_device)
    used = [tag for tag in sources.names if any(tag in several for several in tagged.values())]
    counts = {tag: sum(tag in several for several in tagged.values()) for tag in used}
    routes = [route_of(tag, counts[tag], images.labels, clips.labels) for tag in used]
    extractor = SnippetNetwork(clips, common.torch_device)
    choices = Choices(default_sampling(clips), mask_frames, epochs)
    seconds = list(lasts.values())
    costs = measured(extractor, choices.sampling, images, next(iter(tagged)), 384)
    if minutes is not None:
        choices = fitted(minutes, seconds, choices, costs, routes)
    plan = plan_document(
        list(tagged), seconds, choices, costs, routes, {"clips": network, "images": classifier}
    )  # fmt: skip
    common.say(_plan_table(plan))
    if dry_run:
        return plan
    write_json(out / "plan.json", plan)
    quietly = replace(common, json=False, quiet=common.quiet or common.json)
    by_kind = {kind: [route for route in routes if route.kind == kind] for kind in ("object", "known action", "action")}
    document: dict[str, Any] = {"plan": plan, "problems": problems}
    actions = {route.tag for kind in ("known action", "action") for route in by_kind[kind]}
    if actions:
        document["features"] = _features(
            tagged, out, network, weights, network_labels, choices, folder_fps, on_error, quietly
        )
        _write_tags(out / "features/tags.csv", tagged, actions, document["features"]["videos"])
    if by_kind["known action"]:
        document["known"] = _known(out, by_kind["known action"], quietly)
        chosen = {route.tag: clips.labels[route.classes[0]] for route in by_kind["known action"]}
        _maps(tagged, chosen, out, network, weights, network_labels, document["features"]["videos"], quietly)
    if by_kind["action"]:
        document["segments"] = _learned(out, choices.epochs, quietly)
    if by_kind["object"]:
        document["masks"] = _masks(
            tagged,
            by_kind["object"],
            out,
            classifier,
            classifier_weights,
            classifier_labels,
            choices,
            on_error,
            quietly,
        )
    _report(out, plan, document)
    common.say(f"{out}: report.html shows what was found")
    return document


def _features(
    tagged: Mapping[Path, Sequence[str]], out: Path, network: str, weights: str, labels: Path | None,
    choices: Any, folder_fps: float | None, on_error: Literal["error", "skip"], common: Common,
) -> dict[str, Any]:  # fmt: skip
    from pyws.commands.features import features

    given = choices.sampling
    return features(
        tuple(tagged), out / "features", network, weights, labels, fps=given.fps, window=given.window,
        stride=given.stride, folder_fps=folder_fps, scores=True, on_error=on_error, common=common,
    )  # fmt: skip


def _write_tags(
    path: Path, tagged: Mapping[Path, Sequence[str]], wanted: set[str], done: Mapping[str, Mapping[str, Any]]
) -> None:
    """The table of a data set of features; videos without an action are a subset of their own."""
    from pyws.data.video.sources import name_of
    from pyws.files import atomic_write

    with atomic_write(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("video", "tag", "subset"))
        for video, tags in tagged.items():
            name, mine = name_of(video), [tag for tag in tags if tag in wanted]
            if "error" not in done[name]:
                rows.writerows((name, tag, "tagged") for tag in mine)
                if not mine:
                    rows.writerow((name, "", "untagged"))


def _known(out: Path, routes: Sequence[Any], common: Common) -> dict[str, Any]:
    """Segments by the network's own classes."""
    from pyws.data.annotations.activitynet import write_detections
    from pyws.data.features.dataset import open_features
    from pyws.segments.snippets.known_classes import segments_of_known_classes

    classes = {route.tag: route.classes[0] for route in routes}
    found, means = segments_of_known_classes(open_features(out / "features", "tagged"), classes)
    path = out / "segments" / "known-classes.json"
    write_detections(path, found, {"tool": "pyws label", "method": "scores of the network's own classes"})
    for tag, mean in means.items():
        low = "; LOW: the network does not see it" if mean < 0.05 else ""
        common.say(f"{tag}: mean probability {mean:.3f}{low}")
    return {"out": str(path), "segments": len(found), "mean_probability": means}


def _maps(
    tagged: Mapping[Path, Sequence[str]], wanted: Mapping[str, str], out: Path, network: str, weights: str,
    labels: Path | None, done: Mapping[str, Mapping[str, Any]], common: Common,
) -> None:  # fmt: skip
    """3D Grad-CAM of every known action of every video, where it is not there yet; ``wanted`` names the classes."""
    from pyws.commands.masks.maps import maps
    from pyws.data.video.sources import name_of
    from pyws.models.video_networks.catalogue import VIDEO_NETWORKS

    if network not in VIDEO_NETWORKS:
        return
    for video, tags in tagged.items():
        for tag in [tag for tag in tags if tag in wanted and "error" not in done[name_of(video)]]:
            folder = out / "maps" / name_of(video) / tag.replace("/", "-")
            if not (folder / "maps.json").is_file():
                maps(video, folder, network, weights, labels, wanted[tag], common=common)  # type: ignore[arg-type]


def _learned(out: Path, epochs: int, common: Common) -> dict[str, Any]:
    """Train on the tags of the videos, then find their segments."""
    from pyws.commands.segments.predict import predict
    from pyws.commands.segments.train import train

    trained = train(out / "features", out / "segments/run", subset="tagged", epochs=epochs, common=common)
    checkpoint = out / "segments/run/last.safetensors"
    found = predict(
        out / "features", checkpoint, out / "segments/detections.json", subset="tagged", only_tags=True, common=common
    )
    return {"train": trained, "predict": found}


def _masks(
    tagged: Mapping[Path, Sequence[str]], routes: Sequence[Any], out: Path, classifier: str, weights: str,
    labels: Path | None, choices: Any, on_error: Literal["error", "skip"], common: Common,
) -> dict[str, Any]:  # fmt: skip
    """First masks of the videos that show an object."""
    from pyws.commands.masks.init import init
    from pyws.files import atomic_write
    from pyws.masks.initial_masks.config import InitialMaskConfig

    wanted = [route.tag for route in routes]
    mine = {video: [tag for tag in wanted if tag in tags] for video, tags in tagged.items()}
    mine = {video: tags for video, tags in mine.items() if tags}
    table = out / "object-tags.csv"
    with atomic_write(table) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("video", "tag"))
        rows.writerows((str(video), tag) for video, tags in mine.items() for tag in tags)
    return init(
        tuple(mine), out / "masks", classifier, weights, tags=table, labels=labels, on_error=on_error,
        config=InitialMaskConfig(max_frames=choices.mask_frames), common=common,
    )  # fmt: skip


def _plan_table(plan: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table("tag", "is", "videos", "note", title=f"{plan['videos']} videos, {plan['hours']:.3f} hours")
    for one in plan["tags"]:
        table.add_row(one["tag"], one["kind"], str(one["videos"]), one["warning"])
    minutes = ", ".join(f"{stage} {value:.1f}" for stage, value in plan["minutes"].items())
    table.caption = (
        f"{plan['snippets']} snippets, {plan['mask_frames']} masks, {plan['epochs']} epochs; about "
        f"{plan['total_minutes']:.1f} minutes ({minutes}) and {plan['megabytes']:.0f} MB"
    )
    return table


def _report(out: Path, plan: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """One page: tags, segments, masks."""
    from pyws.files import read_json
    from pyws.report.page.html import Picture, Section, Table, write_html

    tags = [(one["tag"], one["kind"], one["videos"], one["warning"]) for one in plan["tags"]]
    sections = [Section("Tags", tables=[Table(("tag", "is", "videos", "note"), tags)])]
    for name, title in (("known-classes", "Segments without training"), ("detections", "Segments that were learned")):
        path = out / "segments" / f"{name}.json"
        if path.is_file():
            rows = [
                (video, one["label"], one["segment"][0], one["segment"][1], one["score"])
                for video, found in read_json(path)["results"].items()
                for one in sorted(found, key=lambda one: -one["score"])[:5]
            ]
            sections.append(Section(title, tables=[Table(("video", "tag", "from (s)", "to (s)", "score"), rows)]))
    sheets = [Picture(path, path.stem, wide=True) for path in sorted((out / "masks/overlays").glob("*.jpg"))]
    if sheets:
        sections.append(Section("Masks", pictures=sheets))
    problems = list(document["problems"])
    write_html(out / "report.html", "Labels", "; ".join(problems) or "All videos were used.", sections)
