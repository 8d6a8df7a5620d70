"""Poses and homographies from matches with outliers: one call each, pycolmap, OpenCV or PoseLib behind it.

All thresholds are pixels of an undistorted image. Points are undistorted with the project's own `Camera.normalize` and
handed on as pixels of a plain pinhole camera with its principal point at the origin; so no library's pixel convention
or distortion model takes part, and thresholds stay in pixels. (OpenCV's MAGSAC loses accuracy when it is handed
points on the plane z = 1.)

Matches with a coordinate that is not finite are left out: they are never inliers. Too few matches, or matches that
determine nothing, give None. All results are the same in every run with the same seed. OpenCV takes its seed from a
global generator, which the "opencv" estimators set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slamfeat.errors import InputError
from slamfeat.geometry.absolute import refine_absolute_pose
from slamfeat.geometry.epipolar import essential_from_pose, homogeneous, sampson_error
from slamfeat.geometry.rotation import fit_rotation, rotation_explains, with_best_translation
from slamfeat.geometry.se3 import Array, transform_points
from slamfeat.geometry.solvers import ABSOLUTE, ESSENTIAL, HOMOGRAPHY, Solver
from slamfeat.geometry.triangulate import in_front, parallax_deg
from slamfeat.geometry.twoview import facing, pose_from_essential, refine_relative_pose
from slamfeat.geometry.uncertainty import covariances_on_plane, sampson_weights
from slamfeat.types import Camera

Mask = NDArray[np.bool_]
# Five random matches always have an essential matrix, and three a pose: below this many a model has no support.
_MIN_RELATIVE, _MIN_ABSOLUTE, _MIN_HOMOGRAPHY = 8, 6, 6


@dataclass(frozen=True)
class RelativePose:
    """A pose up to scale between two cameras.

    Attributes:
        T_1_0: (4, 4) maps coordinates of camera 0 to camera 1; the translation has unit length.
        inliers: (N,) bool, matches within the threshold that do not clearly lie behind a camera.
        num_inliers: their number.
        rotation_only: the matches show no parallax beyond their noise: the camera turned or stood still. The rotation
            is then the best one for a turning camera, and the translation a mere guess.
    """

    T_1_0: Array
    inliers: Mask
    num_inliers: int
    rotation_only: bool


@dataclass(frozen=True)
class AbsolutePose:
    """A camera's pose in the world.

    Attributes:
        T_camera_world: (4, 4) maps world coordinates to camera coordinates.
        inliers: (N,) bool, points within the threshold and in front of the camera.
        num_inliers: their number.
    """

    T_camera_world: Array
    inliers: Mask
    num_inliers: int


@dataclass(frozen=True)
class Homography:
    """A plane-to-plane map between two images.

    Attributes:
        H_1_0: (3, 3) maps pixels of image 0 to image 1; the lower right entry is 1.
        inliers: (N,) bool, matches within the threshold.
        num_inliers: their number.
    """

    H_1_0: Array
    inliers: Mask
    num_inliers: int


def estimate_relative_pose(
    points0: ArrayLike,
    points1: ArrayLike,
    camera0: Camera,
    camera1: Camera,
    *,
    covariances: ArrayLike | None = None,
    threshold_px: float = 1.0,
    confidence: float = 0.9999,
    max_iterations: int = 10_000,
    seed: int = 0,
    estimator: str = "opencv",
) -> RelativePose | None:
    """Relative pose of two calibrated cameras by RANSAC on the essential matrix, polished on its inliers.

    Args:
        points0, points1: (N, 2) matched, distorted pixels.
        camera0, camera1: their cameras.
        covariances: (N, 2, 2) of `points1`, pixels squared. They weigh the matches against one another
            (`slamfeat.geometry.uncertainty`) in the polishing of the essential matrix, but neither in RANSAC nor in
            the choice of inliers, nor where the camera only turned. None weighs all alike.
        threshold_px: largest Sampson distance of an inlier, in pixels of the cameras' mean focal length.
        confidence: of having drawn one sample without outliers.
        max_iterations: upper bound of RANSAC.
        seed: of the sampling.
        estimator: "opencv" (MAGSAC++), "pycolmap" (LO-RANSAC) or "poselib" (LO-RANSAC; an optional package); each is
            followed by the same refinement. MAGSAC++ is the default because matches less exact than the threshold
            lead LO-RANSAC astray (benchmarks/results/relative_pose.md).

    Returns:
        None if fewer than 8 matches agree on a pose.

    Raises:
        InputError: the shapes do not fit or the estimator is unknown.
        MissingDependencyError: the estimator's package is not installed.
    """
    p0, p1 = _pair(points0, points1)
    focal = float(np.mean([camera0.fx, camera0.fy, camera1.fx, camera1.fy]))
    all0, all1 = camera0.normalize(p0), camera1.normalize(p1)
    on_plane = None if covariances is None else covariances_on_plane(covariances, all1, camera1)
    finite = np.isfinite(all0).all(1) & np.isfinite(all1).all(1)
    n0, n1 = all0[finite], all1[finite]
    if len(n0) < _MIN_RELATIVE:
        return None
    options = (threshold_px, confidence, max_iterations, seed)
    essential = _choose(ESSENTIAL, estimator)(n0 * focal, n1 * focal, focal, *options)
    if essential is None:
        return None
    spread = None if on_plane is None else on_plane[finite]
    pose, turning = _polished(essential, n0, n1, threshold_px / focal, spread)
    inliers = np.zeros(len(p0), dtype=bool)
    inliers[finite] = _agree(pose, n0, n1, threshold_px / focal)
    count = int(inliers.sum())
    return RelativePose(pose, inliers, count, turning) if count >= _MIN_RELATIVE else None


def estimate_absolute_pose(
    points3d: ArrayLike,
    points2d: ArrayLike,
    camera: Camera,
    *,
    covariances: ArrayLike | None = None,
    threshold_px: float = 2.0,
    confidence: float = 0.9999,
    max_iterations: int = 10_000,
    seed: int = 0,
    estimator: str = "pycolmap",
) -> AbsolutePose | None:
    """Pose of a calibrated camera from points in space (PnP) by RANSAC, refined on its inliers.

    Args:
        points3d: (N, 3) world coordinates.
        points2d: (N, 2) distorted pixels.
        camera: the camera.
        covariances: (N, 2, 2) of `points2d`, pixels squared; as in `estimate_relative_pose`. With them our own
            refinement follows the estimator's.
        threshold_px: largest reprojection error of an inlier, in pixels of the mean focal length.
        confidence, max_iterations, seed: as in `estimate_relative_pose`.
        estimator: "pycolmap" (P3P in LO-RANSAC), "opencv" (`solvePnPRansac`, then Levenberg-Marquardt) or "poselib"
            (P3P in LO-RANSAC; an optional package).

    Returns:
        None if fewer than 6 points agree on a pose.

    Raises:
        InputError: the shapes do not fit or the estimator is unknown.
        MissingDependencyError: the estimator's package is not installed.
    """
    world, pixels = np.asarray(points3d, dtype=np.float64), np.asarray(points2d, dtype=np.float64)
    if world.reshape(-1, 3).shape[0] != pixels.reshape(-1, 2).shape[0]:
        raise InputError(f"points3d {world.shape} and points2d {pixels.shape} must be (N, 3) and (N, 2)")
    world, normalized = world.reshape(-1, 3), camera.normalize(pixels)
    on_plane = None if covariances is None else covariances_on_plane(covariances, normalized, camera)
    focal = (camera.fx + camera.fy) / 2
    finite = np.isfinite(world).all(1) & np.isfinite(normalized).all(1)
    if finite.sum() < _MIN_ABSOLUTE:
        return None
    options = (threshold_px, confidence, max_iterations, seed)
    pose = _choose(ABSOLUTE, estimator)(world[finite], normalized[finite] * focal, focal, *options)
    if pose is None or not np.isfinite(pose).all():
        return None
    if on_plane is not None:
        given = world[finite], normalized[finite], on_plane[finite]
        pose = refine_absolute_pose(pose, *given, threshold=threshold_px / focal)
    local = transform_points(pose, world)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(local[:, :2] / local[:, 2:] - normalized, axis=1) * focal
        inliers = finite & (error <= threshold_px) & (local[:, 2] > 0)
    count = int(inliers.sum())
    return AbsolutePose(pose, inliers, count) if count >= _MIN_ABSOLUTE else None


def estimate_homography(
    points0: ArrayLike,
    points1: ArrayLike,
    *,
    threshold_px: float = 2.0,
    confidence: float = 0.9999,
    max_iterations: int = 10_000,
    seed: int = 0,
    estimator: str = "pycolmap",
) -> Homography | None:
    """Homography between two images by RANSAC.

    Args:
        points0, points1: (N, 2) matched pixels, taken as they are (no undistortion).
        threshold_px: largest distance in image 1 between a mapped point and its match.
        confidence, max_iterations, seed: as in `estimate_relative_pose`.
        estimator: "pycolmap" (LO-RANSAC), "opencv" (MAGSAC++) or "poselib" (LO-RANSAC; an optional package).

    Returns:
        None if fewer than 6 matches agree on a homography, or it is singular.

    Raises:
        InputError: the shapes differ or the estimator is unknown.
        MissingDependencyError: the estimator's package is not installed.
    """
    p0, p1 = _pair(points0, points1)
    finite = np.isfinite(p0).all(1) & np.isfinite(p1).all(1)
    if finite.sum() < _MIN_HOMOGRAPHY:
        return None
    solve = _choose(HOMOGRAPHY, estimator)
    matrix = solve(p0[finite], p1[finite], threshold_px, confidence, max_iterations, seed)
    if matrix is None or not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-12:
        return None
    matrix = matrix / matrix[2, 2]
    if np.linalg.matrix_rank(matrix) < 3:
        return None
    inliers = finite & (transfer_distance(matrix, p0, p1) <= threshold_px)
    count = int(inliers.sum())
    return Homography(matrix, inliers, count) if count >= _MIN_HOMOGRAPHY else None


def transfer_distance(H_1_0: ArrayLike, points0: ArrayLike, points1: ArrayLike) -> Array:
    """Distance in pixels (N,) of points1 (N, 2) from points0 (N, 2) mapped by a homography; inf beyond its horizon."""
    mapped = homogeneous(points0) @ np.asarray(H_1_0, dtype=np.float64).T
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - np.asarray(points1, dtype=np.float64), axis=1)
    return np.where(np.isfinite(distance), distance, np.inf)


def _pair(points0: ArrayLike, points1: ArrayLike) -> tuple[Array, Array]:
    p0, p1 = np.asarray(points0, dtype=np.float64), np.asarray(points1, dtype=np.float64)
    if p0.shape != p1.shape or p0.shape[-1:] != (2,) or p0.ndim != 2:
        raise InputError(f"matched points must both be (N, 2), got {p0.shape} and {p1.shape}")
    return p0, p1


def _choose(solvers: dict[str, Solver], estimator: str) -> Solver:
    if estimator not in solvers:
        raise InputError(f"estimator {estimator!r} is unknown; use one of {', '.join(map(repr, solvers))}")
    return solvers[estimator]


def _agree(pose: Array, n0: Array, n1: Array, threshold: float) -> Mask:
    """Matches (N,) close to their epipolar lines, unless they show parallax and yet meet behind a camera.

    Without parallax the side is a matter of noise. With it, points behind betray the mirrored solutions that an
    essential matrix of few matches falls into.
    """
    behind = ~in_front(pose, n0, n1) & (np.radians(parallax_deg(pose, n0, n1)) > 2 * threshold)
    return (sampson_error(essential_from_pose(pose), n0, n1) <= threshold**2) & ~behind


def _polished(
    essential: Array, n0: Array, n1: Array, threshold: float, covariances: Array | None
) -> tuple[Array, bool]:
    """Refined T_1_0, and whether a rotation alone explains the inliers. Units of the plane z = 1."""
    near = sampson_error(essential, n0, n1) <= threshold**2
    pose = pose_from_essential(essential, n0[near], n1[near])
    # A wider gate with steep weights brings back inliers that the first estimate missed.
    near = sampson_error(essential_from_pose(pose), n0, n1) <= (2 * threshold) ** 2
    if near.sum() < _MIN_RELATIVE:
        return pose, False
    n0, n1 = n0[near], n1[near]
    weights = None if covariances is None else sampson_weights(pose, n0, n1, covariances[near])
    pose = facing(refine_relative_pose(pose, n0, n1, scale=0.3 * threshold, weights=weights), n0, n1)
    rotation = fit_rotation(n0, n1, pose[:3, :3], scale=threshold)
    if rotation_explains(rotation, pose, n0, n1, threshold):
        return with_best_translation(rotation, n0, n1), True
    return pose, False
