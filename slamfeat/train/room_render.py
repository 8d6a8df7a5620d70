"""Pictures of a room with exact depth: which rectangle every pixel shows by analytic depth, then its colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.train.pairs import Pixels
from slamfeat.train.room_rays import NEAR_M, NOTHING, RoomView
from slamfeat.train.room_shading import colours
from slamfeat.train.rooms import Lights, Room

# A 2x2 grid turned by 27 degrees: four different rows and columns, so edges of any slope get several shades.
_SUBPIXELS = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])


@dataclass(frozen=True)
class Rendered:
    """What a camera sees of a room.

    Attributes:
        image: (H, W, 3) uint8 RGB; edges between rectangles are smoothed.
        depth: (H, W) float32 metres along z at the pixels' centres, 0 where nothing is.
        rectangle: (H, W) int16 index of the rectangle at the pixels' centres, -1 where nothing is.
    """

    image: Pixels
    depth: NDArray[np.float32]
    rectangle: NDArray[np.int16]


def render(
    room: Room, K: Array, T_world_camera: Array, size: tuple[int, int], lights: Lights | None = None
) -> Rendered:
    """Picture, depth and rectangles of a room.

    Args:
        room: what is seen.
        K: (3, 3) intrinsics in pixels.
        T_world_camera: (4, 4).
        size: (W, H) pixels.
        lights: instead of the room's own.

    Raises:
        ImageError: a photograph on a surface cannot be read.
    """
    return render_view(room, RoomView.of(room.rectangles, K, T_world_camera, size), lights)


def render_view(room: Room, view: RoomView, lights: Lights | None = None) -> Rendered:
    """As `render`, for a view that is known already."""
    inverse, rectangle = _nearest(view)
    lights = lights or room.lights
    width, height = view.size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    points = np.column_stack([x.ravel(), y.ravel()])
    shaded = colours(room, view, lights, points, rectangle.ravel())
    edges, among = _edges(rectangle)
    if len(edges):
        samples = (points[edges][:, None] + _SUBPIXELS).reshape(-1, 2)
        hit, _ = view.hits(samples, np.repeat(among, len(_SUBPIXELS), axis=0))
        shaded[edges] = colours(room, view, lights, samples, hit).reshape(-1, len(_SUBPIXELS), 3).mean(1)
    image = np.clip(shaded * _exposure(shaded) + 0.5, 0, 255).astype(np.uint8).reshape(height, width, 3)
    depth = np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0).astype(np.float32)
    return Rendered(image, depth, rectangle)


def _nearest(view: RoomView) -> tuple[Array, NDArray[np.int16]]:
    """1 / z (H, W), 0 where nothing is, and rectangles (H, W): a z-buffer filled rectangle by rectangle."""
    width, height = view.size
    nearest = np.zeros((height, width))
    rectangle = np.full((height, width), NOTHING, np.int16)
    for number, box in enumerate(_boxes(view)):
        if box is None:
            continue
        left, top, right, bottom = box
        part = slice(top, bottom), slice(left, right)
        x, y = np.arange(left, right), np.arange(top, bottom)[:, None]
        a, b, inverse = (row[0] * x + (row[1] * y + row[2]) for row in view.maps[number])
        hit = (inverse > nearest[part]) & (inverse < 1 / NEAR_M) & (a >= 0) & (a <= inverse) & (b >= 0) & (b <= inverse)
        np.copyto(nearest[part], inverse, where=hit)
        np.copyto(rectangle[part], np.int16(number), where=hit)
    return nearest, rectangle


def _boxes(view: RoomView) -> list[tuple[int, int, int, int] | None]:
    """Columns and rows (left, top, right, bottom; the last two excluded) where each rectangle can be, or None.

    A rectangle through the camera's plane is cut at the near plane first: behind it corners project mirrored.
    """
    boxes: list[tuple[int, int, int, int] | None] = []
    for origin, u, v in view.planes[:-1]:
        corners = np.array([origin, origin + u, origin + u + v, origin + v])
        local = _ahead(corners @ view.T_camera_world[:3, :3].T + view.T_camera_world[:3, 3])
        if not len(local):
            boxes.append(None)
            continue
        pixels = (local / local[:, 2:]) @ view.K.T
        limit = np.array(view.size)
        low = np.clip(np.floor(pixels[:, :2].min(0)), 0, limit).astype(int)
        high = np.clip(np.ceil(pixels[:, :2].max(0)) + 1, 0, limit).astype(int)
        boxes.append((low[0], low[1], high[0], high[1]) if (high > low).all() else None)
    return boxes


def _ahead(corners: Array) -> Array:
    """The part of a polygon (N, 3) in camera coordinates that lies beyond the near plane (Sutherland and Hodgman)."""
    kept = []
    for here, after in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (after[2] >= NEAR_M):
            kept.append(here + (after - here) * (NEAR_M - here[2]) / (after[2] - here[2]))
    return np.array(kept)


def _edges(rectangle: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Pixels (flat, N) beside another rectangle, and rectangles (N, 3) they may show: theirs and two neighbours'."""
    padded = np.pad(rectangle, 1, mode="edge")
    left, right, above, below = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    across = np.where(left != rectangle, left, right)
    along = np.where(above != rectangle, above, below)
    edges = np.flatnonzero((across != rectangle) | (along != rectangle))
    return edges, np.stack([plane.ravel()[edges] for plane in (rectangle, across, along)], 1)


def _exposure(shaded: NDArray[np.float32]) -> np.float32:
    """The gain that brings the mean to middle grey where it is far from it, as a camera does."""
    mean = float(shaded[::7].mean())
    return np.float32(np.clip(110 / max(mean, 1.0), 0.6, 1.8))
