"""Cameras that only turn, or stand still: two views without parallax, where an essential matrix says nothing.

Every translation explains such a pair, so an essential matrix spends its freedom on noise, and its rotation is worse
than the best rotation alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.geometry.epipolar import essential_from_pose, homogeneous, sampson_error
from slamfeat.geometry.se3 import Array, make_pose
from slamfeat.geometry.twoview import facing

# Below this noise, in units of the threshold, two models are not told apart: real matches are never better.
_NOISE_FLOOR = 0.03


def fit_rotation(
    normalized0: ArrayLike, normalized1: ArrayLike, start: ArrayLike, *, scale: float, iterations: int = 10
) -> Array:
    """The rotation (3, 3) that best turns the rays of camera 0 onto those of camera 1.

    Kabsch's method on unit rays with Cauchy weights, repeated.

    Args:
        normalized0, normalized1: (N, 2) on the planes z = 1, N >= 2.
        start: (3, 3) a rotation near enough to tell good matches from bad ones.
        scale: residual at which a match's weight has fallen to a half.
        iterations: of reweighting.
    """
    rays0, rays1 = _unit(homogeneous(normalized0)), _unit(homogeneous(normalized1))
    rotation = np.asarray(start, dtype=np.float64)
    for _ in range(iterations):
        squared = ((rays0 @ rotation.T - rays1) ** 2).sum(1)
        weights = 1 / (1 + squared / scale**2)
        u, _, vt = np.linalg.svd((rays1 * weights[:, None]).T @ rays0)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return rotation


def transfer_error(rotation: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """Squared distance (N,) on the plane z = 1 between turned points of camera 0 and the points of camera 1."""
    turned = homogeneous(normalized0) @ np.asarray(rotation, dtype=np.float64).T
    distance = ((turned[:, :2] / np.maximum(turned[:, 2:], 1e-9) - np.asarray(normalized1)) ** 2).sum(1)
    return np.where(turned[:, 2] > 1e-9, distance, np.inf)


def rotation_explains(
    rotation: ArrayLike, T_1_0: ArrayLike, normalized0: Array, normalized1: Array, threshold: float
) -> bool:
    """Whether a rotation alone describes the matches as well as the pose `T_1_0` does, given its fewer parameters.

    Torr's GRIC ("Geometric motion segmentation and model selection", Phil. Trans. A 1998): squared residuals over the
    noise variance, capped, plus log(4) a dimension of the structure a match has (3 for a pose, 2 for a rotation) and
    log(4 N) a parameter of the motion (5 and 3). The noise is measured on the residuals of the pose.
    """
    count = len(normalized0)
    epipolar = sampson_error(essential_from_pose(T_1_0), normalized0, normalized1)
    variance = max(2.198 * float(np.median(epipolar)), (_NOISE_FLOOR * threshold) ** 2)
    # Both images carry noise, and a rotation lets a match move in either: half of the squared transfer distance.
    turned = 0.5 * transfer_error(rotation, normalized0, normalized1)
    cost_pose = np.minimum(epipolar / variance, 2.0).sum() + 3 * np.log(4) * count + 5 * np.log(4 * count)
    cost_turn = np.minimum(turned / variance, 4.0).sum() + 2 * np.log(4) * count + 3 * np.log(4 * count)
    return bool(cost_turn < cost_pose)


def with_best_translation(rotation: ArrayLike, normalized0: Array, normalized1: Array) -> Array:
    """The pose (4, 4) with this rotation and the direction of translation that the matches contradict least."""
    turned = homogeneous(normalized0) @ np.asarray(rotation, dtype=np.float64).T
    normals = np.cross(turned, homogeneous(normalized1))
    translation = np.linalg.eigh(normals.T @ normals)[1][:, 0]
    return facing(make_pose(rotation, translation), normalized0, normalized1)


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
