"""Where a point of one view of a room is in another: exact, with the occlusions, by intersecting its ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, Points, Transferred
from slamfeat.train.room_rays import NEAR_M, NOTHING, RoomView

_RADIUS_PX, _APART_PX = 1.5, 2.0
_SAME_DEPTH = 1e-5
_ANGLES = np.arange(8) * np.pi / 4
_RING = _RADIUS_PX * np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])


@dataclass(frozen=True)
class Landing:
    """Points of a source view on the scene and in a target view.

    Attributes:
        index: (N,) rectangle a point lies on, -1 for the sky.
        points: (N, 2) pixels of the target; mean nothing where `ahead` is False.
        ahead: (N,) whether it is in front of the target's camera and inside its image.
        hit: (N,) the rectangle that the target sees at `points`.
        visible: (N,) whether the target sees this point there.
    """

    index: NDArray[np.int16]
    points: Points
    ahead: NDArray[np.bool_]
    hit: NDArray[np.int16]
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class RoomTransfer:
    """The map between two views of one room; see `transfer`."""

    view0: RoomView
    view1: RoomView

    def forth(self, points0: Points) -> Transferred:
        """Points (N, 2) of the first view in the second."""
        return transfer(self.view0, self.view1, points0)

    def back(self, points1: Points) -> Transferred:
        """Points (N, 2) of the second view in the first."""
        return transfer(self.view1, self.view0, points1)


def transfer(source: RoomView, target: RoomView, points: Points) -> Transferred:
    """Points (N, 2) of `source` in `target`, exact but for rounding.

    VISIBLE: the target's ray meets nothing before the point. HIDDEN: outside the target's image, or behind something.
    UNKNOWN: on the sky, or within 1.5 px, in either view, of a place where what is seen jumps: where a neighbour
    belongs to another rectangle and so lands more than 2 px away from where the point's own plane would take it. Where
    two surfaces meet nothing jumps, and corners of a room stay usable.
    """
    landing = land(source, target, points)
    unknown = (landing.index == NOTHING) | _at_jump(source, target, points, landing.index)
    ahead = np.flatnonzero(landing.ahead & ~unknown)
    unknown[ahead] = _at_jump(target, source, landing.points[ahead], landing.hit[ahead])
    state = np.where(unknown, UNKNOWN, np.where(landing.visible, VISIBLE, HIDDEN)).astype(np.int8)
    return Transferred(landing.points, state)


def land(source: RoomView, target: RoomView, points: Points) -> Landing:
    """Points (N, 2) of `source` in `target`, without asking how near an edge is."""
    index, _ = source.hits(points)
    pixels, z = target.project(source.lift(points, index))
    ahead = (z > NEAR_M) & target.contains(pixels)
    hit, nearest = target.hits(pixels)
    visible = ahead & (index != NOTHING) & (nearest * z <= 1 + _SAME_DEPTH)
    return Landing(index, pixels, ahead, hit, visible)


def _at_jump(source: RoomView, target: RoomView, points: Points, index: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Whether around points (N, 2), which lie on rectangles `index`, others are seen that land elsewhere."""
    ring = (points[:, None] + _RING).reshape(-1, 2)
    own = np.repeat(index, len(_RING))
    around, _ = source.hits(ring)
    other = np.flatnonzero(around != own)
    there, z_there = target.project(source.lift(ring[other], around[other]))
    expected, z_expected = target.project(source.lift(ring[other], own[other]))
    jumps = (np.linalg.norm(there - expected, axis=1) > _APART_PX) | (np.minimum(z_there, z_expected) < NEAR_M)
    found = np.zeros(len(ring), bool)
    found[other] = jumps
    return np.asarray(found.reshape(-1, len(_RING)).any(1))
