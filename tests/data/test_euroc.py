"""The EuRoC loader, on miniature and on real data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import Sequence, open_sequence
from slamfeat.data.euroc import read_sensor
from slamfeat.errors import InputError
from slamfeat.types import Camera

from .builders import SIZE, make_euroc, sensor_yaml

# The body is turned 90 degrees about its x axis; worked out by hand: (w, x, y, z) = (sqrt(1/2), sqrt(1/2), 0, 0).
HALF = np.sqrt(0.5)
BODY = np.array([[i, 2.0, 3.0, HALF, HALF, 0.0, 0.0] for i in range(4)])
QUARTER_X = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
LEFT = np.array([[0.0, -1, 0, 0.1], [1, 0, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]])
RIGHT = np.array([[0.0, -1, 0, 0.1], [1, 0, 0, 0.3], [0, 0, 1, 0.3], [0, 0, 0, 1]])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_euroc(tmp_path / "V0_00_tiny", (LEFT, RIGHT), BODY)


def test_frames_and_calibration(root: Path) -> None:
    sequence = open_sequence(root)
    assert (sequence.kind, sequence.name, sequence.modes) == ("euroc", "V0_00_tiny", ("mono", "stereo"))
    camera = Camera(*SIZE, 50.5, 51.5, 31.0, 24.0, (-0.28, 0.07, 0.0002, 1.8e-05))
    assert sequence.camera == sequence.right_camera == camera
    frame = sequence[1]
    assert frame.image.shape == (48, 64, 3) and frame.right is not None
    assert not np.array_equal(frame.image, frame.right)
    assert abs(frame.timestamp - 1403715273.312142976) < 3e-7, "seconds, to a float's precision"
    assert sequence.for_mode("mono")[1].right is None


def test_ground_truth_is_of_the_left_camera(root: Path) -> None:
    truth = open_sequence(root).groundtruth
    assert truth is not None
    np.testing.assert_allclose(truth.timestamps, open_sequence(root).timestamps, atol=1e-6)
    # By hand: R_WC = R_WB R_BC, p_WC = R_WB p_BC + p_WB, with p_BC = (0.1, 0.2, 0.3) -> (0.1, -0.3, 0.2).
    np.testing.assert_allclose(truth.positions, [[i + 0.1, 1.7, 3.2] for i in range(4)], atol=1e-12)
    np.testing.assert_allclose(truth.poses[0][:3, :3], QUARTER_X @ LEFT[:3, :3], atol=1e-12)


def test_right_camera_in_the_left(root: Path) -> None:
    sequence = open_sequence(root)
    # The right camera is 0.1 m along the body's y, which is the left camera's x.
    expected = np.eye(4)
    expected[0, 3] = 0.1
    np.testing.assert_allclose(sequence.T_left_right, expected, atol=1e-12)
    assert sequence.baseline == pytest.approx(0.1)


def test_opened_by_mav0(root: Path) -> None:
    sequence = open_sequence(root / "mav0")
    assert len(sequence) == 4 and sequence.name == "V0_00_tiny" and sequence.groundtruth is not None


def test_one_camera_only(root: Path) -> None:
    (root / "mav0/cam1/data.csv").unlink()
    sequence = open_sequence(root)
    assert sequence.modes == ("mono",) and sequence.baseline is None


def test_right_image_missing_from_the_list(root: Path) -> None:
    table = root / "mav0/cam1/data.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    sequence = open_sequence(root)
    assert sequence[3].right is None and len(sequence.for_mode("stereo")) == 3


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("cam0/sensor.yaml", "intrinsics: [50.5, ", "intrinsics: [nan, ", "sensor.yaml.*not finite"),
        ("cam0/sensor.yaml", "intrinsics: [50.5, ", "intrinsics: [", "'intrinsics' needs 4 numbers, found 3"),
        ("cam0/sensor.yaml", "intrinsics:", "intrinsic:", "'intrinsics' is missing"),
        ("cam0/sensor.yaml", "intrinsics: [50.5, ", "intrinsics: [-50.5, ", "sensor.yaml.*positive"),
        ("cam0/sensor.yaml", "radial-tangential", "equidistant", "'equidistant' is not supported"),
        ("cam0/sensor.yaml", "data: [0.0, -1.0,", "data: [0.0, -2.0,", "not orthonormal"),
        ("cam0/sensor.yaml", "T_BS:", "T_SB:", "'T_BS: data' is missing"),
        ("cam0/data.csv", "1403715273262142976,", "1403715273.262142976,", "line 2.*nanoseconds"),
        ("cam0/data.csv", "1403715273262142976,", "1403715273,", "line 2.*nanoseconds"),
        ("state_groundtruth_estimate0/data.csv", ",0.0,0.0,0.1", ",0.0,0.9,0.1", "quaternion"),
    ],
)
def test_errors_name_the_file(root: Path, file: str, old: str, new: str, message: str) -> None:
    change(root / "mav0" / file, old, new)
    with pytest.raises(InputError, match=message):
        open_sequence(root)


def test_missing_calibration(root: Path) -> None:
    (root / "mav0/cam0/sensor.yaml").unlink()
    with pytest.raises(InputError, match=r"cam0/sensor\.yaml"):
        open_sequence(root)


def test_opencv_tags_in_the_yaml(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    text = sensor_yaml(LEFT).replace("T_BS:\n", "T_BS: !!opencv-matrix\n")
    path.write_text(text.replace("rows: 4", "rows: 4\n  dt: d"))
    np.testing.assert_allclose(read_sensor(path)[1], LEFT)


def matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SIFT matches between two images: pixels (N, 2) each."""
    sift = cv2.SIFT_create(2000)
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    (k0, d0), (k1, d1) = (sift.detectAndCompute(image, None) for image in grey)
    pairs = cv2.BFMatcher().knnMatch(d0, d1, k=2)
    good = [best for best, other in pairs if best.distance < 0.7 * other.distance]
    return np.array([k0[m.queryIdx].pt for m in good]), np.array([k1[m.trainIdx].pt for m in good])


