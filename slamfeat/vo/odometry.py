"""Frame-to-keyframe visual odometry over any feature frontend: `track(frame) -> pose | None`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.records import StereoRig
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera, Features, Frame, Trajectory
from slamfeat.vo.checks import check_first, check_frame, check_mode, check_time
from slamfeat.vo.config import Mode, OdometryConfig
from slamfeat.vo.depths import keypoint_depths
from slamfeat.vo.keyframe import Keyframe
from slamfeat.vo.motion import Motion, monocular_motion, rgbd_motion, stereo_motion
from slamfeat.vo.scale import PropagatedScale, ScaleSource, Step
from slamfeat.vo.stereo import StereoDepth


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
        ms: milliseconds a stage; "stereo" (the right image's features, matches and depths) only where it was done.
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
        rig: StereoRig | None = None,
    ) -> None:
        """Track with `frontend` images of `camera`.

        Args:
            frontend: extracts and matches.
            camera: intrinsics of the images.
            mode: "mono", "rgbd" (frames need depth) or "stereo" (frames need a right image); the last two are metric.
            config: see `OdometryConfig`.
            scale: where monocular step lengths come from; by default propagated from keyframe to keyframe.
            rig: the right camera, in stereo mode: `sequence.rig`. Its images need not be rectified.

        Raises:
            InputError: unknown mode, stereo without a rig, or a rig without baseline.
        """
        check_mode(mode, rig)
        self.frontend, self.camera, self.mode, self.rig = frontend, camera, mode, rig
        self.config = config or OdometryConfig()
        self._stereo = StereoDepth(frontend, camera, rig, self.config) if mode == "stereo" and rig else None
        self.scale: ScaleSource = scale or PropagatedScale()
        self.reports: list[FrameReport] = []
        self._extracting = threading.Lock()
        self._keyframe: Keyframe | None = None
        self._previous: Keyframe | None = None
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
        return {"rgbd": "metric (depth)", "stereo": "metric (stereo)"}.get(self.mode, self.scale.label)

    @property
    def extracts_every_frame(self) -> bool:
        """Whether `track` needs features of each frame, so that they can be made ahead with `extract`."""
        return True

    def extract(self, frame: Frame) -> Features:
        """Features of a frame as `track` takes them. Another thread may call it while `track` runs.

        The frontend never extracts twice at once, but may match meanwhile.
        """
        with self._extracting:
            return self.frontend.extract(frame.image)

    def check(self, frame: Frame) -> None:
        """Raise InputError where `track` would refuse the frame that comes next."""
        check_frame(frame, self.mode, self.camera, self.rig)
        if self.reports:
            check_time(frame, self.reports[-1].timestamp)
        if self._keyframe is None:
            check_first(frame, self.mode)

    def track(self, frame: Frame, features: Features | None = None, extract_ms: float = 0.0) -> Array | None:
        """Pose `T_world_camera` (4, 4) of the frame, or None while lost. `reports[-1]` tells the rest.

        Args:
            frame: the next one.
            features: what `extract` made of it, where that was done ahead; extract_ms: milliseconds it took.

        Raises:
            InputError: the first frame lacks depth in rgbd mode or the right image in stereo mode, a size is not the
                camera's, or time stands still.
        """
        self.check(frame)
        if features is None:
            started = time.perf_counter()
            features = self.extract(frame)
            extract_ms = 1e3 * (time.perf_counter() - started)
        report = FrameReport(
            frame.index, frame.timestamp, keypoints=int(features.mask.sum()), ms={"extract": extract_ms}
        )
        if self._keyframe is None:
            return self._start(frame, features, report)
        return self._follow(self._keyframe, frame, features, report)

    def _start(self, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        if report.keypoints < self.config.min_inliers:
            return self._lose(replace(report, reason="too few keypoints to start"))
        report = self._take_keyframe(self._as_keyframe(frame, features, self._last_pose), report)
        if not report.keyframe:
            return self._lose(replace(report, reason="too few stereo matches to start"))
        return self._accept(self._last_pose, report)

    def _follow(self, keyframe: Keyframe, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        started = time.perf_counter()
        matches = self.frontend.match(keyframe.features, features)
        points0, points1, _ = matches.numpy()
        matched = time.perf_counter()
        slots = np.flatnonzero(matches.mask[0].cpu().numpy())
        motion = self._estimate(keyframe, points0, points1, slots)
        displacement = float(np.linalg.norm(points1 - points0, axis=1).mean()) if len(points0) else float("nan")
        report = replace(report, matches=len(points0), displacement_px=displacement)
        previous, self._previous = self._previous, None
        if motion is None and previous is not None:
            previous, report = self._with_stereo(previous, report)
            return self._follow(previous, frame, features, report)
        if motion is None:
            return self._lose(
                self._timed(report, started, matched, "too few matches agree on a motion"), frame, features
            )
        scaled = self._apply_scale(motion, keyframe, frame, points0, points1, slots, displacement)
        if scaled is None:
            return self._lose(self._timed(report, started, matched, "no scale for this frame"), frame, features)
        pose = keyframe.pose @ invert(scaled)
        inliers = int(motion.inliers.sum())
        report = self._timed(replace(report, inliers=inliers), started, matched, "")
        if self._can_be_keyframe(frame):
            candidate = self._as_keyframe(frame, features, pose)
            if not self._wants_keyframe(keyframe, displacement, inliers):
                self._previous = candidate
            elif self.mode == "mono":
                known = keyframe.depths[slots]
                depths = keypoint_depths(features, points0, points1, known, scaled, motion.inliers, self.camera)
                report = self._take_keyframe(replace(candidate, depths=depths), report)
            else:
                report = self._take_keyframe(candidate, report)
        return self._accept(pose, report)

    def _estimate(self, keyframe: Keyframe, points0: Array, points1: Array, slots: NDArray[np.intp]) -> Motion | None:
        if self.mode == "stereo":
            return stereo_motion(points0, points1, keyframe.depths[slots], self.camera, self.config)
        if keyframe.depth is not None:
            return rgbd_motion(points0, points1, keyframe.depth, self.camera, self.config)
        return monocular_motion(points0, points1, self.camera, self.config)

    def _apply_scale(
        self, motion: Motion, keyframe: Keyframe, frame: Frame, points0: Array, points1: Array,
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

    def _wants_keyframe(self, keyframe: Keyframe, displacement: float, inliers: int) -> bool:
        if keyframe.first_inliers == 0:
            self._keyframe = replace(keyframe, first_inliers=inliers)
        few = inliers < self.config.keyframe_ratio * keyframe.first_inliers
        return displacement > self.config.keyframe_px or few

    def _can_be_keyframe(self, frame: Frame) -> bool:
        """The depth or the right image of the keyframe carries the motion; other frames may lack it."""
        return {"mono": True, "rgbd": frame.depth is not None, "stereo": frame.right is not None}[self.mode]

    def _as_keyframe(self, frame: Frame, features: Features, pose: Array) -> Keyframe:
        return Keyframe(
            frame.timestamp, features, pose, np.full(features.mask.shape[1], np.nan),
            depth=frame.depth if self.mode == "rgbd" else None, right=frame.right if self.mode == "stereo" else None,
        )  # fmt: skip

    def _take_keyframe(self, candidate: Keyframe, report: FrameReport) -> FrameReport:
        """Track against `candidate` from now on, unless the right image shows too few of its points."""
        candidate, report = self._with_stereo(candidate, report)
        if self._stereo and np.isfinite(candidate.depths).sum() < self.config.min_inliers:
            return report
        self._keyframe = candidate
        return replace(report, keyframe=True)

    def _with_stereo(self, keyframe: Keyframe, report: FrameReport) -> tuple[Keyframe, FrameReport]:
        """The keyframe with the depths its right image gives, where it has one that was not looked at yet."""
        if self._stereo is None or keyframe.right is None:
            return keyframe, report
        with self._extracting:
            started = time.perf_counter()
            depths = self._stereo.depths(keyframe.features, keyframe.right)
        spent = report.ms.get("stereo", 0.0) + 1e3 * (time.perf_counter() - started)
        return replace(keyframe, depths=depths, right=None), replace(report, ms={**report.ms, "stereo": spent})

    def _accept(self, pose: Array, report: FrameReport) -> Array:
        self._last_pose, self._lost_in_a_row = pose, 0
        self._times.append(report.timestamp)
        self._poses.append(pose)
        self.reports.append(report)
        return pose

    def _lose(self, report: FrameReport, frame: Frame | None = None, features: Features | None = None) -> Array | None:
        self._lost_in_a_row += 1
        if frame is not None and features is not None and self._should_restart(frame, report):
            report = self._take_keyframe(self._as_keyframe(frame, features, self._last_pose), report)
            self._lost_in_a_row = 0 if report.keyframe else self._lost_in_a_row
        self.reports.append(replace(report, tracked=False))
        return None

    def _should_restart(self, frame: Frame, report: FrameReport) -> bool:
        waited = self._lost_in_a_row >= self.config.reset_after
        return waited and report.keypoints >= self.config.min_inliers and self._can_be_keyframe(frame)

    @staticmethod
    def _timed(report: FrameReport, started: float, matched: float, reason: str) -> FrameReport:
        ms = {**report.ms, "match": 1e3 * (matched - started), "pose": 1e3 * (time.perf_counter() - matched)}
        return replace(report, ms=ms, reason=reason)
