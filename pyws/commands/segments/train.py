"""pyws segments train: from features and tags to a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.feature_sets import OnError, one_subset, say_skipped
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.errors import counted

Protocol = Literal["thumos14", "activitynet"]


def train(
    data: Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    backbone: Literal["rskp", "stpn", "bm", "wum", "facnet"] = "rskp",
    preset: Literal["pyws", "paper", "released", "baseline"] = "pyws",
    benchmark: Literal["thumos14", "activitynet"] = "thumos14",
    two_streams: bool = False,
    subset: str | None = None,
    evaluate: str | None = None,
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    evaluate_every: int = 10,
    precision: Literal["float32", "bfloat16"] = "float32",
    protocol: Protocol | None = None,
    tious: tuple[float, ...] | None = None,
    on_error: OnError = "error",
    tensorboard: bool = False,
    annotations: Path | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Train a backbone from video tags, with pseudo labels of its own. An interrupted run is continued by the same
    command; under torchrun it runs in several processes.

    Parameters
    ----------
    data
        folder of features with tags, any layout that `pyws data check` knows; corrections.json in it, which pyws
        import writes, is obeyed by tags and pseudo labels
    out
        folder to write: last.safetensors, best.safetensors, history.jsonl, labels, report.html
    backbone
        the network
    preset
        pyws (recommended), paper, released (every departure of the released code), baseline (no pseudo labels)
    benchmark
        the data set that the backbone is set up for: its optimiser, losses, proposals and protocol; activitynet
        is for rskp
    two_streams
        a network for the first half of the feature columns (RGB) and one for the second (flow), as stpn,
        bm and facnet were published
    subset
        videos to train on; may be left out where the data set has one subset
    evaluate
        subset with annotated segments to evaluate on; best.safetensors is the best on it
    epochs
        epochs of the run, over which the preset's schedule is stretched; the backbone's own if not given
    lr
        learning rate; the backbone's own if not given
    batch
        videos of an optimiser step; the backbone's own if not given
    evaluate_every
        epochs between evaluations
    precision
        precision of the network's layers: float32, or bfloat16, which a GPU computes faster; losses are float32 always
    protocol
        rules of the evaluation, as in `pyws segments evaluate`; those of the benchmark if not given
    tious
        IoU thresholds of the evaluation; the protocol's if not given
    on_error
        what a video that cannot be used does: stop the run, or be named and left out
    tensorboard
        also write scalars for TensorBoard
    annotations
        file of ground truth in place of the data set's own: in the form of ActivityNet, BSN or G-TAD, or a table of
        segments

    Examples
    --------
    pyws segments train watching -o run --subset training --evaluate test
    pyws segments train watching -o run --config run.toml --set epochs=50
    """
    from pyws.data.features.dataset import open_features
    from pyws.distributed import own_device, processes
    from pyws.report.run import write_report
    from pyws.report.runs.segments_training import UNASKED
    from pyws.segments.backbones import optim_of
    from pyws.segments.config import PRESETS, adapted
    from pyws.segments.training.fitting import sentence
    from pyws.segments.training.train import train as run_training
    from pyws.segments.trust import Share

    preset_config = adapted(PRESETS[preset], backbone, benchmark, two_streams)
    config = replace(
        preset_config, detection=postprocessing.over(preset_config.detection), epochs=epochs, lr=lr, batch=batch,
        seed=common.seed, evaluate_every=evaluate_every, precision=precision,
        protocol=protocol or benchmark, tious=tious,
    )  # fmt: skip
    videos = open_features(data, one_subset(data, subset, annotations), on_error, True, annotations)
    held_out = open_features(data, evaluate, on_error, annotations=annotations) if evaluate else None
    quiet = common.silent
    device = own_device(common.use_device())
    with processes(device) as group:
        if not group.first:
            common = replace(common, quiet=True)
        say_skipped(common, videos, held_out)
        corrected = [name for name in videos.names if name in videos.corrections]
        if corrected:
            common.say(f"corrected by people: {counted(len(corrected), 'video')}, such as {corrected[0]}")
        common.say(sentence(config, optim_of(backbone, config), videos.width, len(videos)))
        run = run_training(backbone, config, videos, held_out, out, device, group, tensorboard, quiet)
        if group.first:
            write_report(out, quiet=quiet)
        group.wait()
    last = run.history[-1]
    if run.trust is not None and config.trust is not None:
        common.say(run.trust.sentence(config.trust))
        if run.aside is not None:
            common.say(Share(**last["share"]).sentence())
    elif run.latest is not None:
        common.say(f"pseudo labels {UNASKED}")
    if run.best is not None:
        common.say(f"average mAP {last['mAP']:.2f} after the last epoch, {run.best:.2f} at best")
    common.say(f"{out}: {counted(len(videos), 'video')}, {counted(run.epoch, 'epoch')}; report.html shows its curves")
    skipped = [str(problem) for each in (videos, held_out) if each is not None for problem in each.skipped]
    return {"out": str(out), "backbone": backbone, "preset": preset, "videos": len(videos), "epochs": run.epoch,
            "best": run.best, "last": last, "skipped": skipped}  # fmt: skip
