"""pyws features: from videos to snippet features with their times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pyws.commands.common import (
    Common,
    CommonOptions,
    check_options,
    checked_videos,
    flow_of,
    of_shard,
    only_with,
    say_left_out,
    table_of,
)
from pyws.data.video.optical_flow import FlowName
from pyws.errors import printable

if TYPE_CHECKING:
    from pyws.data.video.thumbnails import Thumbnails
    from pyws.segments.snippets.windows import Sampling


def features(
    videos: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    network: str = "r3d_18",
    weights: str = "default",
    class_names: Path | None = None,
    fps: float | None = None,
    window: int | None = None,
    stride: int | None = None,
    offset: float = 0.0,
    folder_fps: float | None = None,
    flow: FlowName | None = None,
    flow_weights: Path | None = None,
    raft_weights: str = "default",
    scores: bool = False,
    videos_per_file: int | None = None,
    batch: int = 8,
    decoders: int = 2,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    on_error: Literal["error", "skip"] = "error",
    shard: str | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Snippet features of videos by a pretrained network. An interrupted run is continued by the same command.

    Writes a data set of features that pyws data check, segments train and segments predict read: put tags.csv or
    truth.json beside it. Each file says when its snippets are, in seconds of the video.

    Parameters
    ----------
    videos
        Video files, folders of jpg or png frames, or folders that hold such, nested or not.
    out
        Folder to write: features/VIDEO.safetensors (with --flow features/rgb and features/flow), dataset.json,
        manifest.json.
    network
        Network of clips: r3d_18, mc3_18, r2plus1d_18, s3d, mvit_v1_b, mvit_v2_s, swin3d_t, swin3d_s, swin3d_b, i3d; or
        any image classifier of pyws masks init, clip:NAME among them, whose --class-names are any words.
    weights
        default: the published ones, fetched once; their name, such as KINETICS400_V1; or a file.
    class_names
        Names of the classes of a file of weights, one a line, where they are neither Kinetics' nor ImageNet's.
    fps
        Frames a second that are looked at, whatever a video has; left out, those that the network was trained on.
    window
        Frames of a snippet; left out, those that the network was trained on.
    stride
        Frames from one snippet to the next; left out, about two snippets a second (i3d: 16 of 25).
    offset
        Seconds from the start of a video to its first snippet.
    folder_fps
        Frames a second of folders of frames, which do not say it themselves.
    flow
        Also features of optical flow, by the same network (i3d) with weights of its own: tvl1, as the literature has
        it, which needs the extra flow; dis or farneback, which are faster and need the extra motion; or the networks
        raft_small and raft_large.
    flow_weights
        File of weights of the network that sees flow, of two channels.
    raft_weights
        Weights of RAFT, which finds the flow: a file with its state dict; default: torchvision's, fetched once; or
        their name, such as C_T_V2.
    scores
        Also keep the scores of the network's classes.
    videos_per_file
        Join the files of so many videos into one once all are there: features/pack-00000.safetensors and others, and
        features/index.jsonl, which says what is where. Left out, each video keeps a file.
    batch
        Snippets that go through the network together.
    decoders
        Videos that are decoded at once, beside the network's work.
    precision
        auto: that of the features in OUT, so that all have one; where there are none, bfloat16 where the device
        computes it natively, else float32.
    on_error
        What unreadable videos do: stop the run, before it begins where their headers tell, or be noted in the manifest
        and skipped.
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which.
    common
        Options of every command.

    Examples
    --------
    pyws features videos -o features --network r3d_18
    pyws features videos -o features --network i3d --weights i3d_rgb.pt --fps 25 --window 16 --stride 16
    pyws features videos -o features --network i3d --weights i3d_rgb.pt --flow tvl1 --flow-weights i3d_flow.pt
    """
    import torch

    from pyws.data.features.packs import check_videos_per_file
    from pyws.data.video.sources import find_videos
    from pyws.models.classifiers import load_classifier
    from pyws.report.page.strips import rungs
    from pyws.report.run import write_report
    from pyws.segments.snippets.extraction import FlowNetwork, Pictures, extract, precision_in
    from pyws.segments.snippets.network import SnippetNetwork
    from pyws.segments.snippets.windows import Sampling, default_sampling
    from pyws.sharding import this_shard

    if not videos:
        raise ValueError("VIDEOS: at least one video file, folder of frames or folder of these is needed")
    check_options(">= 1", window=window, stride=stride, batch=batch, decoders=decoders)
    check_options("> 0", fps=fps, folder_fps=folder_fps)
    check_options(">= 0", offset=offset)
    if (flow is None) != (flow_weights is None):
        given_alone = "--flow-weights" if flow is None else "--flow"
        raise ValueError(f"--flow, --flow-weights: needed together, got {given_alone} alone")
    only_with("--flow", flow, raft_weights=raft_weights != "default")
    method = flow_of(flow, raft_weights, common) if flow is not None else None
    check_videos_per_file(videos_per_file)
    found = checked_videos(find_videos(videos, on_error), on_error, common, timed=True, folder_fps=folder_fps)
    torch.manual_seed(common.seed)  # all shards must share random weights
    classifier = load_classifier(network, weights, class_names)
    if "random" in (weights, str(flow_weights)):
        common.say("random weights: the features say nothing about the videos")
    usual = default_sampling(classifier)
    sampling = Sampling(fps or usual.fps, window or usual.window, stride or usual.stride, offset)
    if not classifier.frames and sampling.window != 1:
        raise ValueError(f"--window: {network} sees single frames, got {window}")
    device, quiet = common.use_device(), common.silent
    if precision == "auto":
        precision = precision_in(out, classifier.name) or "auto"
    given = SnippetNetwork(classifier, device, precision)
    beside = None
    if method is not None and flow_weights is not None:
        of_flow = load_classifier(network, flow_weights, class_names, channels=2)
        beside = FlowNetwork(SnippetNetwork(of_flow, device, precision), method)
    common.say(f"{network}, {given.precision}: {_said(sampling)}" + (f", and flow by {flow}" if flow else ""))
    part = this_shard(shard)
    pictures = Pictures(*rungs(len(found), 0)[0], partial(_draw, out, len(found)))
    manifest = extract(
        given, sampling, found, out, folder_fps, batch, decoders, scores, on_error, quiet, part, beside,
        videos_per_file, pictures,
    )  # fmt: skip
    common.say(_table(manifest["videos"]))
    say_left_out(common, manifest["videos"])
    if "shard" not in manifest:
        write_report(out, quiet=quiet)
    return of_shard(manifest, part, manifest.get("missing", ()), "shard" not in manifest, common)


def _draw(out: Path, videos: int, name: str, entry: Mapping[str, Any], taken: Thumbnails) -> None:
    """Pictures of one of so many videos for the page of the run."""
    from pyws.report.run import place_of
    from pyws.report.runs.features import draw_frames

    draw_frames(place_of(out), name, entry, videos, taken)


def _said(sampling: Sampling) -> str:
    every = f"{sampling.window} frames at {sampling.fps:g} a second every {sampling.stride / sampling.fps:.3f} s"
    return f"{every}, {sampling.rate:g} snippets a second"


def _table(videos: Mapping[str, Mapping[str, Any]]) -> Any:
    rows = []
    for name, one in videos.items():
        cells = ["left out"] if "error" in one else [one["snippets"], f"{one['start']:.2f} s", f"{one['end']:.2f} s"]
        rows.append([printable(name), *cells])
    return table_of(("video", "snippets", "from", "to"), rows)
