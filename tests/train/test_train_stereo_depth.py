"""Depth matched from stereo pairs, and training pairs over time from it, against rendered rooms of known depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data.builders import make_kitti, picture
from room_scenes import covered, rectangle, room

from slamfeat.data import open_sequence
from slamfeat.data.records import StereoRig
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import make_pose
from slamfeat.train.pairs import HIDDEN, VISIBLE
from slamfeat.train.room_render import Rendered, render
from slamfeat.train.rooms import Room
from slamfeat.train.sequence_labels import DepthTransfer, View
from slamfeat.train.sequences import PosedDepthPairs, SequenceConfig, StereoPairs
from slamfeat.train.stereo_depth import StereoDepthMaps
from slamfeat.types import Camera

SIZE = (640, 480)
LEFT = Camera(*SIZE, 500.0, 505.0, 321.3, 236.8)
RIGHT = Camera(*SIZE, 490.0, 488.0, 310.0, 245.0)
DISTORTED = (-0.28, 0.07, 2e-4, 2e-5)  # as EuRoC's


def boards() -> Room:
    """A wall at 7 m, seen at 14 px of disparity at 0.2 m, and two boards before it, one of them slanted."""
    return room(
        rectangle([-9, -6, 7], [18, 0, 0], [0, 12, 0], covered(picture(0, (900, 600)))),
        rectangle([-1.5, -1.5, 4], [2, 0, 0.5], [0, 2.5, 0], covered(picture(1, (300, 300)))),
        rectangle([0.9, -1, 5], [2, 0, -1], [0, 2, 0], covered(picture(2, (300, 300)))),
    )


def through_lens(seen: Rendered, pinhole: Camera, dist: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth that a lens makes of a pinhole's, by OpenCV's undistortion of every pixel."""
    x, y = np.meshgrid(np.arange(pinhole.width), np.arange(pinhole.height))
    pixels = np.stack([x, y], -1).reshape(-1, 1, 2).astype(np.float64)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-12)
    flat = cv2.undistortPoints(pixels, pinhole.K, np.array(dist), None, None, pinhole.K, criteria)
    where = flat.reshape(pinhole.height, pinhole.width, 2).astype(np.float32)
    image = cv2.remap(seen.image, where, None, cv2.INTER_CUBIC)
    return image, cv2.remap(seen.depth, where, None, cv2.INTER_NEAREST)


@pytest.mark.parametrize("dist", [(), DISTORTED])
def test_depth_of_a_turned_and_distorted_rig(dist: tuple[float, ...]) -> None:
    turn = cv2.Rodrigues(np.radians([1.0, -2.0, 1.5]))[0]
    T_left_right = make_pose(turn, [0.2, 0.01, -0.02])
    left, right = render(boards(), LEFT.K, np.eye(4), SIZE), render(boards(), RIGHT.K, T_left_right, SIZE)
    images, cameras, truth = (left.image, right.image), (LEFT, RIGHT), left.depth
    if dist:
        (image0, truth), (image1, _) = through_lens(left, LEFT, dist), through_lens(right, RIGHT, dist)
        images = image0, image1
        cameras = Camera(*SIZE, *intrinsics(LEFT), dist), Camera(*SIZE, *intrinsics(RIGHT), dist)
    depth = StereoDepthMaps(cameras[0], StereoRig(cameras[1], T_left_right)).depth(*images)
    assert depth.shape == (480, 640) and depth.dtype == np.float32
    known = (depth > 0) & (truth > 0)
    error = np.abs(depth - truth)[known] / truth[known]
    assert known.mean() > 0.6 and np.median(error) < 0.01 and np.mean(error > 0.05) < 0.03


def intrinsics(camera: Camera) -> tuple[float, float, float, float]:
    return camera.fx, camera.fy, camera.cx, camera.cy


