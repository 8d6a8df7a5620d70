"""Trajectory errors by evo: the same association, the same Umeyama alignment and the same numbers as `evo_ape`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slamfeat.eval.alignment import Align, AlignedTrajectories, associate_and_align
from slamfeat.eval.kitti import KITTI_LENGTHS_M, segment_errors
from slamfeat.types import Trajectory

if TYPE_CHECKING:
    from evo.core.trajectory import PosePath3D

# An alignment that leaves this share of the reference's own spread has explained next to nothing.
_UNEXPLAINED = 0.9


@dataclass(frozen=True)
class TrajectoryMetrics:
    """Errors of a trajectory. NaN where an error is not defined, and then `note` says why.

    Attributes:
        align: how the estimate was aligned: "sim3", "se3" or "none".
        ate_rmse_m, ate_mean_m, ate_median_m, ate_max_m: absolute trajectory error (`evo_ape`), metres.
        rpe_trans_m, rpe_rot_deg: root mean square of the relative pose error over `delta` matched poses (`evo_rpe`).
        kitti_trans_percent, kitti_rot_deg_per_100m: KITTI's segment errors; None if the path is too short.
        scale: factor that the alignment applied to the estimate; 1 unless `align` is "sim3".
        matched: pairs of poses compared.
        total: frames there were.
        tracked_percent: `matched` in percent of `total`.
        path_length_m: length of the reference along the matched poses.
        note: what a reader of the figures must know; empty if nothing.
    """

    align: str
    ate_rmse_m: float
    ate_mean_m: float
    ate_median_m: float
    ate_max_m: float
    rpe_trans_m: float
    rpe_rot_deg: float
    kitti_trans_percent: float | None
    kitti_rot_deg_per_100m: float | None
    scale: float
    matched: int
    total: int
    tracked_percent: float
    path_length_m: float
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The metrics for JSON, which has no NaN: undefined errors are None."""
        fields = asdict(self)
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in fields.items()}


def evaluate(
    estimate: Trajectory,
    reference: Trajectory,
    align: Align = "sim3",
    *,
    max_time_difference: float = 0.02,
    time_offset: float = 0.0,
    total_frames: int | None = None,
    delta: int = 1,
    segment_lengths_m: Sequence[float] = KITTI_LENGTHS_M,
) -> TrajectoryMetrics:
    """Compare an estimated trajectory with the ground truth.

    Args:
        estimate, reference: trajectories on the same clock.
        align: "sim3" (rotation, translation and scale: monocular), "se3" (metric methods) or "none".
        max_time_difference: seconds between poses that still belong together.
        time_offset: seconds added to the estimate's timestamps.
        total_frames: frames the method was given, for `tracked_percent`. None: as many as the time span of the
            reference holds at the estimate's own rate.
        delta: matched poses between the two ends of a relative error. Across a gap of lost frames they lie further
            apart in time, as in `evo_rpe`.
        segment_lengths_m: lengths for the segment errors.

    Raises:
        InputError: a trajectory is empty, no poses match in time, or `align` is unknown.
    """
    pair = associate_and_align(
        estimate, reference, align, max_time_difference=max_time_difference, time_offset=time_offset
    )
    matched = len(pair.timestamps)
    total = max(_expected_frames(estimate, reference), matched) if total_frames is None else total_frames
    segments = segment_errors(pair.estimate, pair.reference, lengths_m=segment_lengths_m) if pair.aligned else None
    return TrajectoryMetrics(
        align=align,
        **_absolute_errors(pair),
        **_relative_errors(pair, delta),
        kitti_trans_percent=segments.trans_percent if segments else None,
        kitti_rot_deg_per_100m=segments.rot_deg_per_100m if segments else None,
        scale=pair.scale,
        matched=matched,
        total=total,
        tracked_percent=100.0 * matched / max(total, 1),
        path_length_m=float(np.linalg.norm(np.diff(pair.reference[:, :3, 3], axis=0), axis=1).sum()),
        note=pair.note or ("" if align == "none" else _note_on_fit(pair)),
    )


def _absolute_errors(pair: AlignedTrajectories) -> dict[str, float]:
    from evo.core.metrics import APE, PoseRelation, StatisticsType

    statistics = ("rmse", "mean", "median", "max")
    if not pair.aligned:
        return {f"ate_{name}_m": math.nan for name in statistics}
    metric = APE(PoseRelation.translation_part)
    metric.process_data(_evo_pair(pair))
    return {f"ate_{name}_m": float(metric.get_statistic(StatisticsType(name))) for name in statistics}


def _relative_errors(pair: AlignedTrajectories, delta: int) -> dict[str, float]:
    from evo.core.metrics import RPE, PoseRelation, StatisticsType, Unit

    relations = {"rpe_trans_m": PoseRelation.translation_part, "rpe_rot_deg": PoseRelation.rotation_angle_deg}
    if not pair.aligned or len(pair.timestamps) <= delta:
        return dict.fromkeys(relations, math.nan)
    errors = {}
    for name, relation in relations.items():
        metric = RPE(relation, delta=delta, delta_unit=Unit.frames)
        metric.process_data(_evo_pair(pair))
        errors[name] = float(metric.get_statistic(StatisticsType.rmse))
    return errors


def _evo_pair(pair: AlignedTrajectories) -> tuple[PosePath3D, PosePath3D]:
    """Reference and estimate, in the order of evo's metrics."""
    from evo.core.trajectory import PosePath3D

    return PosePath3D(poses_se3=list(pair.reference)), PosePath3D(poses_se3=list(pair.estimate))


def _expected_frames(estimate: Trajectory, reference: Trajectory) -> int:
    """Frames in the reference's time span at the estimate's rate: motion capture runs faster than cameras."""
    if len(estimate) < 2 or len(reference) < 2:
        return len(reference)
    span, interval = np.ptp(reference.timestamps), np.median(np.diff(estimate.timestamps))
    return min(len(reference), round(float(span / interval)) + 1)


def _note_on_fit(pair: AlignedTrajectories) -> str:
    """A warning when the aligned estimate is hardly better than a single point would be."""
    truth, moved = pair.reference[:, :3, 3], pair.estimate[:, :3, 3]
    spread = math.sqrt(((truth - truth.mean(0)) ** 2).sum(1).mean())
    error = math.sqrt(((moved - truth) ** 2).sum(1).mean())
    if not pair.aligned or spread == 0 or error < _UNEXPLAINED * spread:
        return ""
    return f"no better than a camera that stands still, whose ATE would be {spread:.3f} m"
