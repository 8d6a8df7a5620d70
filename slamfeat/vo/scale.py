"""Where the length of a monocular step comes from. One camera sees directions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array
from slamfeat.geometry.triangulate import triangulate
from slamfeat.types import Camera, Trajectory
from slamfeat.vo.keyframe import Correspondences, Keyframe
from slamfeat.vo.motion import Motion

_FIRST_LENGTH_PER_PX = 1 / 24.0
"""Sets the unit of a monocular trajectory: one unit for a default keyframe's displacement."""


@dataclass(frozen=True)
class Step:
    """What a scale source may look at: one keyframe-to-frame motion of unit translation.

    Attributes:
        keyframe_time, time: seconds.
        motion: (4, 4), maps keyframe coordinates to frame coordinates, translation of length 1.
        rays0, rays1: (M, 2) inlier matches on the plane z = 1 of the keyframe and of the frame.
        depth0: (M,) depth of the keyframe's points in the odometry's own unit, NaN where unknown.
        displacement_px: mean displacement of the matches.
        rotation_only: the matches show no parallax beyond their noise.
    """

    keyframe_time: float
    time: float
    motion: Array
    rays0: Array
    rays1: Array
    depth0: Array
    displacement_px: float
    rotation_only: bool


class ScaleSource(Protocol):
    """Gives the length of a step."""

    label: str

    def length(self, step: Step) -> float | None:
        """Length of the translation from keyframe to frame, or None where it cannot be known."""


def scaled_motion(
    motion: Motion, keyframe: Keyframe, time: float, found: Correspondences, camera: Camera, source: ScaleSource
) -> Array | None:
    """The motion (4, 4) from keyframe to frame with the length `source` gives it; None where it gives none.

    Args:
        motion: estimated from `found`; a metric one keeps its length.
        keyframe: where it starts.
        time: of the frame, seconds.
        found: the keyframe's keypoints in the frame.
        camera: of both.
        source: asked once.
    """
    if motion.metric:
        return motion.pose
    inliers = motion.inliers
    step = Step(
        keyframe.timestamp, time, motion.pose,
        camera.normalize(found.points0[inliers]), camera.normalize(found.points1[inliers]),
        keyframe.depths[found.slots[inliers]], found.displacement_px, motion.rotation_only,
    )  # fmt: skip
    length = source.length(step)
    if length is None:
        return None
    scaled = motion.pose.copy()
    scaled[:3, 3] *= length
    return scaled


class GroundTruthScale:
    """The distance between the two ground-truth positions, a pair at a time.

    This is DINO-VO's and TartanVO's protocol: results made with it say "ground-truth scale a pair".
    """

    label = "ground-truth scale a pair"

    def __init__(self, groundtruth: Trajectory, max_time_difference: float = 0.02) -> None:
        """Take lengths from `groundtruth`; a frame may be this many seconds away from its ground truth."""
        if len(groundtruth) < 2:
            raise InputError("ground truth: at least two poses are needed to give the scale")
        self._truth = groundtruth
        self._max = max_time_difference

    def length(self, step: Step) -> float | None:
        """Distance between the true positions; None where there is no ground truth near in time."""
        start, end = self._position(step.keyframe_time), self._position(step.time)
        return None if start is None or end is None else float(np.linalg.norm(end - start))

    def _position(self, time: float) -> Array | None:
        times = self._truth.timestamps
        nearest = int(np.abs(times - time).argmin())
        return self._truth.positions[nearest] if abs(times[nearest] - time) <= self._max else None


class PropagatedScale:
    """The median ratio between the depths known from the last keyframe pair and those of this step.

    Needs no ground truth; the unit is the first keyframe's displacement, and the scale drifts as in any odometry
    without a map. Results made with it are aligned by one Sim(3).
    """

    label = "scale propagated between keyframes"

    def __init__(self, min_points: int = 12, min_parallax_deg: float = 0.5) -> None:
        """Use at least `min_points` points that are seen under `min_parallax_deg`."""
        self._min_points = min_points
        self._min_parallax_deg = min_parallax_deg
        self._length_per_px: float | None = None

    def length(self, step: Step) -> float:
        """Length in the odometry's own unit; 0 where the camera only turned.

        With too few common points the last ratio of length to pixels holds.
        """
        if step.rotation_only:
            return 0.0
        ratio = self._depth_ratio(step)
        if ratio is None:
            per_px = self._length_per_px if self._length_per_px is not None else _FIRST_LENGTH_PER_PX
            return per_px * step.displacement_px
        self._length_per_px = ratio / max(step.displacement_px, 1e-6)
        return ratio

    def _depth_ratio(self, step: Step) -> float | None:
        known = np.isfinite(step.depth0)
        points = triangulate(step.motion, step.rays0[known], step.rays1[known], min_parallax_deg=self._min_parallax_deg)
        seen = np.isfinite(points[:, 2])
        if seen.sum() < self._min_points:
            return None
        return float(np.median(step.depth0[known][seen] / points[seen, 2]))
