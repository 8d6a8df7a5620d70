"""Frame-to-keyframe visual odometry over any feature frontend: `track(frame) -> pose | None`."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.records import StereoRig
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera, Features, Frame, Trajectory
from slamfeat.vo.carry import KeypointCarrier
from slamfeat.vo.checks import check_first, check_frame, check_mode, check_time
from slamfeat.vo.config import Mode, OdometryConfig
from slamfeat.vo.depths import keypoint_depths
from slamfeat.vo.keyframe import Correspondences, Keyframe, TrackedFrame
from slamfeat.vo.motion import Motion, keyframe_motion
from slamfeat.vo.report import FrameReport
from slamfeat.vo.scale import PropagatedScale, ScaleSource, scaled_motion
from slamfeat.vo.stereo import StereoDepth


class Odometry:
    """Visual odometry on frame-to-keyframe motions.

    A frame that does not match the keyframe is tried against the last tracked frame. With too few matches there too it
    is lost: `track` returns None, the keyframe stays, and tracking goes on; after
    `config.reset_after` lost frames in a row the current frame becomes the keyframe at the last known pose. The first
    frame's camera is the world.

    With `config.between_keyframes="track"` the keypoints of the keyframe are carried along while that goes well
    (`slamfeat.vo.carry`), and features are extracted only for a new keyframe or where tracking weakens.
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
        self._previous: TrackedFrame | None = None
        self._carrier: KeypointCarrier | None = None
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
        return self.config.between_keyframes == "extract"

    @property
    def extracts_ahead(self) -> bool:
        """Whether features can be made ahead in another thread; not on mps, where two torch threads abort Python."""
        backbone = getattr(self.frontend, "backbone", None)
        return self.extracts_every_frame and (backbone is None or backbone.device.type != "mps")

    def extract(self, frame: Frame) -> tuple[Features, float]:
        """Features of a frame and the milliseconds they took, as `track` takes them.

        Another thread may call it while `track` runs, see `extracts_ahead`. The frontend never extracts twice at once,
        but may match meanwhile.
        """
        return self._extract_image(frame.image)

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
        report = FrameReport(frame.index, frame.timestamp)
        if features is not None:
            report = report.extracting(extract_ms)
        elif self._keyframe is not None and self._carrier is not None:
            pose, report = self._carry(self._keyframe, self._carrier, frame, report)
            if pose is not None:
                return pose
        if features is None:
            features, report = self._extract(frame, report)
        report = replace(report, keypoints=int(features.mask.sum()))
        if self._keyframe is None:
            return self._start(frame, features, report)
        return self._follow(self._keyframe, frame, features, report)

    def _extract(self, frame: Frame, report: FrameReport) -> tuple[Features, FrameReport]:
        features, ms = self.extract(frame)
        return features, report.extracting(ms)

    def _extract_image(self, image: NDArray[np.uint8]) -> tuple[Features, float]:
        """Features of a left or right image, and milliseconds without the wait for another extraction."""
        with self._extracting:
            started = time.perf_counter()
            features = self.frontend.extract(image)
            return features, 1e3 * (time.perf_counter() - started)

    def _start(self, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        if report.keypoints < self.config.min_inliers:
            return self._lose(replace(report, reason="too few keypoints to start"))
        report = self._take_keyframe(self._as_keyframe(frame, features, self._last_pose), report)
        if not report.keyframe:
            return self._lose(replace(report, reason="too few stereo matches to start"))
        return self._accept(self._last_pose, report)

    def _carry(
        self, keyframe: Keyframe, carrier: KeypointCarrier, frame: Frame, report: FrameReport
    ) -> tuple[Array | None, FrameReport]:
        """Pose from carried keypoints; None where tracking weakens, so that features must be extracted and matched."""
        started = time.perf_counter()
        found = carrier.advance(frame.image)
        report = report.spent("carry", started)
        motion, moved = self._motion(keyframe, found, report)
        # Before anything was tracked against the keyframe there are no inliers to compare with: keypoints must arrive.
        left, before = len(found), carrier.placed
        if motion is not None and keyframe.first_inliers:
            left, before = int(motion.inliers.sum()), keyframe.first_inliers
        weak = left < self.config.keyframe_ratio * before
        scaled = None if motion is None or weak else self._scaled(motion, keyframe, frame, found)
        if motion is None or scaled is None:
            return None, replace(report, ms=moved.ms)
        return self._arrive(keyframe, frame, None, found, motion, scaled, replace(moved, carried=True)), report

    def _follow(self, keyframe: Keyframe, frame: Frame, features: Features, report: FrameReport) -> Array | None:
        started = time.perf_counter()
        found = Correspondences.of(self.frontend.match(keyframe.features, features))
        motion, report = self._motion(keyframe, found, report.spent("match", started))
        previous, self._previous = self._previous, None
        if motion is None and previous is not None:
            stand_in, report = self._stand_in(previous, report)
            return self._follow(stand_in, frame, features, report)
        if motion is None:
            return self._lose(replace(report, reason="too few matches agree on a motion"), frame, features)
        scaled = self._scaled(motion, keyframe, frame, found)
        if scaled is None:
            return self._lose(replace(report, reason="no scale for this frame"), frame, features)
        return self._arrive(keyframe, frame, features, found, motion, scaled, report)

    def _stand_in(self, previous: TrackedFrame, report: FrameReport) -> tuple[Keyframe, FrameReport]:
        """The last tracked frame as a keyframe; its features are extracted now where its keypoints were carried."""
        features = previous.features
        if features is None:
            features, report = self._extract(previous.frame, report)
        return self._with_stereo(self._as_keyframe(previous.frame, features, previous.pose), report)

    def _arrive(
        self, keyframe: Keyframe, frame: Frame, features: Features | None, found: Correspondences, motion: Motion,
        scaled: Array, report: FrameReport,
    ) -> Array:  # fmt: skip
        """Accept a motion and take a keyframe where one is due; `features` is None where keypoints were carried."""
        pose = keyframe.pose @ invert(scaled)
        report = replace(report, inliers=int(motion.inliers.sum()))
        due = self._can_be_keyframe(frame) and self._wants_keyframe(keyframe, report)
        self._previous = TrackedFrame(frame, pose, features) if self._can_be_keyframe(frame) and not due else None
        if features is not None:
            self._carrier = self._placed_carrier(keyframe, found, frame)
        if due:
            if features is None:
                features, report = self._extract(frame, report)
                report = replace(report, keypoints=int(features.mask.sum()))
            candidate = self._as_keyframe(frame, features, pose)
            if self.mode == "mono":
                known, seen = keyframe.depths[found.slots], (found.points0, found.points1)
                depths = keypoint_depths(features, *seen, known, scaled, motion.inliers, self.camera)
                candidate = replace(candidate, depths=depths)
            report = self._take_keyframe(candidate, report)
        return self._accept(pose, report)

    def _motion(
        self, keyframe: Keyframe, found: Correspondences, report: FrameReport
    ) -> tuple[Motion | None, FrameReport]:
        started = time.perf_counter()
        motion = keyframe_motion(keyframe, found, self.camera, self.mode, self.config)
        report = replace(report, matches=len(found), displacement_px=found.displacement_px)
        return motion, report.spent("pose", started)

    def _scaled(self, motion: Motion, keyframe: Keyframe, frame: Frame, found: Correspondences) -> Array | None:
        return scaled_motion(motion, keyframe, frame.timestamp, found, self.camera, self.scale)

    def _wants_keyframe(self, keyframe: Keyframe, report: FrameReport) -> bool:
        if keyframe.first_inliers == 0:
            self._keyframe = replace(keyframe, first_inliers=report.inliers)
        few = report.inliers < self.config.keyframe_ratio * keyframe.first_inliers
        return report.displacement_px > self.config.keyframe_px or few

    def _can_be_keyframe(self, frame: Frame) -> bool:
        """The depth or the right image of the keyframe carries the motion; other frames may lack it."""
        return {"mono": True, "rgbd": frame.depth is not None, "stereo": frame.right is not None}[self.mode]

    def _as_keyframe(self, frame: Frame, features: Features, pose: Array) -> Keyframe:
        return Keyframe(
            frame.timestamp, frame.image, features, pose, np.full(features.mask.shape[1], np.nan),
            depth=frame.depth if self.mode == "rgbd" else None, right=frame.right if self.mode == "stereo" else None,
        )  # fmt: skip

    def _take_keyframe(self, candidate: Keyframe, report: FrameReport) -> FrameReport:
        """Track against `candidate` from now on, unless it (in stereo mode, its right image) shows too few points."""
        candidate, report = self._with_stereo(candidate, report)
        usable = np.isfinite(candidate.depths).sum() if self._stereo else candidate.features.mask.sum()
        if usable < self.config.min_inliers:
            return report
        self._keyframe = candidate
        if not self.extracts_every_frame:
            self._carrier = KeypointCarrier(candidate.features, candidate.image)
        return replace(report, keyframe=True)

    def _placed_carrier(self, keyframe: Keyframe, found: Correspondences, frame: Frame) -> KeypointCarrier | None:
        """Carries on from a frame that was matched, unless the frame matched only what stood in for the keyframe."""
        if self.extracts_every_frame or self._keyframe is None or keyframe.timestamp != self._keyframe.timestamp:
            return None
        carrier = self._carrier or KeypointCarrier(keyframe.features, keyframe.image)  # it is always the keyframe's
        carrier.place(found, frame.image)
        return carrier

    def _with_stereo(self, keyframe: Keyframe, report: FrameReport) -> tuple[Keyframe, FrameReport]:
        """The keyframe with the depths its right image gives, where it has one that was not looked at yet."""
        if self._stereo is None or keyframe.right is None:
            return keyframe, report
        right, ms = self._extract_image(keyframe.right)
        started = time.perf_counter()
        depths = self._stereo.depths(keyframe.features, right)
        return replace(keyframe, depths=depths, right=None), report.took("stereo", ms).spent("stereo", started)

    def _accept(self, pose: Array, report: FrameReport) -> Array:
        self._last_pose, self._lost_in_a_row = pose, 0
        self._times.append(report.timestamp)
        self._poses.append(pose)
        self.reports.append(report)
        return pose

    def _lose(self, report: FrameReport, frame: Frame | None = None, features: Features | None = None) -> Array | None:
        self._lost_in_a_row += 1
        self._carrier = None
        if frame is not None and features is not None and self._should_restart(frame, report):
            report = self._take_keyframe(self._as_keyframe(frame, features, self._last_pose), report)
            self._lost_in_a_row = 0 if report.keyframe else self._lost_in_a_row
        self.reports.append(replace(report, tracked=False))
        return None

    def _should_restart(self, frame: Frame, report: FrameReport) -> bool:
        waited = self._lost_in_a_row >= self.config.reset_after
        return waited and report.keypoints >= self.config.min_inliers and self._can_be_keyframe(frame)
