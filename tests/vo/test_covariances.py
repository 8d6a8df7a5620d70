"""Covariances of the frontend's matches in the odometry, where half of the points are seen ten times as exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_odometry import track
from world import CAMERA, COUNT, World, make_path, make_points

from slamfeat.bench.config import BenchConfig
from slamfeat.geometry.se3 import invert, transform_points
from slamfeat.types import Features, Matches, Trajectory
from slamfeat.vo import GroundTruthScale, OdometryConfig
from slamfeat.vo.keyframe import Correspondences
from slamfeat.vo.motion import Motion, monocular_motion, rgbd_motion, stereo_motion


class UnevenWorld(World):
    """Its matches say how exact they are."""

    def __init__(self, path: Trajectory, tells: bool = True) -> None:
        """`tells`: or they do not."""
        self.tells = tells
        super().__init__(path)
        self.deviations = np.where(np.random.default_rng(0).random(COUNT) < 0.5, 0.1, 1.0)
        self.noise = self.deviations[:, None]  # type: ignore[assignment]

    def match(self, features0: Features, features1: Features) -> Matches:
        """Point k matches point k."""
        matches = super().match(features0, features1)
        spread = torch.from_numpy(2 * self.deviations**2)[:, None, None] * torch.eye(2)
        return replace(matches, covariances=spread[None] * matches.mask[..., None, None]) if self.tells else matches


def run(tells: bool, covariances: bool) -> np.ndarray:
    """Positions (N, 3) less the true ones."""
    path = make_path()
    world, config = UnevenWorld(path, tells), OdometryConfig(covariances=covariances)
    return track(world, scale=GroundTruthScale(path), config=config).trajectory.positions - path.positions


def test_the_trajectory_is_better_with_covariances_by_a_quarter() -> None:
    """Root mean square."""
    weighted, even = run(True, True), run(True, False)
    assert np.sqrt((weighted**2).sum(1).mean()) < 0.75 * np.sqrt((even**2).sum(1).mean())


def test_switched_off_is_as_if_the_frontend_gave_none() -> None:
    assert np.array_equal(run(True, False), run(False, True))


def test_correspondences_carry_covariances() -> None:
    world = UnevenWorld(make_path())
    first, last = (world.extract(world.frames()[i].image) for i in (0, 9))
    found = Correspondences.of(world.match(first, last))
    assert found.covariances is not None
    wanted = 2 * world.deviations[found.slots, None, None] ** 2 * np.eye(2)
    assert np.array_equal(found.covariances, wanted)
    world.tells = False
    assert Correspondences.of(world.match(first, last)).covariances is None


@pytest.mark.parametrize("mode", ["mono", "rgbd", "stereo"])
def test_every_mode_weighs_its_matches(mode: str) -> None:
    """Errors of the direction of the motion, summed over the seeds; some of the points have no depth."""
    pose, points = invert(make_path().poses[9]), make_points()
    truth = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
    depths = points[:, 2].copy()
    depths[::5] = np.nan
    errors = {True: 0.0, False: 0.0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        deviations = np.where(rng.random(COUNT) < 0.5, 0.1, 1.0)
        points0, points1 = CAMERA.project(points), CAMERA.project(transform_points(pose, points))
        points1 += deviations[:, None] * rng.normal(size=(COUNT, 2))
        for told in errors:
            covariances = deviations[:, None, None] ** 2 * np.eye(2) if told else None
            motion = _motion(mode, points0, points1, depths, covariances)
            errors[told] += float(np.linalg.norm(motion.pose[:3, 3] / np.linalg.norm(motion.pose[:3, 3]) - truth))
    assert errors[True] < 0.75 * errors[False]


def _motion(
    mode: str, points0: np.ndarray, points1: np.ndarray, depths: np.ndarray, covariances: np.ndarray | None
) -> Motion:
    config = OdometryConfig()
    if mode == "mono":
        found = monocular_motion(points0, points1, CAMERA, config, covariances)
    elif mode == "stereo":
        found = stereo_motion(points0, points1, depths, CAMERA, config, covariances)
    else:
        depth = np.zeros((480, 640), np.float32)
        inside = ((points0 > 0) & (points0 < [639, 479])).all(1)
        columns, rows = np.round(points0[inside]).astype(int).T
        depth[rows, columns] = np.nan_to_num(depths[inside])
        found = rgbd_motion(points0, points1, depth, CAMERA, config, covariances)
    assert found is not None
    return found


def test_the_benchmark_weighs_no_matches() -> None:
    """All frontends have the same odometry there, and few of them know how exact they are."""
    assert OdometryConfig().covariances and not BenchConfig().odometry.covariances
