"""Pair lists in SuperGlue's format: what a test writes is read again, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from slamfeat.data.pair_list import read_pair_list
from slamfeat.errors import InputError
from slamfeat.types import Camera

from .builders import picture, write_png

CAMERAS = (Camera(64, 48, 50.25, 51.5, 31.0, 24.0), Camera(96, 80, 70.0, 70.5, 47.5, 39.5))


def pose(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=seed).as_matrix(), generator.normal(size=3)
    return T


def fields(T: np.ndarray, *, names: tuple[str, str] = ("a/0.png", "1.jpg"), turns: str = "0 0") -> list[str]:
    """A line of a list, its 38 values."""
    numbers = np.concatenate([camera.K.ravel() for camera in CAMERAS] + [T.ravel()])
    return [*names, *turns.split(), *(repr(float(value)) for value in numbers)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    write_png(folder / "a" / "0.png", picture(0, (64, 48)))
    cv2.imwrite(str(folder / "1.jpg"), picture(1, (96, 80)))
    return folder


def write(images: Path, *lines: list[str]) -> Path:
    path = images.parent / "pairs_with_gt.txt"
    path.write_text("".join(" ".join(line) + "\n" for line in lines))
    return path


def test_a_list_is_read_as_it_was_written(images: Path) -> None:
    poses = [pose(0), pose(1)]
    back = fields(poses[1], names=("1.jpg", "a/0.png"))
    back[4:22] = [*back[13:22], *back[4:13]]
    path = write(images, fields(poses[0]), ["#", "note"], [], back)
    first, second = read_pair_list(path, images)
    assert (first.image0, first.image1) == (images / "a/0.png", images / "1.jpg") == (second.image1, second.image0)
    assert (first.camera0, first.camera1) == CAMERAS == (second.camera1, second.camera0)
    np.testing.assert_array_equal([first.T_1_0, second.T_1_0], poses)
    beside = path.rename(images / path.name)
    assert [pair.image0 for pair in read_pair_list(beside)] == [first.image0, second.image0]
    with pytest.raises(InputError, match=r"a/0\.png: named in .*line 1, but missing; give the folder"):
        read_pair_list(write(images, fields(poses[0])))


def test_each_header_is_read_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slamfeat.data import pair_list

    calls: list[Path] = []
    true_size = pair_list.image_size
    monkeypatch.setattr(pair_list, "image_size", lambda path: (calls.append(path), true_size(path))[1])
    assert len(read_pair_list(write(images, *(fields(pose(i)) for i in range(20))), images)) == 20
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("position", "value", "words"),
    [
        (2, "1", r"asks to turn an image \(rot0 rot1 = 1 0\).*leave the pair out, or write 0 0"),
        (3, "3", r"rot0 rot1 = 0 3"),
        (4, "x", "'x' is not a number"),
        (4, "-50", "focal lengths must be positive"),
        (5, "0.1", "intrinsics must read fx 0 cx 0 fy cy 0 0 1, found 50.25 0.1 31"),
        (21, "2", "intrinsics must read"),
        (23, "5", "rotation is not orthonormal"),
        (25, "nan", "'nan' is not finite"),
        (34, "0.5", "must end in 0 0 0 1"),
        (37, "1 7", "expected 38 values .*found 39"),
        (37, "", "expected 38 values .*found 37.*use the list with ground truth"),
    ],
)
def test_a_wrong_line_is_named(images: Path, position: int, value: str, words: str) -> None:
    wrong = fields(pose(1))
    wrong[position] = value
    with pytest.raises(InputError, match=rf"pairs_with_gt\.txt, line 3: .*{words}"):
        read_pair_list(write(images, fields(pose(0)), ["%"], wrong, fields(pose(2))), images)


def test_a_pose_turned_inside_out_is_refused(images: Path) -> None:
    mirrored = pose(0)
    mirrored[:3, 0] *= -1
    with pytest.raises(InputError, match="line 2: the rotation is not orthonormal"):
        read_pair_list(write(images, fields(pose(1)), fields(mirrored)), images)


def test_other_files_are_refused(images: Path) -> None:
    with pytest.raises(InputError, match=r"holds no pairs; a line should read name0 name1 rot0 rot1"):
        read_pair_list(write(images), images)
    with pytest.raises(InputError, match=r"line 1: expected 38 values .*found 2; use the list with ground truth"):
        read_pair_list(write(images, ["a/0.png", "1.jpg"]), images)
    with pytest.raises(InputError, match="not a text file"):
        read_pair_list(images / "1.jpg")
    with pytest.raises(InputError, match=r"absent\.txt: No such file"):
        read_pair_list(images / "absent.txt")
    (images / "1.jpg").write_bytes(b"no picture, but long enough for its ending")
    with pytest.raises(InputError, match=r"1\.jpg: cannot be decoded.*named in .*line 1"):
        read_pair_list(write(images, fields(pose(0))), images)
