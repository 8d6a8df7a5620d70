"""Frame-to-keyframe visual odometry over any feature frontend: `track(frame) -> pose | None`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import InputError
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera, Features, Frame, Trajectory
from slamfeat.vo.config import Mode, OdometryConfig
from slamfeat.vo.depths import keypoint_depths
from slamfeat.vo.motion import Motion, monocular_motion, rgbd_motion
from slamfeat.vo.scale import PropagatedScale, ScaleSource, Step


@dataclass(frozen=True)
class FrameReport:
    """What happened to one frame; a line of frames.jsonl.

    Attributes:
        index, timestamp: of the frame.
        tracked: whether it has a pose.
        keyframe: whether it became a keyframe.
        keypoints, matches, inliers: counts.
        displacement_px: mean displacement of the matches since the keyframe; NaN without matches.
        reason: why the frame is lost, empty when tracked.
        ms: milliseconds a stage.
    """

    index: int
    timestamp: float
    tracked: bool = True
    keyframe: bool = False
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0
    displacement_px: float = float("nan")
    reason: str = ""
    ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Keyframe:
    """A frame that others are tracked against. `depths` (K,) belong to its keypoints, NaN where unknown."""

    timestamp: float
    features: Features
    pose: Array
    depth: NDArray[np.float32] | None
    depths: Array
    first_inliers: int = 0


class Odometry:
    """Visual odometry on frame-to-keyframe motions.

    A frame that does not match the keyframe is tried against the last tracked frame. With too few matches there too it
    is lost: `track` returns None, the keyframe stays, and tracking goes on; after
    `config.reset_after` lost frames in a row the current frame becomes the keyframe at the last known pose. The first
    frame's camera is the world.
    """

    def __init__(
        self,
        frontend: FeatureFrontend,
        camera: Camera,
        mode: Mode = "mono",
        config: OdometryConfig | None = None,
        scale: ScaleSource | None = None,
    ) -> None:
        """Track with `frontend` images of `camera`.

        Args:
            frontend: extracts and matches.
            camera: intrinsics of the images.
            mode: "mono" or "rgbd" (frames need depth; the result is metric).
            config: see `OdometryConfig`.
            scale: where monocular step lengths come from; by default propagated from keyframe to keyframe.

        Raises:
            InputError: unknown mode.
        """
        if mode not in ("mono", "rgbd"):
            raise InputError(f"unknown mode '{mode}'; use mono or rgbd")
        self.frontend, self.camera, self.mode = frontend, camera, mode
        self.config = config or OdometryConfig()
        self.scale: ScaleSource = scale or PropagatedScale()
        self.reports: list[FrameReport] = []
        self._keyframe: _Keyframe | None = None
        self._previous: _Keyframe | None = None
        self._last_pose: Array = np.eye(4)
        self._lost_in_a_row = 0
        self._times: list[float] = []
        self._poses: list[Array] = []

    @property
    def trajectory(self) -> Trajectory:
        """Poses of the tracked frames so far."""
        return Trajectory(np.array(self._times), np.array(self._poses).reshape(-1, 4, 4))

    @property
    def scale_label(self) -> str:
        """How the result got its scale, for reports."""
        return "metric (depth)" if self.mode == "rgbd" else self.scale.label

    def track(self, frame: Frame) -> Array | None:
        """Pose `T_world_camera` (4, 4) of the frame, or None while lost. `reports[-1]` tells the rest.

        Raises:
            InputError: the first frame lacks depth in rgbd mode, the size is not the camera's, or time stands still.
        """
        self._check(frame)
        started = time.perf_counter()
        features = self.frontend.extract(frame.image)
        extracted = time.perf_counter()
        report = FrameReport(
            frame.index,
            frame.timestamp,
            keypoints=int(features.mask.sum()),
            ms={"extract": 1e3 * (extracted - started)},
        )
        if self._keyframe is None:
            return self._start(frame, features, report)
        return self._follow(self._keyframe, frame, features, report)

    def _start(self, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        if report.keypoints < self.config.min_inliers:
            return self._lose(replace(report, reason="too few keypoints to start"))
        self._take_keyframe(frame, features, self._last_pose, np.full(features.mask.shape[1], np.nan))
        return self._accept(self._last_pose, replace(report, keyframe=True))

    def _follow(self, keyframe: _Keyframe, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        started = time.perf_counter()
        matches = self.frontend.match(keyframe.features, features)
        points0, points1, _ = matches.numpy()
        matched = time.perf_counter()
        motion = self._estimate(keyframe, points0, points1)
        displacement = float(np.linalg.norm(points1 - points0, axis=1).mean()) if len(points0) else float("nan")
        report = replace(report, matches=len(points0), displacement_px=displacement)
        previous, self._previous = self._previous, None
        if motion is None and previous is not None:
            return self._follow(previous, frame, features, report)
        if motion is None:
            return self._lose(
                self._timed(report, started, matched, "too few matches agree on a motion"), frame, features
            )
        slots = np.flatnonzero(matches.mask[0].cpu().numpy())
        scaled = self._apply_scale(motion, keyframe, frame, points0, points1, slots, displacement)
        if scaled is None:
            return self._lose(self._timed(report, started, matched, "no scale for this frame"), frame, features)
        pose = keyframe.pose @ invert(scaled)
        inliers = int(motion.inliers.sum())
        report = self._timed(replace(report, inliers=inliers), started, matched, "")
        if self._can_be_keyframe(frame) and self._wants_keyframe(keyframe, displacement, inliers):
            known = keyframe.depths[slots]
            depths = keypoint_depths(features, points0, points1, known, scaled, motion.inliers, self.camera)
            self._take_keyframe(frame, features, pose, depths)
            report = replace(report, keyframe=True)
        elif self._can_be_keyframe(frame):
            self._previous = self._as_keyframe(frame, features, pose, np.full(features.mask.shape[1], np.nan))
        return self._accept(pose, report)

    def _estimate(self, keyframe: _Keyframe, points0: Array, points1: Array) -> Motion | None:
        if keyframe.depth is not None:
            return rgbd_motion(points0, points1, keyframe.depth, self.camera, self.config)
        return monocular_motion(points0, points1, self.camera, self.config)

    def _apply_scale(
        self, motion: Motion, keyframe: _Keyframe, frame: Frame, points0: Array, points1: Array,
        slots: NDArray[np.intp], displacement: float,
    ) -> Array | None:  # fmt: skip
        if motion.metric:
            return motion.pose
        inliers = motion.inliers
        step = Step(
            keyframe.timestamp, frame.timestamp, motion.pose,
            self.camera.normalize(points0[inliers]), self.camera.normalize(points1[inliers]),
            keyframe.depths[slots[inliers]], displacement, motion.rotation_only,
        )  # fmt: skip
        length = self.scale.length(step)
        if length is None:
            return None
        scaled = motion.pose.copy()
        scaled[:3, 3] *= length
        return scaled

    def _wants_keyframe(self, keyframe: _Keyframe, displacement: float, inliers: int) -> bool:
        if keyframe.first_inliers == 0:
            self._keyframe = replace(keyframe, first_inliers=inliers)
        few = inliers < self.config.keyframe_ratio * keyframe.first_inliers
        return displacement > self.config.keyframe_px or few

    def _can_be_keyframe(self, frame: Frame) -> bool:
        """In rgbd mode the depth of the keyframe carries the motion; other frames may lack it."""
        return self.mode == "mono" or frame.depth is not None

    def _take_keyframe(self, frame: Frame, features: Features, pose: Array, depths: Array) -> None:
        self._keyframe = self._as_keyframe(frame, features, pose, depths)

    def _as_keyframe(self, frame: Frame, features: Features, pose: Array, depths: Array) -> _Keyframe:
        return _Keyframe(frame.timestamp, features, pose, frame.depth if self.mode == "rgbd" else None, depths)

    def _accept(self, pose: Array, report: FrameReport) -> Array:
        self._last_pose, self._lost_in_a_row = pose, 0
        self._times.append(report.timestamp)
        self._poses.append(pose)
        self.reports.append(report)
        return pose

    def _lose(self, report: FrameReport, frame: Frame | None = None, features: Features | None = None) -> Array | None:
        self._lost_in_a_row += 1
        if frame is not None and features is not None and self._should_restart(frame, report):
            self._take_keyframe(frame, features, self._last_pose, np.full(features.mask.shape[1], np.nan))
            self._lost_in_a_row = 0
            report = replace(report, keyframe=True)
        self.reports.append(replace(report, tracked=False))
        return None

    def _should_restart(self, frame: Frame, report: FrameReport) -> bool:
        waited = self._lost_in_a_row >= self.config.reset_after
        return waited and report.keypoints >= self.config.min_inliers and self._can_be_keyframe(frame)

    @staticmethod
    def _timed(report: FrameReport, started: float, matched: float, reason: str) -> FrameReport:
        ms = {**report.ms, "match": 1e3 * (matched - started), "pose": 1e3 * (time.perf_counter() - matched)}
        return replace(report, ms=ms, reason=reason)

    def _check(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            name = frame.path or f"frame {frame.index}"
            raise InputError(
                f"{name} is {width}x{height} but the calibration is for {self.camera.width}x{self.camera.height}; "
                "give the calibration of these images with --camera"
            )
        if self.reports and frame.timestamp <= self.reports[-1].timestamp:
            raise InputError(
                f"frame {frame.index}: time {frame.timestamp} s does not follow {self.reports[-1].timestamp} s; "
                "give frames in order of time"
            )
        if self.mode == "rgbd" and frame.depth is None and self._keyframe is None:
            raise InputError(f"frame {frame.index} has no depth; start with a frame that has, or use mode mono")
