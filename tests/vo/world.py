"""A synthetic world: points in space, a moving camera, and a frontend that sees them without error."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import invert, make_pose, transform_points
from slamfeat.types import Camera, Features, Frame, Matches, Trajectory

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
COUNT = 600


def make_points(seed: int = 0) -> np.ndarray:
    """(N, 3) points 3 to 12 m before the first camera."""
    generator = np.random.default_rng(seed)
    return generator.uniform([-8, -5, 3], [8, 5, 12], (COUNT, 3))


def make_path(steps: int = 20, step_m: float = 0.08) -> Trajectory:
    """A curve forward and to the right, turning a degree a frame."""
    poses = [
        make_pose(
            Rotation.from_euler("y", 1.0 * i, degrees=True).as_matrix(),
            [step_m * i, 0.01 * i + 0.002 * i * (i - 1), step_m * i / 2],
        )
        for i in range(steps)
    ]
    return Trajectory(np.arange(steps) / 10.0, np.array(poses))


class World:
    """Frames whose image carries nothing but the frame's index; the frontend projects the points itself."""

    name = "synthetic"

    def __init__(self, path: Trajectory, noise_px: float = 0.0, blind: frozenset[int] = frozenset()) -> None:
        """`blind` frames show no points at all."""
        self.points, self.path, self.noise, self.blind = make_points(), path, noise_px, blind

    def frames(self) -> list[Frame]:
        """All frames, with depth rendered as splats around each point."""
        return [self._frame(i) for i in range(len(self.path))]

    def see(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) of all points and which are inside the image."""
        local = transform_points(invert(self.path.poses[index]), self.points)
        front = local[:, 2] > 0.5
        pixels = np.full((COUNT, 2), -1.0)
        pixels[front] = CAMERA.project(local[front])
        return pixels, front & (pixels > 2).all(1) & (pixels < np.array([637, 477])).all(1)

    def extract(self, image, num_keypoints=None, mask=None) -> Features:  # type: ignore[no-untyped-def]
        """Slot k is point k."""
        index = int(image[0, 0, 0])
        pixels, inside = self.see(index)
        if index in self.blind:
            inside = np.zeros_like(inside)
        pixels = pixels + self.noise * np.random.default_rng(index).normal(size=pixels.shape)
        seen = torch.from_numpy(inside)[None]
        keypoints = torch.from_numpy(pixels)[None] * seen[..., None]
        return Features(keypoints, seen.double(), torch.zeros(1, COUNT, 1), seen, torch.tensor([[640, 480]]))

    def match(self, features0: Features, features1: Features) -> Matches:
        """Point k matches point k."""
        mask = features0.mask & features1.mask
        indices = torch.where(mask, torch.arange(COUNT)[None], -1)
        return Matches(features0.keypoints, features1.keypoints, mask.double(), indices, mask, COUNT)

    def _frame(self, index: int) -> Frame:
        image = np.zeros((480, 640, 3), np.uint8)
        image[0, 0, 0] = index
        depth = np.zeros((480, 640), np.float32)
        local = transform_points(invert(self.path.poses[index]), self.points)
        pixels, inside = self.see(index)
        for (x, y), z in zip(pixels[inside], local[inside, 2], strict=True):
            column, row = round(x), round(y)
            depth[row - 1 : row + 2, column - 1 : column + 2] = z
        return Frame(index, float(self.path.timestamps[index]), image, depth)
