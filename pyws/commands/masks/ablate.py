"""pyws masks ablate: the tables of the paper on a data set with true masks, which only this command reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from pyws.commands.common import Common, CommonOptions
from pyws.commands.masks.train import open_first_classifier
from pyws.data.tagged.dataset import MaskSet
from pyws.data.tagged.label_space import LabelSpace, View
from pyws.evaluation.semantic import Confusion
from pyws.masks.self_training.frame_selection import SelectionConfig, read_selection
from pyws.masks.self_training.loop import SelfTraining, SelfTrainingConfig, Variant, as_variant
from pyws.masks.self_training.presets import PRESETS, Preset
from pyws.masks.self_training.pseudo_annotations import Frame
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig, predict, predict_frames
from pyws.models.image_networks.deeplab import DeepLabV2
from pyws.models.pretrained.weights import weights_file
from pyws.settings import Presets

VIEWS: tuple[View, ...] = ("joint", "actor", "action")
TITLES: dict[Variant, str] = {"baseline": "Baseline", "model-s": "Model-S", "ws2": "WS2"}


def ablate(
    data: tyro.conf.Positional[Path],
    init: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    weights: str | None = None,
    classifier_weights: str = "default",
    class_names: Path | None = None,
    preset: Annotated[Preset | None, Presets(PRESETS)] = None,
    variants: tuple[Variant, ...] = ("baseline", "model-s", "ws2"),
    seeds: tuple[int, ...] = (0, 1, 2),
    every: int = 4,
    selection: Annotated[SelectionConfig, tyro.conf.arg(name="")] = SelectionConfig(),  # noqa: B008
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = TrainingConfig(),  # noqa: B008
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = LoopConfig(),  # noqa: B008
    discriminator: DiscriminatorConfig = DiscriminatorConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Tables 1, 2 and 3 of WS^2: variants, versions and test scores, mean and spread over seeds. Runs are continued.

    Parameters
    ----------
    data
        Folder of the data set with true masks: A2D, YouTube-Objects, or videos/, tags.csv and truth/.
    init
        Folder that pyws masks init wrote of its videos.
    out
        Folder to write: a run of each variant and seed, results.json, report.html.
    weights
        State dict of the classifier that the backbone is taken from.
    classifier_weights
        The classifier of pyws masks init (the one of actors), which selection rules use.
    class_names
        The names of its classes, where pyws masks init was given a file of them.
    preset
        Options to begin from, as in pyws masks train.
    variants
        Rows of Table 1.
    seeds
        Of the runs.
    every
        Annotated frames of test videos from one that is scored to the next.
    selection
        Which frames are trained on.
    training
        How the network is trained.
    loop
        How versions follow one another.
    discriminator
        The discriminator of composites.
    common
        Options of every command.

    Examples
    --------
    pyws masks ablate A2D first -o tables --weights resnet18.pth --classifier-weights actor.safetensors
    """
    from pyws.data.tagged.layouts import open_mask_set
    from pyws.files import write_json

    truth = open_mask_set(data)
    device = common.torch_device
    asked = [one for one in variants if as_variant(SelfTrainingConfig(selection), one).selection.uses_classifier]
    backbone = None if weights is None else weights_file(training.backbone, weights)
    classifier = open_first_classifier(init, classifier_weights, class_names) if asked else None
    if classifier is not None:
        classifier.model.to(device)
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        for variant in variants:
            config = as_variant(SelfTrainingConfig(selection, discriminator, training, loop, seed, preset), variant)
            chosen = classifier if variant in asked else None
            folder = out / f"{variant}-{seed}"
            run = SelfTraining(init, folder, config, chosen, backbone, device, common.quiet or common.json)
            run.run()
            runs.append({"variant": variant, "seed": seed, **measure(run, truth, every)})
            write_json(out / "results.json", {"runs": runs})
    tables = [_variants(runs), _versions(runs), _tests(runs)]
    results = {"runs": runs, "tables": [table for table in tables if table["rows"]]}
    write_json(out / "results.json", results)
    _write_report(out, results)
    for table in results["tables"]:
        common.say(_rich(table))
    return results


def measure(run: SelfTraining, truth: MaskSet, every: int = 1) -> dict[str, Any]:
    """Scores of a run against true masks.

    Returns
    -------
    ``versions``: for each, mIoU of its pseudo-annotations over all frames and over the selected ones, with their
    number, and of its model on test videos; ``validation`` and ``test``: mIoU of the model that is returned.
    """
    manifest, space = run.manifest, run.data.space
    versions = []
    for version in manifest["versions"]:
        number = version["version"]
        row: dict[str, Any] = {"version": number}
        marked = (run.out / "select" / f"v{number}.jsonl").is_file()
        rows = read_selection(run.out / "select" / f"v{number}.jsonl") if marked else []
        chosen = {Frame(one["video"], one["frame"]) for one in rows if one["selected"]}
        for name, frames in (("full", run.training), ("selected", [one for one in run.training if one in chosen])):
            masks = (run.data.mask(run.annotations(number), frame) for frame in frames)
            row[name] = {"frames": len(frames), **scores_of(_with_truth(frames, masks, truth), space)}
        if "curve" in version:
            row["test"] = scores_of(_test_masks(run, run.model(number), truth, every), space)
        versions.append(row)
    predicted = predict_frames(
        run.model(manifest["returned"]), run.data, run.validation, True, run.config.training.short_side, run.device
    )
    masks = (mask.numpy() for _, mask in predicted)
    return {
        "versions": versions,
        "returned": manifest["returned"],
        "stopped": manifest["stopped"],
        "validation": scores_of(_with_truth(run.validation, masks, truth), space),
        "test": versions[manifest["returned"]]["test"],
    }