def undistorted(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    rays = cv2.undistortPoints(pixels[:, None], camera.K, np.array(camera.dist))[:, 0]
    return np.c_[rays, np.ones(len(rays))]


def cross_matrix(t: np.ndarray) -> np.ndarray:
    return np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])


def epipolar_pixels(sequence: Sequence, T_0_1: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> float:
    """Median distance in pixels of points of view 0 from the lines of their partners: x0' [t]x R x1 = 0."""
    lines = x1 @ (cross_matrix(T_0_1[:3, 3]) @ T_0_1[:3, :3]).T
    distance = np.abs((x0 * lines).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
    return float(np.median(distance) * sequence.camera.fx)


@pytest.mark.shared
def test_real_stereo_calibration_fits_the_pictures(shared: Path) -> None:
    sequence = open_sequence(shared / "euroc" / "V1_01_easy_sparse100")
    assert len(sequence) == 100 and sequence.modes == ("mono", "stereo")
    assert sequence.baseline == pytest.approx(0.110, abs=0.001)
    frame, right_camera, rig = sequence[40], sequence.right_camera, sequence.T_left_right
    assert frame.right is not None and right_camera is not None and rig is not None
    p0, p1 = matches(frame.image, frame.right)
    x0, x1 = undistorted(sequence.camera, p0), undistorted(right_camera, p1)
    assert len(p0) > 50
    assert epipolar_pixels(sequence, rig, x0, x1) < 0.5
    assert epipolar_pixels(sequence, np.linalg.inv(rig), x0, x1) > 1.0


def visual_motion(camera: Camera, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and direction of the second view in the first, by OpenCV's essential matrix."""
    x0, x1 = (undistorted(camera, pixels)[:, :2] for pixels in matches(first, second))
    E, inliers = cv2.findEssentialMat(x1, x0, np.eye(3), cv2.RANSAC, 0.9999, 1 / camera.fx)
    _, rotation, direction, _ = cv2.recoverPose(E, x1, x0, np.eye(3), mask=inliers)
    return rotation, direction[:, 0]


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """Degrees between two rotations or two directions."""
    if first.ndim == 2:
        return float(np.degrees(np.linalg.norm(cv2.Rodrigues(first.T @ second)[0])))
    return float(np.degrees(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second))))


@pytest.mark.shared
@pytest.mark.parametrize("index", [10, 30, 70])
def test_real_ground_truth_fits_the_motion_of_the_left_camera(shared: Path, index: int) -> None:
    """Loose: against two-view geometry the published motion is up to 2 degrees off; usual mistakes are far worse."""
    sequence = open_sequence(shared / "euroc" / "V1_01_easy_sparse100").for_mode("mono")
    truth, frames = sequence.groundtruth, (sequence[index], sequence[index + 1])
    assert truth is not None
    poses = [truth.poses[np.argmin(np.abs(truth.timestamps - frame.timestamp))] for frame in frames]
    motion = np.linalg.inv(poses[0]) @ poses[1]
    rotation, direction = visual_motion(sequence.camera, frames[0].image, frames[1].image)
    assert angle(rotation, motion[:3, :3]) < 1.5
    off = angle(direction, motion[:3, 3])
    assert off < 8.0
    _, body_left = read_sensor(sequence.path / "mav0/cam0/sensor.yaml")
    body = body_left @ motion @ np.linalg.inv(body_left)
    inverse_rotations = poses[0][:3, :3] @ poses[1][:3, :3].T
    assert angle(direction, body[:3, 3]) > 2.5 * off, "T_BS left out"
    assert angle(rotation, inverse_rotations) > 4.0, "world-to-camera rotations"


@pytest.mark.shared
def test_real_static_sequence_stands_still(shared: Path) -> None:
    sequence = open_sequence(shared / "euroc" / "V1_01_easy_static10")
    truth = sequence.groundtruth
    assert len(sequence) == 10 and truth is not None
    assert np.ptp(truth.positions, axis=0).max() < 0.005
    first, last = sequence[0], sequence[9]
    assert first.right is not None
    moved = np.abs(first.image.astype(int) - last.image)
    assert np.median(moved) <= 3, "the pictures do not move either"
    assert truth.timestamps[0] < first.timestamp < last.timestamp < truth.timestamps[-1]
