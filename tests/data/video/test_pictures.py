"""Pictures and masks as cameras and tools write them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import DataError
from pyws.data.video.clips import FrameStore, clips_of, side_by_side
from pyws.data.video.decoders import PyAV
from pyws.data.video.frames import (
    open_frames,
    palette,
    read_heat,
    read_image,
    read_mask,
    write_heat,
    write_mask,
    write_picture,
)
from pyws.data.video.png import encode_png, is_whole
from pyws.report.movies import write_video
from pyws.report.pictures import contact_sheet, outline, overlay

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_frames_are_turned_as_exif_says(orientation: int, suffix: str, tmp_path: Path) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # white in the corner that must come out at the top left
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif, quality=100)
    found = read_image(tmp_path / f"a.{suffix}")
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= 8


def test_sixteen_bits_of_grey_keep_their_contrast(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.shape == (8, 8, 3)
    assert np.abs(found[..., 0] - levels / 257).max() <= 0.5


def test_palette_masks_saved_as_rgb_are_read_by_their_colours(tmp_path: Path) -> None:
    ids = RANDOM.integers(0, 256, (20, 30)).astype(np.uint8)
    Image.fromarray(palette()[ids]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), ids)


def test_other_pictures_are_no_masks(tmp_path: Path) -> None:
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[2, 3] = 1, 2, 3
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: .* got \[1, 2, 3\] at row 2, column 3"):
        read_mask(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="of 8 bits, got mode I"):
        read_mask(tmp_path / "b.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (37, 2), (64, 51)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png_files_are_what_pillow_reads(kind: type, size: tuple[int, int], tmp_path: Path) -> None:
    """Every level, and rows that fall below the one above: the filter's differences wrap around."""
    pixels = RANDOM.integers(0, np.iinfo(kind).max, size, kind, endpoint=True)
    (tmp_path / "a.png").write_bytes(encode_png(pixels[:, ::-1], text={"of": "levels"}))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info == {"of": "levels"}
        assert np.array_equal(np.asarray(image), pixels[:, ::-1])
    assert is_whole(tmp_path / "a.png")


def test_png_files_of_ids_have_the_palette(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "a.png").write_bytes(encode_png(ids, palette()))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), palette()[ids])


@pytest.mark.parametrize(("most", "bits"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (15, 4), (16, 8), (255, 8)])
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (4, 9), (7, 30)])
def test_png_files_of_few_ids_have_few_bits(size: tuple[int, int], most: int, bits: int, tmp_path: Path) -> None:
    """Rows end within a byte too, and the file has no more colours than its bits can name."""
    ids = RANDOM.integers(0, most, size, np.uint8, endpoint=True)
    ids[-1, -1] = most
    write_mask(tmp_path / "a.png", ids)
    content = (tmp_path / "a.png").read_bytes()
    assert content[24] == bits  # the header's byte of the bits a sample
    assert content[33:41] == struct.pack(">I", 3 << bits) + b"PLTE"
    assert np.array_equal(read_mask(tmp_path / "a.png"), ids)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), palette()[ids])


@pytest.mark.parametrize(("height", "width"), [(2, 66), (264, 8)])
def test_strips_that_networks_would_see_as_vast_frames_are_refused(height: int, width: int, tmp_path: Path) -> None:
    strip = np.zeros((height, width, 3), np.uint8)
    write_picture(tmp_path / "strip" / "0.png", strip)
    write_video(tmp_path / "strip.mp4", [strip] * 3, 10)
    rule = f"must have sides of at most 32 to 1 in a frame, got {width}x{height}"
    for read in (
        lambda: next(open_frames(tmp_path / "strip").read([0])),
        lambda: open_frames(tmp_path / "strip.mp4"),
        PyAV(tmp_path / "strip.mp4").header,
    ):
        with pytest.raises(DataError, match=rf"strip.*: {rule}"):
            read()


