"""Training pairs from a ScanNet scene, whose depth maps are smaller than its images: against a plane's homography."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from data.builders import make_scannet, scannet_scaling

from slamfeat.data import open_sequence
from slamfeat.geometry.se3 import make_pose
from slamfeat.train.pairs import HIDDEN, VISIBLE
from slamfeat.train.sequences import PosedDepthPairs, SequenceConfig

K = np.array([[1170.188, 0, 660.5], [0, 1170.188, 470.25], [0, 0, 1]])
NORMAL, DISTANCE = np.array([0.3, -0.2, 0.933]), 2.5


def plane_depth(K: np.ndarray, size: tuple[int, int], pose: np.ndarray) -> np.ndarray:
    """Depth (H, W) of the plane NORMAL . X = DISTANCE of the world."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T @ pose[:3, :3].T
    depth: np.ndarray = (DISTANCE - NORMAL @ pose[:3, 3]) / (rays @ NORMAL)
    return depth


def test_correspondences_are_those_of_the_planes_homography(tmp_path: Path) -> None:
    """H = K (R + t n^T / d) K^-1 (Hartley and Zisserman 13.1), n and d of the plane in the first camera."""
    turn = cv2.Rodrigues(np.array([0.05, -0.1, 0.1]))[0]
    poses = np.array([np.eye(4), make_pose(turn, [0.3, -0.1, 0.2]), np.full((4, 4), -np.inf)])
    small = scannet_scaling((640, 480)) @ K
    depths = np.array([plane_depth(small, (640, 480), pose) for pose in (poses[0], poses[1], poses[0])])
    root = make_scannet(tmp_path / "scene0000_00", poses, depths, (1296, 968), K)
    source = PosedDepthPairs(open_sequence(root), SequenceConfig(min_overlap=0.0))
    pairs = [source.pair(i) for i in range(8)]
    assert {pair.name.split(" ", 1)[1] for pair in pairs} == {"frames 0 and 1", "frames 1 and 0"}  # 2 was lost
    pair = next(pair for pair in pairs if pair.name.endswith("0 and 1"))
    T = np.linalg.inv(poses[1])
    np.testing.assert_allclose(pair.T_1_0, T, atol=2e-6)
    np.testing.assert_allclose(pair.K0, K, atol=1e-5)
    H = K @ (T[:3, :3] + np.outer(T[:3, 3], NORMAL) / DISTANCE) @ np.linalg.inv(K)
    points = np.random.default_rng(0).uniform((20, 20), (1275, 947), (2000, 2))
    expected = cv2.perspectiveTransform(points[None], H)[0]
    within = ((expected >= 8) & (expected <= (1287, 959))).all(1)
    outside = ((expected < -8) | (expected > (1303, 975))).any(1)
    for moved, start, end in (
        (pair.transfer.forth(points), within, expected),
        (pair.transfer.back(expected[within]), np.full(within.sum(), True), points[within]),
    ):
        visible = moved.state == VISIBLE
        assert visible[start].mean() > 0.95
        # The nearest depth is up to half a pixel of the depth map off: a millimetre or so on this plane.
        np.testing.assert_allclose(moved.points[visible], end[visible], atol=0.5)
    assert (pair.transfer.forth(points).state[outside] == HIDDEN).all() and outside.any()
