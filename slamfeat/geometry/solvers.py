"""The RANSACs of pycolmap, OpenCV and PoseLib behind equal signatures, for `slamfeat.geometry.robust`.

Every solver takes clean points (finite, at least 5), the threshold in the points' pixels, confidence, iterations and
seed, and returns a matrix or None. Pixels belong to a pinhole camera with the principal point at the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slamfeat.geometry.se3 import Array, make_pose
from slamfeat.geometry.solvers_poselib import absolute_poselib, essential_poselib, homography_poselib

# A tenth of pycolmap's default, for the sake of time: its local optimisation needs few samples, and our refinement
# follows. How it then does against MAGSAC++ is in benchmarks/results/relative_pose.md.
_MIN_SAMPLES = 100


def _essential_pycolmap(
    p0: Array, p1: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import pycolmap

    camera = _pinhole(focal)
    options = _ransac(threshold, confidence, iterations, seed)
    result = pycolmap.estimate_essential_matrix(p0, p1, camera, camera, options)
    return None if result is None else np.asarray(result["E"], dtype=np.float64)


def _essential_opencv(
    p0: Array, p1: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import cv2

    cv2.setRNGSeed(seed)
    try:
        matrix, _ = cv2.findEssentialMat(
            p0, p1, np.diag([focal, focal, 1.0]), method=cv2.USAC_MAGSAC, prob=confidence, threshold=threshold,
            maxIters=iterations,
        )  # fmt: skip
    except cv2.error:  # OpenCV raises on some degenerate samples where it should return nothing
        return None
    return _first_matrix(matrix)


def _absolute_pycolmap(
    world: Array, pixels: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import pycolmap

    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac = _ransac(threshold, confidence, iterations, seed)
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.gradient_tolerance = 1e-3
    result = pycolmap.estimate_and_refine_absolute_pose(pixels, world, _pinhole(focal), estimation, refinement)
    if result is None:
        return None
    matrix = result["cam_from_world"].matrix()
    return make_pose(matrix[:, :3], matrix[:, 3])


def _absolute_opencv(
    world: Array, pixels: Array, focal: float, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import cv2

    cv2.setRNGSeed(seed)
    intrinsics = np.diag([focal, focal, 1.0])
    try:
        found, turn, move, inliers = cv2.solvePnPRansac(
            world, pixels, intrinsics, None, flags=cv2.SOLVEPNP_AP3P, reprojectionError=threshold,
            confidence=confidence, iterationsCount=iterations,
        )  # fmt: skip
        if not found or inliers is None or len(inliers) < 4:
            return None
        chosen = inliers.reshape(-1)
        for _ in range(2):  # the pose of four points misses inliers that the first refinement brings back
            turn, move = cv2.solvePnPRefineLM(world[chosen], pixels[chosen], intrinsics, None, turn, move)
            projected = cv2.projectPoints(world, turn, move, intrinsics, None)[0].reshape(-1, 2)
            near = np.flatnonzero(np.linalg.norm(projected - pixels, axis=1) <= threshold)
            chosen = near if len(near) >= 4 else chosen
    except cv2.error:  # raised on degenerate samples, for example points on one line
        return None
    return make_pose(cv2.Rodrigues(turn)[0], move)


def _homography_pycolmap(
    p0: Array, p1: Array, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import pycolmap

    result = pycolmap.estimate_homography_matrix(p0, p1, _ransac(threshold, confidence, iterations, seed))
    return None if result is None else np.asarray(result["H"], dtype=np.float64)


def _homography_opencv(
    p0: Array, p1: Array, threshold: float, confidence: float, iterations: int, seed: int
) -> Array | None:
    import cv2

    cv2.setRNGSeed(seed)
    try:
        matrix, _ = cv2.findHomography(
            p0, p1, cv2.USAC_MAGSAC, threshold, maxIters=iterations, confidence=confidence
        )  # fmt: skip
    except cv2.error:  # raised on degenerate samples
        return None
    return _first_matrix(matrix)


def _first_matrix(matrix: Any) -> Array | None:
    """OpenCV returns None, an empty array, or several 3x3 solutions stacked."""
    if matrix is None or matrix.size < 9:
        return None
    return np.asarray(matrix, dtype=np.float64)[:3, :3]


def _pinhole(focal: float) -> Any:
    import pycolmap

    # The size takes no part in the estimation, but must not be zero.
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[focal, 0.0, 0.0])


def _ransac(threshold: float, confidence: float, iterations: int, seed: int) -> Any:
    import pycolmap

    return pycolmap.RANSACOptions(
        max_error=threshold, confidence=confidence, max_num_trials=iterations,
        min_num_trials=min(_MIN_SAMPLES, iterations), random_seed=seed, num_threads=1,
    )  # fmt: skip


Solver = Callable[..., "Array | None"]
ESSENTIAL: dict[str, Solver] = {
    "pycolmap": _essential_pycolmap,
    "opencv": _essential_opencv,
    "poselib": essential_poselib,
}
ABSOLUTE: dict[str, Solver] = {"pycolmap": _absolute_pycolmap, "opencv": _absolute_opencv, "poselib": absolute_poselib}
HOMOGRAPHY: dict[str, Solver] = {
    "pycolmap": _homography_pycolmap,
    "opencv": _homography_opencv,
    "poselib": homography_poselib,
}
