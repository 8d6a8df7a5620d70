"""Odometry in a world where the truth is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from world import CAMERA, World, make_path

from slamfeat.errors import ConfigError, InputError
from slamfeat.eval import evaluate
from slamfeat.geometry.se3 import make_pose, rotation_angle_deg
from slamfeat.types import Camera, Frame, Trajectory
from slamfeat.vo import GroundTruthScale, Odometry, OdometryConfig, PropagatedScale
from slamfeat.vo.scale import Step


def track(world: World, **settings: object) -> Odometry:
    odometry = Odometry(world, CAMERA, **settings)  # type: ignore[arg-type]
    for frame in world.frames():
        odometry.track(frame)
    return odometry


def test_monocular_with_ground_truth_scale_is_exact() -> None:
    path = make_path()
    odometry = track(World(path), scale=GroundTruthScale(path))
    assert len(odometry.trajectory) == len(path)
    assert np.abs(odometry.trajectory.positions - path.positions).max() < 1e-3
    assert rotation_angle_deg(np.linalg.inv(odometry.trajectory.poses) @ path.poses).max() < 0.01
    assert "ground-truth scale" in odometry.scale_label


def test_monocular_scale_is_carried_from_keyframe_to_keyframe() -> None:
    """No ground truth is given, the speed changes, and one factor for the whole trajectory is enough."""
    path = make_path(30)
    speed = np.cumsum(np.where(np.arange(30) < 15, 1.0, 2.5))
    poses = path.poses.copy()
    poses[:, :3, 3] *= (speed / np.maximum(np.arange(30), 1))[:, None]
    path = Trajectory(path.timestamps, poses)
    odometry = track(World(path, noise_px=0.1))
    metrics = evaluate(odometry.trajectory, path, "sim3", total_frames=30)
    assert sum(report.keyframe for report in odometry.reports) >= 5
    assert metrics.tracked_percent == 100
    assert metrics.ate_rmse_m < 0.03 * metrics.path_length_m
    assert "propagated" in odometry.scale_label


def test_rgbd_is_metric_without_ground_truth() -> None:
    path = make_path()
    odometry = track(World(path, noise_px=0.2), mode="rgbd")
    assert len(odometry.trajectory) == len(path)
    error = np.linalg.norm(odometry.trajectory.positions - path.positions, axis=1)
    assert error.max() < 0.03
    assert odometry.scale_label == "metric (depth)"


@pytest.mark.parametrize("mode", ["mono", "rgbd"])
def test_blind_frames_are_lost_and_tracking_goes_on(mode: str) -> None:
    path = make_path()
    odometry = track(World(path, blind=frozenset({5, 6})), mode=mode, scale=GroundTruthScale(path))
    lost = [report.index for report in odometry.reports if not report.tracked]
    assert lost == [5, 6]
    assert all("too few" in odometry.reports[i].reason for i in lost)
    assert np.abs(odometry.trajectory.positions[-1] - path.positions[-1]).max() < 0.01


def test_after_many_lost_frames_a_new_keyframe_starts_at_the_last_pose() -> None:
    """The camera jumps where nothing of the old keyframe is seen: tracking resumes from the last known pose."""
    path = make_path(16)
    world = World(path, blind=frozenset(range(6, 10)))
    first_half, second_half = set(range(300)), set(range(300, 600))

    def see(index: int, original=world.see):  # type: ignore[no-untyped-def]
        pixels, inside = original(index)
        allowed = first_half if index < 6 else second_half
        return pixels, inside & np.array([k in allowed for k in range(600)])

    world.see = see  # type: ignore[method-assign]
    odometry = track(world, scale=GroundTruthScale(path), config=OdometryConfig(reset_after=3))
    reports = odometry.reports
    assert not any(report.tracked for report in reports[6:11])
    assert reports[10].keyframe and not reports[10].tracked
    assert all(report.tracked for report in reports[11:])
    moved = odometry.trajectory.positions[-1] - odometry.trajectory.positions[5]
    assert np.allclose(np.linalg.norm(moved), np.linalg.norm(path.positions[15] - path.positions[10]), atol=0.02)


def test_the_last_frame_helps_where_the_keyframe_is_out_of_sight() -> None:
    """The keyframe shares no point with the later frames, but the frame before the change does."""
    path = make_path(16)
    world = World(path)
    halves = np.arange(600) < 300

    def see(index: int, original=world.see):  # type: ignore[no-untyped-def]
        pixels, inside = original(index)
        return pixels, inside & (halves if index == 0 else ~halves if index > 8 else np.ones(600, dtype=bool))

    world.see = see  # type: ignore[method-assign]
    settings = OdometryConfig(keyframe_px=1e6, keyframe_ratio=0.0)
    odometry = track(world, scale=GroundTruthScale(path), config=settings)
    assert all(report.tracked for report in odometry.reports)
    assert np.abs(odometry.trajectory.positions - path.positions).max() < 2e-3


def test_standing_still_gives_the_same_pose() -> None:
    path = Trajectory(np.arange(6) / 10.0, np.tile(np.eye(4), (6, 1, 1)))
    odometry = track(World(path, noise_px=0.02))
    assert np.abs(odometry.trajectory.poses - np.eye(4)).max() < 1e-9


def test_turning_on_the_spot_has_no_translation_without_ground_truth() -> None:
    path = make_path(12, step_m=0.0)
    path.poses[:, :3, 3] = 0
    odometry = track(World(path, noise_px=0.1))
    assert rotation_angle_deg(np.linalg.inv(odometry.trajectory.poses) @ path.poses).max() < 0.2
    assert np.abs(odometry.trajectory.positions).max() < 0.05


def test_frames_must_fit_the_camera_and_the_mode() -> None:
    world = World(make_path(2))
    frame = world.frames()[0]
    with pytest.raises(InputError, match="640x480 but the calibration is for 320x240"):
        Odometry(world, Camera(320, 240, 250.0, 250.0, 159.5, 119.5)).track(frame)
    with pytest.raises(InputError, match="no depth"):
        Odometry(world, CAMERA, "rgbd").track(Frame(0, 0.0, frame.image))
    with pytest.raises(InputError, match="lidar"):
        Odometry(world, CAMERA, "lidar")  # type: ignore[arg-type]
    for values in ({"estimator": "magic"}, {"min_inliers": 2}, {"keyframe_px": 0.0}):
        with pytest.raises(ConfigError):
            OdometryConfig(**values)  # type: ignore[arg-type]


def test_rgbd_tracks_frames_without_depth_between_keyframes() -> None:
    """TUM's loader leaves images without a depth map at `depth=None`."""
    path = make_path()
    world = World(path)
    odometry = Odometry(world, CAMERA, "rgbd")
    for frame in world.frames():
        odometry.track(frame if frame.index % 2 == 0 else Frame(frame.index, frame.timestamp, frame.image))
    assert len(odometry.trajectory) == len(path)
    assert np.linalg.norm(odometry.trajectory.positions - path.positions, axis=1).max() < 0.03
    assert all(report.index % 2 == 0 for report in odometry.reports if report.keyframe)


