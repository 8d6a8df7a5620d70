"""A frame that others are tracked against, and where its keypoints are in another frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.types import Features, Frame, Matches


@dataclass(frozen=True)
class Keyframe:
    """What is kept of a frame to track others against it.

    Attributes:
        timestamp: seconds.
        image: (H, W, 3) uint8 RGB.
        features: its keypoints (batch of one).
        pose: (4, 4) `T_world_camera`.
        depths: (K,) of its keypoints, NaN where unknown: metres in stereo mode, the odometry's own unit in mono mode.
        depth: (H, W) metres, in rgbd mode.
        right: (H, W, 3) right image whose depths have not been asked for yet, in stereo mode.
        first_inliers: of the first frame tracked against it; 0 before.
    """

    timestamp: float
    image: NDArray[np.uint8]
    features: Features
    pose: Array
    depths: Array
    depth: NDArray[np.float32] | None = None
    right: NDArray[np.uint8] | None = None
    first_inliers: int = 0


@dataclass(frozen=True)
class TrackedFrame:
    """The last tracked frame, which may stand in for the keyframe; `features` None where none were extracted."""

    frame: Frame
    pose: Array
    features: Features | None


@dataclass(frozen=True)
class Correspondences:
    """A keyframe's keypoints found in another frame.

    Attributes:
        points0, points1: (M, 2) pixels in the keyframe and in the frame.
        slots: (M,) which of the keyframe's K keypoints they are.
        covariances: (M, 2, 2) of `points1`, pixels squared; None where the frontend gives none.
    """

    points0: Array
    points1: Array
    slots: NDArray[np.intp]
    covariances: Array | None = None

    @classmethod
    def of(cls, matches: Matches) -> Correspondences:
        """The matches of one pair without empty slots."""
        points0, points1, _ = matches.numpy()
        slots = np.flatnonzero(matches.mask[0].cpu().numpy())
        return cls(points0, points1, slots, matches.numpy_covariances())

    def __len__(self) -> int:
        """Number M of points."""
        return len(self.slots)

    @property
    def displacement_px(self) -> float:
        """Mean displacement; NaN without any point."""
        return float(np.linalg.norm(self.points1 - self.points0, axis=1).mean()) if len(self) else float("nan")
