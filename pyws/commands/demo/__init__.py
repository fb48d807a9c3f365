"""pyws demo: both methods end to end on generated data, with everything that a real run would write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.errors import DataError
from pyws.folders import is_empty, only_writer

FORMAT, VERSION = "pyws demo", 2
WRITTEN = ("clips", "masks", "streams", "segments", "classifier.safetensors", "training.png", "report.html")


def demo(
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("pyws-demo"),
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Run both methods on generated clips and streams, compare with the known truth, write a report. No download.

    Parameters
    ----------
    out
        Folder to write: new, empty, or of an earlier demo, which it replaces.
    common
        Options of every command.

    Examples
    --------
    pyws demo -o demo
    """
    from pyws.commands.demo.config import DemoConfig

    return run_demo(DemoConfig(), out, common)


def run_demo(config: Any, out: Path, common: Common) -> dict[str, Any]:
    """The demo with sizes of one's own (:class:`pyws.commands.demo.config.DemoConfig`); returns the manifest."""
    from pyws.checkpoint import write_checkpoint
    from pyws.commands.demo.masks import annotate_clips
    from pyws.commands.demo.report import write_report
    from pyws.commands.demo.segments import find_segments
    from pyws.commands.demo.train import draw_clips, train
    from pyws.run_manifest import RunManifest, new_document

    device, quiet = common.use_device(), common.silent
    parameters = {"seed": common.seed, "device": str(device), "config": asdict(config)}
    progress = {"data": "synthetic", "status": "started"}
    manifest = new_document(FORMAT, VERSION, parameters, ["torch", "numpy", "scikit-image"], progress)
    file = RunManifest(out / "manifest.json", manifest)
    if out.exists() and not out.is_dir():
        raise DataError(out, "must be a folder, but is a file")
    with only_writer(out), _reproducible(config.threads):
        _remove_earlier_demo(out)
        file.flush()
        clips = draw_clips(config, common.seed, quiet)
        trained = train(clips, config, common.seed, device, quiet)
        write_checkpoint(out / "classifier.safetensors", "pyws demo classifier", trained.model.state_dict())
        manifest["results"] = {
            "classifier": trained.results(),
            "masks": annotate_clips(trained.model, clips, config, out, device, quiet),
            "segments": find_segments(trained.model, config, common.seed, out, device, quiet),
        }
        manifest["status"] = "done"
        file.flush()
        report = write_report(out)
    common.say(_table(manifest["results"]))
    common.say(f"Pictures and all numbers: {report}")
    return manifest


def _remove_earlier_demo(out: Path) -> None:
    """Take the folder, if it is empty or of an earlier demo; what that wrote goes away, nothing else does."""
    from pyws.run_manifest import read_manifest

    if not is_empty(out):
        try:
            read_manifest(out / "manifest.json", FORMAT, VERSION)
        except DataError as error:
            rule = "must be new, empty or of an earlier `pyws demo`, but holds other files; give -o"
            raise DataError(out, rule) from error
        for name in WRITTEN:
            path = out / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """A fixed number of threads and deterministic algorithms inside, the caller's settings outside."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _table(results: dict[str, Any]) -> Any:
    from rich.table import Table

    from pyws.commands.demo.report import summary

    table = Table("stage", "measure", title="pyws demo: synthetic data against its known truth", title_justify="left")
    table.add_column("value", justify="right")
    for stage, measure, value in summary(results):
        table.add_row(stage, measure, f"{value:.1f}" if "%" in measure else f"{value:.3f}")
    return table
