"""Matches that Lucas-Kanade lost, sought one by one through the affine maps by which their surroundings moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend.align import Smooth, align_points
from slamfeat.frontend.attempt import Attempt
from slamfeat.frontend.heads.patches import guess_from_neighbours, local_affines
from slamfeat.frontend.plane_warp import Floats, inside

_Images = tuple[Smooth, Smooth]
_Flags = NDArray[np.bool_]
_LEAST_NEIGHBOURS = 8
_REACH_PX = 6.0  # further from its guess than this a patch has found something else
_LEAST_AREA = 0.01  # of what it was: a map that folds or crushes its patch comes of wrong neighbours


@dataclass(frozen=True)
class AlignLimits:
    """What an aligned match must keep.

    Attributes:
        min_correlation: of the two patches, -1..1.
        max_return: between a point and itself found back from where it was found; pixels.
        shape: (H, W) of the second image, within which matches must lie.
    """

    min_correlation: float
    max_return: float
    shape: tuple[int, ...]


def align_lost(
    image0: NDArray[np.uint8], image1: NDArray[np.uint8], start: Floats, coarse: Floats, given: _Flags,
    before: Attempt, limits: AlignLimits,
) -> Attempt:  # fmt: skip
    """Seek what `before` lost: from its coarse place where it has one, then from where its neighbours went.

    Args:
        image0, image1: grey (H, W).
        start: (M, 2) pixels of the first image.
        coarse: (M, 2) of the second, meaningful where `given`.
        given: (M,) which matches have a coarse place.
        before: what became of them so far.
        limits: see `AlignLimits`.
    """
    attempt, placed = before, given | before.kept
    if before.kept.all() or placed.sum() < _LEAST_NEIGHBOURS:
        return before
    images = Smooth.of(image0), Smooth.of(image1)
    lost = given & ~before.kept
    if lost.any():
        where = np.where(before.kept[:, None], before.found, coarse)
        affines = local_affines(torch.from_numpy(start[placed]), torch.from_numpy(where[placed])).numpy()[lost[placed]]
        attempt = attempt.with_part(lost, _sought(images, start[lost], coarse[lost], affines, limits))
    lost = ~attempt.kept
    if lost.any() and attempt.kept.sum() >= _LEAST_NEIGHBOURS:
        matches = (torch.from_numpy(value) for value in (start, attempt.found, attempt.kept, lost))
        guess, maps = guess_from_neighbours(*matches)
        attempt = attempt.with_part(lost, _sought(images, start[lost], guess.numpy(), maps.numpy(), limits))
    return attempt


def _sought(images: _Images, start: Floats, guess: Floats, affines: Floats, limits: AlignLimits) -> Attempt:
    """Align there and back."""
    there = align_points(*images, start, guess, affines)
    kept = (there.correlation >= limits.min_correlation) & _near(there.points, guess, _REACH_PX)
    kept &= (np.linalg.det(there.affines) > _LEAST_AREA) & inside(there.points, limits.shape)
    chosen = kept.nonzero()[0]  # the way home is spared what is lost already
    back = np.linalg.inv(there.affines[chosen])
    home = align_points(*images[::-1], there.points[chosen], start[chosen], back)
    kept[chosen] = _near(home.points, start[chosen], limits.max_return)
    return Attempt(there.points, np.clip(there.correlation, -1, 1), kept)


def _near(points: Floats, others: Floats, most: float) -> _Flags:
    """Which points (M, 2) are within `most` of the others; none that is not finite is."""
    return np.asarray(np.linalg.norm(points - others, axis=1) <= most, dtype=np.bool_)
