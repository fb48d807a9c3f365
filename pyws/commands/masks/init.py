"""pyws masks init: from videos and tags to initial masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pyws.commands.common import (
    Common,
    CommonOptions,
    check_some_done,
    checked_videos,
    flow_of,
    of_shard,
    only_with,
    say_doubts,
    say_left_out,
    table_of,
)
from pyws.data.annotations.names import first_synonym
from pyws.data.tagged.dataset import MaskSet, TaggedVideo
from pyws.data.video.optical_flow import FlowName
from pyws.errors import printable
from pyws.masks.initial_masks.actor_action_annotator import ActorActionAnnotator, ActorActionConfig
from pyws.masks.initial_masks.annotator import Annotator
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.image_annotator import ImageAnnotator
from pyws.masks.initial_masks.pipeline import MAX_TAGS
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.masks.initial_masks.tag_to_class import TagClasses, resolve_tag
from pyws.models.classifiers import load_classifier
from pyws.models.devices import set_precision
from pyws.sharding import this_shard

if TYPE_CHECKING:
    from pyws.data.video.optical_flow import FlowMethod
    from pyws.models.classifier import Classifier
    from pyws.models.image_networks.raft import Raft


def init(
    frames: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    classifier: str | None = None,
    weights: str = "default",
    tag: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    tags: Path | None = None,
    class_names: Path | None = None,
    layer: str | None = None,
    data: Path | None = None,
    layout: Literal["auto", "a2d", "youtube-objects", "plain"] = "auto",
    data_tags: Literal["all", "main"] = "all",
    subset: tuple[str, ...] = (),
    validation: int = 0,
    actor_classifier: Path | None = None,
    action_classifier: Path | None = None,
    flow: FlowName = "dis",
    raft_weights: str = "default",
    on_error: Literal["error", "skip"] = "error",
    shard: str | None = None,
    config: Annotated[InitialMaskConfig, tyro.conf.arg(name="")] = InitialMaskConfig(),  # noqa: B008
    clip_config: Annotated[ActorActionConfig, tyro.conf.arg(name="")] = ActorActionConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Initial masks of tagged videos: Grad-CAM, Otsu, superpixels. An interrupted run is continued by the same command.

    Objects by an image classifier: FRAMES (or --data), --classifier, --weights, --tag or --tags. Actors and actions by
    classifiers that pyws masks classify trained: --data, --actor-classifier, --action-classifier.

    Parameters
    ----------
    frames
        Video files, folders of jpg or png frames, or folders of those; none where --data is given.
    out
        Folder to write: pa/v0 (masks), init, overlays, slic, manifest.json, report.html.
    classifier
        An image classifier of torchvision such as resnet50, timm:NAME, efficientnet-lite0, -lite1, -lite2, or
        clip:NAME, which scores any words.
    weights
        A file with its state dict; default: the published ones, fetched once; or their name, such as IMAGENET1K_V1.
    tag
        What the videos show, e.g. dog; may be repeated. Classes can be given: dog=151-268.
    tags
        A table (CSV, TSV, xlsx) with the columns video and tag, instead of --tag.
    class_names
        A text file with the names of the classes, one a line; ImageNet's where it is left out.
    layer
        Dotted name of the last feature map, where the classifier is an unusual one.
    data
        Folder of a data set of tagged videos: A2D, YouTube-Objects, or videos/ and tags.csv.
    layout
        Layout of the data set; auto finds out.
    data_tags
        Tags of a video of A2D: all, or the main one of videoset.csv alone.
    subset
        Subsets of the data set to annotate, e.g. train val; all where it is left out.
    validation
        Videos of the data set's subset train to set aside as val, which pyws masks train holds out, of each tag its
        share; for data sets that do not say which. The paper has 288 of A2D's 3036.
    actor_classifier
        Classifier of frames or clips, written by pyws masks classify.
    action_classifier
        Classifier of clips, written by pyws masks classify.
    flow
        How --motion finds optical flow: dis (fast), tvl1 (extra flow), farneback, or the networks raft_small and
        raft_large.
    raft_weights
        Weights of RAFT: a file with its state dict; default: torchvision's, fetched once; or their name, such as
        C_T_V2.
    on_error
        What unreadable videos do: stop the run, before it begins where their headers tell, or be noted in the manifest
        and skipped.
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which.
    config
        How masks are made.
    clip_config
        How maps of clips become masks.
    common
        Options of every command.

    Examples
    --------
    pyws masks init videos/*.mp4 -o first --tags tags.csv --classifier resnet50
    pyws masks init videos/*.mp4 -o first --tag dog --classifier efficientnet-lite0 --weights lite0.pth
    pyws masks init videos/*.mp4 -o first --tags tags.csv --classifier efficientnet-lite0 --mirror --power 1.5 --motion
    pyws masks init videos/*.mp4 -o first --tags tags.csv --classifier clip:openai/clip-vit-base-patch16
    pyws masks init --data A2D -o first --actor-classifier actor.safetensors
    """
    import torch

    from pyws.masks.initial_masks.pipeline import annotate
    from pyws.report.run import write_report
    from pyws.report.runs.masks import shown_of_run

    torch.manual_seed(common.seed)
    part = this_shard(shard)
    if bool(frames) == bool(data):
        raise ValueError("FRAMES: folders of frames or video files are needed, or a data set as --data, not both")
    found = _data_set(data, layout, data_tags, subset, validation, common.seed) if data else None
    of_clips = {name: value != vars(ActorActionConfig())[name] for name, value in vars(clip_config).items()}
    only_with(
        "--data", data, layout=layout != "auto", data_tags=data_tags != "all", subset=subset, validation=validation
    )
    only_with("--actor-classifier or --action-classifier", actor_classifier or action_classifier, **of_clips)
    only_with("--classifier", classifier, class_names=class_names, layer=layer,
              short_side=config.short_side != InitialMaskConfig.short_side, motion=config.motion)  # fmt: skip
    only_with("--motion", config.motion, flow=flow != "dis", raft_weights=raft_weights != "default")
    annotator: Annotator
    names: tuple[str, ...] = ()
    if actor_classifier or action_classifier:
        if found is None or classifier or weights != "default" or tag or tags:
            raise ValueError("--actor-classifier, --action-classifier: need --data, and no other classifier or tags")
        device = common.use_device()
        annotator = ActorActionAnnotator(found.space, actor_classifier, action_classifier, config, clip_config, device)
        videos = found.videos
    elif classifier is None:
        raise ValueError("--classifier is needed, or classifiers of pyws masks classify")
    else:
        of_set = None if found is None else (found.videos, found.space.names[1:])
        videos, named = of_set or _tagged(frames, tag, tags, on_error, common)
        network = load_classifier(classifier, weights, class_names, layer, config.output_stride, named)
        if network.file is None:
            raise ValueError(f"--weights: masks need trained weights, got {weights}")
        names = network.labels
        classes, warnings, unknown = _resolve(named, names, on_error == "error" or found is not None, common)
        videos = _only_tags(videos, named, unknown)
        method = flow_of(flow, raft_weights, common) if config.motion else "dis"
        annotator = _image_annotator(network, network.file, classes, config, warnings, method, common)
    videos = _checked(videos, found is not None, on_error, common)
    if not videos:
        raise ValueError(
            "VIDEOS: none of them has a tag and can be read; --on-error error says what is wrong with each"
        )
    draw = partial(_draw, out, annotator.space.names, config.superpixel_cache(out), len(videos))
    run = annotate(
        annotator, videos, out, on_error, common.silent, part, draw, partial(shown_of_run, len(videos), "init")
    )
    if run.last:
        write_report(out, quiet=common.silent)
    common.say(_table(run.document, names))
    say_left_out(common, run.document["videos"])
    say_doubts(common, run.document["videos"], set(run.mine))
    check_some_done(out, run.document["videos"])
    return of_shard(run.document, part, run.missing, run.last, common)


