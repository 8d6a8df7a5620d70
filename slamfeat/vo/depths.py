"""Depths of a new keyframe's keypoints from the pair that made it a keyframe, to hand the scale on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from slamfeat.geometry.se3 import Array, transform_points
from slamfeat.geometry.triangulate import triangulate
from slamfeat.types import Camera, Features


def keypoint_depths(
    features: Features,
    points0: Array,
    points1: Array,
    depth0: Array,
    motion: Array,
    inliers: NDArray[np.bool_],
    camera: Camera,
) -> Array:
    """Depth (K,) of the frame's keypoints, NaN where unknown.

    Args:
        features: of the new keyframe (batch of one).
        points0, points1: (M, 2) matches between the old keyframe and the new one, pixels.
        depth0: (M,) what is known of the depth in the old keyframe, NaN where nothing.
        motion: (4, 4) from the old keyframe's coordinates to the new one's, in the odometry's unit.
        inliers: (M,) bool.
        camera: of both.

    Depth is triangulated; where that gives none, as when the camera only turned, what was known before is carried on.
    A match is given to the nearest keypoint within 2 px, because refined points lie beside their keypoints.
    """
    depths = np.full(features.mask.shape[1], np.nan)
    if not inliers.any():
        return depths
    rays0, rays1 = camera.normalize(points0[inliers]), camera.normalize(points1[inliers])
    points = np.column_stack([rays0, np.ones(len(rays0))]) * depth0[inliers, None]
    if np.linalg.norm(motion[:3, 3]) > 1e-9:
        seen = triangulate(motion, rays0, rays1)
        points = np.where(np.isfinite(seen), seen, points)
    depth = transform_points(motion, points)[:, 2]
    valid = np.flatnonzero(features.mask[0].cpu().numpy())
    keypoints = features.keypoints[0].detach().cpu().numpy()[valid]
    distance, nearest = cKDTree(keypoints).query(points1[inliers], distance_upper_bound=2.0)
    found = np.isfinite(distance) & np.isfinite(depth) & (depth > 0)
    depths[valid[nearest[found]]] = depth[found]
    return depths
