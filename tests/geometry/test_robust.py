"""Robust estimation against known geometry, the estimators against one another, and inputs that determine nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from geometry_scenes import FREIBURG1, PINHOLE, direction_error_deg, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slamfeat.errors import InputError, MissingDependencyError
from slamfeat.geometry import estimate_absolute_pose, estimate_homography, estimate_relative_pose
from slamfeat.geometry.epipolar import essential_from_pose, sampson_error
from slamfeat.geometry.robust import _agree, transfer_distance
from slamfeat.geometry.se3 import rotation_angle_deg
from slamfeat.geometry.solvers_poselib import absolute_poselib, essential_poselib, homography_poselib
from slamfeat.geometry.twoview import facing
from slamfeat.types import Camera

ESTIMATORS = ("pycolmap", "opencv", "poselib")


def rotation_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(rotation_angle_deg(a[:3, :3] @ b[:3, :3].T))


@pytest.mark.parametrize("camera", [PINHOLE, FREIBURG1], ids=["pinhole", "distorted"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_relative_pose_of_exact_matches(camera: Camera, estimator: str) -> None:
    for seed in range(4):
        scene = make_scene(seed, camera=camera)
        found = estimate_relative_pose(scene.pixels0, scene.pixels1, camera, camera, estimator=estimator, seed=seed)
        assert found is not None and found.num_inliers == len(scene.points) and not found.rotation_only
        assert np.isclose(np.linalg.norm(found.T_1_0[:3, 3]), 1.0)
        assert rotation_error(found.T_1_0, scene.T_1_0) < 1e-4
        assert direction_error_deg(found.T_1_0[:3, 3], scene.T_1_0[:3, 3]) < 1e-3


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_relative_pose_with_noise_and_outliers(estimator: str) -> None:
    errors, hits = [], []
    for seed in range(12):
        scene = make_scene(seed, camera=FREIBURG1, count=400, noise=0.5, outliers=0.4)
        found = estimate_relative_pose(scene.pixels0, scene.pixels1, FREIBURG1, FREIBURG1, estimator=estimator)
        assert found is not None and found.num_inliers == found.inliers.sum()
        errors.append(
            (rotation_error(found.T_1_0, scene.T_1_0), direction_error_deg(found.T_1_0[:3, 3], scene.T_1_0[:3, 3]))
        )
        hits.append(found.inliers[~scene.wrong].mean())
    rotation, direction = np.median(errors, axis=0)
    assert rotation < 0.12 and direction < 1.8
    assert np.mean(hits) > 0.9


def test_mirrored_poses_have_no_inliers() -> None:
    # Turning camera 1 by 180 degrees about the baseline keeps every epipolar line, and puts the points behind it.
    scene = make_scene(2, baseline=1.0)
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    direction = scene.T_1_0[:3, 3]
    mirrored = scene.T_1_0.copy()
    mirrored[:3, :3] = (2 * np.outer(direction, direction) - np.eye(3)) @ scene.T_1_0[:3, :3]
    backwards = scene.T_1_0.copy()
    backwards[:3, 3] *= -1
    for pose, share in ((scene.T_1_0, 1.0), (mirrored, 0.0), (backwards, 0.0)):
        assert sampson_error(essential_from_pose(pose), n0, n1).max() < 1e-20
        assert abs(_agree(pose, n0, n1, 1 / 520).mean() - share) < 0.05
    assert np.array_equal(facing(backwards, n0, n1), scene.T_1_0)


def test_two_different_cameras() -> None:
    scene = make_scene(3, noise=0.0)
    zoomed = replace(PINHOLE, fx=260.0, fy=257.5, cx=200.0, cy=100.0)
    pixels1 = zoomed.project(np.column_stack([PINHOLE.normalize(scene.pixels1), np.ones(len(scene.points))]))
    found = estimate_relative_pose(scene.pixels0, pixels1, PINHOLE, zoomed)
    assert found is not None and rotation_error(found.T_1_0, scene.T_1_0) < 1e-4


@pytest.mark.parametrize("turn", [0.0, 0.05], ids=["still", "turning"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_parallax_the_rotation_is_the_best_one(turn: float, estimator: str) -> None:
    for seed in range(6):
        scene = make_scene(seed, baseline=0.0, turn=turn, noise=0.2, outliers=0.2)
        found = estimate_relative_pose(scene.pixels0, scene.pixels1, PINHOLE, PINHOLE, estimator=estimator)
        assert found is not None and found.rotation_only
        # The essential matrix alone is off by 0.1 degrees here, and OpenCV's decomposition often by 180.
        assert rotation_error(found.T_1_0, scene.T_1_0) < 0.02
        assert np.isclose(np.linalg.norm(found.T_1_0[:3, 3]), 1.0)
        assert found.inliers[~scene.wrong].mean() > 0.95


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_identical_points_stand_still(estimator: str) -> None:
    points = np.random.default_rng(0).uniform(0, 400, (50, 2))
    found = estimate_relative_pose(points, points, PINHOLE, PINHOLE, estimator=estimator)
    assert found is not None and found.rotation_only and found.num_inliers == 50
    assert np.allclose(found.T_1_0[:3, :3], np.eye(3), atol=1e-9)


@pytest.mark.parametrize("camera", [PINHOLE, FREIBURG1], ids=["pinhole", "distorted"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_absolute_pose(camera: Camera, estimator: str) -> None:
    for seed in range(4):
        scene = make_scene(seed, camera=camera)
        found = estimate_absolute_pose(scene.points, scene.pixels1, camera, estimator=estimator)
        assert found is not None and found.inliers.all()
        assert np.allclose(found.T_camera_world, scene.T_1_0, atol=1e-6)
    errors = []
    for seed in range(8):
        scene = make_scene(seed, camera=camera, noise=0.5, outliers=0.5)
        found = estimate_absolute_pose(scene.points, scene.pixels1, camera, estimator=estimator)
        assert found is not None and found.inliers[scene.wrong].mean() < 0.05
        errors.append(
            (
                rotation_error(found.T_camera_world, scene.T_1_0),
                np.linalg.norm((found.T_camera_world - scene.T_1_0)[:3, 3]),
            )
        )
    assert np.median(errors, axis=0)[0] < 0.04 and np.median(errors, axis=0)[1] < 0.004


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_homography(estimator: str) -> None:
    rng = np.random.default_rng(2)
    truth = np.array([[0.9, 0.05, 20.0], [-0.08, 1.1, -15.0], [1e-4, -5e-5, 1.0]])
    points0 = rng.uniform([0, 0], [640, 480], (200, 2))
    mapped = np.column_stack([points0, np.ones(200)]) @ truth.T
    points1 = mapped[:, :2] / mapped[:, 2:]
    exact = estimate_homography(points0, points1, estimator=estimator)
    assert exact is not None and transfer_distance(exact.H_1_0, points0, points1).max() < 1e-3
    points1 = points1 + rng.normal(0, 0.5, points1.shape)
    points1[:80] = rng.uniform(0, 480, (80, 2))
    noisy = estimate_homography(points0, points1, estimator=estimator)
    assert noisy is not None and noisy.inliers[80:].mean() > 0.9 and noisy.inliers[:80].mean() < 0.1
    corners = np.array([[0, 0], [639, 0], [0, 479], [639, 479]])
    true_corners = np.column_stack([corners, np.ones(4)]) @ truth.T
    assert transfer_distance(noisy.H_1_0, corners, true_corners[:, :2] / true_corners[:, 2:]).max() < 1.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_same_seed_same_result(estimator: str) -> None:
    scene = make_scene(1, noise=1.0, outliers=0.5)

    def run(seed: int) -> NDArray[np.float64]:
        found = estimate_relative_pose(scene.pixels0, scene.pixels1, PINHOLE, PINHOLE, seed=seed, estimator=estimator)
        pose = estimate_absolute_pose(scene.points, scene.pixels1, PINHOLE, seed=seed, estimator=estimator)
        assert found is not None and pose is not None
        return np.stack([found.T_1_0, pose.T_camera_world])

    assert np.array_equal(run(0), run(0))
    assert np.array_equal(run(7), run(7))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_points_that_are_not_finite_are_left_out(estimator: str) -> None:
    scene = make_scene(5)
    pixels0, pixels1, points = scene.pixels0.copy(), scene.pixels1.copy(), scene.points.copy()
    pixels0[3], pixels1[7, 1], points[11] = np.nan, np.inf, np.nan
    found = estimate_relative_pose(pixels0, pixels1, PINHOLE, PINHOLE, estimator=estimator)
    assert found is not None and np.flatnonzero(~found.inliers).tolist() == [3, 7]
    pose = estimate_absolute_pose(points, pixels1, PINHOLE, estimator=estimator)
    assert pose is not None and np.flatnonzero(~pose.inliers).tolist() == [7, 11]
    homography = estimate_homography(pixels0, pixels0, estimator=estimator)
    assert homography is not None and np.flatnonzero(~homography.inliers).tolist() == [3]


def degenerate_pixels(kind: str, count: int) -> NDArray[np.float64]:
    if kind == "one point":
        return np.full((count, 2), 100.0)
    if kind == "line":
        return np.column_stack([np.linspace(0, 600, count), np.full(count, 240.0)])
    return np.random.default_rng(count).uniform(0, 480, (count, 2))


@settings(max_examples=40, deadline=None)
@given(
    estimator=st.sampled_from(ESTIMATORS),
    kinds=st.tuples(*[st.sampled_from(["one point", "line", "random"])] * 2),
    count=st.integers(0, 14),
)
def test_degenerate_input_never_raises(estimator: str, kinds: tuple[str, str], count: int) -> None:
    first, second = (degenerate_pixels(kind, count) for kind in kinds)
    results = (
        estimate_relative_pose(first, second, PINHOLE, PINHOLE, estimator=estimator),
        estimate_absolute_pose(np.column_stack([first, np.ones(count)]), second, PINHOLE, estimator=estimator),
        estimate_homography(first, second, estimator=estimator),
    )
    for result in results:
        assert result is None or (count >= 6 and np.isfinite(next(iter(vars(result).values()))).all())


def test_random_matches_of_few_points_have_no_pose() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert estimate_relative_pose(*rng.uniform(0, 480, (2, 10, 2)), PINHOLE, PINHOLE) is None


def test_wrong_calls() -> None:
    points = np.zeros((10, 2))
    with pytest.raises(InputError, match="both be"):
        estimate_relative_pose(points, points[:9], PINHOLE, PINHOLE)
    with pytest.raises(InputError, match=r"\(N, 3\) and \(N, 2\)"):
        estimate_absolute_pose(np.zeros((9, 3)), points, PINHOLE)
    with pytest.raises(InputError, match="'magic' is unknown; use one of 'pycolmap', 'opencv', 'poselib'"):
        estimate_homography(points, points, estimator="magic")


def test_poselib_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poselib", None)
    scene = make_scene(0)
    with pytest.raises(MissingDependencyError, match=r'pip install "slamfeat\[peers\]"'):
        estimate_relative_pose(scene.pixels0, scene.pixels1, PINHOLE, PINHOLE, estimator="poselib")
    with pytest.raises(MissingDependencyError, match="poselib"):
        estimate_absolute_pose(scene.points, scene.pixels1, PINHOLE, estimator="poselib")
    with pytest.raises(MissingDependencyError, match="poselib"):
        estimate_homography(scene.pixels0, scene.pixels1, estimator="poselib")


def test_poselib_honours_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ignores options that it does not know, so a misspelt name would leave its own defaults in place."""
    poselib = pytest.importorskip("poselib")
    scene, focal = make_scene(0, noise=0.5, outliers=0.3), 520.0
    p0, p1 = (PINHOLE.normalize(pixels) * focal for pixels in (scene.pixels0, scene.pixels1))
    told: list[dict[str, Any]] = []

    def spy(name: str) -> None:
        original = getattr(poselib, name)

        def wrapped(*arguments: object) -> tuple[Any, dict[str, Any]]:
            model, stats = original(*arguments)
            told.append(stats)
            return model, stats

        monkeypatch.setattr(poselib, name, wrapped)

    def solve(key: str, threshold: float = 1.0, confidence: float = 0.9999, iterations: int = 10_000) -> list[Any]:
        told.clear()
        options = (threshold, confidence, iterations, 0)
        essential_poselib(p0, p1, focal, *options)
        absolute_poselib(scene.points, p1, focal, *options)
        homography_poselib(p0, p0 + [4.0, 2.0] + np.where(scene.wrong, 50, 0)[:, None] + (p1 % 1), *options)
        return [stats[key] for stats in told]

    for name in ("estimate_relative_pose", "estimate_absolute_pose", "estimate_homography"):
        spy(name)
    for narrow, wide in zip(solve("num_inliers", 0.2), solve("num_inliers", 1.0), strict=True):
        assert 0 < narrow < 0.8 * wide
    assert max(solve("iterations", iterations=5)) <= 5
    assert sum(solve("iterations", 0.2, confidence=0.5)) < sum(solve("iterations", 0.2, confidence=0.9999))
