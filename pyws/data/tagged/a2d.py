"""A2D, the Actor-Action Dataset (Xu et al., CVPR 2015), as a :class:`~pyws.data.tagged.dataset.MaskSet`."""

from __future__ import annotations

from pathlib import Path

from pyws.data.tagged.a2d_files import VideoRow, read_annotation, read_instances, read_readme, read_videoset
from pyws.data.tagged.dataset import Masks, MaskSet, TaggedVideo, Tags, check_tags
from pyws.data.tagged.label_space import A2D_CODES, IGNORE, a2d, a2d_table
from pyws.errors import DataError
from pyws.files import read_lines

SENTENCES = "a2d_annotation_with_instances"


def fits(root: Path) -> bool:
    """Whether the folder has the layout of A2D."""
    return release_of(root) is not None


def read(root: Path, tags: Tags = "all") -> MaskSet:
    """A2D from ``root/Release`` (or ``root/A2D/Release``, or the folder ``Release`` itself).

    Frames come from ``pngs320H/<video>`` or ``clips320H/<video>.mp4``; true masks from ``Annotations/mat``, from
    ``a2d_annotation_with_instances`` beside the release, or from ``Annotations/col`` with the colours of the README.
    Where the README tells which pairs are valid, those are the labels, else the 43 pairs of the paper. ``list/val.txt``
    says which videos are for validation.

    Raises
    ------
    DataError : a file is missing or not as it must be, or a video has a label that is no valid pair
    """
    release = release_of(root)
    if release is None:
        raise DataError(root, "must hold Release/videoset.csv")
    valid, colours = read_readme(release / "README")
    space = a2d(valid or A2D_CODES)
    table = a2d_table(space)
    validation = _listed(release.parent / "list" / "val.txt") | _listed(release / "list" / "val.txt")
    videos = []
    for row in read_videoset(release / "videoset.csv"):
        frames = release / "pngs320H" / row.name
        source = frames if frames.is_dir() else release / "clips320H" / f"{row.name}.mp4"
        truth = _truth(release, row, in_folder=frames.is_dir())
        ids = [int(table[row.code]) if row.code < 256 else IGNORE, *(_tags(truth, table) if tags == "all" else ())]
        subset = "val" if row.name in validation else row.usage
        videos.append(
            TaggedVideo(row.name, source, check_tags(space, ids, f"video {row.name}", release), subset, truth)
        )
    return MaskSet("a2d", root, space, tuple(videos), lambda path, video: table[read_annotation(path, colours).codes])


def release_of(root: Path) -> Path | None:
    """Where videoset.csv of the folder of A2D lies; None where it is of another layout."""
    places = (root / "Release", root / "A2D" / "Release", root)
    return next((place for place in places if (place / "videoset.csv").is_file()), None)


def _truth(release: Path, row: VideoRow, in_folder: bool) -> dict[str, Path]:
    """Files of the annotated frames, of the first kind that the video has.

    Annotations and the files of frames count from 1, frames of a video file from 0.
    """
    kinds = (
        (release / "Annotations" / "mat", ".mat"),
        (release.parent / SENTENCES, ".h5"),
        (release / "Annotations" / SENTENCES, ".h5"),
        (release / "Annotations" / "col", ".png"),
    )
    for folder, suffix in kinds:
        files = sorted((folder / row.name).glob(f"*{suffix}"))
        numbered = [file for file in files if file.stem.isdecimal() and int(file.stem) > 0]
        if numbered:
            return {file.stem if in_folder else f"{int(file.stem) - 1:05d}": file for file in numbered}
    return {}


def _tags(truth: dict[str, Path], table: Masks) -> list[int]:
    """The valid pairs of the annotated frames; of HDF5 only the list of instances is read."""
    codes = {code for path in truth.values() if path.suffix != ".png" for code in read_instances(path)}
    return sorted({int(table[code]) for code in codes if 0 < code < 256} - {0, IGNORE})


def _listed(path: Path) -> set[str]:
    """Videos of a list of lines <video>/<frame>; empty where there is no such file."""
    if not path.is_file():
        return set()
    return {line.rsplit("/", 1)[0] for line in read_lines(path)}
