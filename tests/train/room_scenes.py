"""Small scenes whose geometry is known by heart, and a plain ray caster to hold the package's against."""

from __future__ import annotations

import numpy as np

from slamfeat.train.room_layouts import Layout
from slamfeat.train.room_surfaces import Surface
from slamfeat.train.rooms import Lights, Rectangle, Room

SIZE = (640, 480)
K = np.array([[500.0, 0, 321.3], [0, 480.0, 236.8], [0, 0, 1]])
EVENLY = Lights(1.0, np.zeros((0, 3)), np.zeros(0), 1.0)


def plain(grey: int = 128) -> Surface:
    return Surface(lambda: np.full((16, 16, 3), grey, np.uint8))


def covered(texels: np.ndarray) -> Surface:
    return Surface(lambda: texels)


def rectangle(origin: list[float], u: list[float], v: list[float], surface: Surface | None = None) -> Rectangle:
    return Rectangle(np.array(origin, float), np.array(u, float), np.array(v, float), surface or plain())


def room(*rectangles: Rectangle, lights: Lights = EVENLY) -> Room:
    layout = Layout("room", np.full(3, -1e3), np.full(3, 1e3), 3.0)
    return Room(rectangles, lights, np.array([200.0, 220.0, 255.0]), layout)


def cast(scene: Room, K: np.ndarray, pose: np.ndarray, pixel: np.ndarray) -> tuple[int, float]:
    """Rectangle and depth that one ray meets first, (-1, 0) for none: a 3x3 system a rectangle, solved as it stands."""
    ray = pose[:3, :3] @ np.linalg.inv(K) @ [*pixel, 1.0]  # of depth 1, so the distance along it is the depth
    best, nearest = -1, np.inf
    for number, r in enumerate(scene.rectangles):
        columns = np.column_stack([ray, -r.u, -r.v])
        if abs(np.linalg.det(columns)) < 1e-12:
            continue
        depth, a, b = np.linalg.solve(columns, r.origin - pose[:3, 3])
        if 0 <= a <= 1 and 0 <= b <= 1 and 0.02 < depth < nearest:
            best, nearest = number, depth
    return best, 0.0 if best < 0 else nearest


def world_of(r: Rectangle, texel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Texels (N, 2) of a texture of `size` (W, H) in the world (N, 3): centre of texel i lies at (i + 0.5) / W."""
    share = (texel + 0.5) / size
    return r.origin + share[:, :1] * r.u + share[:, 1:] * r.v


def projected(K: np.ndarray, pose: np.ndarray, world: np.ndarray) -> np.ndarray:
    local = (world - pose[:3, 3]) @ pose[:3, :3]
    pixels = local @ K.T
    return pixels[:, :2] / pixels[:, 2:]
