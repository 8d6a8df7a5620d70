"""Settings of the odometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from slamfeat.errors import ConfigError

Mode = Literal["mono", "rgbd", "stereo"]
ScaleSource = Literal["groundtruth", "propagated"]
Estimator = Literal["pycolmap", "opencv", "poselib"]
BetweenKeyframes = Literal["extract", "track"]
_POSITIVE = (
    "keyframe_px", "threshold_px", "pnp_threshold_px", "max_depth_m", "stereo_threshold_px", "min_disparity_px",
)  # fmt: skip


@dataclass
class OdometryConfig:
    """How frames are tracked.

    Attributes:
        keyframe_px: a new keyframe is taken when matched points moved by more than this on average; pixels
            (DINO-VO takes 24).
        keyframe_ratio: or when fewer than this share of the keyframe's first inliers is left.
        still_px: below this median displacement (pixels) the camera is taken to stand still, because the essential
            matrix is not observable.
        min_inliers: fewer inliers than this and the frame is lost.
        threshold_px: largest epipolar error of an inlier, monocular; pixels.
        pnp_threshold_px: largest reprojection error of an inlier, RGB-D and stereo; pixels.
        max_depth_m: a depth sensor's values beyond this are not used; does not concern stereo.
        stereo_threshold_px: largest epipolar error (Sampson distance) between left and right image; pixels.
        min_disparity_px: stereo points with less disparity are not used: an error of a pixel there is an error of the
            whole depth. Pixels; the angle between the two rays times the focal length, so for any rig.
        reset_after: lost frames in a row after which the current frame becomes the keyframe at the last known pose.
        between_keyframes: "extract" matches the features of every frame with the keyframe's; "track" carries the
            keyframe's keypoints along by Lucas-Kanade, and extracts features only for a keyframe, or where less than
            `keyframe_ratio` of the keypoints is left.
        estimator: of the essential matrix: "opencv" (MAGSAC++), "pycolmap" or "poselib" (LO-RANSAC; poselib is an
            optional package). Keypoints that are less exact than the threshold make LO-RANSAC take a turn for a
            step, see benchmarks/results/relative_pose.md.
        pnp_estimator: of the pose from depth: "pycolmap", "opencv" or "poselib".
        covariances: whether those of the matches weigh them in the polishing of a pose, where the frontend gives any
            (`refine.method=learned`).
        seed: seed of the robust estimators.
        pipelined: whether reading and extraction of the next frames go on in threads while a frame is estimated. The
            result is the same; a frontend must be able to match while it extracts. Live cameras are never pipelined,
            and on device mps only reading is: torch aborts when two threads use it.
    """

    keyframe_px: float = 24.0
    keyframe_ratio: float = 0.4
    still_px: float = 0.3
    min_inliers: int = 15
    threshold_px: float = 1.0
    pnp_threshold_px: float = 2.0
    max_depth_m: float = 10.0
    stereo_threshold_px: float = 1.0
    min_disparity_px: float = 1.0
    reset_after: int = 5
    between_keyframes: str = "extract"
    estimator: str = "opencv"
    pnp_estimator: str = "pycolmap"
    covariances: bool = True
    seed: int = 0
    pipelined: bool = True

    def __post_init__(self) -> None:
        for name in (self.estimator, self.pnp_estimator):
            if name not in get_args(Estimator):
                raise ConfigError(f"unknown estimator '{name}'; use one of {', '.join(get_args(Estimator))}")
        if self.between_keyframes not in get_args(BetweenKeyframes):
            known = ", ".join(get_args(BetweenKeyframes))
            raise ConfigError(f"vo: unknown between_keyframes '{self.between_keyframes}'; use one of {known}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"vo: {name} must be positive, got {getattr(self, name)}")
        if self.min_inliers < 6 or self.reset_after < 1:
            raise ConfigError("vo: min_inliers must be at least 6 and reset_after at least 1")
