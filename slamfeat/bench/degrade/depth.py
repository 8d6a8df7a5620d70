"""Dense depth for degradations that depend on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.degrade.base import Shot

LENS_HEIGHT, STREET_HALF_WIDTH, STREET_END = 1.65, 8.0, 80.0
"""Metres of the street that `street_depth` draws: the lens over the road, to the house fronts, and to the horizon."""

_LEAST_KNOWN = 0.02
"""A map that knows a smaller share of the pixels than this is not used."""


def dense_depth(shot: Shot) -> NDArray[np.float32] | None:
    """The shot's depth (H, W) metres without holes, see `fill_holes`; None without a usable map."""
    depth = shot.depth
    if depth is None or (depth > 0).mean() < _LEAST_KNOWN:
        return None
    return fill_holes(depth)


def fill_holes(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map (H, W) with its zeros filled smoothly from around them: push-pull (Gortler et al. 1996, The Lumigraph).

    Neither the median nor the nearest value would do: both draw outlines that are not in the scene, and fog shows them.
    At least one pixel must be known.
    """
    import cv2

    known = (depth > 0).astype(np.float32)
    if known.all():
        return depth
    height, width = depth.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA))
    mean = np.asarray(cv2.resize(depth * known, half, interpolation=cv2.INTER_AREA)) / np.maximum(weight, 1e-9)
    coarse = fill_holes(np.where(weight > 0, mean, 0).astype(np.float32))
    guess = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(known > 0, depth, guess).astype(np.float32)


def street_depth(shot: Shot) -> NDArray[np.float32]:
    """Depth (H, W) metres of an empty straight street seen along its axis, horizon at the principal point.

    Road, two house fronts that reach up as far as one sees, and an end wall: it grows towards the horizon.
    """
    width, height = shot.size
    camera = shot.camera
    focal = (camera.fx, camera.fy) if camera else (0.8 * width, 0.8 * width)
    centre = (camera.cx, camera.cy) if camera else (width / 2 - 0.5, height / 2 - 0.5)
    sideways = np.abs(np.arange(width) - centre[0]) / focal[0]
    down = np.maximum(np.arange(height) - centre[1], 0) / focal[1]
    slope = np.maximum(sideways[None] / STREET_HALF_WIDTH, down[:, None] / LENS_HEIGHT)
    return np.asarray(1 / np.maximum(slope, 1 / STREET_END), dtype=np.float32)
