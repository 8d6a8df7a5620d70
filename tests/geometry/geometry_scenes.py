"""Synthetic two-view scenes with known geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import make_pose, transform_points
from slamfeat.types import Camera

PINHOLE = Camera(640, 480, 520.0, 515.0, 318.0, 243.0)
FREIBURG1 = Camera(640, 480, 517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))


@dataclass(frozen=True)
class Scene:
    """Points in camera 0, their distorted pixels in both cameras, and which of the second are wrong."""

    points: NDArray[np.float64]
    pixels0: NDArray[np.float64]
    pixels1: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    T_1_0: NDArray[np.float64]


def make_scene(
    seed: int,
    *,
    camera: Camera = PINHOLE,
    count: int = 300,
    baseline: float = 0.3,
    turn: float = 0.05,
    noise: float = 0.0,
    outliers: float = 0.0,
    depth: tuple[float, float] = (3.0, 12.0),
) -> Scene:
    """Points all over image 0, moved by a random motion of length `baseline` and about `turn` radians an axis."""
    rng = np.random.default_rng(seed)
    pixels = np.column_stack([rng.uniform(20, camera.width - 20, count), rng.uniform(20, camera.height - 20, count)])
    rays = np.column_stack([camera.normalize(pixels), np.ones(count)])
    points = rays * rng.uniform(*depth, (count, 1))
    direction = rng.normal(size=3)
    T_1_0 = make_pose(
        Rotation.from_rotvec(rng.normal(0, turn, 3)).as_matrix(), baseline * direction / np.linalg.norm(direction)
    )
    pixels0, pixels1 = camera.project(points), camera.project(transform_points(T_1_0, points))
    pixels0 = pixels0 + rng.normal(0, noise, pixels0.shape)
    pixels1 = pixels1 + rng.normal(0, noise, pixels1.shape)
    wrong = rng.random(count) < outliers
    pixels1[wrong] = np.column_stack([rng.uniform(0, 640, wrong.sum()), rng.uniform(0, 480, wrong.sum())])
    return Scene(points, pixels0, pixels1, wrong, T_1_0)


def direction_error_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Angle between two vectors (3,)."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
