"""Images from folders, lists, videos and shards; damaged ones are passed over and told."""

from __future__ import annotations

import shutil
import struct
import tarfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from slamfeat.errors import ImageError, InputError
from slamfeat.image import read_image
from slamfeat.pretrain.shards import Shards
from slamfeat.pretrain.sources import OPEN_VIDEOS, VIDEO_BLOCK, Joined, open_images, photo_of, split_names


@pytest.fixture
def photos(sample: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, file in enumerate(sorted((sample / "rgb").iterdir())[:6]):
        shutil.copy(file, folder / f"{number}{file.suffix}")
    return folder


def write_video(path: Path, photos: Path) -> Path:
    frames = [read_image(file) for file in sorted(photos.iterdir())]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def test_every_kind_gives_the_same_images(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.iterdir())
    expected = [read_image(file) for file in files]
    (tmp_path / "list.txt").write_text("# three\n" + "\n".join(f"photos/{file.name}" for file in files[:3]) + "\n")
    with tarfile.open(tmp_path / "000.tar", "w") as archive:
        for file in files:
            archive.add(file, f"{file.stem}.img{file.suffix}")
            (tmp_path / "text.txt").write_text("no image")
            archive.add(tmp_path / "text.txt", f"{file.stem}.txt")
    source = open_images([str(photos), str(tmp_path / "list.txt"), str(tmp_path / "000.tar")])
    assert len(source.names) == 15 and len(set(source.names)) == 15 - 3  # the list names files of the folder
    for number, index in enumerate([*range(6), *range(3), *range(6)]):
        np.testing.assert_array_equal(source.read(number), expected[index])


def test_a_folder_may_hold_shards_and_videos(photos: Path, tmp_path: Path) -> None:
    """Its image files first, then the others by name; hidden ones, as a download leaves behind, are passed over."""
    places = [photos / "packed" / name for name in ("a/000.tar", "a/001.TAR", "b.avi", ".part/000.tar", "readme.txt")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
    files = sorted(file for file in photos.iterdir() if file.is_file())
    for place, inside in zip(places[:2], (files[:2], files[2:3]), strict=True):
        with tarfile.open(place, "w") as archive:
            for file in inside:
                archive.add(file, file.name)
    writer = cv2.VideoWriter(str(places[2]), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    source = open_images([str(photos)])
    shown = [str(file) for file in files] + [f"{places[0]}:{file.name}" for file in files[:2]]
    assert list(source.names) == [*shown, f"{places[1]}:{files[2].name}", f"{places[2]}:0"]
    np.testing.assert_array_equal(source.read(len(files) + 2), read_image(files[2]))
    assert photo_of(source.names[len(files) + 2]) == photo_of(str(files[2]))
    assert len(open_images([str(photos / "packed")]).names) == 4


def test_what_lies_by_chance_in_a_folder_ends_nothing(photos: Path, tmp_path: Path) -> None:
    """It is counted among what is skipped; alone, or named, it is an error."""
    odd = {"a_code.tar": "holds no images", "half.mp4": "cannot be read as a video", "x.tar": "uncompressed .tar"}
    with tarfile.open(photos / "a_code.tar", "w") as archive:
        archive.add(__file__, "code.py")
    (photos / "half.mp4").write_bytes(b"half of it")
    (photos / "x.tar").write_bytes(b"<html>")
    source = open_images([str(photos)])
    assert len(source.names) == len([file for file in photos.iterdir() if file.suffix == ".jpg"])
    assert {Path(name).name: said for name, said in source.skipped.items()}.keys() == odd.keys()
    assert all(odd[Path(name).name] in said for name, said in source.skipped.items())
    (tmp_path / "alone").mkdir()
    for name in odd:
        (photos / name).rename(tmp_path / "alone" / name)
    for place in ("alone", *(f"alone/{name}" for name in odd)):
        with pytest.raises(InputError, match="|".join(odd.values())):
            open_images([str(tmp_path / place)])


def test_a_videos_frames(photos: Path, tmp_path: Path) -> None:
    frames = [read_image(file) for file in sorted(photos.iterdir())]
    write_video(tmp_path / "walk.avi", photos)
    source = open_images([str(tmp_path / "walk.avi")], frame_step=2)
    assert len(source.names) == 3
    with ThreadPoolExecutor(3) as pool:  # each thread decodes by itself, in any order
        read = list(pool.map(source.read, [2, 0, 1] * 4))
    for number, image in zip([2, 0, 1] * 4, read, strict=True):
        errors = [np.abs(image.astype(int) - frame).mean() for frame in frames]
        assert int(np.argmin(errors)) == 2 * number


def test_damaged_images_are_passed_over(photos: Path) -> None:
    files = sorted(photos.iterdir())
    files[2].write_bytes(files[2].read_bytes()[:50])
    files[3].write_bytes(b"")
    source = open_images([str(photos)])
    with pytest.raises(ImageError, match=files[2].name):
        source.read(2)
    np.testing.assert_array_equal(source.read_or_next(2, range(6)), read_image(files[4]))
    assert [Path(name).name for name in source.skipped] == [files[2].name, files[3].name]
    for file in files:
        file.write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of 6 images can be read"):
        source.read_or_next(0, range(6))


def test_no_image_of_the_other_side_stands_in(photos: Path) -> None:
    files = sorted(photos.iterdir())
    for damaged in (2, 5):
        files[damaged].write_bytes(b"x")
    source = open_images([str(photos)])
    train, held_out = [0, 2, 4, 5], [1, 3]
    np.testing.assert_array_equal(source.read_or_next(2, train), read_image(files[4]))
    np.testing.assert_array_equal(source.read_or_next(5, train), read_image(files[0]))
    files[3].write_bytes(b"x")
    np.testing.assert_array_equal(source.read_or_next(3, held_out), read_image(files[1]))
    files[1].write_bytes(b"x")
    with pytest.raises(ImageError, match=r"none of 2 images can be read; the first: .*3\."):
        source.read_or_next(3, held_out)


def test_images_larger_than_opencv_decodes_are_passed_over(photos: Path, tmp_path: Path) -> None:
    large = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    header = b"IHDR" + struct.pack(">II", 2**17, 2**17) + large[24:29]
    (photos / "0large.png").write_bytes(large[:12] + header + struct.pack(">I", zlib.crc32(header)) + large[33:])
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(photos / "0large.png", "large.png")
    source = open_images([str(photos), str(tmp_path / "0.tar")])
    number = [Path(name).name for name in source.names].index("0large.png")
    for at in (number, len(source.names) - 1):
        with pytest.raises(ImageError, match=r"large\.png: OpenCV does not decode it"):
            source.read(at)


def test_a_shard_that_goes_away_is_told(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(next(photos.iterdir()), "a.png")
    source = open_images([str(tmp_path / "0.tar"), str(photos)])
    (tmp_path / "0.tar").unlink()
    with pytest.raises(ImageError, match=r"0\.tar:a\.png: cannot be read \(No such file"):
        source.read(0)
    source.read_or_next(0, [0, 1])
    assert list(source.skipped) == [f"{tmp_path / '0.tar'}:a.png"]


def test_where_a_shards_images_are_is_remembered(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("slamfeat.pretrain.shards.LEAST_KEPT", 2)
    shard, files = tmp_path / "0.tar", sorted(photos.iterdir())

    def made(count: int) -> None:
        with tarfile.open(shard, "w") as archive:
            for file in files[:count]:
                archive.add(file, f"a/{file.name}")

    def opened() -> Shards:
        source = Shards(shard)
        for number, name in enumerate(source.names):
            assert name == f"{shard}:a/{files[number].name}"
            np.testing.assert_array_equal(source.read(number), read_image(files[number]))
        return source

    made(1)
    assert len(opened().names) == 1 and not (tmp_path / "home").exists()  # too few to be worth it
    made(3)
    assert len(opened().names) == 3
    (index,) = (tmp_path / "home" / "shards").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("slamfeat.pretrain.shards._scan", Mock(side_effect=AssertionError))
        assert len(opened().names) == 3
    made(4)  # another file under the same name
    assert len(opened().names) == 4
    for damaged in (b"", b"x", index.read_bytes()[:-40]):
        index.write_bytes(damaged)
        assert len(opened().names) == 4
    index.unlink()
    monkeypatch.setenv("SLAMFEAT_HOME", str(shard))  # where nothing can be written
    assert len(opened().names) == 4


def test_few_videos_are_open_at_a_time(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [write_video(tmp_path / f"{number}.avi", photos) for number in range(OPEN_VIDEOS + 2)]
    source = open_images([str(video) for video in videos], frame_step=3)
    opened: list[str] = []
    released: list[str] = []

    class Counted:
        def __init__(self, path: str) -> None:
            opened.append(path)
            self._path, self._capture = path, capture(path)

        def release(self) -> None:
            released.append(self._path)
            self._capture.release()

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Counted)
    for number in range(len(source.names)):
        source.read(number)
    assert opened == [str(video) for video in videos] and released == opened[:2]
    source.read(len(source.names) - 1)  # the last ones are still open
    assert len(opened) == len(videos)
    content = videos[0].read_bytes()
    videos[0].unlink()
    with pytest.raises(ImageError, match="cannot be opened as a video"):
        source.read(0)
    videos[0].write_bytes(content)
    assert source.read(0).shape[2] == 3


def test_a_single_video_has_frames_on_both_sides() -> None:
    """Blocks of consecutive frames are held out, so that few have a twin on the other side."""

    class Video:
        def __init__(self) -> None:
            self.names: Sequence[str] = [f"/videos/walk.mp4:{frame}" for frame in range(0, 60_000, 10)]

        def read(self, number: int) -> np.ndarray:
            raise AssertionError("names are enough")

    train, held_out = split_names(Joined([Video()]), 0.1)
    assert 0.03 < len(held_out) / 6000 < 0.2
    sides = np.zeros(6000, bool)
    sides[held_out] = True
    assert (sides.reshape(-1, VIDEO_BLOCK // 10).mean(1) % 1 == 0).all()
    assert len(train) + len(held_out) == 6000
    assert photo_of("a.tar:b/photo3_s2_1_0.png") == "photo3" and photo_of("a/b:7.png") == "b:7"


def test_a_list_names_any_place(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.iterdir())
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(files[5], "a.png")
    write_video(tmp_path / "walk.avi", photos)
    lines = ["photos/" + files[1].name, str(files[0]), "0.tar", "photos", "walk.avi", "photos/" + files[2].name]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = open_images([str(tmp_path / "list.txt")], frame_step=3)
    assert len(source.names) == 2 + 1 + 6 + 2 + 1
    for number, file in {0: files[1], 1: files[0], 2: files[5], 3: files[0], 11: files[2]}.items():
        np.testing.assert_array_equal(source.read(number), read_image(file))
    (tmp_path / "lists.txt").write_text("list.txt")
    with pytest.raises(InputError, match="a list in a list"):
        open_images([str(tmp_path / "lists.txt")])
    (tmp_path / "list.txt").write_text("gone.tar")
    with pytest.raises(InputError, match="no such file or folder"):
        open_images([str(tmp_path / "list.txt")])


def test_tiles_of_one_photograph_stay_on_one_side(tmp_path: Path) -> None:
    for photo in range(30):
        for tile in range(4):
            (tmp_path / f"photo{photo}_s2_{tile}_0.png").write_bytes(b"x")
    source = open_images([str(tmp_path)])
    train, held_out = split_names(source, 0.3)
    assert sorted(train + held_out) == list(range(120)) and 0.1 < len(held_out) / 120 < 0.5
    sides = [{Path(source.names[n]).name.partition("_")[0] for n in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]


def test_a_photograph_is_the_same_in_any_shard() -> None:
    names = ("a.tar:photo_s2_0_0.png", "/x/İ/B.TAR:photo_s1_1_0.png", "b.tar:c/photo.jpg", "/x/photo.png")
    assert {photo_of(name) for name in names} == {"photo"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing", None, "no such file or folder"), ("empty.txt", b"# only this\n", "lists nothing"),
        ("bad.tar", b"not a tar", "uncompressed .tar"), ("bad.mp4", b"no video", "cannot be read as a video"),
    ],
)  # fmt: skip
def test_what_holds_no_images(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_images([str(tmp_path / name)])
    with pytest.raises(InputError, match="no images given"):
        open_images([])
