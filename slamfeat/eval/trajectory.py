"""Trajectory errors by evo: the same association, the same Umeyama alignment and the same numbers as `evo_ape`.

Only `evo.core` is imported, and only when a function here is called: evo's tools write a settings folder into the home
directory when they are imported, its core does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from slamfeat.errors import InputError
from slamfeat.eval.kitti import KITTI_LENGTHS_M, segment_errors
from slamfeat.geometry.se3 import Array
from slamfeat.types import Trajectory

if TYPE_CHECKING:
    from evo.core.trajectory import PosePath3D, PoseTrajectory3D

Align = Literal["sim3", "se3", "none"]
# An alignment that leaves this share of the reference's own spread has explained next to nothing.
_UNEXPLAINED = 0.9


@dataclass(frozen=True)
class AlignedTrajectories:
    """Matched poses of two trajectories, the estimate moved onto the reference.

    Attributes:
        timestamps: (M,) seconds, of the reference.
        estimate, reference: (M, 4, 4) `T_world_camera`.
        scale: factor that was applied to the estimate.
        aligned: False if there were too few poses to align as asked.
        note: what a reader of the figures must know; empty if nothing.
    """

    timestamps: Array
    estimate: Array
    reference: Array
    scale: float
    aligned: bool = True
    note: str = ""


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
        note=pair.note or _note_on_fit(pair),
    )


def associate_and_align(
    estimate: Trajectory,
    reference: Trajectory,
    align: Align = "sim3",
    *,
    max_time_difference: float = 0.02,
    time_offset: float = 0.0,
) -> AlignedTrajectories:
    """Pair the poses of two trajectories in time and move the estimate onto the reference, as evo does.

    Arguments and errors as in `evaluate`. Where Umeyama's method is not determined (the camera stood still, or went
    along an exact line) the first poses are laid onto each other instead, and the note says so. With fewer than three
    matched poses nothing is aligned.
    """
    if align not in get_args(Align):
        raise InputError(f"align {align!r} is unknown; use one of {', '.join(get_args(Align))}")
    evo_reference, evo_estimate = _associate(estimate, reference, max_time_difference, time_offset)
    scale, note, aligned = 1.0, "", True
    if align != "none" and evo_estimate.num_poses < 3:
        note, aligned = f"only {evo_estimate.num_poses} poses match: too few to align, no errors computed", False
    elif align != "none":
        scale, note = _align(evo_estimate, evo_reference, align == "sim3")
    return AlignedTrajectories(
        timestamps=np.asarray(evo_reference.timestamps),
        estimate=np.array(evo_estimate.poses_se3),
        reference=np.array(evo_reference.poses_se3),
        scale=scale,
        aligned=aligned,
        note=note,
    )


def to_evo(trajectory: Trajectory) -> PoseTrajectory3D:
    """The trajectory as evo's `PoseTrajectory3D`.

    Raises:
        InputError: it is empty, which evo does not allow.
    """
    from evo.core.trajectory import PoseTrajectory3D

    if len(trajectory) == 0:
        raise InputError("the trajectory is empty; was anything tracked?")
    return PoseTrajectory3D(poses_se3=list(trajectory.poses), timestamps=trajectory.timestamps)


def _associate(
    estimate: Trajectory, reference: Trajectory, max_difference: float, offset: float
) -> tuple[PoseTrajectory3D, PoseTrajectory3D]:
    """Matched copies, reference first: evo treats its arguments alike, but `evo_ape` passes them in this order."""
    from evo.core.sync import SyncException, associate_trajectories

    ref, est = to_evo(reference), to_evo(estimate)
    try:
        return associate_trajectories(ref, est, max_diff=max_difference, offset_2=offset)  # type: ignore[no-any-return]
    except SyncException:
        raise InputError(_no_overlap(estimate, reference, max_difference, offset)) from None


def _no_overlap(estimate: Trajectory, reference: Trajectory, max_difference: float, offset: float) -> str:
    ends = [float(t) for trajectory in (estimate, reference) for t in trajectory.timestamps[[0, -1]]]
    message = (
        f"no poses match in time within {max_difference:g} s: the estimate covers {ends[0] + offset:.3f} to "
        f"{ends[1] + offset:.3f} s, the reference {ends[2]:.3f} to {ends[3]:.3f} s; "
    )
    larger, smaller = max(ends[0], ends[2]), max(min(ends[0], ends[2]), 1.0)
    if larger / smaller > 1e8:
        return message + "one of them looks like nanoseconds: divide it by 1e9"
    overlap = ends[0] + offset <= ends[3] and ends[2] <= ends[1] + offset
    advice = (
        "raise the largest time difference" if overlap else "pass the ground truth of this sequence, or a time offset"
    )
    return message + advice


def _align(estimate: PoseTrajectory3D, reference: PoseTrajectory3D, with_scale: bool) -> tuple[float, str]:
    """Align `estimate` in place; the scale and a note."""
    from evo.core.geometry import GeometryException

    try:
        _, _, scale = estimate.align(reference, correct_scale=with_scale)
    except GeometryException:
        estimate.align_origin(reference)
        undetermined = "; the scale is not determined" if with_scale else ""
        return 1.0, f"no motion in two directions to align by: aligned at the first pose instead{undetermined}"
    return float(scale), ""


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
