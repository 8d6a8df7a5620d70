"""Poses between the samples of a trajectory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

from slamfeat.geometry.se3 import Array
from slamfeat.types import Trajectory

# Closer than this a sample stands for a moment by itself; clocks and files round by less.
_SAME_MOMENT_S = 1e-4


def poses_at(trajectory: Trajectory, times: ArrayLike, max_gap_s: float = 0.15) -> tuple[Array, NDArray[np.bool_]]:
    """Poses at given times: positions linear between the two samples around a time, rotations by Slerp (scipy).

    The nearest sample instead would be off by a third of a frame's motion where the ground truth runs at three times
    the camera's rate.

    Args:
        trajectory: `T_world_camera` in metres and seconds.
        times: (N,) seconds on the trajectory's clock.
        max_gap_s: largest distance in time between the two samples; the default lets 10 Hz with some jitter pass. A
            time that has a sample of its own (within 0.1 ms) needs no neighbours.

    Returns:
        Poses (N, 4, 4), and known (N,), False where the samples are too far apart or all on one side; such poses are
        the nearest end's or a guess, not to be used.
    """
    moments, samples = np.asarray(times, dtype=np.float64).reshape(-1), trajectory.timestamps
    poses = np.tile(np.eye(4), (len(moments), 1, 1))
    if not len(samples) or not len(moments):
        return poses, np.zeros(len(moments), dtype=np.bool_)
    inside = np.clip(moments, samples[0], samples[-1])
    poses[:, :3, :3] = _rotations(trajectory, inside)
    poses[:, :3, 3] = np.stack([np.interp(inside, samples, axis) for axis in trajectory.positions.T], 1)
    last = len(samples) - 1
    upper = np.clip(np.searchsorted(samples, moments), min(1, last), last)
    before, after = samples[np.maximum(upper - 1, 0)], samples[upper]
    own = np.minimum(np.abs(moments - before), np.abs(moments - after)) <= _SAME_MOMENT_S
    between = (before <= moments) & (moments <= after) & (after - before <= max_gap_s)
    return poses, own | between


def _rotations(trajectory: Trajectory, times: Array) -> Array:
    """Rotations (N, 3, 3) at times within the trajectory's."""
    if len(trajectory) == 1:
        return np.repeat(trajectory.poses[:, :3, :3], len(times), axis=0)
    slerp = Slerp(trajectory.timestamps, Rotation.from_matrix(trajectory.poses[:, :3, :3]))
    return np.asarray(slerp(times).as_matrix())
