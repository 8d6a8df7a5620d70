"""Depth of a keyframe's keypoints from the right camera, by the frontend under test."""

from __future__ import annotations

import numpy as np

from slamfeat.data.records import StereoRig
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.geometry.epipolar import essential_from_pose, sampson_error
from slamfeat.geometry.se3 import Array, invert
from slamfeat.geometry.triangulate import triangulate
from slamfeat.types import Camera, Features
from slamfeat.vo.config import OdometryConfig


class StereoDepth:
    """Matches the left image with the right one and triangulates with the calibrated rig.

    Nothing is rectified: points are undistorted by `Camera.normalize` and the rig may have any pose. A match counts
    where it lies on its epipolar line (`config.stereo_threshold_px`), before both cameras, and near enough
    (`config.min_disparity_px`).
    """

    def __init__(self, frontend: FeatureFrontend, camera: Camera, rig: StereoRig, config: OdometryConfig) -> None:
        """`camera` is the left one, `rig` the right one and where it is."""
        self._frontend, self._camera, self._right = frontend, camera, rig.camera
        self._T_right_left = invert(rig.T_left_right)
        focal = float(np.mean([camera.fx, camera.fy, rig.camera.fx, rig.camera.fy]))
        self._threshold = config.stereo_threshold_px / focal
        # In a rectified pair the angle between the two rays is the disparity over the focal length; an angle also
        # serves cameras that are turned towards each other, where a difference of columns says nothing.
        self._min_parallax_deg = float(np.degrees(config.min_disparity_px / focal))

    def depths(self, features: Features, right: Features) -> Array:
        """Depth (K,) in metres of the left image's keypoints, NaN where unknown.

        Args:
            features: of the left image (batch of one).
            right: of the right image.
        """
        matches = self._frontend.match(features, right)
        points0, points1, _ = matches.numpy()
        rays0, rays1 = self._camera.normalize(points0), self._right.normalize(points1)
        near = sampson_error(essential_from_pose(self._T_right_left), rays0, rays1) <= self._threshold**2
        points = triangulate(self._T_right_left, rays0, rays1, min_parallax_deg=self._min_parallax_deg)
        depths = np.full(features.mask.shape[1], np.nan)
        depths[np.flatnonzero(matches.mask[0].cpu().numpy())] = np.where(near, points[:, 2], np.nan)
        return depths