def test_a_sheet_of_many_tall_pictures_is_one_that_can_be_written(tmp_path: Path) -> None:
    tall = np.zeros((320, 10, 3), np.uint8)
    write_picture(tmp_path / "sheet.jpg", contact_sheet([[tall, tall]] * 10, width=320))
    height, width = read_image(tmp_path / "sheet.jpg").shape[:2]
    assert 50_000 < height < 65_536
    assert width == 2 * (60_000 // 320) + 4


def test_a_png_that_was_cut_off_is_not_whole(tmp_path: Path) -> None:
    """Wherever it ends, also between two of its parts, where every part has its right sum."""
    whole = encode_png(RANDOM.integers(0, 255, (9, 8), np.uint8), text={"of": "levels"})
    for size in range(len(whole)):
        (tmp_path / "a.png").write_bytes(whole[:size])
        assert not is_whole(tmp_path / "a.png"), size


def test_outlines_are_pixels_beside_another_id() -> None:
    ids = np.random.default_rng(4).integers(0, 3, (7, 9)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    for (y, x), found in np.ndenumerate(outline(ids)):
        beside = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        others = {ids[at] for at in beside if 0 <= at[0] < 14 and 0 <= at[1] < 18} - {ids[y, x]}
        assert found == (ids[y, x] > 0 and bool(others))


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.float32).reshape(16, 16) / np.float32(255)
    write_heat(tmp_path / "a.png", levels)
    assert np.array_equal(read_heat(tmp_path / "a.png", (16, 16)), levels)


def test_masks_of_two_levels_are_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 255]]


def test_pictures_are_written_as_jpeg_or_png(tmp_path: Path) -> None:
    for name in ("a.gif", "a.JPG", "a"):
        with pytest.raises(ValueError, match=rf"write_picture: path must end in \.jpg or \.png, got .*{name}"):
            write_picture(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [((4, 6), (4, 6)), ((4, 6, 4), (4, 6)), ((4, 6, 3), (6, 4)), ((4, 6, 3), (4, 6, 1))],
)
def test_what_cannot_be_drawn_over_a_frame(image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="overlay: "):
        overlay(np.zeros(image, np.uint8), np.zeros(mask, np.uint8))
    with pytest.raises(ValueError, match="overlay: "):
        overlay(np.zeros((4, 6, 3), np.float32), np.zeros((4, 6), np.uint8))


def test_captions_are_one_a_column() -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="contact_sheet: captions must be one a column, got 1 for 2"):
        contact_sheet([[frame, frame]], ["a"])


@pytest.mark.parametrize(("length", "frames"), [(0, 16), (16, 0), (-1, 1)])
def test_clips_of_nothing(length: int, frames: int) -> None:
    with pytest.raises(ValueError, match=f"clips_of: length and frames must be >= 1, got {length} and {frames}"):
        clips_of(length, frames)


def test_frames_side_by_side_are_of_one_size() -> None:
    one, two = np.zeros((2, 3, 3), np.uint8), np.ones((2, 3, 3), np.uint8)
    assert side_by_side([one, two], "v").shape == (2, 3, 6)
    with pytest.raises(DataError, match="v: must have frames of one size"):
        side_by_side([one, np.zeros((3, 2, 3), np.uint8)], "v")


def test_recent_videos_are_kept_as_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bytes of each pixel are room for three videos of a quarter, and the oldest makes room."""
    for name in "abcde":
        write_picture(tmp_path / name / "0.png", np.full((4, 4, 3), ord(name), np.uint8))
    store = FrameStore(4, limit=4 * 48)
    read: list[str] = []
    opened = store._read
    monkeypatch.setattr(store, "_read", lambda video, indices: read.append(video.path.name) or opened(video, indices))
    for name in "abcdaeba":
        assert store.frames(tmp_path / name, [0, 0]).shape == (2, 4, 4, 3)
        assert int(store.frames(tmp_path / name, [0])[0, 0, 0, 0]) == ord(name)
    assert "".join(read) == "abcdeb"  # b is the oldest when e comes, as a was asked for once more
