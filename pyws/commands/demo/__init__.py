"""pyws demo: both methods end to end on generated data, with everything that a real run would write."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.errors import DataError
from pyws.files import read_json, write_json

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
    from pyws.commands.demo.masks import annotate_clips
    from pyws.commands.demo.report import write_report
    from pyws.commands.demo.segments import find_segments
    from pyws.commands.demo.train import draw_clips, train, write_tensors

    device, quiet = common.torch_device, common.quiet or common.json
    manifest = _manifest(config, common.seed, str(device))
    _claim(out, manifest)
    with _reproducible(config.threads):
        clips = draw_clips(config, common.seed, quiet)
        trained = train(clips, config, common.seed, device, quiet)
        write_tensors(out / "classifier.safetensors", trained.model.state_dict())
        manifest["results"] = {
            "classifier": trained.results(),
            "masks": annotate_clips(trained.model, clips, config, out, device, quiet),
            "segments": find_segments(trained.model, config, common.seed, out, device, quiet),
        }
    manifest["status"] = "done"
    write_json(out / "manifest.json", manifest)
    report = write_report(out)
    common.say(_table(manifest["results"]))
    common.say(f"Pictures and all numbers: {report}")
    return manifest


def _manifest(config: Any, seed: int, device: str) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-image")}
    from pyws import __version__

    return {
        "command": "pyws demo",
        "data": "synthetic",
        "status": "started",
        "seed": seed,
        "device": device,
        "versions": {"pyws": __version__, **versions},
        "config": asdict(config),
    }


def _claim(out: Path, manifest: dict[str, Any]) -> None:
    """Take the folder, if it is new, empty or of an earlier demo; what that wrote goes away, nothing else does."""
    if out.exists() and not out.is_dir():
        raise DataError(out, "must be a folder, but is a file")
    if out.is_dir() and any(out.iterdir()):
        former = read_json(out / "manifest.json") if (out / "manifest.json").is_file() else None
        if not isinstance(former, dict) or former.get("command") != "pyws demo":
            raise DataError(out, "must be new, empty or of an earlier `pyws demo`, but holds other files; give -o")
        for name in WRITTEN:
            path = out / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    write_json(out / "manifest.json", manifest)


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
