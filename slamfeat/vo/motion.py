"""From matches with a keyframe to the motion of the camera: essential matrix, or PnP where depth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.epipolar import homogeneous
from slamfeat.geometry.robust import estimate_absolute_pose, estimate_relative_pose
from slamfeat.geometry.se3 import Array
from slamfeat.geometry.triangulate import backproject
from slamfeat.types import Camera
from slamfeat.vo.config import Mode, OdometryConfig
from slamfeat.vo.keyframe import Correspondences, Keyframe


@dataclass(frozen=True)
class Motion:
    """A keyframe-to-frame motion.

    Attributes:
        pose: (4, 4), maps keyframe coordinates to frame coordinates.
        inliers: (M,) bool over the matches.
        rotation_only: the matches show no parallax; the translation is a guess.
        metric: whether the translation has its true length; otherwise it has length 1 (or 0 at standstill).
    """

    pose: Array
    inliers: NDArray[np.bool_]
    metric: bool
    rotation_only: bool = False


def keyframe_motion(
    keyframe: Keyframe, found: Correspondences, camera: Camera, mode: Mode, config: OdometryConfig
) -> Motion | None:
    """Motion from the keyframe to a frame in which its keypoints were found; None when too few agree."""
    covariances = found.covariances if config.covariances else None
    seen = found.points0, found.points1
    if mode == "stereo":
        return stereo_motion(*seen, keyframe.depths[found.slots], camera, config, covariances)
    if keyframe.depth is not None:
        return rgbd_motion(*seen, keyframe.depth, camera, config, covariances)
    return monocular_motion(*seen, camera, config, covariances)


def monocular_motion(
    points0: Array, points1: Array, camera: Camera, config: OdometryConfig, covariances: Array | None = None
) -> Motion | None:
    """Motion from matches (M, 2), (M, 2) in pixels by the essential matrix; None when too few agree.

    `covariances`, here as below, are (M, 2, 2) of `points1` in pixels squared, or None.
    """
    if len(points0) < config.min_inliers:
        return None
    if float(np.median(np.linalg.norm(points1 - points0, axis=1))) < config.still_px:
        return Motion(np.eye(4), np.ones(len(points0), dtype=bool), metric=True)
    estimate = estimate_relative_pose(
        points0, points1, camera, camera, covariances=covariances,
        threshold_px=config.threshold_px, seed=config.seed, estimator=config.estimator,
    )  # fmt: skip
    if estimate is None or estimate.num_inliers < config.min_inliers:
        return None
    return Motion(estimate.T_1_0, estimate.inliers, metric=False, rotation_only=estimate.rotation_only)


def rgbd_motion(
    points0: Array, points1: Array, depth0: NDArray[np.float32], camera: Camera, config: OdometryConfig,
    covariances: Array | None = None,
) -> Motion | None:  # fmt: skip
    """Metric motion from matches (M, 2), (M, 2) and the keyframe's depth map by PnP; None when too few agree."""
    xyz = backproject(points0, depth0, camera)
    xyz[xyz[:, 2] > config.max_depth_m] = np.nan
    return _pnp_motion(xyz, points1, camera, config, covariances)


def stereo_motion(
    points0: Array, points1: Array, depths0: Array, camera: Camera, config: OdometryConfig,
    covariances: Array | None = None,
) -> Motion | None:  # fmt: skip
    """Metric motion from matches (M, 2), (M, 2) and the depth (M,) of the keyframe's points, metres, by PnP.

    Depth is NaN where unknown. None when too few agree.
    """
    xyz = homogeneous(camera.normalize(points0)) * depths0[:, None]
    return _pnp_motion(xyz, points1, camera, config, covariances)


def _pnp_motion(
    xyz: Array, points1: Array, camera: Camera, config: OdometryConfig, covariances: Array | None
) -> Motion | None:
    known = np.flatnonzero(np.isfinite(xyz).all(1))
    if len(known) < config.min_inliers:
        return None
    estimate = estimate_absolute_pose(
        xyz[known], points1[known], camera, covariances=None if covariances is None else covariances[known],
        threshold_px=config.pnp_threshold_px, seed=config.seed, estimator=config.pnp_estimator,
    )  # fmt: skip
    if estimate is None or estimate.num_inliers < config.min_inliers:
        return None
    inliers = np.zeros(len(points1), dtype=bool)
    inliers[known[estimate.inliers]] = True
    return Motion(estimate.T_camera_world, inliers, metric=True)
