"""The colour of points on the rectangles of a room: texels filtered by the size of a pixel, times the light there."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.train.pairs import Pixels
from slamfeat.train.room_rays import RoomView
from slamfeat.train.room_surfaces import FINE, Surface
from slamfeat.train.rooms import Lights, Room

_MAJOR_SHARE = 0.75
_ROW = 512


def colours(room: Room, view: RoomView, lights: Lights, points: Array, index: NDArray[np.int16]) -> NDArray[np.float32]:
    """RGB (N, 3), 0..255 and above where there is much light.

    Args:
        room: what is seen.
        view: the camera that sees it.
        lights: see `Lights`; Lambert's law on surfaces that are bright on the side of the light only.
        points: (N, 2) pixels.
        index: (N,) the rectangle each of them shows, -1 for the sky. A point beside its rectangle gets the border's
            colour.
    """
    result = np.empty((len(points), 3), np.float32)
    order = np.argsort(index, kind="stable")
    seen, starts = np.unique(index[order], return_index=True)
    for rectangle, members in zip(seen, np.split(order, starts[1:]), strict=True):
        if rectangle < 0:
            result[members] = room.sky
            continue
        pixels = np.column_stack([points[members], np.ones(len(members))])
        a, b, inverse = view.maps[rectangle] @ pixels.T
        inside = np.clip(a / inverse, 0, 1), np.clip(b / inverse, 0, 1)
        surface = room.rectangles[rectangle].surface
        level = _level(view.maps[rectangle], *inside, inverse, surface.pyramid[0].shape)
        texels = _trilinear(surface.pyramid, *inside, level)
        if surface.detail:
            texels *= _detail(surface, *inside, level)[:, None]
        result[members] = texels * _intensity(view, int(rectangle), lights, *inside)[:, None]
    return result


def _level(H: Array, a: Array, b: Array, inverse: Array, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Level of the pyramid (N,) whose texels are about as large as a pixel: 0 the texels themselves; fractional.

    A pixel covers an ellipse of texels. Its long axis decides what aliases and its short axis what is blurred: the
    level lies between the two.
    """
    texels = np.array([shape[1], shape[0]], dtype=np.float64)
    # d(a)/d(x) for a = A / W with A and W linear in the pixel.
    dx, dy = (
        [((H[row, column] - value * H[2, column]) / inverse * texels[row]) for row, value in enumerate((a, b))]
        for column in (0, 1)
    )
    half_sum = (dx[0] ** 2 + dx[1] ** 2 + dy[0] ** 2 + dy[1] ** 2) / 2
    area = np.abs(dx[0] * dy[1] - dx[1] * dy[0])
    major = np.sqrt(half_sum + np.sqrt(np.maximum(half_sum**2 - area**2, 0)))
    minor = area / major
    level = _MAJOR_SHARE * np.log2(major) + (1 - _MAJOR_SHARE) * np.log2(np.maximum(minor, 1e-6))
    return np.asarray(level, dtype=np.float32)


def _detail(surface: Surface, a: Array, b: Array, level: NDArray[np.float32]) -> NDArray[np.float32]:
    """The factor (N,) by which the fine structure of a surface brightens its texels; 1 from where it is too fine."""
    fine = surface.detail
    factor = np.ones(len(a), np.float32)
    level = level + np.float32(np.log2(FINE))
    used = np.flatnonzero(level < len(fine) - 1)
    if len(used):
        scale = FINE / fine[0].shape[0]
        # Every second repetition is mirrored, so that no seam shows.
        x, y = (
            1 - np.abs(1 - np.mod(side[used] * (texels * scale), 2.0))
            for side, texels in ((a, surface.pyramid[0].shape[1]), (b, surface.pyramid[0].shape[0]))
        )
        factor[used] = _trilinear(fine, x, y, level[used]) / 128
    return factor


def _trilinear(pyramid: tuple[Pixels, ...], a: Array, b: Array, level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Texels (N, 3), or (N,) of a single plane, at a, b (N,) in 0..1: between texels and the two nearest levels."""
    level = np.clip(level, 0, len(pyramid) - 1)
    result = np.zeros((len(a), *pyramid[0].shape[2:]), np.float32)
    for number in range(int(level.min()), int(np.ceil(level.max())) + 1):
        weight = 1 - np.abs(level - number)
        used = np.flatnonzero(weight > 0)
        if len(used):
            texels = _bilinear(pyramid[number], a[used], b[used])
            result[used] += weight[used].reshape(-1, *[1] * (texels.ndim - 1)) * texels
    return result


def _bilinear(texels: Pixels, a: Array, b: Array) -> Pixels:
    # OpenCV's maps must be narrower than 32768, so the list of points is folded into rows.
    rows = -(-len(a) // _ROW)
    maps = np.zeros((2, rows * _ROW), np.float32)
    maps[0, : len(a)] = a * texels.shape[1] - 0.5
    maps[1, : len(a)] = b * texels.shape[0] - 0.5
    x, y = maps.reshape(2, rows, _ROW)
    sampled = cv2.remap(texels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled.reshape(-1, *texels.shape[2:])[: len(a)], dtype=np.uint8)


def _intensity(view: RoomView, rectangle: int, lights: Lights, a: Array, b: Array) -> NDArray[np.float32]:
    """Light (N,) at points of a rectangle: Lambert's cosine, and a fall with distance that stays finite."""
    origin, u, v = view.planes[rectangle]
    normal = np.cross(u, v)
    normal /= np.linalg.norm(normal)
    eye = -view.T_camera_world[:3, :3].T @ view.T_camera_world[:3, 3]
    towards_eye = np.sign(normal @ (eye - origin))
    total = np.full(len(a), lights.ambient, np.float32)
    for position, strength in zip(lights.positions, lights.strengths, strict=True):
        height = towards_eye * (normal @ (position - origin))
        if height <= 0:
            continue
        # Squared distance to the light, expanded: u and v are at right angles.
        foot = position - origin
        along_u, along_v = ((foot @ edge) / (edge @ edge) for edge in (u, v))
        squared = (((a - along_u) ** 2) * (u @ u) + ((b - along_v) ** 2) * (v @ v)).astype(np.float32) + height**2
        total += strength * height / np.sqrt(squared) / (1 + squared / lights.reach**2)
    return total
