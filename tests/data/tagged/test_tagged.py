"""Data sets of tagged videos: A2D, YouTube-Objects and the plain layout, and what is said of bad ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyws import DataError
from pyws.data.annotations.ava import AVA10
from pyws.data.tagged import own_videos, youtube_objects
from pyws.data.tagged.a2d_files import read_annotation, write_annotation
from pyws.data.tagged.dataset import MaskSet, TaggedVideo, resized
from pyws.data.tagged.label_space import A2D_CODES, object_labels
from pyws.data.tagged.layouts import open_mask_set
from pyws.data.video.frames import write_mask, write_picture

h5py = pytest.importorskip("h5py")

CODES = np.array([[0, 11, 11, 79], [14, 0, 35, 79], [0, 0, 35, 35]])  # 14 is no valid pair


def write_hdf5(path: Path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB's own header fills the first 512 bytes
        for name, array in arrays.items():
            file[name] = array
    return path


def write_a2d(root: Path, rows: str, frames: bool = True) -> Path:
    release = root / "Release"
    release.mkdir(parents=True)
    (release / "videoset.csv").write_text(rows)
    for name in (row.split(",")[0] for row in rows.split()):
        if frames:
            for index in range(1, 4):
                write_picture(release / "pngs320H" / name / f"{index:05d}.png", np.zeros((3, 4, 3), np.uint8))
    return release


ROWS = "-abc,11,0:00,0:05,3,4,3,2,0\n007,35,0:00,0:05,3,4,3,0,0\nxyz,79,0:00,0:05,3,4,3,0,1\n"


# A2D


def test_a2d(tmp_path):
    release = write_a2d(tmp_path, ROWS)
    write_hdf5(
        release / "Annotations/mat/-abc/00002.mat",
        reS_id=CODES.T.astype(float),
        id=np.array([[11.0, 35, 79, 14]]),
        reMask=np.zeros((4, 4, 3)),
    )
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "val.txt").write_text("007/00001\n007/00003\n")
    data = open_mask_set(tmp_path)
    assert len(data.space) == 44
    assert [(video.name, video.subset) for video in data.videos] == [("-abc", "train"), ("007", "val"), ("xyz", "test")]
    first = data.videos[0]
    wanted = [A2D_CODES.index(code) + 1 for code in (11, 35, 79)]
    assert list(first.tags) == wanted
    one, ball, dog = wanted
    assert data.truth(first, "00002").tolist() == [[0, one, one, dog], [255, 0, ball, dog], [0, 0, ball, ball]]
    assert open_mask_set(tmp_path, tags="main").videos[0].tags == (one,)
    assert [video.name for video in data.part("val", "test").videos] == ["007", "xyz"]
    with pytest.raises(DataError, match="has no videos of subset dev; it has test, train, val"):
        data.part("dev")


def test_a2d_of_video_files_counts_frames_from_zero(tmp_path):
    release = write_a2d(tmp_path, ROWS, frames=False)
    write_hdf5(release / "Annotations/mat/-abc/00002.mat", reS_id=CODES.T, id=np.array([[11]]), reMask=np.zeros((4, 3)))
    for name in ("00000", "notes"):  # numbers of frames begin with 1
        (release / f"Annotations/mat/-abc/{name}.mat").write_bytes(b"")
    video = open_mask_set(release).videos[0]
    assert video.source == release / "clips320H" / "-abc.mp4"
    assert list(video.truth) == ["00001"]


def test_boxes_of_written_annotations_count_from_one(tmp_path):
    masks = np.zeros((2, 5, 7), bool)
    masks[0, 1:4, 2:6] = True  # the other instance cannot be seen
    write_annotation(tmp_path, "v", 3, (11, 79), masks, {11: (1, 2, 3), 79: (4, 5, 6)})
    with h5py.File(tmp_path / "mat/v/00003.mat") as file:
        assert file["reBBox"][()].T.tolist() == [[3, 2, 6, 4], [0, 0, 0, 0]]


def test_a2d_sentences(tmp_path):
    release = write_a2d(tmp_path, ROWS)
    folder = tmp_path / "a2d_annotation_with_instances" / "-abc"
    write_hdf5(folder / "00001.h5", reS_id=CODES.T, instance=np.array([0, 1]), reMask=np.zeros((2, 4, 3)))
    data = open_mask_set(tmp_path)
    assert data.truth(data.videos[0], "00001")[0, 1] == 1
    assert len(data.videos[0].tags) == 3  # without a list of instances, from the pixels
    assert release.is_dir()


def test_readme_tells_what_is_valid(tmp_path):
    release = write_a2d(tmp_path, ROWS.replace(",11,", ",35,"))
    (release / "README").write_text("NAME ID Valid R G B\nball-jumping 35 1 9 8 7\ndog-none 79 1 1 2 3\nx 11 0 4 5 6\n")
    picture = np.zeros((3, 4, 3), np.uint8)
    picture[0, :3] = (9, 8, 7), (1, 2, 3), (4, 5, 6)
    picture[1, 0] = 77
    write_picture(release / "Annotations/col/007/00003.png", picture)
    (release / "README").write_text((release / "README").read_text() + "background 0 0 0 0 0\n")
    data = open_mask_set(tmp_path)
    assert data.space.names == ("background", "ball-jumping", "dog-none")
    assert data.truth(data.videos[1], "00003")[:2].tolist() == [[1, 2, 255, 0], [255, 0, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "has no videos"),
        ("a,11,0,1,3,4\n", "line 1: must have 9 columns, got 6"),
        ("a,11,0,1,3,4,5,6,0\na,11,0,1,3,4,5,6,1\n", "line 2: video a comes twice"),
        ("a,x,0,1,3,4,5,6,0\n", "line 1: label, height, width, frames and annotated frames must be numbers"),
        ("a,11,0,1,3,4,5,6,2\n", "usage 0 or 1, got a,11,0,1,3,4,5,6,2"),
        ("../a,11,0,1,3,4,5,6,0\n", "must be the name of a video, got '../a'"),
        ("a,14,0,1,3,4,5,6,0\n", "video a: tags must be among the 43 labels"),
    ],
)
def test_bad_videoset(tmp_path, rows, message):
    (tmp_path / "videoset.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        open_mask_set(tmp_path, layout="a2d")


def test_bad_annotations(tmp_path, monkeypatch):
    good = write_hdf5(tmp_path / "good.mat", reS_id=CODES.T)
    whole = good.read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mat").write_text("MATLAB 5.0 MAT-file")
    write_hdf5(tmp_path / "other.mat", labels=CODES)
    write_hdf5(tmp_path / "flat.mat", reS_id=CODES.ravel())
    write_hdf5(tmp_path / "group.mat", **{"reS_id/inner": CODES})
    for name, message in {
        "none.mat": "cannot be read: No such file",
        "cut.mat": "(cannot be read: |is damaged)",
        "text.mat": "cannot be read: .*signature",
        "other.mat": "must hold numbers under 'reS_id', it holds labels",
        "flat.mat": r"reS_id must be \(width, height\), got \(12,\)",
        "group.mat": "must hold numbers under 'reS_id'",
        "a.png": "is coloured; the colours are in the README",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            read_annotation(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    strange = write_hdf5(tmp_path / "strange.mat", reS_id=np.array([[np.nan, -3.0], [1e300, 11.0]]).T)
    assert read_annotation(strange).codes.tolist() == [[255, 255], [255, 11]]
    monkeypatch.setattr("pyws.data.tagged.a2d_files.MAX_PIXELS", 3)
    with pytest.raises(DataError, match="reS_id must have at most 3 values"):
        read_annotation(good)


def test_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'pyws-video\[hdf5\]'"):
        read_annotation(tmp_path / "x.mat")


# YouTube-Objects


def write_shot(root: Path, name: str, labels=("00001", "00011"), suffix=".jpg") -> Path:
    shot = root / name / "data" / "0007" / "shots" / "003"
    for index in (1, 11):
        write_picture(shot / "images" / f"frame{index:04d}{suffix}", np.zeros((8, 12, 3), np.uint8))
    for label in labels:
        picture = np.zeros((4, 6, 3), np.uint8)
        picture[:, :3] = 255
        write_picture(shot / "labels" / f"{label}.jpg", picture)
    return shot


def test_youtube_objects(tmp_path):
    write_shot(tmp_path, "dog")
    write_shot(tmp_path, "cat", labels=(), suffix=".png")
    data = open_mask_set(tmp_path)
    assert data.layout == "youtube-objects"
    assert [video.name for video in data.videos] == ["cat_0007_003", "dog_0007_003"]
    cat, dog = data.videos
    assert not cat.truth
    assert (cat.subset, dog.subset) == ("train", "test")  # what has masks is tested on, the rest is learned from
    assert (data.learned, data.measured) == (("train",), ("test",))
    assert list(dog.truth) == ["frame0001", "frame0011"]
    assert dog.tags == (data.space.id_of("dog"),)
    small = data.truth(dog, "frame0011")
    assert small.shape == (4, 6)
    assert set(np.unique(small)) == {0, 7}
    assert (data.truth(dog, "frame0011", (8, 12)) == np.repeat(np.repeat(small, 2, 0), 2, 1)).all()
    with pytest.raises(DataError, match=r"00011.jpg: must have the shape of the frame 8x20, got 4x6"):
        data.truth(dog, "frame0011", (8, 20))


def test_a_label_without_a_frame(tmp_path):
    write_shot(tmp_path, "dog", labels=("00021",))
    with pytest.raises(DataError, match=r"00021.jpg: labels a frame that is not in"):
        open_mask_set(tmp_path)


def test_resized():
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert resized(mask, (0, 0), Path("m")) is mask
    assert resized(mask, (4, 6), Path("m"))[1:3].tolist() == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    assert resized(np.zeros((112, 200), np.uint8), (225, 400), Path("m")).shape == (225, 400)


# AVA


def write_ava(root: Path, rows: str = "a,0901,0,0,1,1,15,0\na,0901,0,0,1,1,80,0\na,0902,0,0,1,1,65,1\n") -> Path:
    for index in range(75):
        write_picture(root / "videos/a" / f"{index:04}.png", np.full((4, 6, 3), index, np.uint8))
    (root / "ava_train_v2.2.csv").write_text(rows)
    (root / "ava_train_excluded_timestamps_v2.2.csv").write_text("a,0903\n")
    (root / "ava_val_v2.2.csv").write_text("a,0900,0,0,1,1,27,0\na,0900,0,0,1,1,15,0\n")
    return root


def test_ava_is_short_videos_around_its_key_frames(tmp_path):
    data = open_mask_set(write_ava(tmp_path))
    assert data.layout == "ava"
    assert data.space.view("action")[1:] == tuple(AVA10.values())
    first, second, third = data.videos
    assert [video.name for video in data.videos] == ["a_0901", "a_0902", "a_0900"]
    assert [data.space.names[tag] for tag in third.tags] == ["person-answer phone", "person-drink"]
    assert (first.subset, third.subset, first.span, second.span) == ("train", "val", (0, 75), (15, 105))
    assert (data.learned, data.measured) == (("train",), ("val",))
    assert second.shown(75) == range(15, 75)
    with pytest.raises(DataError, match="must reach frame 15, where a_0902 begins, has 10"):
        second.shown(10)
    with pytest.raises(DataError, match="AVA has boxes, no masks"):
        data.read(tmp_path / "0.png", first)
    assert [len(video.tags) for video in open_mask_set(tmp_path, tags="main").videos] == [1, 1, 1]


def test_one_list_of_ava_is_enough(tmp_path):
    write_ava(tmp_path)
    (tmp_path / "ava_train_v2.2.csv").unlink()
    assert [video.name for video in open_mask_set(tmp_path).videos] == ["a_0900"]


def test_videos_of_ava_that_are_not_there_are_said(tmp_path):
    write_ava(tmp_path, "a,0901,0,0,1,1,15,0\nb,0901,0,0,1,1,15,0\n")
    with pytest.warns(UserWarning, match=r"ava_train_v2.2.csv: 1 of 2 videos, b among them, are not in .*videos"):
        assert len(open_mask_set(tmp_path).videos) == 2
    (tmp_path / "videos/a").rename(tmp_path / "videos/c")
    with pytest.warns(match="2 of 2 videos"), pytest.raises(DataError, match="has no video with a key frame"):
        open_mask_set(tmp_path)


# One's own videos


def write_plain(root: Path, tags: str, labels: str | None = None) -> Path:
    for name in ("a", "b"):
        write_picture(root / "videos" / name / "0.jpg", np.zeros((4, 4, 3), np.uint8))
    (root / "tags.csv").write_text(tags)
    if labels is not None:
        (root / "labels.csv").write_text(labels)
    return root


def test_plain_layout(tmp_path):
    write_plain(tmp_path, "video,tag,subset\nb,dog,test\na,cat,train\nb,cat,test\n")
    write_mask(tmp_path / "truth/b/0.png", np.array([[0, 1], [2, 255]], np.uint8))
    data = open_mask_set(tmp_path)
    assert data.layout == "plain"
    assert data.space.names == ("background", "cat", "dog")
    assert [(video.name, video.tags, video.subset) for video in data.videos] == [
        ("a", (1,), "train"),
        ("b", (2, 1), "test"),
    ]
    assert data.truth(data.videos[1], "0").tolist() == [[0, 1], [2, 255]]
    assert open_mask_set(tmp_path, tags="main").videos[1].tags == (2,)
    write_mask(tmp_path / "truth/b/0.png", np.array([[0, 3]], np.uint8))
    with pytest.raises(DataError, match=r"ids must be 0..2 or 255, got 3"):
        data.truth(data.videos[1], "0")


def test_videos_or_tags_alone_are_not_the_plain_layout(tmp_path):
    (tmp_path / "a" / "videos").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tags.csv").write_text("video,tag\na,cat\n")
    assert [own_videos.fits(tmp_path / name) for name in "ab"] == [False, False]


def test_plain_layout_of_pairs(tmp_path):
    write_plain(
        tmp_path, "video,actor,action\na,dog,running\nb,cat,eating\n", "actor,action\ndog,running\ncat,eating\n"
    )
    data = open_mask_set(tmp_path)
    assert data.space.names == ("background", "dog-running", "cat-eating")
    assert data.space.has_actions


@pytest.mark.parametrize(
    ("tags", "labels", "message"),
    [
        ("video,tag\na,cat\n", None, "tags.csv: has no tag of video b"),
        ("video,tag\na,cat\nb,cat\nc,cat\n", None, "line 4: there is no video c in"),
        ("video,tag\na,cat\nb,\n", None, "line 3: must name a video and a tag, got 'b', ''"),
        ("name,tag\na,cat\n", None, "must have the columns video and tag"),
        (
            "video,tag,subset\na,cat,dev\nb,cat,test\n",
            None,
            "line 2: subset must be one of train, val and test, got 'dev'",
        ),
        ("video,tag\na,cat\nb,dog\n", "tag\ncat\n", "line 3: 'dog' is not among the labels: cat"),
        ("video,tag\na,cat\nb,background\n", None, "names must differ and start with 'background'"),
    ],
)
def test_bad_plain_layouts(tmp_path, tags, labels, message):
    with pytest.raises(DataError, match=message):
        open_mask_set(write_plain(tmp_path, tags, labels))


def test_two_sources_of_a_video(tmp_path):
    write_plain(tmp_path, "video,tag\na,cat\nb,cat\n")
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"must hold one source a video, found a and a\.mp4"):
        open_mask_set(tmp_path)


def test_what_is_no_video_among_videos(tmp_path):
    write_plain(tmp_path, "video,tag\na,cat\nb,cat\n")
    for name in (".hidden", "cover.JPG", "Thumbs.png"):
        (tmp_path / "videos" / name).write_bytes(b"")
    assert list(own_videos.video_sources(tmp_path / "videos")) == ["a", "b"]
    for name in "ab":
        (tmp_path / "videos" / name).rename(tmp_path / name)
    with pytest.raises(DataError, match="videos: has no videos"):
        own_videos.video_sources(tmp_path / "videos")


def test_an_unknown_layout(tmp_path):
    with pytest.raises(DataError, match="is no data set that is known: it must hold Release/videoset.csv"):
        open_mask_set(tmp_path)
    with pytest.raises(DataError, match="must be the folder of a data set"):
        open_mask_set(tmp_path / "none")


def test_validation_keeps_the_shares_of_tags(tmp_path):
    for index in range(12):
        write_picture(tmp_path / "videos" / f"v{index:02d}" / "0.jpg", np.zeros((4, 4, 3), np.uint8))
    rows = "".join(f"v{index:02d},{'cat' if index < 8 else 'dog'},train\n" for index in range(12))
    (tmp_path / "tags.csv").write_text("video,tag,subset\n" + rows)
    one, again = open_mask_set(tmp_path, validation=3, seed=1), open_mask_set(tmp_path, validation=3, seed=1)
    assert one.videos == again.videos
    assert sorted(video.tags[0] for video in one.part("val").videos) == [1, 1, 2]
    drawn = {tuple(v.name for v in open_mask_set(tmp_path, validation=3, seed=s).part("val").videos) for s in range(4)}
    assert len(drawn) > 1
    with pytest.raises(DataError, match=r"validation must take 1..11 of 12 videos, got 12"):
        open_mask_set(tmp_path, validation=12)


def test_videos_must_have_different_names():
    from pyws.data.tagged.dataset import MaskSet
    from pyws.data.tagged.label_space import object_labels

    video = TaggedVideo("a", Path("a"), (1,))
    with pytest.raises(DataError, match="two videos have the name a"):
        MaskSet("plain", Path("x"), object_labels(["cat"]), (video, video), lambda path, video: None)


def test_jpeg_labels_are_cut_in_the_middle(tmp_path):
    shot = write_shot(tmp_path, "dog")
    Image.fromarray(np.array([[0, 126, 128, 255]], np.uint8)).save(shot / "labels" / "00001.png")
    (shot / "labels" / "00001.jpg").unlink()
    data = open_mask_set(tmp_path)
    assert data.truth(data.videos[0], "frame0001").tolist() == [[0, 0, 7, 7]]


@pytest.mark.parametrize(
    ("subsets", "learned"),
    [(["", ""], ("",)), (["train", "val", "test"], ("train",)), (["", "val", "test"], ("",)), (["test"], ())],
)
def test_what_is_learned_from(subsets, learned):
    """Sets without subsets are learned from, as `data check` counts them."""
    videos = tuple(TaggedVideo(f"v{k}", Path("v"), (1,), subset) for k, subset in enumerate(subsets))
    assert MaskSet("plain", Path(), object_labels("a"), videos, lambda path, video: None).learned == learned


def test_everything_that_does_not_fit_is_said_at_once(tmp_path):
    """Rows without a video, unknown tags and subsets, and videos without a row: one report, not the first of them."""
    text = "video,tag,subset\na,cat,train\nc,cat,train\nd,cat,\nb,dog,dev\n"
    with pytest.raises(DataError) as caught:
        open_mask_set(write_plain(tmp_path, text, None))
    said = str(caught.value)
    assert "line 3: there is no video c" in said
    assert "line 4: there is no video d" in said
    assert "line 5: subset must be one of train, val and test, got 'dev'" in said
    assert "no tag" not in said  # b has a row, whatever is wrong with it


def test_all_videos_without_a_tag_are_named_at_once(tmp_path):
    for number in range(13):
        (tmp_path / "videos" / f"v{number:02d}").mkdir(parents=True)
    (tmp_path / "tags.csv").write_text("video,tag\nv00,cat\n")
    with pytest.raises(DataError, match=r"has no tag of video v01, v02, .*, v10 and 2 more of 13"):
        open_mask_set(tmp_path)


def test_an_object_of_any_colour_is_the_object(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[2:6, 2:6, 0] = 255  # red alone
    Image.fromarray(picture).save(tmp_path / "label.png")
    label = youtube_objects._read_label(tmp_path / "label.png", TaggedVideo("v", tmp_path, (3,)))
    assert label.tolist() == np.where(picture[..., 0], 3, 0).tolist()
