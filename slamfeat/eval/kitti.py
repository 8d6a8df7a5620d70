"""Segment errors as the KITTI odometry benchmark defines them.

Source: `evaluate_odometry.cpp` of the KITTI devkit. From every tenth pose, and for each of the lengths 100 to 800 m
along the reference, the relative motion of the estimate is compared with the reference's at the first pose beyond that
length. Errors are divided by the length and averaged over all segments of all lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slamfeat.geometry.se3 import Array, invert, rotation_angle_deg

Indices = NDArray[np.intp]
KITTI_LENGTHS_M = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)


@dataclass(frozen=True)
class SegmentErrors:
    """Averages over all segments.

    Attributes:
        trans_percent: translation error in percent of the length (t_rel).
        rot_deg_per_100m: rotation error in degrees a 100 m (r_rel).
        segments: how many segments were compared.
    """

    trans_percent: float
    rot_deg_per_100m: float
    segments: int


def segment_errors(
    estimate: ArrayLike,
    reference: ArrayLike,
    *,
    lengths_m: Sequence[float] = KITTI_LENGTHS_M,
    step: int = 10,
) -> SegmentErrors | None:
    """Compare matched poses over segments of fixed length.

    Args:
        estimate, reference: (N, 4, 4) `T_world_camera` of the same moments; each in a world of its own.
        lengths_m: lengths of segments along the reference; shorter ones suit indoor sequences, but are not KITTI's.
        step: poses between the starts of segments.

    Returns:
        None if the reference is shorter than the shortest length.
    """
    est, ref = np.asarray(estimate, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    first, last, length = _segments(_distances(ref[:, :3, 3]), lengths_m, step)
    if len(first) == 0:
        return None
    motion_est, motion_ref = invert(est[first]) @ est[last], invert(ref[first]) @ ref[last]
    error = invert(motion_est) @ motion_ref
    translation = np.linalg.norm(error[:, :3, 3], axis=1) / length
    rotation = rotation_angle_deg(error) / length
    return SegmentErrors(float(100 * translation.mean()), float(100 * rotation.mean()), len(first))


def _distances(positions: Array) -> Array:
    """Metres travelled up to each pose (N,)."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(positions, axis=0), axis=1))])


def _segments(distances: Array, lengths_m: Sequence[float], step: int) -> tuple[Indices, Indices, Array]:
    """Indices of the first and last pose of every segment, and its nominal length."""
    starts = np.arange(0, len(distances), step)
    first, length = np.repeat(starts, len(lengths_m)), np.tile(np.asarray(lengths_m, dtype=np.float64), len(starts))
    # The devkit takes the first pose strictly beyond the length.
    last = np.searchsorted(distances, distances[first] + length, side="right")
    whole = last < len(distances)
    return first[whole], last[whole], length[whole]
