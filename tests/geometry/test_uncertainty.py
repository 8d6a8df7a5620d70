"""Covariances in the polishing of poses, on scenes whose noise is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from geometry_scenes import FREIBURG1, PINHOLE, Scene, direction_error_deg, make_scene
from numpy.typing import NDArray

from slamfeat.errors import InputError
from slamfeat.geometry import estimate_absolute_pose, estimate_relative_pose
from slamfeat.geometry.absolute import _linearize, _moved
from slamfeat.geometry.epipolar import essential_from_pose, homogeneous
from slamfeat.geometry.se3 import rotation_angle_deg
from slamfeat.geometry.uncertainty import covariances_on_plane, sampson_weights, whitening
from slamfeat.types import Camera

ESTIMATORS = ("pycolmap", "opencv", "poselib")
CAMERAS = pytest.mark.parametrize("camera", [PINHOLE, FREIBURG1], ids=["pinhole", "distorted"])
SEEDS = 24
Floats = NDArray[np.float64]


def two_kinds(rng: np.random.Generator, count: int) -> Floats:
    """Half of the matches with 0.2 px, half with 2 px."""
    return np.eye(2) * np.where(rng.random(count) < 0.5, 0.2, 2.0)[:, None, None] ** 2


def along_edges(rng: np.random.Generator, count: int) -> Floats:
    """0.5 px along a random direction, 0.05 px across."""
    angle = rng.uniform(0, np.pi, count)
    axes = np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), -1, 0)
    return axes @ np.diag([0.25, 0.0025]) @ axes.transpose(0, 2, 1)


Noise = Callable[[np.random.Generator, int], Floats]


def noisy(seed: int, camera: Camera, noise: Noise) -> tuple[Scene, Floats, Floats]:
    """A scene with outliers, its second pixels moved by noise, and the covariances of that."""
    scene, rng = make_scene(seed, camera=camera, baseline=1.0, outliers=0.1), np.random.default_rng(1000 + seed)
    covariances = noise(rng, len(scene.points))
    moved = (np.linalg.cholesky(covariances) @ rng.normal(size=(len(covariances), 2, 1)))[..., 0]
    return scene, scene.pixels1 + moved, covariances


def relative(scene: Scene, pixels1: Floats, camera: Camera, estimator: str, **covariances: Floats | None) -> Floats:
    # mypy takes a dict's values for every argument.
    found = estimate_relative_pose(scene.pixels0, pixels1, camera, camera, estimator=estimator, **covariances)  # type: ignore[arg-type]
    assert found is not None and not found.rotation_only
    return found.T_1_0


def absolute(scene: Scene, pixels1: Floats, camera: Camera, estimator: str, **covariances: Floats | None) -> Floats:
    # mypy takes a dict's values for every argument.
    found = estimate_absolute_pose(scene.points, pixels1, camera, estimator=estimator, **covariances)  # type: ignore[arg-type]
    assert found is not None
    return found.T_camera_world


Estimate = Callable[..., Floats]
BOTH = pytest.mark.parametrize("estimate", [relative, absolute])


def mean_errors(
    estimate: Estimate, camera: Camera, estimator: str, noise: Noise, given: Callable[[Floats], dict[str, Floats]]
) -> Floats:
    """Mean rotation error (degrees), and of the translation its direction's (degrees), over the seeds."""
    errors = []
    for seed in range(SEEDS):
        scene, pixels1, covariances = noisy(seed, camera, noise)
        pose, truth = estimate(scene, pixels1, camera, estimator, **given(covariances)), scene.T_1_0
        turn = float(rotation_angle_deg(pose[:3, :3] @ truth[:3, :3].T))
        errors.append((turn, direction_error_deg(pose[:3, 3], truth[:3, 3])))
    return np.mean(errors, axis=0)


@pytest.mark.parametrize("noise", [two_kinds, along_edges])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@BOTH
def test_true_covariances_make_poses_better_by_a_fifth(estimate: Estimate, estimator: str, noise: Noise) -> None:
    """Than none, and (PnP has a refinement of ours with covariances alone) than equal ones."""
    true = mean_errors(estimate, FREIBURG1, estimator, noise, lambda c: {"covariances": c})
    none = mean_errors(estimate, FREIBURG1, estimator, noise, lambda _: {})
    equal = mean_errors(
        estimate, FREIBURG1, estimator, noise, lambda c: {"covariances": np.tile(np.eye(2), (len(c), 1, 1))}
    )
    assert (true < 0.8 * none).all() and (true < 0.8 * equal).all()


@CAMERAS
@pytest.mark.parametrize("estimator", ESTIMATORS)
@BOTH
def test_covariances_count_against_one_another_only(estimate: Estimate, estimator: str, camera: Camera) -> None:
    for seed in range(4):
        scene, pixels1, covariances = noisy(seed, camera, two_kinds)
        poses = [
            estimate(scene, pixels1, camera, estimator, covariances=factor * covariances) for factor in (1, 1e-4, 123.4)
        ]
        assert max(np.abs(pose - poses[0]).max() for pose in poses) < 1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
