"""Bringing two trajectories together with evo: pairing in time, then Umeyama's alignment.

Only `evo.core` is imported, and only when a function here is called: evo's tools write a settings folder into the home
directory when they are imported, its core does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array
from slamfeat.types import Trajectory

if TYPE_CHECKING:
    from evo.core.trajectory import PoseTrajectory3D

Align = Literal["sim3", "se3", "none"]


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
