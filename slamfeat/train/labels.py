"""Labels of keypoints from the exact map between the two images of a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slamfeat.errors import ConfigError, InputError
from slamfeat.train.pairs import HIDDEN, VISIBLE, Points, Transfer, Transferred

UNMATCHABLE, IGNORE = -1, -2
_STEP_PX = 4.0

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Labels(NamedTuple):
    """What is taught of each keypoint of two images.

    Attributes:
        index0: (M,) index of the keypoint of the second image that belongs to each of the first; UNMATCHABLE (-1) where
            surely none does, IGNORE (-2) where nothing may be taught.
        index1: (N,) likewise for the second image.
    """

    index0: Indices
    index1: Indices


class _Landings(NamedTuple):
    """Pairs of keypoints of which one, visible in the other image, lands within reach of the other keypoint.

    Attributes:
        source, target: (P,) their indices.
        error: (P,) larger of the errors both ways; of the one way alone where the target is not visible. Pixels.
        seen: (P,) whether the target is visible too.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    error: NDArray[np.float64]
    seen: Mask


def assignment_labels(
    points0: ArrayLike,
    points1: ArrayLike,
    transfer: Transfer,
    *,
    near: float = 3.0,
    far: float = 5.0,
    mask0: ArrayLike | None = None,
    mask1: ArrayLike | None = None,
) -> Labels:
    """Which keypoints of two images belong together (as LightGlue, ICCV 2023, Sec. 4, labels its training pairs).

    A match: both visible, nearest to one another, and closer than `near`, by the larger of the two distances between a
    keypoint and where the other one lands. Unmatchable: hidden in the other image; or visible there, but with no
    keypoint closer than `far`. Whatever is between is ignored: unknown to the transfer, between `near` and `far`, or
    close to a keypoint that is closer to another. Memory and time grow with the keypoints that lie close to one
    another, not with M * N.

    Args:
        points0, points1: (M, 2) and (N, 2) keypoints in pixels; arrays or tensors.
        transfer: the map between the images; asked for filled slots only.
        near, far: pixels.
        mask0, mask1: (M,) and (N,), False for empty slots, which are ignored; None if all are filled.

    Raises:
        ConfigError: not 0 < near <= far.
        InputError: points that are not (., 2), or masks that are not as long.
    """
    if not 0 < near <= far:
        raise ConfigError(f"labels need 0 < near <= far, got near={near} far={far}")
    points0, filled0 = _filled(points0, mask0, "points0")
    points1, filled1 = _filled(points1, mask1, "points1")
    there, back = transfer.forth(points0[filled0]), transfer.back(points1[filled1])
    forward = _landings(points0[filled0], there, points1[filled1], back, far)
    backward = _landings(points1[filled1], back, points0[filled0], there, far)
    index0, index1 = _unmatched(there, forward), _unmatched(back, backward)
    best0, best1 = _best(forward, len(index0), near), _best(backward, len(index1), near)
    matched = np.flatnonzero(best0 >= 0)
    matched = matched[best1[best0[matched]] == matched]
    index0[matched], index1[best0[matched]] = best0[matched], matched
    return Labels(_spread(index0, filled0, filled1), _spread(index1, filled1, filled0))


def repeatability_labels(
    points0: ArrayLike,
    points1: ArrayLike,
    transfer: Transfer,
    *,
    radius: float = 3.0,
    mask0: ArrayLike | None = None,
    mask1: ArrayLike | None = None,
) -> Labels:
    """Which keypoints of each image are found again in the other.

    Args:
        points0, points1, transfer, mask0, mask1: see `assignment_labels`.
        radius: pixels of the other image around where a keypoint lands.

    Returns:
        1 where the keypoint is visible in the other image and one of its keypoints lies within `radius`; 0 where it is
        visible and none does; IGNORE where it is hidden or unknown: that is no fault of the keypoint.

    Raises:
        ConfigError: not 0 < radius.
        InputError: see `assignment_labels`.
    """
    if not radius > 0:
        raise ConfigError(f"labels need a radius above 0, got {radius}")
    points0, filled0 = _filled(points0, mask0, "points0")
    points1, filled1 = _filled(points1, mask1, "points1")
    found0 = _found_again(transfer.forth(points0[filled0]), points1[filled1], radius)
    found1 = _found_again(transfer.back(points1[filled1]), points0[filled0], radius)
    labels0, labels1 = np.full(len(filled0), IGNORE, np.int64), np.full(len(filled1), IGNORE, np.int64)
    labels0[filled0], labels1[filled1] = found0, found1
    return Labels(labels0, labels1)


