"""The KITTI odometry loader, on miniature and on real data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.errors import InputError

from .builders import CALIB, SIZE, make_kitti, projection, truncate

# Forward 1 m a frame, turning 90 degrees to the right at the last (camera: x right, y down, z forward).
POSES = np.stack([np.eye(3, 4) for _ in range(3)])
POSES[1, 2, 3], POSES[2, 2, 3] = 1.0, 2.0
POSES[2, :, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]


def test_flat_layout(tmp_path: Path) -> None:
    sequence = open_sequence(make_kitti(tmp_path / "00", POSES))
    assert (sequence.kind, sequence.name, sequence.modes) == ("kitti", "00", ("mono", "stereo"))
    assert (sequence.camera.width, sequence.camera.height) == SIZE and sequence.camera.fx == 60.0
    assert sequence.baseline == pytest.approx(0.5)
    np.testing.assert_allclose(sequence.T_left_right, [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(sequence.timestamps, [0, 0.1, 0.2])
    assert sequence.groundtruth is not None
    np.testing.assert_allclose(sequence.groundtruth.poses[:, :3], POSES, atol=1e-6)
    assert sequence[2].right is not None and sequence.for_mode("mono")[2].right is None


def test_official_tree(tmp_path: Path) -> None:
    sequence = open_sequence(make_kitti(tmp_path, POSES, official=True))
    assert len(sequence) == 3 and sequence.groundtruth is not None and sequence.name == "00"
    (tmp_path / "poses/00.txt").unlink()
    assert open_sequence(tmp_path / "sequences/00").groundtruth is None, "as for sequences 11 to 21"


def test_colour_camera_has_its_own_pose(tmp_path: Path) -> None:
    root = make_kitti(tmp_path / "00", POSES, cameras=(0, 1, 2, 3))
    sequence = open_sequence(root)
    truth, grey = sequence.groundtruth, open_sequence(root / "image_0")
    assert sequence[0].path is not None and sequence[0].path.parent.name == "image_2"
    assert truth is not None and grey.groundtruth is not None
    # Independent: the colour camera's centre is where its projection matrix vanishes, P C = 0.
    P2 = np.array(projection(60, 4.5, -0.1, 0.003).split(), dtype=float).reshape(3, 4)
    centre = -np.linalg.inv(P2[:, :3]) @ P2[:, 3]
    for pose, reference in zip(truth.poses, grey.groundtruth.poses, strict=True):
        np.testing.assert_allclose(pose[:3, 3], reference[:3, :3] @ centre + reference[:3, 3], atol=1e-9)
        np.testing.assert_allclose(pose[:3, :3], reference[:3, :3])
    P3 = np.array(projection(60, -25.5, 0.2, 0.005).split(), dtype=float).reshape(3, 4)
    centre3 = -np.linalg.inv(P3[:, :3]) @ P3[:, 3]
    assert sequence.baseline == pytest.approx(np.linalg.norm(centre3 - centre))
    assert sequence.baseline == pytest.approx(0.5, abs=0.01)


def test_a_camera_chosen_by_its_folder(tmp_path: Path) -> None:
    root = make_kitti(tmp_path / "00", POSES, cameras=(0, 1, 2))
    assert open_sequence(root).modes == ("mono",), "image_3 is missing"
    grey = open_sequence(root / "image_0")
    assert grey.modes == ("mono", "stereo") and grey.name == "00"
    assert open_sequence(root / "image_1").modes == ("mono",)


def test_part_of_the_images_keeps_times_and_poses(tmp_path: Path) -> None:
    root = make_kitti(tmp_path, POSES)
    (root / "image_0/000000.png").unlink()
    np.testing.assert_allclose(open_sequence(root).timestamps, [0.1, 0.2])


def test_size_from_the_first_readable_image(tmp_path: Path) -> None:
    root = make_kitti(tmp_path, POSES)
    truncate(root / "image_0/000000.png")
    sequence = open_sequence(root)
    assert (sequence.camera.width, sequence.camera.height) == SIZE
    assert len(list(sequence)) == 2 and sequence.skipped[0].index == 0
    for image in (root / "image_0").iterdir():
        truncate(image)
    with pytest.raises(InputError, match=r"image_0.*none of its images can be read"):
        open_sequence(root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1\n" * 3, "poses.txt, line 1.*expected 12"),
        ("poses.txt", "2 0 0 0 0 1 0 0 0 0 1 0\n" * 3, "poses.txt.*pose 0 is not orthonormal"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 -1 0\n" * 3, "not orthonormal"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, "2 poses but times.txt has 3"),
        ("poses.txt", "1 0 0 inf 0 1 0 0 0 0 1 0\n" * 3, "poses.txt, line 1.*not finite"),
        ("times.txt", "0\n0.1\n", "has 2 times but .*000002.png exists"),
        ("times.txt", "0\n0.1\n0.1\n", "timestamps must increase"),
        ("calib.txt", CALIB.replace("P0: 6", "P0: nan "), "calib.txt, line 1"),
        ("calib.txt", CALIB.replace("P0:", "Q0:"), "calib.txt.*has no P0"),
        ("calib.txt", "P0: 1 2 3\n", "P0: needs 12 values, found 3"),
        ("calib.txt", CALIB.replace("P0: 6", "P0: -6"), "calib.txt.*positive"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    make_kitti(tmp_path, POSES)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_sequence(tmp_path)


@pytest.mark.shared
def test_real_stereo(shared: Path) -> None:
    sequence = open_sequence(shared / "kitti" / "00_first11_stereo")
    assert len(sequence) == 11 and sequence.modes == ("mono", "stereo")
    assert sequence.baseline == pytest.approx(0.537, abs=0.001)
    assert (sequence.camera.width, sequence.camera.height) == (1241, 376)


@pytest.mark.shared
def test_real_scale_from_the_height_over_the_road(shared: Path) -> None:
    """The grey camera rides 1.65 m above the road: depth from OpenCV's stereo and our baseline must say so."""
    sequence = open_sequence(shared / "kitti" / "00_first11_stereo")
    frame = sequence[0]
    assert frame.right is not None and sequence.baseline is not None
    left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame.image, frame.right))
    disparity = cv2.StereoSGBM_create(0, 96, 5, 8 * 25, 32 * 25, 1, 63, 10, 100, 2).compute(left, right) / 16.0
    v, _u = np.mgrid[300:370, 500:740]
    d = disparity[300:370, 500:740]
    z = sequence.camera.fx * sequence.baseline / d[d > 5]
    height = (v[d > 5] - sequence.camera.cy) / sequence.camera.fy * z
    assert np.median(height) == pytest.approx(1.65, abs=0.12)


@pytest.mark.shared
def test_real_drives_go_forward(shared: Path) -> None:
    for name, count in (("00_first200", 200), ("01_first51", 51)):
        sequence = open_sequence(shared / "kitti" / name)
        truth = sequence.groundtruth
        assert len(sequence) == count and sequence.modes == ("mono",) and truth is not None
        steps = np.linalg.inv(truth.poses[:-1]) @ truth.poses[1:]
        assert (steps[:, 2, 3] > 0).all(), "along the camera's z"
        assert np.median(np.abs(steps[:, 0, 3]) / steps[:, 2, 3]) < 0.1
