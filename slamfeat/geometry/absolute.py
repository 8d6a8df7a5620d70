"""Polishing the pose of a camera on points in space, each with the covariance of where it was seen."""

from __future__ import annotations

import numpy as np

from slamfeat.geometry.epipolar import skew
from slamfeat.geometry.minimise import minimise_cauchy
from slamfeat.geometry.se3 import Array, make_pose, transform_points
from slamfeat.geometry.uncertainty import whitening

_MIN_POINTS = 6


def refine_absolute_pose(
    T_camera_world: Array,
    world: Array,
    normalized: Array,
    covariances: Array,
    *,
    threshold: float,
    iterations: int = 12,
) -> Array:
    """Minimise the robust, whitened reprojection error of the points near a pose.

    Levenberg-Marquardt with Cauchy weights and exact derivatives.

    Args:
        T_camera_world: (4, 4) starting pose.
        world: (N, 3) points in world coordinates.
        normalized: (N, 2) where they were seen, on the plane z = 1.
        covariances: (N, 2, 2) of `normalized`.
        threshold: largest error of an inlier, on the plane z = 1; points within twice of it take part, since steep
            weights follow.
        iterations: upper bound.

    Returns:
        T_camera_world (4, 4); the starting pose where fewer than 6 points take part.
    """
    local = transform_points(T_camera_world, world)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(local[:, :2] / local[:, 2:] - normalized, axis=1)
        near = (local[:, 2] > 0) & (error <= 2 * threshold)
    if near.sum() < _MIN_POINTS:
        return T_camera_world
    points, seen, whiteners = world[near], normalized[near], whitening(covariances[near])

    def linearize(pose: Array) -> tuple[Array, Array]:
        residual, jacobian = _linearize(pose, points, seen)
        return (whiteners @ residual[..., None])[..., 0], whiteners @ jacobian

    return minimise_cauchy(T_camera_world, linearize, _moved, scale=0.5 * threshold, iterations=iterations)


def _moved(pose: Array, step: Array) -> Array:
    """Turn by the rotation vector `step[:3]` in the camera's frame, and move the translation by `step[3:]`."""
    from scipy.spatial.transform import Rotation

    return make_pose(Rotation.from_rotvec(step[:3]).as_matrix() @ pose[:3, :3], pose[:3, 3] + step[3:])


def _linearize(pose: Array, points: Array, seen: Array) -> tuple[Array, Array]:
    """Reprojection residuals (N, 2) and their derivatives (N, 2, 6) by rotation (3) and translation (3)."""
    turned = points @ pose[:3, :3].T
    local = turned + pose[:3, 3]
    depth = np.maximum(local[:, 2], 1e-9)  # a step too far may leave points behind the camera: a large error, refused
    projected = local[:, :2] / depth[:, None]
    by_place = np.zeros((len(points), 2, 3))
    by_place[:, 0, 0] = by_place[:, 1, 1] = 1 / depth
    by_place[:, :, 2] = -projected / depth[:, None]
    by_turn = np.stack([turned @ skew(axis).T for axis in np.eye(3)], axis=2)
    return projected - seen, np.concatenate([by_place @ by_turn, by_place], axis=2)
