"""pyws masks train: the second stage of WS^2."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from pyws.commands.common import Common, CommonOptions, table_of
from pyws.masks.self_training.frame_selection import SelectionConfig
from pyws.masks.self_training.loop import SelfTrainingConfig, Variant
from pyws.masks.self_training.presets import PRESETS, Preset
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig
from pyws.settings import Presets

if TYPE_CHECKING:
    import torch

    from pyws.models.classifier import Classifier


def train(
    init: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    preset: Annotated[Preset | None, Presets(PRESETS)] = None,
    variant: Variant = "ws2",
    weights: str | None = None,
    classifier_weights: str = "default",
    class_names: Path | None = None,
    selection: Annotated[SelectionConfig, tyro.conf.arg(name="")] = SelectionConfig(),  # noqa: B008
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = TrainingConfig(),  # noqa: B008
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = LoopConfig(),  # noqa: B008
    discriminator: DiscriminatorConfig = DiscriminatorConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Train on the masks of pyws masks init, version by version. An interrupted run is continued by the same command;
    under torchrun several processes train as one.

    Parameters
    ----------
    init
        Folder that pyws masks init wrote.
    out
        Folder of the run: manifest.json, select, models, pa, predictions, model.safetensors, report.html.
    preset
        Options to begin from; others on the command line or in --config win. paper: the rules of WS^2, literally;
        pyws: half of each class's labels by softmax, as many steps as without selection.
    variant
        ws2: train on selected frames, choose by RIC; model-s: choose by mIoU_PA; baseline: so, on all frames.
    weights
        State dict of the classifier that the backbone is taken from, or default for the published one; random weights
        where it is left out.
    classifier_weights
        The file of the classifier of pyws masks init (the one of actors), which selection rules use; default: its
        published weights.
    class_names
        The names of its classes, where pyws masks init was given a file of them.
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
    pyws masks train first -o run --weights resnet101.pth --classifier-weights lite0.pth
    pyws masks train first -o run --preset paper --weights resnet50.pth --classifier-weights lite0.pth
    """
    from dataclasses import replace

    from pyws.distributed import own_device, processes
    from pyws.masks.self_training.loop import SelfTraining, as_variant
    from pyws.masks.self_training.stopping import unlike_its_masks
    from pyws.models.devices import set_precision
    from pyws.models.pretrained.weights import weights_file
    from pyws.report.run import write_report

    config = as_variant(SelfTrainingConfig(selection, discriminator, training, loop, common.seed, preset), variant)
    classifier, device = None, own_device(common.use_device())
    if config.selection.uses_classifier:
        classifier = open_first_classifier(init, classifier_weights, class_names, device).for_inference()
        set_precision(classifier.model, training.precision, device)
    quiet = common.silent
    backbone = None if weights is None else weights_file(training.backbone, weights)
    with processes(device) as group:
        common = common if group.first else replace(common, quiet=True)
        run = SelfTraining(init, out, config, classifier, backbone, device, quiet, group)
        manifest = run.run()
        if group.first:
            _draw_versions(run)
            write_report(out, quiet=quiet)
        group.wait()
    common.say(_table(manifest))
    if warning := unlike_its_masks(manifest["versions"][manifest["returned"]]):
        common.say(f"warning: {warning}")
    common.say(f"stopped: {manifest['stopped']}; model of version {manifest['returned']}: {out / 'model.safetensors'}")
    return manifest


def _draw_versions(run: Any, count: int = 6) -> None:
    """Write versions.jpg: frames of some videos, their first pseudo-annotations, and what each version's model sees."""
    from pyws.data.video.frames import evenly, read_mask, write_picture
    from pyws.report.pictures import contact_sheet, overlay

    numbers = range(len(run.manifest["versions"]))
    folders = {f"model of v{k}": run.predictions(k) for k in numbers if run.predictions(k).is_dir()}
    by_video = {frame.video: frame for frame in run.data.frames[::-1]}  # the first frame of each
    frames = list(by_video.values())[::-1]
    chosen = [frames[place] for place in evenly(len(frames), count)]
    rows = []
    for frame in chosen:
        picture, files = run.data.picture(frame), [frame.png(folder) for folder in folders.values()]
        masks = [run.data.mask(run.annotations(0), frame), *(read_mask(file) for file in files if file.is_file())]
        if len(masks) == len(folders) + 1:
            rows.append([picture, *(overlay(picture, mask) for mask in masks)])
    if rows:
        write_picture(run.out / "versions.jpg", contact_sheet(rows, ["frame", "PA.v0", *folders], 240))


@dataclass(frozen=True)
class FirstClassifier:
    """What the manifest of pyws masks init says of its classifier."""

    classifier: str
    layer: str
    weights_sha256: str


def open_first_classifier(
    init: Path, weights: str, class_names: Path | None, device: torch.device | None = None
) -> Classifier:
    """The classifier of the first stage, which its manifest names, on a device; None for the CPU."""
    from pyws.errors import reading
    from pyws.files import file_sha256, made_of
    from pyws.masks.initial_masks.pipeline import FORMAT
    from pyws.models.classifiers import load_classifier
    from pyws.run_manifest import read_manifest

    manifest = init / "manifest.json"
    parameters = read_manifest(manifest, *FORMAT)["parameters"]
    with reading(manifest, "is damaged"):
        words = [one["tag"] for one in parameters.get("tags", ())]
        said = {field.name: parameters[field.name] for field in fields(FirstClassifier)}
    first = made_of(manifest, "parameters", FirstClassifier, said)
    try:
        classifier = load_classifier(first.classifier, weights, class_names, first.layer, words=words)
    except ValueError as error:
        if weights != "default":
            raise
        why = "the selection rule uses the classifier of pyws masks init; give its file"
        raise ValueError(f"classifier_weights: {why} ({error})") from error
    if classifier.file is None or file_sha256(classifier.file) != first.weights_sha256:
        raise ValueError(f"classifier_weights: must be the file that pyws masks init was given, got another: {weights}")
    if classifier.frames:
        raise ValueError(f"classifier_weights: must be a classifier of images, got {classifier.name}, of clips")
    classifier.model.to(device or "cpu")
    return classifier


def _table(manifest: dict[str, Any]) -> Any:
    columns = ("version", "frames", "selected", "epochs", "best epoch", "RII", "mIoU_PA", "RIC", "mIoU_PA.v0")
    rows = []
    for version in manifest["versions"]:
        counts = version.get("selection", {"frames": 0, "selected": 0})
        rows.append([version["version"], counts["frames"], counts["selected"]])
        if "curve" in version:
            best = version["curve"][version["best_epoch"]]
            rows[-1] += [len(version["curve"]), version["best_epoch"]]
            rows[-1] += [f"{best[key]:.3f}" for key in ("rii", "miou_pa", "ric", "miou_pa_v0")]
    return table_of(columns, rows)
