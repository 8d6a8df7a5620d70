"""Measuring: trajectories through evo, KITTI's segment errors, and tables of the results."""

from slamfeat.eval.alignment import AlignedTrajectories, associate_and_align, to_evo
from slamfeat.eval.kitti import KITTI_LENGTHS_M, SegmentErrors, segment_errors
from slamfeat.eval.report import markdown_table, metrics_table
from slamfeat.eval.trajectory import TrajectoryMetrics, evaluate

__all__ = [
    "KITTI_LENGTHS_M",
    "AlignedTrajectories",
    "SegmentErrors",
    "TrajectoryMetrics",
    "associate_and_align",
    "evaluate",
    "markdown_table",
    "metrics_table",
    "segment_errors",
    "to_evo",
]
