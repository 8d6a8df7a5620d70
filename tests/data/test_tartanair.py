"""The TartanAir loader, against a synthetic scene described in TartanAir's own words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.data.tartanair import ned_to_camera
from slamfeat.errors import ImageError, InputError
from slamfeat.types import Camera

from .builders import make_tartanair, truncate

# tx ty tz qx qy qz qw in NED: at rest; 2 m forward; 1 m right and turned 90 degrees to the right (about z, down).
POSES = np.array([[0, 0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, np.sqrt(0.5), np.sqrt(0.5)]])
DEPTH = np.full((480, 640), 4.0, np.float32)


def test_motions_in_our_axes(tmp_path: Path) -> None:
    sequence = open_sequence(make_tartanair(tmp_path / "P000", POSES, DEPTH))
    assert sequence.kind == "tartanair" and sequence.groundtruth is not None
    poses = sequence.groundtruth.poses
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(poses[1][:3, 3], [0, 0, 2], atol=1e-9)  # forward is z
    np.testing.assert_allclose(poses[2][:3, 3], [1, 0, 0], atol=1e-9)  # right is x
    np.testing.assert_allclose(poses[2][:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-9)  # turned right: looks along x
    np.testing.assert_allclose(poses[2][:3, :3] @ [0, 1, 0], [0, 1, 0], atol=1e-9)  # down stays down


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotation by a unit quaternion x y z w, from its definition: v + 2 w (q x v) + 2 q x (q x v)."""
    axis, w = quaternion[:3], quaternion[3]
    return vector + 2 * w * np.cross(axis, vector) + 2 * np.cross(axis, np.cross(axis, vector))


def test_projections_agree_with_an_independent_formulation() -> None:
    """A NED camera projects u = 320 right/forward + 320, v = 320 down/forward + 240; ours must see the same pixels."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=(20, 3)), rng.normal(size=(20, 4))], axis=1)
    values[:, 3:] /= np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    stored = np.zeros((20, 4, 4))
    for pose, row in zip(stored, values, strict=True):
        pose[:3, :3] = np.stack([rotate(row[3:], axis) for axis in np.eye(3)], axis=1)
        pose[:3, 3], pose[3, 3] = row[:3], 1
    ours = ned_to_camera(stored)
    K = np.array([[320, 0, 320], [0, 320, 240], [0, 0, 1]])
    north_east_down = rng.normal(size=(500, 3)) * 5
    # The world is turned as well: our x, y, z are east, down, north.
    world = np.c_[north_east_down[:, 1], north_east_down[:, 2], north_east_down[:, 0], np.ones(500)]
    for row, pose in zip(values, ours, strict=True):
        inverse = row[3:] * [-1, -1, -1, 1]
        forward, right, down = np.array([rotate(inverse, p - row[:3]) for p in north_east_down]).T
        camera = (np.linalg.inv(pose) @ world.T)[:3]
        np.testing.assert_allclose(camera, [right, down, forward], atol=1e-9)
        seen = forward > 0.1
        pixels = K @ camera[:, seen]
        u, v = 320 * right[seen] / forward[seen] + 320, 320 * down[seen] / forward[seen] + 240
        np.testing.assert_allclose(pixels[:2] / pixels[2], [u, v], atol=1e-6)


def test_depth_maps_of_a_wall_agree_across_frames(tmp_path: Path) -> None:
    """A wall 4 m ahead of frame 0 is 2 m ahead of frame 1; the depth of one, moved by the poses, gives the other."""
    sequence = open_sequence(make_tartanair(tmp_path / "P000", POSES, DEPTH))
    frame, truth = sequence[0], sequence.groundtruth
    assert frame.depth is not None and truth is not None
    v, u = np.mgrid[0:480:40, 0:640:40].reshape(2, -1)
    z = frame.depth[v, u]
    points = np.stack([(u - 320) / 320 * z, (v - 240) / 320 * z, z, np.ones_like(z)])
    moved = np.linalg.inv(truth.poses[1]) @ truth.poses[0] @ points
    np.testing.assert_allclose(moved[2], 2.0, atol=1e-6)


@pytest.mark.parametrize("version", [1, 2])
def test_layouts(tmp_path: Path, version: int) -> None:
    depth = (np.arange(64 * 48, dtype=np.float32) / 100 + 0.125).reshape(48, 64)
    depth[0, 0], depth[0, 1] = np.inf, 12345.5
    root = make_tartanair(tmp_path / "office" / "Easy" / "P000", POSES, depth, version)
    sequence = open_sequence(root, fps=10)
    assert sequence.modes == ("mono", "rgbd", "stereo") and sequence.name == "office_Easy_P000"
    assert sequence.baseline == 0.25
    published = {1: Camera(640, 480, 320, 320, 320, 240), 2: Camera(640, 640, 320, 320, 320, 320)}
    assert sequence.camera == published[version]
    np.testing.assert_allclose(sequence.timestamps, [0, 0.1, 0.2])
    with pytest.raises(ImageError, match="64x48"):
        sequence[0]
    small = open_sequence(root, camera=Camera(64, 48, 32, 32, 32, 24))
    frame = small[2]
    assert frame.depth is not None and frame.right is not None
    expected = depth.copy()
    expected[0, 0] = 0
    np.testing.assert_array_equal(frame.depth, expected)


def test_broken_depth_is_an_image_error(tmp_path: Path) -> None:
    root = make_tartanair(tmp_path / "P000", POSES, DEPTH[:48, :64], 2)
    truncate(root / "depth_lcam_front/000001_lcam_front_depth.png")
    truncate(root / "image_lcam_front/000002_lcam_front.png")
    sequence = open_sequence(root, camera=Camera(64, 48, 32, 32, 32, 24))
    assert [frame.index for frame in sequence] == [0]
    assert len(list(sequence.for_mode("mono"))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0 0 0 0 1\n", "has 1 poses for 3 images"),
        ("0 0 0 0 0 0 1\n" * 2 + "0 0 0 0 0 0 0\n", "quaternion of pose 2 has length 0"),
        ("0 0 0 0 0 1\n" * 3, "line 1.*expected 7"),
        ("0 0 nan 0 0 0 1\n" * 3, "line 1.*not finite"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    root = make_tartanair(tmp_path / "P000", POSES, DEPTH[:48, :64])
    (root / "pose_left.txt").write_text(text)
    with pytest.raises(InputError, match=f"pose_left.txt.*{message}"):
        open_sequence(root)


def test_without_poses_or_images(tmp_path: Path) -> None:
    root = make_tartanair(tmp_path / "SE000", POSES, DEPTH[:48, :64])
    (root / "pose_left.txt").unlink()
    assert open_sequence(root).groundtruth is None
    for image in (root / "image_left").iterdir():
        image.unlink()
    with pytest.raises(InputError, match="holds no images"):
        open_sequence(root)
