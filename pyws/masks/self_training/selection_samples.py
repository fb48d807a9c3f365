"""Pictures of what selection saw: labels that passed and labels that failed, cut out and pasted (WS^2, figures 4, 5).

``select/v<i>/<number>.png`` has the patch, the patch under its mask, and the composite that was tested, side by side;
``select/v<i>/samples.json`` says what each is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws.data.video.frames import evenly, write_picture
from pyws.files import write_json
from pyws.masks.self_training.cut_and_paste import Square, paste
from pyws.masks.self_training.image_ops import as_images, as_patches
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame

SHOWN = 6  # labels that passed, and as many that failed
SIDE = 128  # pixels of a patch


class PatchSource(NamedTuple):
    """What composites of a label are made of; small, since all labels of a version keep theirs.

    Parameters
    ----------
    frame : frame that the label is in
    square : square around it
    packed : bits of the mask (side, side)
    places : backgrounds; none where its video has no place for it
    """

    frame: Frame
    square: Square
    packed: NDArray[np.uint8]
    places: Sequence[tuple[Frame, Square]]

    def real(self, data: Annotations) -> Tensor:
        """The patch (3, side, side) float in [0, 1]."""
        return as_images([self.square.of(data.picture(self.frame))])[0]

    def mask(self) -> Tensor:
        """(side, side) bool."""
        side = self.square.side
        return torch.from_numpy(np.unpackbits(self.packed, count=side * side).reshape(side, side).astype(bool))

    def composite(self, data: Annotations, place: int) -> Tensor:
        """(3, side, side) float, over the background of that number; they come again and again."""
        frame, square = self.places[place % len(self.places)]
        return paste(self.real(data), self.mask(), data.picture(frame), square)


def write_samples(
    folder: Path,
    data: Annotations,
    tested: Sequence[tuple[dict[str, Any], PatchSource, bool]],
) -> None:
    """Write pictures of some labels that passed and some that failed, spread evenly over each.

    Parameters
    ----------
    folder : to write
    tested : scores of each label, what it is made of, and whether it passed
    """
    kept = []
    for passed in (True, False):
        own = [one for one in tested if one[2] == passed]
        kept += [own[place] for place in evenly(len(own), SHOWN)]
    described = []
    for number, (about, source, passed) in enumerate(kept):
        real, mask = source.real(data), source.mask()
        shown = [real, torch.where(mask, real, 0.25 * real)]
        shown += [source.composite(data, 0)] if source.places else []
        strip = torch.cat(list(as_patches(torch.stack(shown), SIDE)), 2).permute(1, 2, 0).numpy()
        write_picture(folder / f"{number}.png", strip)
        described.append({"video": source.frame.video, "frame": source.frame.stem, "passed": passed, **about})
    write_json(folder / "samples.json", {"samples": described})