def local_maps(points: Points, move: Callable[[Points], Transferred]) -> tuple[Points, NDArray[np.float64], Mask]:
    """Where points (N, 2) of one image are in the other, and how their surroundings moved.

    Args:
        points: pixels.
        move: `Transfer.forth` or `Transfer.back`.

    Returns:
        points (N, 2), affine maps (N, 2, 2) by central differences of the transfer over 8 px, and where both are known
        (N,): the point and the four around it are visible. Finite elsewhere, but without meaning.
    """
    steps = np.array([[_STEP_PX, 0], [-_STEP_PX, 0], [0, _STEP_PX], [0, -_STEP_PX]])
    around = move((points[:, None] + steps).reshape(-1, 2))
    moved, seen = around.points.reshape(-1, 4, 2), (around.state.reshape(-1, 4) == VISIBLE).all(1)
    center = move(points)
    columns = [(moved[:, 0] - moved[:, 1]) / (2 * _STEP_PX), (moved[:, 2] - moved[:, 3]) / (2 * _STEP_PX)]
    return center.points, np.stack(columns, 2), seen & (center.state == VISIBLE)


def _filled(points: ArrayLike, mask: ArrayLike | None, name: str) -> tuple[Points, Mask]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"labels: {name} must be (count, 2), got {array.shape}")
    filled = np.ones(len(array), bool) if mask is None else np.asarray(mask, dtype=bool)
    if filled.shape != array.shape[:1]:
        raise InputError(f"labels: the mask of {name} must be ({len(array)},), got {filled.shape}")
    return array, filled


def _landings(points: Points, there: Transferred, others: Points, back: Transferred, far: float) -> _Landings:
    source, target, distance = _within(there, others, far)
    seen = back.state[target] == VISIBLE
    returned = np.linalg.norm(back.points[target] - points[source], axis=1)
    error = np.where(seen, np.maximum(distance, returned), distance)
    close = error < far
    return _Landings(source[close], target[close], error[close], seen[close])


def _within(
    there: Transferred, others: Points, radius: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Indices of visible points and of the keypoints near where they land, and the distances; (P,) each."""
    from scipy.spatial import KDTree

    visible = np.flatnonzero(there.state == VISIBLE)
    if not len(visible) or not len(others):
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    close = KDTree(there.points[visible]).sparse_distance_matrix(KDTree(others), radius, output_type="ndarray")
    return visible[close["i"]], close["j"], close["v"]


def _unmatched(there: Transferred, landings: _Landings) -> Indices:
    """UNMATCHABLE or IGNORE for each point, as if there were no matches."""
    close = np.zeros(len(there.state), bool)
    close[landings.source] = True
    alone = (there.state == HIDDEN) | ((there.state == VISIBLE) & ~close)
    return np.where(alone, UNMATCHABLE, IGNORE).astype(np.int64)


def _best(landings: _Landings, count: int, near: float) -> Indices:
    """The closest visible target of each of `count` sources, (count,); -1 where none is closer than `near`."""
    usable = np.flatnonzero(landings.seen & (landings.error < near))
    source, target = landings.source[usable], landings.target[usable]
    # Farthest first, so that the closest is written last; among equals the lowest index wins on both sides.
    order = np.lexsort((-target, -landings.error[usable]))
    best = np.full(count, -1, np.int64)
    best[source[order]] = target[order]
    return best


def _spread(index: Indices, filled: Mask, others: Mask) -> Indices:
    """Labels of filled slots by filled slots to labels of all slots by all slots."""
    slots = np.flatnonzero(others)
    matched = index >= 0
    index = index.copy()
    index[matched] = slots[index[matched]]
    out = np.full(len(filled), IGNORE, np.int64)
    out[filled] = index
    return out


def _found_again(there: Transferred, others: Points, radius: float) -> Indices:
    found = np.where(there.state == VISIBLE, 0, IGNORE).astype(np.int64)
    found[_within(there, others, radius)[0]] = 1
    return found
