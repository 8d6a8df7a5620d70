"""Triangulation and back-projection against known points."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_scenes import FREIBURG1, PINHOLE, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from slamfeat.errors import InputError
from slamfeat.geometry import backproject, depth_at, parallax_deg, triangulate
from slamfeat.geometry.se3 import make_pose, transform_points
from slamfeat.types import Camera, PixelMap

SEEDS = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.01, 3.0))
def test_exact_rays_meet_in_the_point(seed: int, baseline: float) -> None:
    scene = make_scene(seed, baseline=baseline, depth=(4.0, 40.0))
    n0 = scene.points[:, :2] / scene.points[:, 2:]
    local = transform_points(scene.T_1_0, scene.points)
    points = triangulate(scene.T_1_0, n0, local[:, :2] / local[:, 2:])
    seen = local[:, 2] > 0
    assert np.allclose(points[seen], scene.points[seen], rtol=1e-6)
    assert np.isnan(points[~seen]).all()


def test_reprojection_is_the_least_possible() -> None:
    scene = make_scene(0, noise=1.0, baseline=1.0)
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    points = triangulate(scene.T_1_0, n0, n1)

    def cost(candidates: np.ndarray) -> np.ndarray:
        local = transform_points(scene.T_1_0, candidates)
        return (((candidates[:, :2] / candidates[:, 2:] - n0) ** 2) + ((local[:, :2] / local[:, 2:] - n1) ** 2)).sum(1)

    best, rng = cost(points), np.random.default_rng(0)
    for size in (1e-2, 1e-3, 1e-4):
        nudged = points + rng.normal(0, size, points.shape)
        assert (cost(nudged) >= best - 1e-12).all()


def test_behind_the_camera_and_small_parallax_are_rejected() -> None:
    T = make_pose(np.eye(3), [-1.0, 0.0, 0.0])
    n0, n1 = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.array([[-0.5, 0.0], [0.5, 0.0], [-1e-3, 0.0]])
    points = triangulate(T, n0, n1, min_parallax_deg=0.5)
    assert np.allclose(points[0], [0, 0, 2.0])
    assert np.isnan(points[1:]).all()
    assert np.allclose(parallax_deg(T, n0, n1), np.degrees(np.arctan([0.5, 0.5, 1e-3])))
    assert np.isnan(triangulate(np.eye(4), n0, n0)).all()


def plane_depth(camera: Camera, normal: tuple[float, float, float], distance: float) -> np.ndarray:
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.column_stack([camera.normalize(np.column_stack([x.ravel(), y.ravel()])), np.ones(x.size)])
    return (distance / (rays @ np.array(normal))).reshape(camera.height, camera.width)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_backprojection_lands_on_the_plane(seed: int) -> None:
    normal = (0.1, -0.2, 1.0)
    camera = FREIBURG1.mapped(PixelMap((0.1, 0.1)), (64, 48))
    pixels = np.random.default_rng(seed).integers([0, 0], [64, 48], (50, 2)).astype(float)
    points = backproject(pixels, plane_depth(camera, normal, 2.0), camera, max_jump=0.2)
    assert np.allclose(points @ np.array(normal), 2.0, rtol=1e-6)
    assert np.allclose(camera.project(points), pixels, atol=1e-6)


def test_depth_lookup() -> None:
    depth = np.full((10, 12), 2.0)
    depth[:, 6:] = 4.0
    depth[4, 2], depth[0, 0] = 0.0, np.nan
    points = np.array(
        [[1.2, 1.4], [2.0, 4.0], [0.0, 0.0], [5.6, 5.0], [9.4, 9.4], [11.49, 0], [11.5, 0], [-0.6, 3], [np.nan, 1]]
    )
    found = depth_at(points, depth)
    assert np.allclose(found[[0, 1, 2, 4, 5]], [2, 2, 2, 4, 4])  # holes take the nearest valid depth
    assert np.isnan(found[[3, 6, 7, 8]]).all()  # a jump, outside right, outside left, not a number
    assert np.isnan(depth_at([[5.0, 5.0]], np.zeros((10, 12)))).all()
    assert depth_at([[5.6, 5.0]], depth, max_jump=2.0)[0] == 4.0


def test_wrong_depth() -> None:
    with pytest.raises(InputError, match="320x240 but the camera is 640x480; register"):
        backproject([[1.0, 1.0]], np.ones((240, 320)), PINHOLE)
    with pytest.raises(InputError, match="one channel"):
        depth_at([[1.0, 1.0]], np.ones((4, 4, 3)))
