"""The ScanNet loader, against a miniature of SensReader's export whose depth is a slanted plane."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.data.calibration import write_calibration
from slamfeat.errors import ImageError, InputError
from slamfeat.types import Camera

from .builders import make_scannet, scannet_scaling, truncate

# As in scene0000_00, but for a principal point that is not in the middle.
K = np.array([[1170.188, 0, 660.5], [0, 1170.188, 470.25], [0, 0, 1]])
NORMAL, DISTANCE = np.array([0.3, -0.2, 0.933]), 2.5
LOST = np.full((4, 4), -np.inf)


def plane(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) of the plane NORMAL . X = DISTANCE."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T
    depth: np.ndarray = DISTANCE / (rays @ NORMAL)
    return depth


def poses(count: int = 3) -> np.ndarray:
    """0.1 m a frame to the right."""
    moved = np.tile(np.eye(4), (count, 1, 1))
    moved[:, 0, 3] = 0.1 * np.arange(count)
    return moved


def scene(root: Path, size: tuple[int, int] = (1296, 968), truth: np.ndarray | None = None) -> Path:
    truth = poses() if truth is None else truth
    depth = plane(scannet_scaling((640, 480)) @ K, (640, 480))
    return make_scannet(root, truth, np.repeat(depth[None], len(truth), 0), size, K)


@pytest.mark.parametrize("size", [(1296, 968), (640, 480), (320, 240)])
def test_depth_comes_at_the_pixels_of_the_colour_image(tmp_path: Path, size: tuple[int, int]) -> None:
    """Also where the images were made smaller and the intrinsics were not."""
    sequence = open_sequence(scene(tmp_path / "scene0000_00", size))
    assert (sequence.kind, sequence.name, sequence.modes) == ("scannet", "scene0000_00", ("mono", "rgbd"))
    np.testing.assert_allclose(sequence.timestamps, [0, 1 / 30, 2 / 30])
    expected = scannet_scaling(size) @ K
    assert (sequence.camera.width, sequence.camera.height) == size
    np.testing.assert_allclose(sequence.camera.K, expected, atol=1e-5)
    frame = sequence.for_mode("rgbd")[1]
    assert frame.depth is not None and frame.image.shape == (size[1], size[0], 3)
    assert frame.depth.shape == (size[1], size[0]) and frame.depth.dtype == np.float32
    # Half a pixel of the depth map along the steepest slope, and half a millimetre.
    slope = np.abs(np.gradient(plane(scannet_scaling((640, 480)) @ K, (640, 480)))).max()
    error = np.abs(frame.depth - plane(expected, size))[frame.depth > 0]
    assert error.max() < slope + 6e-4 and np.mean(error) < 0.6 * slope
    assert (frame.depth > 0).mean() > 0.99


def test_what_the_depth_camera_does_not_see_is_unknown(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene")
    narrow = np.eye(4)
    narrow[:3, :3] = np.diag([2, 2, 1]) @ scannet_scaling((640, 480)) @ K
    narrow[:2, 2] = 319.5, 239.5
    np.savetxt(root / "intrinsic" / "intrinsic_depth.txt", narrow)
    depth = open_sequence(root)[0].depth
    assert depth is not None
    known = depth > 0
    assert known[300:600, 400:800].all() and not known[:200].any() and not known[:, :300].any()


def test_intrinsics_that_were_scaled_with_the_images(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene", (640, 480))
    matrix = np.eye(4)
    matrix[:3, :3] = scannet_scaling((640, 480)) @ K
    np.savetxt(root / "intrinsic" / "intrinsic_color.txt", matrix)
    sequence = open_sequence(root)
    np.testing.assert_allclose(sequence.camera.K, matrix[:3, :3])
    np.testing.assert_allclose(sequence[0].depth, plane(matrix[:3, :3], (640, 480)), atol=6e-4)


def test_lost_frames_have_no_ground_truth(tmp_path: Path) -> None:
    truth = poses(6)
    truth[2], truth[4] = LOST, np.nan
    root = scene(tmp_path / "scene", (320, 240), truth)
    sequence = open_sequence(root, fps=10)
    assert len(sequence) == 6 and sequence.groundtruth is not None
    np.testing.assert_allclose(sequence.groundtruth.timestamps, [0, 0.1, 0.3, 0.5])
    np.testing.assert_allclose(sequence.groundtruth.positions, [[x, 0, 0] for x in (0, 0.1, 0.3, 0.5)])
    for pose in (root / "pose").iterdir():
        np.savetxt(pose, LOST, fmt="%f")
    assert open_sequence(root).groundtruth is None


def test_a_part_of_the_frames_keeps_their_times(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene", (320, 240), poses(12))
    for i in range(12):
        if i % 5:
            (root / "color" / f"{i}.jpg").unlink()
    (root / "depth" / "5.png").unlink()
    sequence = open_sequence(root)
    assert [record.image.name for record in sequence.records] == ["0.jpg", "5.jpg", "10.jpg"]
    np.testing.assert_allclose(sequence.timestamps, [0, 5 / 30, 10 / 30])
    assert sequence.groundtruth is not None
    np.testing.assert_allclose(sequence.groundtruth.positions[:, 0], [0, 0.5, 1.0])
    assert len(sequence.for_mode("rgbd")) == 2


def test_calibration_of_the_users_wins(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene", (320, 240))
    camera = Camera(320, 240, 320, 321, 160, 121)
    write_calibration(root / "calibration.json", camera, 2000)
    sequence = open_sequence(root)
    assert sequence.camera == camera
    np.testing.assert_allclose(sequence[0].depth, plane(camera.K, (320, 240)) / 2, atol=0.01)
    write_calibration(root / "calibration.json", Camera(320, 240, 320, 321, 160, 121, (0.1, 0, 0, 0)))
    with pytest.raises(InputError, match="undistort the images"):
        open_sequence(root)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("pose/1.txt", None, r"pose/1\.txt: No such file"),
        ("pose/1.txt", "1 0 0 0\n0 1 0 0\n", r"pose/1\.txt: expected 4 lines of 4 numbers, found 2"),
        ("pose/1.txt", "1 0 0 0\n0 1 0", r"pose/1\.txt, line 2: expected 4 values, found 3"),
        ("pose/1.txt", "1 0 0 0\n0 1 0 0\n0 0 2 0\n0 0 0 1\n", r"pose/1\.txt.*not orthonormal"),
        ("pose/1.txt", "1 0 0 a\n" * 4, r"pose/1\.txt, line 1: 'a' is not a number"),
        ("intrinsic/intrinsic_color.txt", None, r"intrinsic_color\.txt: No such file"),
        ("intrinsic/intrinsic_depth.txt", None, r"intrinsic_depth\.txt: No such file"),
        ("intrinsic/intrinsic_color.txt", "1 0 0 0\n", r"intrinsic_color\.txt: expected 4 lines"),
        ("intrinsic/intrinsic_color.txt", "nan 0 0 0\n" * 4, r"intrinsic_color\.txt, line 1: 'nan' is not finite"),
        ("intrinsic/intrinsic_color.txt", "500 0 900 0\n0 500 400 0\n0 0 1 0\n0 0 0 1\n", "neither of 320x240"),
        ("intrinsic/intrinsic_depth.txt", "-5 0 320 0\n0 500 240 0\n0 0 1 0\n0 0 0 1\n", "depth.txt.*must be positive"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    root = scene(tmp_path / "scene", (320, 240))
    (root / file).unlink()
    if text is not None:
        (root / file).write_text(text)
    with pytest.raises(InputError, match=message):
        open_sequence(root)


def test_broken_images(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene", (320, 240))
    truncate(root / "color" / "0.jpg")
    truncate(root / "depth" / "1.png")
    cv2.imwrite(str(root / "depth" / "2.png"), np.ones((240, 320), np.uint16))
    sequence = open_sequence(root)
    assert (sequence.camera.width, sequence.camera.height) == (320, 240)
    with pytest.raises(ImageError, match=r"2\.png: depth is 320x240 but others are 640x480"):
        sequence[2]
    assert len(list(sequence.for_mode("mono"))) == 2
    for image in (root / "color").iterdir():
        image.unlink()
    with pytest.raises(InputError, match="color: none of its images can be read"):
        open_sequence(root)


def test_without_depth_or_poses(tmp_path: Path) -> None:
    root = scene(tmp_path / "scene", (320, 240))
    for folder in ("depth", "pose"):
        for file in (root / folder).iterdir():
            file.unlink()
        (root / folder).rmdir()
    (root / "intrinsic" / "intrinsic_depth.txt").unlink()
    sequence = open_sequence(root)
    assert sequence.modes == ("mono",) and sequence.groundtruth is None and sequence[0].depth is None
