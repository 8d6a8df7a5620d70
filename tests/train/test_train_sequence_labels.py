"""Transfers through depth maps, against planes and boxes worked out by hand, and against what real pictures show."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.errors import ConfigError
from slamfeat.geometry.se3 import make_pose
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE
from slamfeat.train.sequence_labels import DepthConfig, DepthTransfer, View, rendered_depth
from slamfeat.types import Camera

PINHOLE = Camera(320, 240, 300.0, 310.0, 158.0, 121.0)
FREIBURG1 = Camera(640, 480, 517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))
BARREL = Camera(320, 240, 300.0, 300.0, 159.5, 119.5, (-0.3, 0.0, 0.0, 0.0))


def pixels(camera: Camera, step: int = 1) -> np.ndarray:
    x, y = np.meshgrid(np.arange(0, camera.width, step), np.arange(0, camera.height, step))
    return np.stack([x, y], -1).reshape(-1, 2).astype(np.float64)


def plane_depth(camera: Camera, normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth (H, W) of the plane normal . X = distance, seen without distortion."""
    rays = np.column_stack([pixels(camera), np.ones(camera.width * camera.height)]) @ np.linalg.inv(camera.K).T
    return (distance / (rays @ normal)).reshape(camera.height, camera.width)


def moved_plane(T: np.ndarray, normal: np.ndarray, distance: float) -> tuple[np.ndarray, float]:
    turned = T[:3, :3] @ normal
    return turned, distance + float(turned @ T[:3, 3])


def test_a_plane_is_transferred_by_its_homography() -> None:
    """H = K (R + t n^T / d) K^-1 for the plane n . X = d (Hartley and Zisserman 13.1)."""
    normal, distance = np.array([0.3, -0.2, 0.933]), 2.5
    T = make_pose(cv2.Rodrigues(np.array([0.05, -0.15, 0.2]))[0], [0.4, -0.1, 0.3])
    views = [
        View(PINHOLE, plane_depth(PINHOLE, *plane)) for plane in ((normal, distance), moved_plane(T, normal, distance))
    ]
    transfer = DepthTransfer(*views, T)
    H = PINHOLE.K @ (T[:3, :3] + np.outer(T[:3, 3], normal) / distance) @ np.linalg.inv(PINHOLE.K)
    points = np.random.default_rng(0).uniform(0, (319, 239), (2000, 2))
    for moved, homography in ((transfer.forth(points), H), (transfer.back(points), np.linalg.inv(H))):
        expected = cv2.perspectiveTransform(points[None], homography)[0]
        np.testing.assert_allclose(moved.points, expected, atol=1e-6)
        within = ((expected >= -0.5) & (expected <= (319.5, 239.5))).all(1)
        assert moved.state.dtype == np.int8 and 0.3 < within.mean() < 0.95
        np.testing.assert_array_equal(moved.state, np.where(within, VISIBLE, HIDDEN))


def test_distortion_is_that_of_opencv() -> None:
    """A wall 2 m ahead, the camera 0.3 m to the right and turned: cv2 alone undistorts, moves and projects."""
    T = make_pose(cv2.Rodrigues(np.array([0.0, 0.1, 0.05]))[0], [-0.3, 0, 0])
    wall = np.array([0, 0, 1.0])
    turned, distance = moved_plane(T, wall, 2.0)
    K, dist = FREIBURG1.K, np.array(FREIBURG1.dist)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-12)

    def rays(points: np.ndarray) -> np.ndarray:
        flat = cv2.undistortPoints(points[:, None], K, dist, None, None, None, criteria)[:, 0]
        return np.column_stack([flat, np.ones(len(flat))])

    depth1 = (distance / (rays(pixels(FREIBURG1)) @ turned)).reshape(480, 640)
    transfer = DepthTransfer(View(FREIBURG1, np.full((480, 640), 2.0)), View(FREIBURG1, depth1), T)
    points = np.random.default_rng(1).uniform((20, 20), (620, 460), (500, 2))
    expected = cv2.projectPoints(rays(points) * 2.0, cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], K, dist)[0][:, 0]
    moved = transfer.forth(points)
    within = ((expected > 0) & (expected < (639, 479))).all(1)
    np.testing.assert_allclose(moved.points[within], expected[within], atol=2e-3)
    assert (moved.state[within] == VISIBLE).all() and within.sum() > 200
    again = transfer.back(moved.points[within])
    np.testing.assert_allclose(again.points, points[within], atol=2e-2)


