"""What the covariances of matched points are worth to a pose: the one place where they become weights.

Covariances count against one another only: they are scaled so that the median match keeps weight 1, and so thresholds
and scales stay in pixels. A covariance is a prediction, and may be far too bold; so no match counts more than ten times
or less than a tenth of the median one, in standard deviations. One that is not finite or not positive counts as the
median one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.errors import InputError
from slamfeat.geometry.epipolar import epipolar_lines, essential_from_pose, homogeneous
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera

_MOST = 10.0


def covariances_on_plane(covariances: ArrayLike, normalized: Array, camera: Camera) -> Array:
    """Covariances (N, 2, 2) of distorted pixels, carried to the undistorted plane z = 1 to first order.

    Args:
        covariances: (N, 2, 2), pixels squared.
        normalized: (N, 2) the points on the plane, as `camera.normalize` gives them.
        camera: theirs.

    Raises:
        InputError: covariances of another shape.
    """
    import cv2

    given, count = np.asarray(covariances, dtype=np.float64), len(normalized)
    if given.shape != (count, 2, 2):
        raise InputError(f"covariances of {count} points must be ({count}, 2, 2), got {given.shape}")
    if not count:
        return given
    rays, nothing = homogeneous(normalized), np.zeros(3)
    derivatives = cv2.projectPoints(rays, nothing, nothing, camera.K, np.array(camera.dist))[1]
    (a, b), (c, d) = np.moveaxis(derivatives.reshape(count, 2, -1)[:, :, 3:5], 0, -1)  # of the pixel by x and y
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.moveaxis(np.array([[d, -b], [-c, a]]) / (a * d - b * c), -1, 0)
        carried: Array = inverse @ given @ inverse.transpose(0, 2, 1)
    return carried


def sampson_weights(T_1_0: Array, normalized0: Array, normalized1: Array, covariances1: Array) -> Array:
    """Factors (N,) that bring the Sampson residuals of a pose to one standard deviation: the median inlier's.

    The point of image 1 carries all of a match's error, and moves the residual along the normal of its epipolar line.

    Args:
        T_1_0: (4, 4) the pose.
        normalized0, normalized1: (N, 2) inliers on the planes z = 1.
        covariances1: (N, 2, 2) on the plane of camera 1.
    """
    line1, line0 = epipolar_lines(essential_from_pose(T_1_0), normalized0, normalized1)
    squares = (line1**2).sum(1) + (line0**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.einsum("ni,nij,nj->n", line1, covariances1, line1) / squares
    return _relative(variance, variance) ** -0.5


def whitening(covariances: Array) -> Array:
    """Matrices (N, 2, 2) that bring residuals of these covariances (N, 2, 2) to one: a circle, the median inlier's."""
    finite = np.isfinite(covariances).all((1, 2), keepdims=True)
    variances, axes = np.linalg.eigh(np.where(finite, covariances, 0.0))
    sizes = np.sqrt(np.maximum(variances, 0).prod(1))
    factors = _relative(variances, np.repeat(sizes[:, None], 2, axis=1)) ** -0.5
    whiteners: Array = (axes * factors[:, None]) @ axes.transpose(0, 2, 1)
    return whiteners


def _relative(variances: Array, sizes: Array) -> Array:
    """Variances in units of the median of `sizes`, within bounds; 1 where they or their sizes say nothing."""
    usable = np.isfinite(variances) & np.isfinite(sizes) & (variances > 0) & (sizes > 0)
    median = float(np.median(sizes[usable])) if usable.any() else 1.0
    relative = np.divide(variances, median, out=np.ones_like(variances), where=usable)
    return np.clip(relative, _MOST**-2, _MOST**2)
