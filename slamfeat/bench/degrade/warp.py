"""Where the pixels of a moved camera's picture lie in the picture at hand."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera

Grid = NDArray[np.float32]


@lru_cache(maxsize=4)
def rays(camera: Camera) -> Grid:
    """Every pixel on the plane z = 1, (2, H, W): x and y. Takes seconds for a distorted camera, once."""
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    plane = camera.normalize(np.stack([x, y], -1).reshape(-1, 2))
    return np.ascontiguousarray(plane.T.reshape(2, camera.height, camera.width), dtype=np.float32)


def source_pixels(camera: Camera, plane: Grid, inverse_depth: Grid, motion: Array) -> tuple[Grid, Grid]:
    """Pixels x and y (H, W) of the unmoved camera that show what the moved camera sees along `plane`.

    Args:
        camera: of both pictures.
        plane: (2, H, W), see `rays`; may be a subset of them.
        inverse_depth: (H, W), 1/m in the moved camera.
        motion: (4, 4), metres, moved to unmoved camera coordinates.
    """
    x, y = plane
    m = motion.astype(np.float32)
    px, py, pz = (m[i, 0] * x + m[i, 1] * y + (m[i, 2] + m[i, 3] * inverse_depth) for i in range(3))
    # What comes to lie behind the camera has no picture: it is held far outside instead.
    nearer = np.float32(1) / np.maximum(pz, np.float32(1e-3))
    u, v = _distort(camera.dist, px * nearer, py * nearer)
    return u * np.float32(camera.fx) + np.float32(camera.cx), v * np.float32(camera.fy) + np.float32(camera.cy)


def _distort(dist: tuple[float, ...], x: Grid, y: Grid) -> tuple[Grid, Grid]:
    """OpenCV's radial-tangential model; `Camera.project` does the same in float64, too slowly for every pixel."""
    if not dist:
        return x, y
    k1, k2, p1, p2, k3, k4, k5, k6 = (np.float32(value) for value in (*dist, *[0.0] * (8 - len(dist))))
    r2, one, two = x * x + y * y, np.float32(1), np.float32(2)
    radial = one + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial = radial / (one + r2 * (k4 + r2 * (k5 + r2 * k6)))
    both = two * x * y
    return x * radial + p1 * both + p2 * (r2 + two * x * x), y * radial + p2 * both + p1 * (r2 + two * y * y)