def test_far_outside_distortion_does_not_fold_points_back_into_the_image() -> None:
    """r - 0.3 r^3 grows up to r = 1.05 only: at 1.6, or 58 degrees, it is 0.37 again, which is in the image."""
    T = make_pose(cv2.Rodrigues(np.array([0.0, np.radians(58), 0.0]))[0], [0, 0, 0])
    view = View(BARREL, np.full((240, 320), 2.0))
    middle = np.random.default_rng(0).uniform((150, 100), (162, 140), (50, 2))
    xyz = np.column_stack([BARREL.normalize(middle), np.ones(len(middle))]) @ T[:3, :3].T
    folded = BARREL.project(xyz)
    assert ((folded > 0) & (folded < (319, 239))).all()
    moved = DepthTransfer(view, view, T).forth(middle)
    assert (moved.state == HIDDEN).all() and np.isfinite(moved.points).all()


def box_scene() -> tuple[DepthTransfer, np.ndarray]:
    """A wall at 4 m, and a box at 2 m over x 140..179, y 100..139; the second camera is 0.4 m to the right."""
    wall, box = 4.0, 2.0
    camera = Camera(320, 240, 300.0, 300.0, 159.5, 119.5)
    depths = [np.full((240, 320), wall, np.float32) for _ in range(2)]
    depths[0][100:140, 140:180] = box
    depths[1][100:140, 80:120] = box  # 300 * 0.4 / 2 = 60 px to the left; the wall moves by 30
    views = [View(camera, depth) for depth in depths]
    return DepthTransfer(*views, make_pose(np.eye(3), [-0.4, 0, 0])), pixels(camera)


def test_what_the_box_covers_is_hidden_and_its_edges_are_unknown() -> None:
    transfer, points = box_scene()
    x, y = points.T
    moved = transfer.forth(points + 0.25)
    on_box = (x >= 140) & (x < 179) & (y >= 100) & (y < 139)
    assert (moved.state[on_box] == VISIBLE).all()
    np.testing.assert_allclose(moved.points[on_box], points[on_box] + (0.25 - 60, 0.25), atol=1e-4)
    # The wall at x - 30 in 80..119 is behind the box.
    covered = (x >= 110) & (x < 139) & (y >= 100) & (y < 139)
    assert (moved.state[covered] == HIDDEN).all()
    np.testing.assert_allclose(moved.points[covered], points[covered] + (0.25 - 30, 0.25), atol=1e-4)
    edge = ((x == 139) | (x == 179)) & (y >= 100) & (y < 139)
    assert (moved.state[edge] == UNKNOWN).all()
    wall = (y < 95) & (x >= 31)
    assert (moved.state[wall] == VISIBLE).all()
    assert (moved.state[(x < 28) & (y < 95)] == HIDDEN).all()
    # What the first camera saw covered: the wall at x + 30 in 140..179.
    back = transfer.back(points + 0.25)
    assert (back.state[(x >= 120) & (x < 149) & (y >= 100) & (y < 139)] == HIDDEN).all()


@pytest.mark.parametrize(
    ("there", "state"),
    [(2.0, VISIBLE), (2.06, VISIBLE), (2.6, UNKNOWN), (1.85, UNKNOWN), (1.5, HIDDEN), (0.0, UNKNOWN)],
)
def test_the_other_map_decides(there: float, state: int) -> None:
    """A point 2 m ahead of a camera that stands still: before, at, behind and nowhere near the other map's surface."""
    views = [View(PINHOLE, np.full((240, 320), depth, np.float32)) for depth in (2.0, there)]
    assert DepthTransfer(*views, np.eye(4)).forth(np.array([[100.3, 50.7]])).state.tolist() == [state]