def _with_truth(
    frames: Sequence[Frame], masks: Iterable[NDArray[np.uint8]], truth: MaskSet
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Masks beside the true ones, of the frames that have one."""
    videos = {video.name: video for video in truth.videos}
    for frame, mask in zip(frames, masks, strict=True):
        if frame.stem in videos[frame.video].truth:
            yield mask, truth.truth(videos[frame.video], frame.stem)


def _test_masks(
    run: SelfTraining, model: DeepLabV2, truth: MaskSet, every: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Predictions of annotated frames of the subset test, all labels allowed, and their true masks."""
    from pyws.data.video.frames import open_frames

    for video in truth.videos:
        if video.subset != "test":
            continue
        frames = open_frames(video.source)
        indices = [index for index, stem in enumerate(frames.stems) if stem in video.truth][::every]
        for index, picture in zip(indices, frames.read(indices), strict=True):
            mask = predict(model, [picture], None, run.config.training.short_side, run.device)[0].numpy()
            yield mask, truth.truth(video, frames.stems[index])


def scores_of(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], space: LabelSpace) -> dict[str, Any]:
    """mIoU in percent of masks and true masks, background included, of labels, their actors and their actions.

    The mean is over classes that are predicted or true somewhere; None without frames.
    """
    confusions = {view: Confusion(space.view(view)) for view in (VIEWS if space.has_actions else VIEWS[:1])}
    for mask, true in pairs:
        for view, confusion in confusions.items():
            confusion.add(space.merge(mask, view), space.merge(true, view))
    found = {view: confusion.scores()["miou"] for view, confusion in confusions.items()}
    return {view: None if miou is None else 100 * miou for view, miou in found.items()}


def _variants(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    views = [view for view in VIEWS if view in runs[0]["test"]]
    for variant in dict.fromkeys(run["variant"] for run in runs):
        own = [run for run in runs if run["variant"] == variant]
        scores = (_mean([run[part][view] for run in own]) for part in ("validation", "test") for view in views)
        rows.append([TITLES[variant], str(len(own)), *scores])
    columns = ["variant", "seeds", *(f"{part}, {view}" for part in ("held out", "test") for view in views)]
    return {"title": "Table 1: mIoU of variants", "columns": columns, "rows": rows}


def _versions(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Pseudo-annotations of the variants that choose by RIC and by mIoU_PA."""
    rows = []
    for variant, number in _variant_versions(runs):
        own = _of(runs, variant, number)
        for part in ("full", "selected"):
            if part == "selected" and variant == "baseline":
                continue
            frames = round(sum(version[part]["frames"] for version in own) / len(own))
            views = [_mean([version[part].get(view) for version in own]) for view in VIEWS if view in own[0][part]]
            rows.append([f"PA.v{number} {TITLES[variant]} {part}", f"{frames} ({len(own)})", *views])
    columns = ["masks", "frames (seeds)", *(VIEWS if rows and len(rows[0]) > 3 else VIEWS[:1])]
    return {"title": "Table 2: mIoU of pseudo-annotations by version", "columns": columns, "rows": rows}


def _tests(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for variant, number in _variant_versions(runs):
        own = [version["test"] for version in _of(runs, variant, number) if version.get("test", {}).get("joint")]
        if own:
            views = [_mean([scores[view] for scores in own]) for view in VIEWS if view in own[0]]
            rows.append([f"{TITLES[variant]} v{number}", str(len(own)), *views])
    columns = ["model", "seeds", *(VIEWS if rows and len(rows[0]) > 3 else VIEWS[:1])]
    return {"title": "Table 3: mIoU of test videos by version", "columns": columns, "rows": rows}


def _variant_versions(runs: list[dict[str, Any]]) -> list[tuple[Variant, int]]:
    return sorted({(run["variant"], version["version"]) for run in runs for version in run["versions"]},
                  key=lambda pair: (list(TITLES).index(pair[0]), pair[1]))  # fmt: skip


def _of(runs: list[dict[str, Any]], variant: str, number: int) -> list[dict[str, Any]]:
    return [run["versions"][number] for run in runs if run["variant"] == variant and number < len(run["versions"])]


def _mean(values: list[float | None]) -> str:
    """Mean and sample standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.1f}" if len(known) > 1 else ""
    return f"{np.mean(known):.1f}{spread}"


def _write_report(out: Path, results: dict[str, Any]) -> None:
    from pyws.report.page.html import Section, Table, write_html

    sections = [Section(table["title"], tables=[Table(table["columns"], table["rows"])]) for table in results["tables"]]
    lead = (
        "mIoU in percent, background included, mean and standard deviation over seeds; true masks are read for this "
        "report alone."
    )
    write_html(out / "report.html", "Variants and versions", lead, sections)


def _rich(table: dict[str, Any]) -> Any:
    from rich.table import Table

    made = Table(*table["columns"], title=table["title"])
    for row in table["rows"]:
        made.add_row(*map(str, row))
    return made