def _data_set(root: Path, layout: Any, tags: Any, subset: tuple[str, ...], validation: int, seed: int) -> MaskSet:
    data = opened_set(root, layout, tags, validation, seed)
    if any(video.span for video in data.videos):
        raise ValueError(f"--data: {root} has key frames of AVA, for masks classify and attention; masks are of videos")
    return data.part(*subset)


def opened_set(root: Path, layout: Any, tags: Any, validation: int, seed: int) -> MaskSet:
    """A data set whose validation videos are drawn, where that is asked for and it does not name them."""
    from pyws.data.tagged.layouts import open_mask_set

    data = open_mask_set(root, layout, tags)
    if not validation:
        return data
    if any(video.subset == "val" for video in data.videos):
        raise ValueError(f"--validation: {root} says itself which videos are for validation; leave the option out")
    return open_mask_set(root, layout, tags, validation, seed)


def _tagged(
    inputs: tuple[Path, ...],
    tag: tuple[str, ...],
    table: Path | None,
    on_error: Literal["error", "skip"],
    common: Common,
) -> tuple[tuple[TaggedVideo, ...], tuple[str, ...]]:
    """Videos with the ids of their tags, and the tags as they were written, in the order of the ids."""
    from pyws.data.tagged.tags_table import tags_of
    from pyws.data.video.sources import find_videos, name_of

    if bool(tag) == bool(table):
        raise ValueError("tags: either --tag NAME or --tags FILE must be given")
    paths = find_videos(inputs, on_error)
    written = tuple(dict.fromkeys(tag))
    by_video = dict.fromkeys(paths, written)
    if table:
        found = tags_of(table, paths, on_error)
        by_video, written = found.tags, found.names
        for problem in found.problems:
            common.say(f"left out: {problem}")
    videos = [
        TaggedVideo(name_of(path), path, tuple(written.index(one) + 1 for one in several))
        for path, several in by_video.items()
    ]
    return tuple(videos), written