def test_unknown_depth_and_what_is_behind_the_camera() -> None:
    depth = np.full((240, 320), 2.0, np.float32)
    depth[50, 100] = 0
    view = View(PINHOLE, depth)
    points = np.array([[99.5, 50.0], [100.0, 49.5], [101.5, 50.0], [319.4, 100.0], [320.0, 100.0]])
    moved = DepthTransfer(view, view, np.eye(4)).forth(points)
    assert moved.state.tolist() == [UNKNOWN, UNKNOWN, VISIBLE, VISIBLE, UNKNOWN] and np.isfinite(moved.points).all()
    turned = DepthTransfer(view, view, make_pose(np.diag([-1.0, 1.0, -1.0]), [0, 0, 0])).forth(points)
    assert turned.state.tolist() == [UNKNOWN, UNKNOWN, HIDDEN, HIDDEN, UNKNOWN] and np.isfinite(turned.points).all()
    empty = DepthTransfer(view, view, np.eye(4)).forth(np.zeros((0, 2)))
    assert empty.points.shape == (0, 2) and empty.state.shape == (0,)


def test_a_depth_that_is_nearly_right_is_not_trusted_at_a_wide_baseline() -> None:
    """4 % of depth passes as the same surface, but moves a point by 300 * 1 m / 2 m * 4 % = 6 px on its way back."""
    views = [View(PINHOLE, np.full((240, 320), depth, np.float32)) for depth in (2.0, 2.08)]
    for baseline, state in ((0.1, VISIBLE), (1.0, UNKNOWN)):
        moved = DepthTransfer(*views, make_pose(np.eye(3), [-baseline, 0, 0])).forth(np.array([[250.0, 100.0]]))
        assert moved.state.tolist() == [state]


def test_rendered_depth_keeps_the_nearest() -> None:
    transfer, _ = box_scene()
    depth = rendered_depth(transfer.view0, transfer.view1.camera, transfer.T_1_0)
    np.testing.assert_array_equal(depth[:90, :290], 4.0)
    np.testing.assert_array_equal(depth[101:139, 81:119], 2.0)
    np.testing.assert_array_equal(depth[101:139, 121:149], 0)  # seen by nobody: the box hid it from the first camera
    np.testing.assert_array_equal(depth[:, 291:], 0)


def test_real_pictures_move_as_the_transfer_says(sample: Path) -> None:
    """Depth maps, lens and labels of TUM fr1/rpy against optical flow, under OpenCV's pose from that flow.

    Under the motion capture's own pose the two differ by about 3 px: it is 0.4 degrees off between frames of this
    fast-turning sequence, whose clocks differ too.
    """
    sequence, medians, shares = open_sequence(sample), [], []
    for first in range(2, 50, 8):
        frames = [sequence[first], sequence[first + 1]]
        p, q = tracks(*(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in frames))
        views = [View(sequence.camera, frame.depth) for frame in frames]
        depth, known = views[0].depth_at(p, 0.05)
        xyz, flat = views[0].backproject(p[known], depth[known]), sequence.camera.normalize(q[known])
        _, turn, shift, _ = cv2.solvePnPRansac(xyz, flat, np.eye(3), None, reprojectionError=2 / 517)
        moved = DepthTransfer(*views, make_pose(cv2.Rodrigues(turn)[0], shift)).forth(p)
        visible = moved.state == VISIBLE
        medians.append(np.median(np.linalg.norm(moved.points - q, axis=1)[visible]))
        shares.append(visible.mean())
    assert np.median(medians) < 1.2 and max(medians) < 2.5 and np.mean(shares) > 0.4


def tracks(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners followed there and back by Lucas and Kanade's method."""
    p = cv2.goodFeaturesToTrack(first, 200, 0.01, 8)
    q, found, _ = cv2.calcOpticalFlowPyrLK(first, second, p, None, winSize=(21, 21), maxLevel=4)
    again, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, q, None, winSize=(21, 21), maxLevel=4)
    kept = (found[:, 0] == 1) & (returned[:, 0] == 1) & (np.linalg.norm(again - p, axis=2)[:, 0] < 0.3)
    return p[kept, 0].astype(np.float64), q[kept, 0].astype(np.float64)


def test_config_is_checked() -> None:
    for settings in ({"tolerance": 0.2}, {"agreement": 0.0}, {"cycle_px": 0.0}):
        with pytest.raises(ConfigError):
            DepthConfig(**settings)
