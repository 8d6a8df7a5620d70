"""Figures of matching, against closed forms, OpenCV, SciPy and an independent reading of glue-factory's definition."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, trapezoid
from scipy.spatial.transform import Rotation

from slamfeat.eval import area_under_recall, corner_error_px, epipolar_precision, matching_accuracy, pose_errors_deg
from slamfeat.geometry import poses_at
from slamfeat.geometry.se3 import make_pose, transform_points
from slamfeat.types import Camera, Trajectory

CAMERA0 = Camera(640, 480, 500.0, 510.0, 320.0, 238.0, (-0.28, 0.07, 2e-4, 2e-5))
CAMERA1 = Camera(1280, 720, 1100.0, 1090.0, 630.0, 365.0)


def test_area_under_recall_in_closed_form() -> None:
    """One error e of one: recall rises from 0 to 1 linearly until e, then stays, as glue-factory defines it."""
    assert area_under_recall([2.0], [10]) == [pytest.approx(100 * (2 / 2 + 8) / 10)]
    assert area_under_recall([0.0, 0.0], [5]) == [pytest.approx(100)]
    assert area_under_recall([11.0, 12.0], [10]) == [pytest.approx(0)]
    # Two errors, one beyond the limit: up to 4 the curve rises to a half, and stays there.
    half = pytest.approx(100 * (0.5 * 4 / 2 + 0.5 * 6) / 10)
    assert area_under_recall([4.0, 50.0], [10]) == [half]
    for never in (math.inf, math.nan):
        assert area_under_recall([never, 4.0], [10]) == [half]
    assert area_under_recall([math.nan], [1, 5]) == [0, 0]
    assert np.isnan(area_under_recall([], [5, 10])).all()


def reference_auc(errors: np.ndarray, threshold: float) -> float:
    """As glue-factory's `cal_error_auc` is defined, on the whole curve at once."""
    sorted_errors = np.r_[0, np.sort(np.nan_to_num(errors, nan=np.inf))]
    recall = np.r_[0, np.arange(1, len(errors) + 1) / len(errors)]
    last = np.searchsorted(sorted_errors, threshold)
    y, x = np.r_[recall[:last], recall[last - 1]], np.r_[sorted_errors[:last], threshold]
    return 100 * float(trapezoid(y, x=x)) / threshold


@given(
    st.lists(st.floats(0, 40) | st.sampled_from([5.0, math.inf, math.nan]), min_size=1, max_size=40),
    st.floats(0.5, 30) | st.just(5.0),
)
def test_area_under_recall_agrees_with_an_independent_reading(errors: list[float], threshold: float) -> None:
    assert area_under_recall(errors, [threshold, 5]) == pytest.approx(
        [reference_auc(np.array(errors), threshold), reference_auc(np.array(errors), 5)], abs=1e-9
    )


