"""Odometry that extracts features on keyframes only, in a rendered room where the truth is known exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from room import CAMERA, RIG, CountingFrontend, make_frames, make_path, render
from scipy.spatial.transform import Rotation

from benchmarks.peers.opencv import OpenCVFrontend
from slamfeat.errors import ConfigError
from slamfeat.frontend import FeatureFrontend, Frontend, FrontendConfig
from slamfeat.geometry.se3 import Array, invert, make_pose, rotation_angle_deg, transform_points
from slamfeat.geometry.triangulate import backproject
from slamfeat.types import Features, Frame, Trajectory
from slamfeat.vo import GroundTruthScale, Odometry, OdometryConfig
from slamfeat.vo.carry import KeypointCarrier
from slamfeat.vo.run import RunResult


@pytest.fixture(scope="module")
def default_frontend() -> Frontend:
    return Frontend.from_pretrained("default", config=FrontendConfig(num_keypoints=400))


def run(
    frames: list[Frame], path: Trajectory, mode: str = "rgbd", peer: FeatureFrontend | None = None, **settings: object
) -> Odometry:
    frontend = CountingFrontend(peer or OpenCVFrontend("sift", 400))
    config = OdometryConfig(**{"between_keyframes": "track", "keyframe_px": 15.0, **settings})  # type: ignore[arg-type]
    odometry = Odometry(frontend, CAMERA, mode, config, GroundTruthScale(path), RIG)  # type: ignore[arg-type]
    for frame in frames:
        odometry.track(frame)
    return odometry


def blank(frame: Frame) -> Frame:
    return replace(frame, image=np.full_like(frame.image, 128))


def errors_m(odometry: Odometry, path: Trajectory) -> Array:
    found = odometry.trajectory
    truth = path.positions[np.searchsorted(path.timestamps, found.timestamps)]
    return np.asarray(np.linalg.norm(found.positions - truth, axis=1))


def grid_features() -> Features:
    x, y = np.meshgrid(np.arange(30, 290, 20), np.arange(30, 210, 20))
    points = torch.from_numpy(np.stack([x.ravel(), y.ravel()], -1)[None]).float()
    ones = torch.ones(points.shape[:2])
    return Features(points, ones, ones[..., None], ones.bool(), torch.tensor([[320, 240]]))


def expected(features: Features, pose: Array) -> Array:
    """Where the keypoints of a camera at the origin are seen from `pose`."""
    points = features.keypoints[0].double().numpy()
    return CAMERA.project(transform_points(invert(pose), backproject(points, render(np.eye(4))[1], CAMERA)))


@pytest.mark.parametrize("mode", ["mono", "rgbd", "stereo"])
def test_carried_frames_are_as_exact_and_only_keyframes_are_extracted(mode: str, default_frontend: Frontend) -> None:
    path = make_path()
    frames = make_frames(path, right=mode == "stereo")
    every, carried = (
        run(frames, path, mode, default_frontend, between_keyframes=word) for word in ("extract", "track")
    )
    assert len(carried.trajectory) == len(path)
    keyframes = [report.index for report in carried.reports if report.keyframe]
    assert 2 < len(keyframes) < len(path) / 2
    assert [report.index for report in carried.reports if report.extracted] == keyframes
    assert all(report.carried == (report.index > 0) for report in carried.reports)
    images = 2 if mode == "stereo" else 1
    assert carried.frontend.extractions == images * len(keyframes)  # type: ignore[attr-defined]
    assert not any(report.carried for report in every.reports)
    assert errors_m(carried, path).max() < 1.25 * errors_m(every, path).max() + 0.001
    assert errors_m(carried, path).max() < 0.02
    assert rotation_angle_deg(np.linalg.inv(carried.trajectory.poses) @ path.poses).max() < 0.2


def test_positions_do_not_drift_from_the_keyframe() -> None:
    """To and fro for many frames: errors of following from frame to frame would add up."""
    features, poses = grid_features(), make_path(6).poses
    carrier = KeypointCarrier(features, render(poses[0])[0])
    for _ in range(4):
        for pose in [*poses[1:], *poses[-2::-1]]:
            found = carrier.advance(render(pose)[0])
            error = np.linalg.norm(found.points1 - expected(features, pose)[found.slots], axis=1)
            assert len(found) > 80
            assert np.median(error) < 0.15
    # Back at the keyframe nothing is left of forty steps.
    assert np.median(error) < 0.01


def test_a_change_of_exposure_is_carried_through() -> None:
    features, poses = grid_features(), make_path(2).poses
    image = render(poses[1])[0]
    darker = (0.5 * image + 20).astype(np.uint8)
    plain, changed = (KeypointCarrier(features, render(poses[0])[0]).advance(seen) for seen in (image, darker))
    assert len(changed) > 0.9 * len(plain)
    assert np.median(np.linalg.norm(changed.points1 - expected(features, poses[1])[changed.slots], axis=1)) < 0.1


def test_keypoints_that_were_lost_come_back() -> None:
    """A hand covers half of one image; without it the keypoints are found again beside their neighbours."""
    features, poses = grid_features(), make_path(4).poses
    covered = render(poses[1])[0]
    covered[:, :160] = 0
    carrier = KeypointCarrier(features, render(poses[0])[0])
    few, many = carrier.advance(covered), carrier.advance(render(poses[2])[0])
    assert 30 < len(few) < 70
    assert len(many) > 90


def test_nothing_is_carried_where_there_is_no_texture() -> None:
    features, flat = grid_features(), np.full((240, 320, 3), 128, np.uint8)
    assert len(KeypointCarrier(features, render(np.eye(4))[0]).advance(flat)) == 0
    none = replace(features, mask=torch.zeros_like(features.mask))
    assert len(KeypointCarrier(none, flat).advance(flat)) == 0


@pytest.mark.parametrize("mode", ["mono", "rgbd"])
def test_a_sudden_jump_is_extracted_and_matched_at_once(mode: str) -> None:
    """The camera rolls by 60 degrees between two frames: too much to follow, but not for matching."""
    path = make_path(8)
    roll = make_pose(Rotation.from_euler("z", 60, degrees=True).as_matrix(), np.zeros(3))
    path.poses[4:] = path.poses[4:] @ roll
    odometry = run(make_frames(path), path, mode)
    assert all(report.tracked for report in odometry.reports)
    jump = odometry.reports[4]
    assert jump.extracted and not jump.carried
    assert "match" in jump.ms and "carry" in jump.ms and jump.extractions == 1
    assert all(report.carried for report in odometry.reports[5:])
    assert errors_m(odometry, path).max() < 0.03


@pytest.mark.parametrize("mode", ["mono", "rgbd", "stereo"])
def test_frames_without_texture_are_lost_and_carrying_goes_on_after_them(mode: str) -> None:
    path = make_path(10)
    frames = make_frames(path, right=mode == "stereo")
    frames[4:6] = [blank(frame) for frame in frames[4:6]]
    odometry = run(frames, path, mode)
    lost = [report.index for report in odometry.reports if not report.tracked]
    assert lost == [4, 5]
    assert all("too few" in odometry.reports[i].reason and odometry.reports[i].extracted for i in lost)
    assert odometry.reports[6].extracted and not odometry.reports[6].carried
    assert all(report.carried for report in odometry.reports[7:])
    assert errors_m(odometry, path).max() < 0.02


def test_after_a_reset_the_new_keyframe_is_carried() -> None:
    """After blank frames the camera looks at another wall: tracking resumes there from the last known pose."""
    path = make_path(14)
    away = make_pose(Rotation.from_euler("y", 180, degrees=True).as_matrix(), np.zeros(3))
    path.poses[7:] = path.poses[7:] @ away
    frames = make_frames(path)
    frames[4:7] = [blank(frame) for frame in frames[4:7]]
    reports = run(frames, path, reset_after=4).reports
    assert [report.index for report in reports if not report.tracked] == [4, 5, 6, 7]
    assert reports[7].keyframe
    assert all(report.carried for report in reports[8:])


def test_the_last_frame_is_extracted_when_it_must_stand_in_for_the_keyframe() -> None:
    """Turning without ever taking a keyframe: at some point the first frame shares nothing with the current one."""
    path = make_path(22, step_m=0.0, turn_deg=4.0)
    odometry = run(make_frames(path), path, keyframe_px=1e6, keyframe_ratio=0.0, min_inliers=40)
    assert all(report.tracked for report in odometry.reports)
    keyframes = sum(report.keyframe for report in odometry.reports)
    extracted = sum(report.extracted for report in odometry.reports)
    assert keyframes == 1 < extracted < len(path) / 2
    extractions = odometry.frontend.extractions  # type: ignore[attr-defined]
    assert sum(report.extractions for report in odometry.reports) == extractions > extracted
    result = RunResult(odometry.trajectory, odometry.reports, [], len(path), 1.0, None)
    assert result.backbone_percent == pytest.approx(100 * extractions / len(path))
    assert rotation_angle_deg(np.linalg.inv(odometry.trajectory.poses) @ path.poses).max() < 1.0


def test_the_time_of_a_carry_that_failed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on a second at each look: each stage takes as many seconds as it was gone through."""
    ticks = count()
    path = make_path(8)
    path.poses[4:] = path.poses[4:] @ make_pose(Rotation.from_euler("z", 12, degrees=True).as_matrix(), np.zeros(3))
    for module in ("odometry", "report"):
        monkeypatch.setattr(f"slamfeat.vo.{module}.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    reports = run(make_frames(path), path, keyframe_ratio=0.95).reports
    failed = [report for report in reports[1:] if not report.carried]
    assert failed and all(report.ms["pose"] == 2000 and report.ms["carry"] == 1000 for report in failed)
    assert all(report.ms["pose"] == 1000 for report in reports if report.carried)


def test_frames_without_depth_are_carried_but_never_become_keyframes() -> None:
    path = make_path()
    frames = [frame if frame.index % 2 == 0 else replace(frame, depth=None) for frame in make_frames(path)]
    odometry = run(frames, path)
    assert len(odometry.trajectory) == len(path)
    assert all(report.index % 2 == 0 for report in odometry.reports if report.extracted)
    assert errors_m(odometry, path).max() < 0.02


def test_the_share_of_backbone_frames_is_reported() -> None:
    path = make_path(10)
    odometry = run(make_frames(path), path)
    result = RunResult(odometry.trajectory, odometry.reports, [], 10, 1.0, None)
    assert not odometry.extracts_every_frame
    assert result.backbone_percent == 10.0 * odometry.frontend.extractions < 50  # type: ignore[attr-defined]


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="use one of extract, track"):
        OdometryConfig(between_keyframes="sometimes")
