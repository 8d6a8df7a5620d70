"""The synthetic world with a second camera: turned, with another lens, not rectified."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from world import COUNT, World

from slamfeat.data.records import StereoRig
from slamfeat.geometry.se3 import invert, make_pose, transform_points
from slamfeat.types import Camera, Features, Frame

RIG = StereoRig(
    Camera(672, 490, 480.0, 485.0, 330.0, 250.0, (-0.2, 0.05, 1e-3, -5e-4)),
    make_pose(Rotation.from_euler("yxz", [2.0, -1.0, 1.5], degrees=True).as_matrix(), [0.2, 0.01, -0.02]),
)


class StereoWorld(World):
    """Frames with a right image, which carries the frame's index and a mark."""

    right_blind: frozenset[int] = frozenset()
    right_looks = 0

    def frames(self) -> list[Frame]:
        """All frames, with a right image and without depth."""
        right = np.zeros((490, 672, 3), np.uint8)
        right[0, 0, 1] = 1
        return [replace(f, depth=None, right=right + f.image[:1, :1]) for f in super().frames()]

    def extract(self, image, num_keypoints=None, mask=None) -> Features:  # type: ignore[no-untyped-def]
        """Slot k is point k in the right image too."""
        index, is_right = int(image[0, 0, 0]), bool(image[0, 0, 1])
        if not is_right:
            return super().extract(image)
        self.right_looks += 1
        pixels, inside = self.see_right(index)
        pixels = pixels + self.noise * np.random.default_rng(1000 + index).normal(size=pixels.shape)
        seen = torch.from_numpy(inside & (index not in self.right_blind))[None]
        keypoints = torch.from_numpy(pixels)[None] * seen[..., None]
        return Features(keypoints, seen.double(), torch.zeros(1, COUNT, 1), seen, torch.tensor([[672, 490]]))

    def see_right(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) of all points in the right image and which are inside it."""
        local = transform_points(invert(self.path.poses[index] @ RIG.T_left_right), self.points)
        front = local[:, 2] > 0.5
        # A distorted far corner may fold back into the picture.
        front &= (np.abs(local[:, :2]) < 0.9 * local[:, 2:]).all(1)
        pixels = np.full((COUNT, 2), -1.0)
        pixels[front] = RIG.camera.project(local[front])
        return pixels, front & (pixels > 2).all(1) & (pixels < np.array([669, 487])).all(1)
