"""The TUM RGB-D loader, on miniature and on real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.data import Sequence, open_sequence
from slamfeat.data.tum import associate
from slamfeat.errors import InputError
from slamfeat.types import Frame, Trajectory

from .builders import make_tum


def test_depth_is_metres_by_the_scale(tmp_path: Path) -> None:
    for i, frame in enumerate(open_sequence(make_tum(tmp_path))):
        assert frame.depth is not None and frame.depth.dtype == np.float32
        np.testing.assert_allclose(frame.depth, i + 1)


def test_ground_truth_is_camera_to_world(tmp_path: Path) -> None:
    truth = open_sequence(make_tum(tmp_path)).groundtruth
    assert truth is not None
    np.testing.assert_allclose(truth.positions, [[0.1 * i, 0, 0] for i in range(5)], atol=1e-12)


def test_known_cameras_by_folder_name_and_calibration_wins(tmp_path: Path) -> None:
    root = make_tum(tmp_path / "rgbd_dataset_freiburg2_desk")
    assert open_sequence(root).camera.fx == 50.0
    (root / "calibration.json").unlink()
    camera = open_sequence(root).camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (520.9, 521.0, 325.1, 249.7)
    assert camera.dist == (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)
    fr3 = open_sequence(make_tum(tmp_path / "rgbd_dataset_freiburg3_teddy"), camera=camera)
    assert fr3.camera == camera, "the caller's calibration wins over all"


def test_association_is_one_to_one_and_nearest_first() -> None:
    first, second = np.array([0.0, 0.1, 0.2]), np.array([0.011, 0.092, 0.109, 0.25])
    assert associate(first, second) == [(0, 0), (1, 1)]
    # Both colour images are within reach of the one depth map; the nearer one gets it.
    assert associate(np.array([0.0, 0.015]), np.array([0.012])) == [(1, 0)]
    assert associate(np.array([0.0]), np.array([0.021])) == []


def test_association_agrees_with_exhaustive_search() -> None:
    rng = np.random.default_rng(1)
    first, second = np.sort(rng.uniform(0, 1, 40)), np.sort(rng.uniform(0, 1, 35))
    gaps = np.abs(first[:, None] - second[None])
    expected = []
    while (gaps < 0.02).any():
        i, j = np.unravel_index(np.argmin(gaps), gaps.shape)
        expected.append((int(i), int(j)))
        gaps[i], gaps[:, j] = np.inf, np.inf
    assert [(int(i), int(j)) for i, j in associate(first, second)] == sorted(expected)


def test_depth_that_does_not_associate(tmp_path: Path) -> None:
    make_tum(tmp_path, depth_shift=5.0)
    with pytest.raises(InputError, match=r"rgb.txt and depth.txt do not associate.*4\.600 s.*remove it"):
        open_sequence(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rgb.txt", "1305031229528748000 rgb/x.png\n", "line 1.*nanoseconds"),
        ("rgb.txt", "abc rgb/x.png\n", "line 1.*'abc' is not a number"),
        ("rgb.txt", "nan rgb/x.png\n", "line 1.*not finite"),
        ("rgb.txt", "100.0\n", "line 1.*expected 2 values"),
        ("rgb.txt", "# nothing\n", "lists no images"),
        ("rgb.txt", "100.0 rgb/100.000000.png\n100.0 rgb/100.100000.png\n", "timestamps must increase"),
        ("groundtruth.txt", "100 0 0 0 0 0 0 0.5\n", "quaternion.*0.500"),
        ("groundtruth.txt", "100 0 0 0 0 0 1\n", "groundtruth.txt, line 1"),
        ("groundtruth.txt", "100 0 x 0 0 0 0 1\n", "groundtruth.txt, line 1"),
        ("groundtruth.txt", "100 nan 0 0 0 0 0 1\n", "groundtruth.txt"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    make_tum(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_sequence(tmp_path)


def test_no_ground_truth_is_fine(tmp_path: Path) -> None:
    make_tum(tmp_path, depth=False)
    (tmp_path / "groundtruth.txt").unlink()
    sequence = open_sequence(tmp_path)
    assert sequence.groundtruth is None and sequence.modes == ("mono",)


def pose_at(truth: Trajectory, time: float) -> np.ndarray:
    return truth.poses[np.argmin(np.abs(truth.timestamps - time))]


def depth_disagreement(sequence: Sequence, first: Frame, second: Frame, T_second_first: np.ndarray) -> float:
    """Median relative difference between the depth of `first`, moved by a motion, and that of `second`.

    Independent of the package's projection: distortion is left out, which at these small motions moves both alike.
    """
    K = sequence.camera.K
    assert first.depth is not None and second.depth is not None
    v, u = np.nonzero(first.depth > 0)
    z = first.depth[v, u].astype(np.float64)
    points = np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z, np.ones_like(z)])
    moved = T_second_first @ points
    pixels = np.rint((K @ moved[:3])[:2] / moved[2]).astype(int)
    height, width = second.depth.shape
    inside = (pixels[0] >= 0) & (pixels[0] < width) & (pixels[1] >= 0) & (pixels[1] < height)
    there = second.depth[pixels[1][inside], pixels[0][inside]]
    known = there > 0
    return float(np.median(np.abs(there[known] - moved[2][inside][known]) / there[known]))


def check_depth_against_ground_truth(sequence: Sequence, first: int, second: int) -> None:
    """The published motion explains the depth maps; standing still, or the inverse motion, does not."""
    frames = sequence[first], sequence[second]
    assert sequence.groundtruth is not None
    poses = [pose_at(sequence.groundtruth, frame.timestamp) for frame in frames]
    right = depth_disagreement(sequence, *frames, np.linalg.inv(poses[1]) @ poses[0])
    still = depth_disagreement(sequence, *frames, np.eye(4))
    backwards = depth_disagreement(sequence, *frames, np.linalg.inv(poses[0]) @ poses[1])
    world_to_camera = depth_disagreement(sequence, *frames, poses[1] @ np.linalg.inv(poses[0]))
    assert right < 0.03
    assert right < 0.25 * min(still, backwards, world_to_camera)


@pytest.mark.shared
@pytest.mark.parametrize(("first", "second"), [(0, 8), (10, 14), (30, 38)])
def test_real_ground_truth_agrees_with_real_depth(shared: Path, first: int, second: int) -> None:
    sequence = open_sequence(shared / "tum" / "rgbd_dataset_freiburg1_rpy_first60")
    assert len(sequence) == 60 and sequence.modes == ("mono", "rgbd")
    check_depth_against_ground_truth(sequence, first, second)


def test_sample_is_small_and_opens(sample: Path) -> None:
    sequence = open_sequence(sample)
    assert len(sequence) == 60 and sequence.modes == ("mono", "rgbd") and sequence.groundtruth is not None
    assert sum(file.stat().st_size for file in sample.rglob("*") if file.is_file()) <= 8_000_000
    assert len(list(sequence.for_mode("rgbd"))) == 60
    check_depth_against_ground_truth(sequence, 0, 8)
    stamps = sequence.timestamps
    assert sequence.groundtruth.timestamps[0] < stamps[0] and sequence.groundtruth.timestamps[-1] > stamps[-1]


@pytest.mark.shared
def test_sample_depth_is_the_original(shared: Path, sample: Path) -> None:
    original = open_sequence(shared / "tum" / "rgbd_dataset_freiburg1_rpy_first60").for_mode("rgbd")
    for i, frame in enumerate(open_sequence(sample)[::10]):
        np.testing.assert_array_equal(frame.depth, original[10 * i].depth)


@pytest.mark.shared
def test_other_data_in_tums_layout(shared: Path) -> None:
    kitchen = open_sequence(shared / "7scenes" / "redkitchen_000_399")
    assert len(kitchen) == 400 and kitchen.modes == ("mono", "rgbd")
    depth = kitchen[0].depth
    assert depth is not None and 1 < np.median(depth[depth > 0]) < 4
    fox = open_sequence(shared / "handheld" / "ngp_fox_50")
    assert len(fox) == 50 and fox.modes == ("mono",) and (fox.camera.width, fox.camera.height) == (540, 960)


def test_a_given_camera_does_not_change_the_depth_scale(sample: Path) -> None:
    own = open_sequence(sample)
    given = open_sequence(sample, camera=own.camera)
    assert np.array_equal(given[0].depth, own[0].depth)
