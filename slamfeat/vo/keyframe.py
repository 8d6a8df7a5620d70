"""A frame that others are tracked against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.types import Features


@dataclass(frozen=True)
class Keyframe:
    """What is kept of a frame to track others against it.

    Attributes:
        timestamp: seconds.
        features: its keypoints (batch of one).
        pose: (4, 4) `T_world_camera`.
        depths: (K,) of its keypoints, NaN where unknown: metres in stereo mode, the odometry's own unit in mono mode.
        depth: (H, W) metres, in rgbd mode.
        right: (H, W, 3) right image whose depths have not been asked for yet, in stereo mode.
        first_inliers: of the first frame tracked against it; 0 before.
    """

    timestamp: float
    features: Features
    pose: Array
    depths: Array
    depth: NDArray[np.float32] | None = None
    right: NDArray[np.uint8] | None = None
    first_inliers: int = 0