def _image_annotator(
    network: Classifier,
    file: Path,
    classes: dict[str, list[int]],
    config: InitialMaskConfig,
    warnings: dict[str, str],
    flow: FlowMethod | Raft,
    common: Common,
) -> ImageAnnotator:
    device = common.use_device()
    network.model.to(device)
    fast = network.for_inference()
    set_precision(fast.model, config.precision, device)
    return ImageAnnotator(fast, file, classes, config, device, warnings, flow)


def _resolve(
    written: tuple[str, ...], labels: tuple[str, ...], strict: bool, common: Common
) -> tuple[dict[str, list[int]], dict[str, str], dict[str, str]]:
    """Classes of each tag by its name, what is doubtful about some, and what to do about those that are no class."""
    found: list[TagClasses] = []
    unknown: dict[str, str] = {}
    for one in written:
        try:
            found.append(resolve_tag(one, labels))
        except ValueError as error:
            unknown[one] = str(error)
    table = {one.name: one.classes for one in found}
    if len(table) != len(found) or len(table) > MAX_TAGS:
        raise ValueError(f"tags: must be different names, at most {MAX_TAGS}, got {', '.join(written)}")
    if unknown and (strict or not table):
        raise ValueError("\n  ".join(unknown.values()))
    warnings = {one.name: warning for one in found if (warning := one.warning(labels))}
    for doubt in unknown.values():
        common.say(f"left out: {doubt}")
    for warning in warnings.values():
        common.say(f"warning: {warning}")
    return table, warnings, unknown


def _only_tags(
    videos: tuple[TaggedVideo, ...], written: tuple[str, ...], without: Collection[str]
) -> tuple[TaggedVideo, ...]:
    """Videos that have some other tag, with the ids of those that are left."""
    kept = [one for one in written if one not in without]
    ids = {written.index(one) + 1: place for place, one in enumerate(kept, 1)}
    mine = [replace(video, tags=tuple(ids[tag] for tag in video.tags if tag in ids)) for video in videos]
    return tuple(video for video in mine if video.tags)


def _checked(videos: tuple[TaggedVideo, ...], in_set: bool, on_error: str, common: Common) -> tuple[TaggedVideo, ...]:
    """The videos, once their headers were read where errors stop the run; outside of a data set one video a name."""
    from pyws.data.video.headers import check_videos

    if not in_set:
        kept = set(checked_videos([video.source for video in videos], on_error, common))
        return tuple(video for video in videos if video.source in kept)
    if on_error == "error":
        check_videos((video.source for video in videos), by_name=False)
    return videos


def _draw(
    out: Path, names: Sequence[str], cache: Superpixels, videos: int, name: str, video: Mapping[str, Any]
) -> None:
    """Pictures of one of so many videos that is done."""
    from pyws.report.run import place_of
    from pyws.report.runs.masks import draw_video

    folders = {"initial mask": out / "init" / name, "refined mask (PA.v0)": out / "pa/v0" / name}
    both = (out / "heat-actor").is_dir() and (out / "heat-action").is_dir()
    kinds = {"map of the actor": "heat-actor", "map of the action": "heat-action"} if both else {"map": "heat"}
    heats = {caption: out / kind / name for caption, kind in kinds.items()}
    draw_video(
        place_of(out), name, video, videos, "init", folders, names, heats,
        superpixels=lambda picture, stem: cache(picture, name, stem),
    )  # fmt: skip


def _table(manifest: dict[str, Any], labels: tuple[str, ...]) -> Any:
    tagged = "tags (class, rank)" if labels else "tags"
    rows = []
    for name, video in manifest["videos"].items():
        report, said = video.get("report"), list[object]([""] * 5)
        if report is not None:
            tags = (f"{tag} ({_class_of(video, tag, labels)})" if labels else tag for tag in video["tags"])
            areas = (f"{report[key]:.1%}" for key in ("init_area", "refined_area"))
            said = [", ".join(tags), len(video["sampled"]), *areas, report["refined_empty"]]
        rows.append([printable(name), *said, video["status"]])
    return table_of(("video", tagged, "masks", "initial area", "refined area", "without mask", "status"), rows)


def _class_of(video: dict[str, Any], tag: str, labels: tuple[str, ...]) -> str:
    """The class that stands for a tag, with its rank among all classes where the run kept it."""
    name = first_synonym(labels[video["classes"][tag]])
    return f"{name}, {video['ranks'][tag]}" if "ranks" in video else name
