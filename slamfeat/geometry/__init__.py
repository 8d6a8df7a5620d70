"""Rigid motions, two-view geometry, and robust estimation of poses from matches."""

from slamfeat.geometry.interpolate import poses_at
from slamfeat.geometry.robust import (
    AbsolutePose,
    Homography,
    RelativePose,
    estimate_absolute_pose,
    estimate_homography,
    estimate_relative_pose,
)
from slamfeat.geometry.triangulate import backproject, depth_at, parallax_deg, triangulate

__all__ = [
    "AbsolutePose",
    "Homography",
    "RelativePose",
    "backproject",
    "depth_at",
    "estimate_absolute_pose",
    "estimate_homography",
    "estimate_relative_pose",
    "parallax_deg",
    "poses_at",
    "triangulate",
]