def test_frames_must_come_in_order_of_time() -> None:
    world = World(make_path(3))
    frames = world.frames()
    odometry = Odometry(world, CAMERA)
    odometry.track(frames[1])
    with pytest.raises(InputError, match="order of time"):
        odometry.track(frames[0])


def test_scale_survives_a_turn_on_the_spot() -> None:
    """Forward, a turn without translation across keyframes, forward again: one factor still fits the whole path."""
    forward = make_path(24)
    poses = forward.poses.copy()
    turn = slice(8, 16)
    poses[turn, :3, 3] = poses[8, :3, 3]
    for i in range(8, 16):
        poses[i, :3, :3] = make_pose(
            Rotation.from_euler("y", 8.0 + 2.0 * (i - 8), degrees=True).as_matrix(), np.zeros(3)
        )[:3, :3]
    for i in range(16, 24):
        poses[i, :3, :3] = poses[15, :3, :3]
        poses[i, :3, 3] = poses[8, :3, 3] + (forward.poses[i, :3, 3] - forward.poses[15, :3, 3])
    path = Trajectory(forward.timestamps, poses)
    odometry = track(World(path, noise_px=0.05))
    metrics = evaluate(odometry.trajectory, path, "sim3", total_frames=24)
    assert sum(report.keyframe for report in odometry.reports[8:16]) >= 1
    assert metrics.ate_rmse_m < 0.03 * metrics.path_length_m


def test_same_frames_same_poses() -> None:
    path = make_path()
    first, second = (track(World(path, noise_px=0.5)).trajectory.poses for _ in range(2))
    assert np.array_equal(first, second)


def test_ground_truth_scale_needs_truth_near_in_time() -> None:
    scale = GroundTruthScale(make_path(4))
    rays = np.zeros((0, 2))
    near = Step(0.0, 0.1, np.eye(4), rays, rays, np.zeros(0), 5.0, False)
    far = Step(0.0, 0.15, np.eye(4), rays, rays, np.zeros(0), 5.0, False)
    assert scale.length(near) == pytest.approx(np.linalg.norm([0.08, 0.01, 0.04]))
    assert scale.length(far) is None
    with pytest.raises(InputError, match="two poses"):
        GroundTruthScale(Trajectory(np.zeros(1), np.eye(4)[None]))


def test_propagated_scale_recovers_a_known_length() -> None:
    world, path = World(make_path(2, step_m=0.5)), make_path(2, step_m=0.5)
    (p0, in0), (p1, in1) = world.see(0), world.see(1)
    both = in0 & in1
    motion = np.linalg.inv(path.poses[1]) @ path.poses[0]
    length = np.linalg.norm(motion[:3, 3])
    unit = motion.copy()
    unit[:3, 3] /= length
    depth = world.points[both, 2]
    step = Step(0.0, 0.1, unit, CAMERA.normalize(p0[both]), CAMERA.normalize(p1[both]), depth, 20.0, False)
    assert PropagatedScale().length(step) == pytest.approx(length, rel=1e-6)
