"""What training minimises, by head; each file says where its formulas come from."""

from slamfeat.train.losses_detection import DetectionLoss, offset_distance, repeatability_loss
from slamfeat.train.losses_matching import (
    MatchingLoss,
    assignment_divergence,
    deep_matching_nll,
    descriptor_nll,
    matching_nll,
    matching_quality,
    partners,
    precision_recall,
    settled_losses,
    settled_nll,
)
from slamfeat.train.losses_pose import PoseLoss, PoseLossSchedule, pose_loss
from slamfeat.train.losses_refine import offset_log_density, offset_nll

__all__ = [
    "DetectionLoss",
    "MatchingLoss",
    "PoseLoss",
    "PoseLossSchedule",
    "assignment_divergence",
    "deep_matching_nll",
    "descriptor_nll",
    "matching_nll",
    "matching_quality",
    "offset_distance",
    "offset_log_density",
    "offset_nll",
    "partners",
    "pose_loss",
    "precision_recall",
    "repeatability_loss",
    "settled_losses",
    "settled_nll",
]
