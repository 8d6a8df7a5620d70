"""A room with textured walls, rendered by casting a ray through every pixel; depth and pose are known exactly."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from slamfeat.data.records import StereoRig
from slamfeat.frontend import FeatureFrontend
from slamfeat.geometry.se3 import make_pose
from slamfeat.image import ImageLike
from slamfeat.types import Camera, Features, Frame, Matches, Trajectory

CAMERA = Camera(320, 240, 250.0, 250.0, 159.5, 119.5)
RIG = StereoRig(CAMERA, make_pose(np.eye(3), [0.3, 0.0, 0.0]))
LOW, HIGH = np.array([-2.0, -1.2, -3.0]), np.array([2.0, 1.2, 5.0])
PIXELS_A_METRE = 60


def make_path(steps: int = 16, step_m: float = 0.05, turn_deg: float = 0.3) -> Trajectory:
    """Sideways and forward, turning a little."""
    poses = [
        make_pose(
            Rotation.from_euler("y", turn_deg * i, degrees=True).as_matrix(), [step_m * i, 0.01 * i, step_m * i / 2]
        )
        for i in range(steps)
    ]
    return Trajectory(np.arange(steps) / 10.0, np.array(poses))


def make_frames(path: Trajectory, right: bool = False) -> list[Frame]:
    """Frames with depth, and with the right image of `RIG` where asked for."""
    frames = []
    for i, (time, pose) in enumerate(zip(path.timestamps, path.poses, strict=True)):
        image, depth = render(pose)
        other = render(pose @ RIG.T_left_right)[0] if right else None
        frames.append(Frame(i, float(time), image, depth, other))
    return frames


def render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and depth (H, W) from `T_world_camera`."""
    x, y = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    rays = np.stack([(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, np.ones(x.shape)], -1) @ pose[:3, :3].T
    eye = pose[:3, 3]
    with np.errstate(divide="ignore"):
        reach = np.where(rays > 0, (HIGH - eye) / rays, (LOW - eye) / rays)
    axis = reach.argmin(-1)
    depth = reach.min(-1)
    hit = eye + depth[..., None] * rays
    image = np.zeros(x.shape, np.uint8)
    for face in range(3):
        u, v = (PIXELS_A_METRE * hit[..., other] + 500 for other in range(3) if other != face)
        seen = cv2.remap(_texture(face), u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
        image = np.where(axis == face, seen, image)
    return np.repeat(image[..., None], 3, axis=2), depth.astype(np.float32)


@cache
def _texture(face: int) -> np.ndarray:
    generator = np.random.default_rng(face)
    layers = [cv2.GaussianBlur(generator.normal(size=(1000, 1000)), (0, 0), sigma) * sigma for sigma in (1.5, 4, 10)]
    total = np.sum(layers, axis=0)
    return np.asarray(np.clip(128 + 45 * total / total.std(), 0, 255), dtype=np.uint8)


class CountingFrontend:
    """Passes everything on and counts the images it was given."""

    def __init__(self, frontend: FeatureFrontend) -> None:
        """Wrap `frontend`."""
        self.frontend, self.name, self.extractions = frontend, frontend.name, 0

    def extract(self, image: ImageLike, num_keypoints: int | None = None, mask: np.ndarray | None = None) -> Features:
        """As the frontend does."""
        self.extractions += 1
        return self.frontend.extract(image, num_keypoints, mask)

    def match(self, features0: Features, features1: Features) -> Matches:
        """As the frontend does."""
        return self.frontend.match(features0, features1)
