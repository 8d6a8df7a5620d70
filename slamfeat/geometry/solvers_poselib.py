"""The LO-RANSACs of PoseLib (Larsson and contributors), behind the signatures of `slamfeat.geometry.solvers`.

PoseLib is optional. Each of its estimators is a LO-RANSAC on minimal samples followed by a Cauchy-weighted refinement
on the inliers. Its thresholds are pixels as ours are; it takes the truncated squared Sampson distance (relative pose),
the reprojection error (absolute pose) and the transfer error (homography).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slamfeat.errors import MissingDependencyError
from slamfeat.geometry.epipolar import essential_from_pose
from slamfeat.geometry.se3 import Array, make_pose

# As for pycolmap in `solvers`: a tenth of PoseLib's default.
_MIN_SAMPLES = 100


def import_poselib() -> Any:
    """The `poselib` package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import poselib
    except ImportError as error:
        raise MissingDependencyError(
            "the estimator 'poselib' needs the package poselib; install it (pip install \"slamfeat[peers]\"), "
            "or choose pycolmap or opencv"
        ) from error
    return poselib


def essential_poselib(
    p0: Array, p1: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    """Essential matrix (3, 3) of matches (N, 2): that of PoseLib's pose, because the refinement after it is ours.

    Raises:
        MissingDependencyError: no poselib.
    """
    camera = _pinhole(focal)
    options = _ransac("max_epipolar_error", threshold, confidence, iterations, seed)
    pose, stats = import_poselib().estimate_relative_pose(p0, p1, camera, camera, options, _bundle(threshold))
    essential = essential_from_pose(make_pose(pose.R, pose.t))
    return essential if stats["num_inliers"] >= 5 and _useful(essential) else None


def absolute_poselib(
    world: Array, pixels: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    """Pose `T_camera_world` (4, 4) from points (N, 3) and pixels (N, 2).

    Raises:
        MissingDependencyError: no poselib.
    """
    options = _ransac("max_reproj_error", threshold, confidence, iterations, seed)
    pose, stats = import_poselib().estimate_absolute_pose(pixels, world, _pinhole(focal), options, _bundle(threshold))
    return make_pose(pose.R, pose.t) if stats["num_inliers"] >= 3 else None


def homography_poselib(
    p0: Array, p1: Array, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    """Homography (3, 3) of matches (N, 2).

    Raises:
        MissingDependencyError: no poselib.
    """
    options = _ransac("max_reproj_error", threshold, confidence, iterations, seed)
    matrix, stats = import_poselib().estimate_homography(p0, p1, options, _bundle(threshold))
    found = np.asarray(matrix, dtype=np.float64)
    return found if stats["num_inliers"] >= 4 and _useful(found) else None


def _useful(matrix: Array) -> bool:
    return bool(np.isfinite(matrix).all() and np.abs(matrix).max() > 1e-12)


def _pinhole(focal: float) -> dict[str, Any]:
    # The size takes no part in the estimation.
    return {"model": "SIMPLE_PINHOLE", "width": 1, "height": 1, "params": [focal, 0.0, 0.0]}


def _ransac(error: str, threshold: float, confidence: float, iterations: int, seed: int) -> dict[str, Any]:
    """PoseLib ignores keys that it does not know, so `error` must be the very name an estimator reads.

    Its seed is unsigned; the other libraries take negative ones too.
    """
    return {
        error: threshold, "success_prob": confidence, "max_iterations": iterations,
        "min_iterations": min(_MIN_SAMPLES, iterations), "seed": seed % 2**32,
    }  # fmt: skip


def _bundle(threshold: float) -> dict[str, Any]:
    """Cauchy weights (PoseLib's default) that fall to a half at half the threshold."""
    return {"loss_type": "CAUCHY", "loss_scale": threshold / 2}