def test_far_and_unmatched_places_are_unknown() -> None:
    """Of 500 px and 0.05 m, a wall at 7 m has 3.6 px of disparity; a right image of something else has none."""
    scene, near, far = boards(), make_pose(np.eye(3), [0.2, 0, 0]), make_pose(np.eye(3), [0.05, 0, 0])
    left, right = (render(scene, LEFT.K, pose, SIZE) for pose in (np.eye(4), far))
    depth = StereoDepthMaps(LEFT, StereoRig(LEFT, far)).depth(left.image, right.image)
    assert (depth[left.depth > 6] > 0).mean() < 0.02
    other = picture(7, SIZE)
    assert (StereoDepthMaps(LEFT, StereoRig(LEFT, near)).depth(left.image, other) > 0).mean() < 0.1


def make_stereo(root: Path, poses: np.ndarray) -> list[Rendered]:
    """KITTI's layout of the boards seen by a rectified rig of 0.2 m; what the left camera saw."""
    make_kitti(root, poses[:, :3])
    rows = [" ".join(map(repr, np.column_stack([LEFT.K, LEFT.K @ [x, 0, 0]]).ravel().tolist())) for x in (0.0, -0.2)]
    (root / "calib.txt").write_text("".join(f"P{i}: {row}\n" for i, row in enumerate(rows)))
    seen = []
    for i, pose in enumerate(poses):
        for camera in (0, 1):
            view = render(boards(), LEFT.K, pose @ make_pose(np.eye(3), [0.2 * camera, 0, 0]), SIZE)
            cv2.imwrite(str(root / f"image_{camera}" / f"{i:06d}.png"), view.image[..., ::-1])
            seen += [view] if camera == 0 else []
    return seen


def test_pairs_over_time_agree_with_rendered_depth(tmp_path: Path) -> None:
    poses = np.array([np.eye(4), make_pose(cv2.Rodrigues(np.array([0.02, -0.06, 0.05]))[0], [0.5, -0.1, 0.8])])
    seen = make_stereo(tmp_path / "00", poses)
    sequence = open_sequence(tmp_path / "00")
    assert "rgbd" not in sequence.modes
    source = PosedDepthPairs(sequence, SequenceConfig(min_overlap=0.0))
    pair = next(pair for pair in map(source.pair, range(20)) if pair.name.endswith("0 and 1"))
    np.testing.assert_allclose(pair.T_1_0, np.linalg.inv(poses[1]), atol=1e-5)
    np.testing.assert_array_equal(pair.image1, seen[1].image)
    truth = DepthTransfer(*(View(LEFT, view.depth) for view in seen), np.linalg.inv(poses[1]))
    points = np.random.default_rng(0).uniform((0, 0), (639, 479), (5000, 2))
    moved, expected = pair.transfer.forth(points), truth.forth(points)
    visible = moved.state == VISIBLE
    error = np.linalg.norm(moved.points - expected.points, axis=1)
    assert visible[expected.state == VISIBLE].mean() > 0.5
    agreed = visible & (expected.state == VISIBLE)
    assert np.median(error[agreed]) < 0.8 and np.mean(error[agreed] > 2) < 0.01
    assert (expected.state[visible] == HIDDEN).mean() < 0.01
    hidden = (moved.state == HIDDEN) & (expected.state != HIDDEN)
    assert hidden.mean() < 0.02


def test_errors(tmp_path: Path) -> None:
    for place in ([0, 0.2, 0], [-0.2, 0, 0], [0, 0, 0]):
        with pytest.raises(InputError, match="not to the right of the left one"):
            StereoDepthMaps(LEFT, StereoRig(RIGHT, make_pose(np.eye(3), place)))
    make_kitti(tmp_path / "00", np.tile(np.eye(3, 4), (3, 1, 1)))
    with pytest.raises(InputError, match=r"no frame has both.*data\.sequences"):
        StereoPairs(open_sequence(tmp_path / "00"))
    (tmp_path / "00" / "poses.txt").unlink()
    with pytest.raises(InputError, match="no ground truth"):
        PosedDepthPairs(open_sequence(tmp_path / "00"))
