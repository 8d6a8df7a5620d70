"""The two steps around an essential matrix: taking it apart, and polishing the pose on all its inliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.geometry.epipolar import essential_from_pose, homogeneous, skew
from slamfeat.geometry.minimise import minimise_cauchy
from slamfeat.geometry.se3 import Array, make_pose
from slamfeat.geometry.triangulate import in_front


def pose_from_essential(essential: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """The one of the four poses of an essential matrix with most points in front of both cameras.

    Hartley and Zisserman 9.6.2. Unlike OpenCV's `recoverPose` no point is left out for being far: at small parallax
    that vote is empty, and its result turns the camera around by 180 degrees.

    Args:
        essential: (3, 3).
        normalized0, normalized1: (N, 2) inliers on the planes z = 1.

    Returns:
        T_1_0 (4, 4) with a translation of unit length.
    """
    u, _, vt = np.linalg.svd(np.asarray(essential, dtype=np.float64))
    u, vt = u * np.sign(np.linalg.det(u)), vt * np.sign(np.linalg.det(vt))
    w = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    poses = [make_pose(r, t) for r in (u @ w @ vt, u @ w.T @ vt) for t in (u[:, 2], -u[:, 2])]
    votes = [int(in_front(pose, normalized0, normalized1).sum()) for pose in poses]
    return poses[int(np.argmax(votes))]


def facing(T_1_0: Array, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """The pose (4, 4) with its translation turned around if that brings more points in front of both cameras.

    Epipolar errors do not know the sign of the translation, so a refinement may pass from one to the other.
    """
    turned = make_pose(T_1_0[:3, :3], -T_1_0[:3, 3])
    more = in_front(turned, normalized0, normalized1).sum() > in_front(T_1_0, normalized0, normalized1).sum()
    return turned if more else T_1_0


def refine_relative_pose(
    T_1_0: ArrayLike,
    normalized0: ArrayLike,
    normalized1: ArrayLike,
    *,
    scale: float,
    weights: Array | None = None,
    iterations: int = 12,
) -> Array:
    """Minimise the robust Sampson error over the five degrees of freedom of a relative pose.

    Levenberg-Marquardt with Cauchy weights and exact derivatives.

    Args:
        T_1_0: (4, 4) starting pose with a translation of unit length.
        normalized0, normalized1: (N, 2) points on the planes z = 1, N >= 5; a few outliers do no harm.
        scale: residual, on the plane z = 1, at which a point's Cauchy weight has fallen to a half.
        weights: (N,) by which residuals are multiplied first, as `sampson_weights` gives them; None for 1.
        iterations: upper bound.

    Returns:
        T_1_0 (4, 4) with a translation of unit length.
    """
    x0, x1 = homogeneous(normalized0), homogeneous(normalized1)

    def linearize(pose: Array) -> tuple[Array, Array]:
        residual, jacobian = _linearize(pose, x0, x1)
        if weights is not None:
            residual, jacobian = residual * weights, jacobian * weights[:, None]
        return residual[:, None], jacobian[:, None]

    start = np.array(T_1_0, dtype=np.float64)
    return minimise_cauchy(start, linearize, _moved, scale=scale, iterations=iterations)


def _tangent(translation: Array) -> Array:
    """Two unit vectors (2, 3) orthogonal to a translation (3,)."""
    return np.asarray(np.linalg.svd(translation[None])[2][1:], dtype=np.float64)


def _moved(pose: Array, step: Array) -> Array:
    """Turn by the rotation vector `step[:3]` and move the translation by `step[3:]` on the unit sphere."""
    from scipy.spatial.transform import Rotation

    translation = pose[:3, 3] + step[3:] @ _tangent(pose[:3, 3])
    rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ pose[:3, :3]
    return make_pose(rotation, translation / np.linalg.norm(translation))


def _linearize(pose: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Signed Sampson residuals (N,) and their derivatives (N, 5) by rotation (3) and translation (2)."""
    essential, rotation, cross = essential_from_pose(pose), pose[:3, :3], skew(pose[:3, 3])
    derivatives = np.array(
        [cross @ skew(axis) @ rotation for axis in np.eye(3)]
        + [skew(axis) @ rotation for axis in _tangent(pose[:3, 3])]
    )
    line1, line0 = x0 @ essential.T, x1 @ essential
    algebraic = (line1 * x1).sum(1)
    norm = np.maximum(np.sqrt((line1[:, :2] ** 2).sum(1) + (line0[:, :2] ** 2).sum(1)), 1e-12)
    d_line1, d_line0 = x0 @ derivatives.transpose(0, 2, 1), x1 @ derivatives
    d_algebraic = (d_line1 * x1).sum(2)
    d_norm = ((d_line1 * line1)[..., :2].sum(2) + (d_line0 * line0)[..., :2].sum(2)) / norm
    return algebraic / norm, ((d_algebraic - d_norm * algebraic / norm) / norm).T
