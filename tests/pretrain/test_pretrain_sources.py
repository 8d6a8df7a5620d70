"""Images from folders, lists, videos and shards; damaged ones are passed over and told."""

from __future__ import annotations

import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.errors import ImageError, InputError
from slamfeat.image import read_image
from slamfeat.pretrain.sources import open_images, split_names


@pytest.fixture
def photos(sample: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, file in enumerate(sorted((sample / "rgb").iterdir())[:6]):
        shutil.copy(file, folder / f"{number}{file.suffix}")
    return folder


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


def test_a_videos_frames(photos: Path, tmp_path: Path) -> None:
    frames = [read_image(file) for file in sorted(photos.iterdir())]
    writer = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
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
    np.testing.assert_array_equal(source.read_or_next(2), read_image(files[4]))
    assert [Path(name).name for name in source.skipped] == [files[2].name, files[3].name]
    for file in files:
        file.write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of 6 images can be read"):
        source.read_or_next(0)


def test_tiles_of_one_photograph_stay_on_one_side(tmp_path: Path) -> None:
    for photo in range(30):
        for tile in range(4):
            (tmp_path / f"photo{photo}_s2_{tile}_0.png").write_bytes(b"x")
    source = open_images([str(tmp_path)])
    train, held_out = split_names(source, 0.3)
    assert sorted(train + held_out) == list(range(120)) and 0.1 < len(held_out) / 120 < 0.5
    sides = [{Path(source.names[n]).name.partition("_")[0] for n in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing", None, "no such file or folder"), ("empty.txt", b"# only this\n", "lists no files"),
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
