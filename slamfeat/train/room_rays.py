"""Rays of a camera against the rectangles of a room: which is hit first, and where it is.

With X = z K^-1 (x, y, 1) on the ray and X = O + a U + b V on the plane, all in camera coordinates, the three numbers
(a, b, 1) / z = [U V O]^-1 K^-1 (x, y, 1) are linear in the pixel: a homography a rectangle holds all there is to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array, invert, transform_points
from slamfeat.train.rooms import Rectangle

NEAR_M = 0.02
"""Nothing is seen closer than this; metres along the camera's axis."""
NOTHING = -1
_EDGE_ON, _FAR_M = 1e-9, 1e6


@dataclass(frozen=True, eq=False)
class RoomView:
    """Rectangles as one camera sees them; pixels as in `slamfeat.types`.

    Attributes:
        K: (3, 3) intrinsics.
        T_camera_world: (4, 4).
        size: (W, H) pixels.
        planes: (R + 1, 3, 3): origin, u, v of every rectangle in world coordinates, then one of zeros.
        maps: (R + 1, 3, 3): pixel (x, y, 1) to (a, b, 1) / z; zeros, which no ray hits, for a rectangle seen edge-on,
            and at the end, where index -1 (nothing) points.
    """

    K: Array
    T_camera_world: Array
    size: tuple[int, int]
    planes: Array
    maps: Array

    @classmethod
    def of(cls, rectangles: Sequence[Rectangle], K: Array, T_world_camera: Array, size: tuple[int, int]) -> RoomView:
        """The view of a camera at `T_world_camera`."""
        planes = np.array([[r.origin, r.u, r.v] for r in rectangles] + [np.zeros((3, 3))])
        T = invert(T_world_camera)
        origin, edges = transform_points(T, planes[:, 0]), planes[:, 1:] @ T[:3, :3].T
        columns = np.concatenate([edges, origin[:, None]], 1).transpose(0, 2, 1)
        volume = np.abs(np.linalg.det(columns))
        area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
        seen = volume > _EDGE_ON * np.maximum(area, 1e-300)
        maps = np.zeros_like(columns)
        maps[seen] = np.linalg.inv(columns[seen]) @ np.linalg.inv(K)
        return cls(K, T, size, planes, maps)

    def hits(self, points: Array, among: NDArray[np.int16] | None = None) -> tuple[NDArray[np.int16], Array]:
        """What the rays of pixels (N, 2) hit first.

        Args:
            points: (N, 2) pixels.
            among: (N, C) rectangles to choose from, -1 for none; all where None.

        Returns:
            Indices of rectangles (N,), -1 for nothing, and 1 / z (N,) in 1 / metres, 0 for nothing.
        """
        pixels = np.column_stack([points, np.ones(len(points))])
        if among is None:
            plane = (pixels @ self.maps.reshape(-1, 3).T).reshape(len(points), len(self.maps), 3)
        else:
            plane = np.einsum("ncij,nj->nci", self.maps[among], pixels)
        a, b, inverse = np.moveaxis(plane, -1, 0)
        hit = (a >= 0) & (a <= inverse) & (b >= 0) & (b <= inverse) & (inverse > 0) & (inverse < 1 / NEAR_M)
        inverse = np.where(hit, inverse, 0.0)
        first = inverse.argmax(1)
        nearest = np.take_along_axis(inverse, first[:, None], 1)[:, 0]
        index = first if among is None else np.take_along_axis(among, first[:, None], 1)[:, 0]
        return np.where(nearest > 0, index, NOTHING).astype(np.int16), nearest

    def lift(self, points: Array, index: NDArray[np.int16]) -> Array:
        """Where rays of pixels (N, 2) meet the planes of rectangles `index` (N,), also outside of the rectangle.

        Returns:
            World points (N, 3) in metres; far away on the ray for index -1 and where the plane is not ahead.
        """
        pixels = np.column_stack([points, np.ones(len(points))])
        a, b, inverse = np.einsum("nij,nj->in", self.maps[index], pixels)
        ahead = inverse > 1 / _FAR_M
        safe = np.where(ahead, inverse, 1.0)
        origin, u, v = np.moveaxis(self.planes[index], 1, 0)
        on_plane = origin + (a / safe)[:, None] * u + (b / safe)[:, None] * v
        local = np.linalg.solve(self.K, pixels.T).T * _FAR_M - self.T_camera_world[:3, 3]
        return np.where(ahead[:, None], on_plane, local @ self.T_camera_world[:3, :3])

    def project(self, world: Array) -> tuple[Array, Array]:
        """World points (N, 3) to pixels (N, 2) and depths z (N,); a pixel behind the camera means nothing."""
        local = transform_points(self.T_camera_world, world)
        z = local[:, 2]
        pixels = (local / np.where(z > NEAR_M, z, 1.0)[:, None]) @ self.K.T
        return pixels[:, :2], z

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Whether pixels (N, 2) lie in the image: at most half a pixel beyond the outermost centres."""
        return np.asarray(((points >= -0.5) & (points <= np.array(self.size) - 0.5)).all(1))
