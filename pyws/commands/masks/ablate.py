"""pyws masks ablate: the tables of the paper on a data set with true masks, which only this command reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from pyws.commands.common import Common, CommonOptions, table_of
from pyws.commands.masks.train import open_first_classifier
from pyws.data.tagged.dataset import MaskSet
from pyws.masks.self_training.frame_selection import SelectionConfig
from pyws.masks.self_training.loop import SelfTraining, SelfTrainingConfig, as_variant
from pyws.masks.self_training.presets import PRESETS, Preset, with_rules_of
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig
from pyws.models.pretrained.weights import weights_file
from pyws.settings import Presets

Row = Literal["baseline", "model-s", "ws2", "paper", "pyws"]


def ablate(
    data: tyro.conf.Positional[Path],
    init: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    weights: str | None = None,
    classifier_weights: str = "default",
    class_names: Path | None = None,
    preset: Annotated[Preset | None, Presets(PRESETS)] = None,
    variants: tuple[Row, ...] = ("baseline", "model-s", "ws2"),
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
        Folders that pyws masks init wrote of its videos; several, such as those of actors, of actions and of both, are
        rows of their own.
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
        Rows of Table 1: those of the paper, and the rules of the presets with the network of the other options.
    seeds
        Seeds of the runs.
    every
        Annotated frames of test videos from one that is scored to the next; those vote when actions are aligned.
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
    pyws masks ablate A2D both actors actions -o tables --variants baseline --clip-frames 5
    """
    from pyws.data.tagged.layouts import open_mask_set
    from pyws.files import write_json
    from pyws.masks.ablation import measure, tables_of, title_of

    if not init:
        raise ValueError("INIT: at least one folder of pyws masks init is needed")
    truth = open_mask_set(data)
    device = common.use_device()
    backbone = None if weights is None else weights_file(training.backbone, weights)
    loop = replace(loop, keep_choices=True)
    runs: list[dict[str, Any]] = []
    pictures: dict[str, Path] = {}
    for folder in init:
        rows = _possible(folder, variants, SelfTrainingConfig(selection), common)
        asked = [one for one in rows if row_config(SelfTrainingConfig(selection), one).selection.uses_classifier]
        classifier = None
        if asked:
            classifier = open_first_classifier(folder, classifier_weights, class_names, device).for_inference()
        first = folder.name if len(init) > 1 else ""
        for seed, variant in ((seed, variant) for seed in seeds for variant in rows):
            config = row_config(SelfTrainingConfig(selection, discriminator, training, loop, seed, preset), variant)
            chosen = classifier if variant in asked else None
            place = out / "-".join(str(part) for part in (first, variant, seed) if part != "")
            run = SelfTraining(folder, place, config, chosen, backbone, device, common.silent)
            run.run()
            runs.append({"variant": variant, "first": first, "seed": seed, **measure(run, truth, every)})
            write_json(out / "results.json", {"runs": runs})
            title = title_of(runs[-1])
            if title not in pictures:
                pictures[title] = _draw_versions(run, truth, out / "versions" / f"{place.name}.jpg")
    results = {"runs": runs, "tables": tables_of(runs)}
    write_json(out / "results.json", results)
    _write_report(out, results, pictures)
    for table in results["tables"]:
        common.say(table_of(table["columns"], table["rows"], title=table["title"]))
    return results


def row_config(config: SelfTrainingConfig, row: Row) -> SelfTrainingConfig:
    """Configuration of a row of the tables."""
    return with_rules_of(config, row) if row == "paper" or row == "pyws" else as_variant(config, row)


def _possible(init: Path, rows: Sequence[Row], config: SelfTrainingConfig, common: Common) -> list[Row]:
    """The rows that a folder of first masks can have: without an image classifier those that use none."""
    from pyws.masks.initial_masks.pipeline import FORMAT
    from pyws.run_manifest import read_manifest

    parameters = read_manifest(init / "manifest.json", *FORMAT)["parameters"]
    if parameters.get("action_weights_sha256") != parameters["weights_sha256"]:  # the first of its classifiers
        return list(rows)
    kept = [row for row in rows if not row_config(config, row).selection.uses_classifier]
    left_out = ", ".join(row for row in rows if row not in kept)
    if left_out:
        common.say(f"{init}: made without a classifier of images, which the tests of {left_out} need: left out")
    return kept


def _draw_versions(run: SelfTraining, truth: MaskSet, path: Path) -> Path:
    """The paper's figure 8: test frames, the masks of every version, and the true ones."""
    from pyws.data.video.frames import write_picture
    from pyws.masks.ablation import shown_versions
    from pyws.report.pictures import contact_sheet, legend, overlay

    rows, seen = [], set()
    for picture, masks in shown_versions(run, truth):
        rows.append([picture, *(overlay(picture, mask) for mask in masks)])
        seen |= {int(one) for mask in masks for one in np.unique(mask)}
    if rows:
        captions = ["frame", *(f"model of v{number}" for number in range(len(rows[0]) - 2)), "truth"]
        sheet, names = contact_sheet(rows, captions, 240), run.data.space.names
        strip = legend({one: names[one] for one in sorted(seen) if 0 < one < len(names)}, sheet.shape[1])
        write_picture(path, np.concatenate([sheet, strip]))
    return path


def _write_report(out: Path, results: dict[str, Any], pictures: dict[str, Path]) -> None:
    from pyws.report.page.html import Picture, Section, Table, write_html

    sections = [Section(table["title"], tables=[Table(table["columns"], table["rows"])]) for table in results["tables"]]
    shown = [Picture(path, title, wide=True) for title, path in pictures.items() if path.is_file()]
    sections += [Section("Models of the versions on test frames, beside the truth", pictures=shown)] if shown else []
    lead = (
        "mIoU in percent, background included, mean and standard deviation over seeds; true masks are read for this "
        "report alone."
    )
    write_html(out / "report.html", "Variants and versions", lead, sections)