def test_area_under_recall_is_an_integral() -> None:
    """The curve of errors spread evenly over 0..20 is the line error / 20."""
    errors = np.arange(1, 2001) / 100
    expected, _ = quad(lambda error: error / 20, 0, 10)
    assert area_under_recall(errors, [10])[0] == pytest.approx(100 * expected / 10, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_pose_errors_are_scipys_angles(seed: int) -> None:
    generator = np.random.default_rng(seed)
    axis = generator.normal(size=3)
    turn, by = Rotation.random(random_state=seed), float(generator.uniform(0.001, 179))
    off = Rotation.from_rotvec(np.radians(by) * axis / np.linalg.norm(axis))
    direction = generator.normal(size=3)
    across = np.cross(direction, generator.normal(size=3))
    astray = float(generator.uniform(0.001, 89))
    moved = Rotation.from_rotvec(np.radians(astray) * across / np.linalg.norm(across)).apply(direction)
    truth = make_pose(turn.as_matrix(), 7 * direction)
    for sign in (1, -1):
        rotation, translation = pose_errors_deg(make_pose((off * turn).as_matrix(), sign * moved), truth)
        assert rotation == pytest.approx(by, abs=1e-9) and translation == pytest.approx(astray, abs=1e-9)


def test_pose_errors_without_direction() -> None:
    turned = make_pose(Rotation.from_euler("y", 3, degrees=True).as_matrix(), [0, 0, 0])
    rotation, translation = pose_errors_deg(make_pose(np.eye(3), [1, 0, 0]), turned)
    assert rotation == pytest.approx(3) and math.isnan(translation)
    moved = make_pose(np.eye(3), [0, 0, 2])
    assert pose_errors_deg(turned, moved) == (pytest.approx(3), 90)
    assert pose_errors_deg(make_pose(np.eye(3), [0, 5, 0]), moved) == (0, 90)
    assert pose_errors_deg(moved, moved) == (0, 0)


def some_homography(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    corners = np.array([[0, 0], [639, 0], [639, 479], [0, 479]], np.float32)
    return cv2.getPerspectiveTransform(corners, corners + generator.uniform(-40, 40, (4, 2)).astype(np.float32))


def warped(H: np.ndarray, points: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[:, None].astype(np.float64), H)[:, 0]


def test_corner_error_is_opencvs_and_in_our_convention() -> None:
    shift = np.array([[1, 0, 3], [0, 1, -4], [0, 0, 1.0]])
    truth = some_homography(0)
    assert corner_error_px(shift @ truth, truth, (640, 480)) == pytest.approx(5)
    assert corner_error_px(-2 * truth, truth, (640, 480)) == pytest.approx(0, abs=1e-9)
    corners = np.array([[0, 0], [639, 0], [639, 479], [0, 479]])
    other = some_homography(1)
    expected = np.linalg.norm(warped(other, corners) - warped(truth, corners), axis=1).mean()
    assert corner_error_px(other, truth, (640, 480)) == pytest.approx(expected)
    # x doubled: the corners at 639, not 640, move by their x; the other two stay.
    assert corner_error_px(np.diag([2.0, 1, 1]), np.eye(3), (640, 480)) == pytest.approx(639 / 2)
    vanishing = np.array([[1, 0, 0], [0, 1, 0], [-1 / 639, 0, 1.0]])
    assert corner_error_px(vanishing, np.eye(3), (640, 480)) == math.inf


def test_an_estimated_homography_has_a_small_corner_error() -> None:
    generator = np.random.default_rng(2)
    points, truth = generator.uniform(0, 470, (200, 2)), some_homography(2)
    seen = warped(truth, points) + generator.normal(0, 0.2, (200, 2))
    estimate, _ = cv2.findHomography(points, seen)
    assert 0.005 < corner_error_px(estimate, truth, (640, 480)) < 0.5
    assert corner_error_px(np.linalg.inv(estimate), truth, (640, 480)) > 10


def test_matching_accuracy_counts_matches_that_a_homography_confirms() -> None:
    generator = np.random.default_rng(3)
    points, truth = generator.uniform(0, 470, (100, 2)), some_homography(3)
    angle, length = generator.uniform(0, 2 * np.pi, 100), np.repeat([0.5, 2.0, 4.0, 50.0], [40, 30, 20, 10])
    seen = warped(truth, points) + length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    assert matching_accuracy(points, seen, truth, [1, 3, 5, 60]) == pytest.approx([40, 70, 90, 100])
    assert matching_accuracy(seen, points, truth, [1])[0] < 5, "one direction only"
    assert matching_accuracy(np.zeros((0, 2)), np.zeros((0, 2)), truth, [1, 3]) == [0, 0]


def two_views() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of 200 points in a distorted and in another camera, and the pose between them."""
    generator = np.random.default_rng(4)
    points = np.column_stack([generator.uniform(-1.5, 1.5, (200, 2)), generator.uniform(4, 9, 200)])
    pose = make_pose(Rotation.from_euler("xyz", [4, -7, 10], degrees=True).as_matrix(), [0.6, -0.1, 0.2])
    return CAMERA0.project(points), CAMERA1.project(transform_points(pose, points)), pose


def test_epipolar_precision_of_projected_points() -> None:
    points0, points1, pose = two_views()
    assert epipolar_precision(points0, points1, CAMERA0, CAMERA1, pose, 0.01) == 100
    longer = pose.copy()
    longer[:3, 3] *= -250
    assert epipolar_precision(points0, points1, CAMERA0, CAMERA1, longer, 0.01) == 100, "length and sign do not matter"
    assert epipolar_precision(points0, points1, CAMERA0, CAMERA1, np.linalg.inv(pose)) < 20, "direction does"
    assert epipolar_precision(points0[:0], points1[:0], CAMERA0, CAMERA1, pose) == 0
    assert math.isnan(epipolar_precision(points0, points1, CAMERA0, CAMERA1, np.eye(4)))


def test_epipolar_precision_is_measured_in_pixels() -> None:
    """OpenCV's `sampsonDistance` on the undistorted pixels of both images gives the same squared pixels."""
    points0, points1, pose = two_views()
    points1 = points1 + np.random.default_rng(5).normal(0, 2, points1.shape)
    plain0 = cv2.undistortPoints(points0[:, None], CAMERA0.K, np.array(CAMERA0.dist), P=CAMERA0.K)[:, 0]
    cross = np.cross(np.eye(3), pose[:3, 3] / np.linalg.norm(pose[:3, 3]))
    fundamental = np.linalg.inv(CAMERA1.K).T @ (cross @ pose[:3, :3]) @ np.linalg.inv(CAMERA0.K)
    squared = [
        cv2.sampsonDistance(np.append(a, 1.0), np.append(b, 1.0), fundamental)
        for a, b in zip(plain0, points1, strict=True)
    ]
    for threshold in (0.3, 1.0, 2.0):
        expected = 100 * np.mean(np.array(squared) <= threshold**2)
        assert 5 < expected < 99.9
        found = epipolar_precision(points0, points1, CAMERA0, CAMERA1, pose, threshold)
        assert found == pytest.approx(expected, abs=0.51), "one of 200 may lie on the edge"


def test_poses_between_samples() -> None:
    """A steady turn and straight motion are met exactly between their samples; gaps and ends are unknown."""
    times = np.array([0.0, 0.1, 0.2, 1.0, 1.1])
    rate, speed = [0.1, 0.3, -0.2], [1.0, -2.0, 3.0]
    turns, places = Rotation.from_rotvec(np.outer(times, rate)).as_matrix(), np.outer(times, speed)
    truth = Trajectory(times, np.stack([make_pose(r, t) for r, t in zip(turns, places, strict=True)]))
    asked = np.array([-0.5, -0.00005, 0.0, 0.03, 0.17, 0.2, 0.5, 0.99, 1.0, 1.04, 1.3])
    poses, known = poses_at(truth, asked)
    assert known.tolist() == [False, True, True, True, True, True, False, False, True, True, False]
    # At -0.00005 the first sample stands in, as far off as the camera moves in that time.
    np.testing.assert_allclose(poses[known, :3, 3], np.outer(asked[known], speed), atol=2e-4)
    wanted = Rotation.from_rotvec(np.outer(asked[known], rate)).as_matrix()
    np.testing.assert_allclose(poses[known, :3, :3], wanted, atol=1e-4)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (len(asked), 1)))
    assert poses_at(truth, asked, max_gap_s=1.0)[1].tolist() == [False] + 9 * [True] + [False]


def test_poses_of_hardly_any_samples() -> None:
    one = Trajectory([5.0], make_pose(np.eye(3), [1, 2, 3])[None])
    poses, known = poses_at(one, [4.0, 5.0])
    assert known.tolist() == [False, True] and poses[1, :3, 3].tolist() == [1, 2, 3]
    assert poses_at(one, [])[0].shape == (0, 4, 4)
    assert poses_at(Trajectory([], np.zeros((0, 4, 4))), [1.0])[1].tolist() == [False]
