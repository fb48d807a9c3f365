"""pyws data synthesize-a2d: a synthetic data set of tagged videos with true masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.data.synthetic.a2d import GeneratedConfig


def synthesize_a2d(
    out: Positional[Path],
    config: Annotated[GeneratedConfig, tyro.conf.arg(name="")] = GeneratedConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Draw a synthetic data set in the layout of A2D: actors that move over photographs, with true masks.

    The same seed and options give the same files. Frames and truth are drawn, not filmed: figures measured on them say
    how a method works, not how well it does on real videos.

    Parameters
    ----------
    out
        Folder to write: Release (videoset.csv, README, pngs320H, Annotations) and list.
    config
        Size and difficulty.
    common
        Options of every command.

    Examples
    --------
    pyws data synthesize-a2d A2D --train 60 --validation 12 --test 24
    """
    from pyws.data.synthetic.a2d import write_generated_a2d
    from pyws.data.tagged.a2d import read

    write_generated_a2d(out, common.seed, config, quiet=common.silent)
    data = read(out)
    subsets = [video.subset for video in data.videos]
    counts = {subset: subsets.count(subset) for subset in ("train", "val", "test")}
    said = ", ".join(f"{subset} {count}" for subset, count in counts.items())
    common.say(f"{out}: synthetic data of {len(data.space) - 1} actor-action pairs; videos: {said}")
    return {"out": str(out), "synthetic": True, "videos": counts, "labels": list(data.space.names[1:])}
