"""Measuring: trajectories through evo, KITTI's segment errors, two-view matching, and tables of the results."""

from slamfeat.eval.alignment import AlignedTrajectories, associate_and_align, to_evo
from slamfeat.eval.kitti import KITTI_LENGTHS_M, SegmentErrors, segment_errors
from slamfeat.eval.matching import (
    area_under_recall,
    corner_error_px,
    epipolar_precision,
    matching_accuracy,
    pose_errors_deg,
)
from slamfeat.eval.report import markdown_table, metrics_table
from slamfeat.eval.trajectory import TrajectoryMetrics, evaluate

__all__ = [
    "KITTI_LENGTHS_M",
    "AlignedTrajectories",
    "SegmentErrors",
    "TrajectoryMetrics",
    "area_under_recall",
    "associate_and_align",
    "corner_error_px",
    "epipolar_precision",
    "evaluate",
    "markdown_table",
    "matching_accuracy",
    "metrics_table",
    "pose_errors_deg",
    "segment_errors",
    "to_evo",
]