@BOTH
def test_none_is_the_same_as_nothing(estimate: Estimate, estimator: str) -> None:
    scene, pixels1, _ = noisy(0, FREIBURG1, two_kinds)
    runs = [estimate(scene, pixels1, FREIBURG1, estimator, **given) for given in ({}, {"covariances": None})]
    assert np.array_equal(*runs)


@BOTH
def test_points_and_covariances_that_are_not_finite(estimate: Estimate) -> None:
    """The point is left out; a covariance that says nothing counts as the median one."""
    scene, pixels1, covariances = noisy(1, FREIBURG1, two_kinds)
    pixels1[5] = np.nan
    covariances[9], covariances[11], covariances[12] = np.nan, 0.0, [[1.0, 2.0], [2.0, 1.0]]
    pose = estimate(scene, pixels1, FREIBURG1, "opencv", covariances=covariances)
    assert rotation_angle_deg(pose[:3, :3] @ scene.T_1_0[:3, :3].T) < 0.1
    nothing = estimate(scene, pixels1, FREIBURG1, "opencv", covariances=np.zeros_like(covariances))
    assert rotation_angle_deg(nothing[:3, :3] @ scene.T_1_0[:3, :3].T) < 0.1


@BOTH
def test_covariances_of_another_shape_are_refused(estimate: Estimate) -> None:
    scene, pixels1, covariances = noisy(1, PINHOLE, two_kinds)
    with pytest.raises(InputError, match=r"covariances of 300 points must be \(300, 2, 2\), got \(299, 2, 2\)"):
        estimate(scene, pixels1, PINHOLE, "opencv", covariances=covariances[1:])


def test_no_points_with_no_covariances() -> None:
    none = np.zeros((0, 2))
    assert estimate_relative_pose(none, none, FREIBURG1, FREIBURG1, covariances=np.zeros((0, 2, 2))) is None
    assert estimate_absolute_pose(np.zeros((0, 3)), none, FREIBURG1, covariances=np.zeros((0, 2, 2))) is None


@CAMERAS
def test_covariances_on_the_plane_are_those_of_undistorted_samples(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    pixels, covariances = rng.uniform([20, 20], [620, 460], (6, 2)), along_edges(rng, 6)
    found = covariances_on_plane(covariances, camera.normalize(pixels), camera)
    for pixel, given, carried in zip(pixels, covariances, found, strict=True):
        samples = camera.normalize(rng.multivariate_normal(pixel, given, 20_000))
        np.testing.assert_allclose(carried * 520**2, np.cov(samples.T) * 520**2, atol=0.008)


def test_weights_bring_sampson_residuals_to_one_deviation() -> None:
    """Signed residuals of many samples of each match, whitened, deviate alike: as the median match's do."""
    scene, rng = make_scene(0, baseline=1.0, count=200), np.random.default_rng(0)
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    covariances = covariances_on_plane(along_edges(rng, 200) * 0.04, n1, PINHOLE)
    weights = sampson_weights(scene.T_1_0, n0, n1, covariances)
    essential = essential_from_pose(scene.T_1_0)
    residuals = []
    for _ in range(2000):
        moved = n1 + (np.linalg.cholesky(covariances) @ rng.normal(size=(200, 2, 1)))[..., 0]
        x0, x1 = homogeneous(n0), homogeneous(moved)
        lines = np.hstack([(x0 @ essential.T)[:, :2], (x1 @ essential)[:, :2]])
        residuals.append((x0 @ essential.T * x1).sum(1) / np.linalg.norm(lines, axis=1))
    deviations = np.std(residuals, axis=0)
    bounded = (weights > 0.11) & (weights < 9.9)
    assert bounded.mean() > 0.9
    np.testing.assert_allclose((deviations * weights)[bounded], np.median(deviations), rtol=0.08)


def test_whitening_makes_circles_of_the_median_size_within_bounds() -> None:
    covariances = np.array([np.diag([4.0, 1.0]), 2 * np.eye(2), 2 * np.eye(2), [[2.0, 1.0], [1.0, 3.0]]])
    whiteners = whitening(covariances)
    whitened = whiteners @ covariances @ whiteners.transpose(0, 2, 1)
    np.testing.assert_allclose(whitened, np.tile(2 * np.eye(2), (4, 1, 1)), atol=1e-12)
    bold = whitening(np.concatenate([covariances, [1e-9 * np.eye(2), np.diag([1e9, 2.0]), np.full((2, 2), np.nan)]]))
    np.testing.assert_allclose(bold[4:], [10 * np.eye(2), np.diag([0.1, 1.0]), np.eye(2)], atol=1e-12)


def test_derivatives_of_reprojection() -> None:
    scene, rng = make_scene(3), np.random.default_rng(0)
    seen = PINHOLE.normalize(scene.pixels1)
    pose = _moved(scene.T_1_0, rng.normal(0, 0.01, 6))
    _, jacobian = _linearize(pose, scene.points, seen)
    for axis, step in enumerate(1e-6 * np.eye(6)):
        ahead, behind = (_linearize(_moved(pose, sign * step), scene.points, seen)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:, :, axis], (ahead - behind) / 2e-6, atol=1e-7)
