"""Where a point with depth is in another view, and whether it is seen there: by both depth maps, cameras and poses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError
from slamfeat.geometry.se3 import Array, invert, transform_points
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, Points, Transferred
from slamfeat.types import Camera

Depth = NDArray[np.float32] | NDArray[np.float64]
Mask = NDArray[np.bool_]
_LEAST_DEPTH = 1e-3
"""Metres in front of the camera below which a point is taken as behind it."""


@dataclass
class DepthConfig:
    """When depth maps are believed.

    Attributes:
        agreement: the four depths around a point may differ by this share; above it the point lies at an edge.
        tolerance: share by which a moved point's depth and the other map's may differ where both are the same surface.
        behind: share by which a point must lie behind the other map's surface to be hidden by it.
        cycle_px: largest distance from a point to itself, there and back through both maps, pixels. Catches what
            passes the check of depths but not that of places, at wide baselines.

    Raises:
        ConfigError: a share that is not above 0, or `behind` below `tolerance`.
    """

    agreement: float = 0.05
    tolerance: float = 0.05
    behind: float = 0.1
    cycle_px: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.agreement < math.inf or not 0 < self.tolerance <= self.behind < math.inf:
            raise ConfigError("depth needs agreement above 0 and 0 < tolerance <= behind")
        if not self.cycle_px > 0:
            raise ConfigError(f"cycle_px must be above 0, got {self.cycle_px}")


@dataclass(frozen=True)
class View:
    """A camera and what it measures: `depth` (H, W) metres along z, 0 where unknown."""

    camera: Camera
    depth: Depth

    def depth_at(self, points: Points, agreement: float) -> tuple[Array, Mask]:
        """Depth at points (N, 2), (N,) metres, and where it is known: all four around it are, and they agree.

        Inverse depth is interpolated, which is exact on planes. Up to half a pixel beyond the outermost centres the
        border's values count; further out nothing is known.
        """
        height, width = self.depth.shape
        at = np.clip(points, 0, (width - 1, height - 1))
        corner = np.minimum(np.floor(at).astype(np.intp), (max(width - 2, 0), max(height - 2, 0)))
        (x, y), (u, v) = corner.T, (at - corner).T
        right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
        four = np.stack([self.depth[y, x], self.depth[y, right], self.depth[below, x], self.depth[below, right]])
        nearest, farthest = four.min(0), four.max(0)
        known = (nearest > 0) & (farthest <= nearest * (1 + agreement)) & (np.abs(points - at) <= 0.5).all(1)
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
        inverse = (weights / np.where(known, four, 1.0)).sum(0)
        return 1 / inverse, known

    def backproject(self, points: Points, depth: Array) -> Array:
        """Points (N, 2) at depths (N,) in camera coordinates, (N, 3) metres."""
        return np.column_stack([self.camera.normalize(points), np.ones(len(points))]) * depth[:, None]

    def project(self, xyz: Array) -> tuple[Points, Mask]:
        """Pixels (N, 2) of points in camera coordinates, and where they are in the image; always finite."""
        if not len(xyz):
            return np.zeros((0, 2)), np.zeros(0, np.bool_)
        plane = xyz[:, :2] / np.maximum(xyz[:, 2:], _LEAST_DEPTH)
        # Far outside, polynomials of distortion fold back into the image.
        seen = (xyz[:, 2] > _LEAST_DEPTH) & (np.linalg.norm(plane, axis=1) <= _reach(self.camera))
        pixels = self.camera.project(np.column_stack([plane, np.ones(len(plane))]))
        size = np.array([self.camera.width, self.camera.height])
        return pixels, seen & ((pixels >= -0.5) & (pixels <= size - 0.5)).all(1)


@dataclass(frozen=True)
class DepthTransfer:
    """Between two views of a static scene.

    VISIBLE: the moved point is in the other image, the other map has it at that depth, and it comes back to where it
    was. HIDDEN: outside the other image, behind its camera, or clearly behind the surface there. UNKNOWN: depth is
    missing or at an edge in either map, or the two contradict each other otherwise.

    Attributes:
        view0, view1: the views.
        T_1_0: (4, 4) from coordinates of camera 0 to those of camera 1.
        config: when depths are believed.
    """

    view0: View
    view1: View
    T_1_0: Array
    config: DepthConfig = field(default_factory=DepthConfig)

    def forth(self, points0: Points) -> Transferred:
        """Points (N, 2) of the first image in the second."""
        return self._move(points0, self.view0, self.view1, self.T_1_0)

    def back(self, points1: Points) -> Transferred:
        """Points (N, 2) of the second image in the first."""
        return self._move(points1, self.view1, self.view0, invert(self.T_1_0))

    def _move(self, points: Points, source: View, target: View, motion: Array) -> Transferred:
        points, config = np.asarray(points, np.float64).reshape(-1, 2), self.config
        depth, known = source.depth_at(points, config.agreement)
        xyz = transform_points(motion, source.backproject(points, depth))
        moved, seen = target.project(xyz)
        measured, there = target.depth_at(moved, config.agreement)
        state = np.full(len(points), UNKNOWN, np.int8)
        state[there & (xyz[:, 2] > measured * (1 + config.behind))] = HIDDEN
        same = np.flatnonzero(seen & there & (np.abs(xyz[:, 2] - measured) <= config.tolerance * measured))
        returned, _ = source.project(transform_points(invert(motion), target.backproject(moved[same], measured[same])))
        returns = np.linalg.norm(returned - points[same], axis=1) <= config.cycle_px
        state[same[returns]] = VISIBLE
        state[~seen] = HIDDEN
        state[~known] = UNKNOWN
        return Transferred(moved, state)


def rendered_depth(view: View, camera: Camera, motion: Array) -> NDArray[np.float32]:
    """The depth map (H, W) that another camera would have, by moving every pixel and keeping the nearest.

    Holes, where nothing lands, are 0. A depth is right for where its point lands, up to half a pixel from the centre of
    its pixel.

    Args:
        view: with depth.
        camera: of the new map.
        motion: (4, 4) from coordinates of the view's camera to those of the new one.
    """
    rows, columns = np.nonzero(view.depth > 0)
    pixels = np.column_stack([columns, rows]).astype(np.float64)
    xyz = transform_points(motion, view.backproject(pixels, view.depth[rows, columns].astype(np.float64)))
    target = View(camera, np.zeros((camera.height, camera.width), np.float32))
    landed, seen = target.project(xyz)
    cells = np.round(landed[seen]).astype(np.intp).clip(0, (camera.width - 1, camera.height - 1))
    nearest = np.full(camera.width * camera.height, np.inf, np.float32)
    np.minimum.at(nearest, cells[:, 1] * camera.width + cells[:, 0], xyz[seen, 2].astype(np.float32))
    return np.where(np.isfinite(nearest), nearest, 0).reshape(camera.height, camera.width).astype(np.float32)


@lru_cache(maxsize=16)
def _reach(camera: Camera) -> float:
    """How far from the axis, on the plane z = 1, the model of the lens is used: what the image shows, and 2 % more."""
    if not camera.dist:
        return math.inf
    right, bottom = camera.width - 0.5, camera.height - 0.5
    x, y = np.linspace(-0.5, right, 33), np.linspace(-0.5, bottom, 33)
    edge = [np.column_stack([x, np.full(33, side)]) for side in (-0.5, bottom)]
    edge += [np.column_stack([np.full(33, side), y]) for side in (-0.5, right)]
    return 1.02 * float(np.linalg.norm(camera.normalize(np.concatenate(edge)), axis=1).max())
