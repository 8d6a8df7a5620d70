"""Figures of two-view matching: pose errors and the area under their recall, homographies, precision of matches.

Shares and areas are in percent, angles in degrees, distances in pixels of `slamfeat.types`' convention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.geometry.epipolar import essential_from_pose, homogeneous, sampson_error
from slamfeat.geometry.se3 import Array, rotation_angle_deg
from slamfeat.types import Camera

# Shorter translations than this, in the data's own unit, are rounding of a camera that only turned.
_NO_LENGTH = 1e-6


def pose_errors_deg(T_est: ArrayLike, T_true: ArrayLike) -> tuple[float, float]:
    """Angles between two relative poses (4, 4): of their rotations, and of the directions of their translations.

    The direction counts up to its sign, so that it is at most 90 degrees, as in SuperGlue's and glue-factory's
    evaluation: an essential matrix does not know the sign.

    Returns:
        Rotation error (0 to 180) and direction error (0 to 90) in degrees. The latter is NaN where the true translation
        has no length, as then there is no direction to find (what to make of the pair is the caller's choice), and 90
        where only the estimated one has none.
    """
    estimate, truth = np.asarray(T_est, dtype=np.float64), np.asarray(T_true, dtype=np.float64)
    rotation = float(rotation_angle_deg(estimate[:3, :3].T @ truth[:3, :3]))
    found, wanted = estimate[:3, 3], truth[:3, 3]
    if np.linalg.norm(wanted) < _NO_LENGTH:
        return rotation, math.nan
    across, along = float(np.linalg.norm(np.cross(found, wanted))), abs(float(found @ wanted))
    return rotation, math.degrees(math.atan2(across, along)) if across or along else 90.0


def area_under_recall(errors: ArrayLike, thresholds: Sequence[float]) -> list[float]:
    """Area under the recall curve up to each threshold, in percent of the area of perfect recall ("AUC@t").

    The definition of SuperGlue ("Learning Feature Matching with Graph Neural Networks", CVPR 2020, 5.2) as
    glue-factory computes it: recall over the sorted errors, straight lines between, from recall 0 at error 0; behind
    the last error below the threshold the curve is level.

    Args:
        errors: (N,) of any unit; one that is not finite is never recalled.
        thresholds: positive, in the same unit.

    Returns:
        One area a threshold; NaN where there are no errors.
    """
    values = np.asarray(errors, dtype=np.float64).reshape(-1)
    if not len(values):
        return [math.nan] * len(thresholds)
    x = np.append(0.0, np.sort(np.where(np.isfinite(values), values, np.inf)))
    recall = np.arange(len(x)) / len(values)
    return [_area(x, recall, float(threshold)) for threshold in thresholds]


def corner_error_px(H_est: ArrayLike, H_true: ArrayLike, size: tuple[int, int]) -> float:
    """Mean distance in pixels between the four corners of image 0 as two homographies (3, 3) map them.

    SuperPoint's measure on HPatches (DeTone et al., CVPRW 2018, 7.3). The corners are the centres of the corner pixels,
    0 and W - 1, as there and as in this project's pixel convention. glue-factory takes 0 and W: relatively 1 / W more.

    Args:
        H_est, H_true: from pixels of image 0 to pixels of image 1.
        size: (W, H) of image 0.

    Returns:
        Infinite where a homography maps a corner to infinity.
    """
    right, bottom = size[0] - 1, size[1] - 1
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=np.float64)
    error = float(np.linalg.norm(_through(H_est, corners) - _through(H_true, corners), axis=1).mean())
    return error if math.isfinite(error) else math.inf


def matching_accuracy(
    points0: ArrayLike, points1: ArrayLike, H_1_0: ArrayLike, thresholds: Sequence[float]
) -> list[float]:
    """Share of matches, in percent, that a homography confirms within each threshold; "MMA" when averaged over pairs.

    Dusmanu et al., D2-Net (CVPR 2019), 5.1: one direction, from image 0 to image 1.

    Args:
        points0, points1: (N, 2) matched pixels.
        H_1_0: (3, 3), from pixels of image 0 to pixels of image 1.
        thresholds: pixels of image 1.

    Returns:
        One share a threshold; 0 without matches.
    """
    p0, p1 = (np.asarray(points, dtype=np.float64).reshape(-1, 2) for points in (points0, points1))
    if not len(p0):
        return [0.0] * len(thresholds)
    distance = np.linalg.norm(_through(H_1_0, p0) - p1, axis=1)
    return [float(100 * (distance <= threshold).mean()) for threshold in thresholds]


def epipolar_precision(
    points0: ArrayLike,
    points1: ArrayLike,
    camera0: Camera,
    camera1: Camera,
    T_1_0: ArrayLike,
    threshold_px: float = 1.0,
) -> float:
    """Share of matches, in percent, within a Sampson distance of the true epipolar geometry.

    Hartley and Zisserman 11.4.3, in pixels of the two undistorted images. (SuperGlue's "precision" instead takes 5e-4
    on the symmetric epipolar distance of normalised coordinates, which depends on the focal length.)

    Args:
        points0, points1: (N, 2) matched, distorted pixels.
        camera0, camera1: their cameras.
        T_1_0: (4, 4) the true pose, from camera 0 to camera 1, in any unit.
        threshold_px: largest distance of a correct match.

    Returns:
        0 without matches; NaN where the true translation has no length, as then there are no epipolar lines.
    """
    pose = np.array(T_1_0, dtype=np.float64)
    length = float(np.linalg.norm(pose[:3, 3]))
    if length < _NO_LENGTH:
        return math.nan
    pose[:3, 3] /= length
    pixels0, pixels1 = (_undistorted(camera, points) for camera, points in ((camera0, points0), (camera1, points1)))
    if not len(pixels0):
        return 0.0
    fundamental = np.linalg.inv(camera1.K).T @ essential_from_pose(pose) @ np.linalg.inv(camera0.K)
    return float(100 * (sampson_error(fundamental, pixels0, pixels1) <= threshold_px**2).mean())


def _area(x: Array, recall: Array, threshold: float) -> float:
    assert threshold > 0, "a threshold is a length"
    last = int(np.searchsorted(x, threshold))
    width = np.diff(np.append(x[:last], threshold))
    height = np.append(recall[:last], recall[last - 1])
    return float(100 * (width @ (height[1:] + height[:-1])) / 2 / threshold)


def _through(H: ArrayLike, points: Array) -> Array:
    mapped = homogeneous(points) @ np.asarray(H, dtype=np.float64).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(mapped[:, :2] / mapped[:, 2:])


def _undistorted(camera: Camera, points: ArrayLike) -> Array:
    return np.asarray(camera.normalize(points) * (camera.fx, camera.fy) + (camera.cx, camera.cy))
