"""What the heads learn from: two images, and where a point of one is in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]
VISIBLE, HIDDEN, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Transferred:
    """Where points of one image are in the other.

    Attributes:
        points: (N, 2) pixels of the other image; finite also where nothing is known.
        state: (N,) int8: VISIBLE; HIDDEN where the point is surely not seen there (outside, or something is in
            front); UNKNOWN where the labels cannot say, so that neither a match nor its absence may be taught.
    """

    points: Points
    state: NDArray[np.int8]


class Transfer(Protocol):
    """The map between the two images of a pair, both ways."""

    def forth(self, points0: Points) -> Transferred:
        """Points (N, 2) of the first image in the second."""

    def back(self, points1: Points) -> Transferred:
        """Points (N, 2) of the second image in the first."""


@dataclass(frozen=True)
class TrainingPair:
    """Two images of one scene with their labels.

    Attributes:
        image0, image1: (H, W, 3) uint8 RGB; the two may differ in size.
        transfer: exact to a small part of a pixel for synthetic sources.
        K0, K1: (3, 3) intrinsics, None where the pair has none (a homography of a photograph).
        T_1_0: (4, 4) from coordinates of camera 0 to those of camera 1, None likewise.
        name: says where the pair comes from, for messages and statistics.
    """

    image0: Pixels
    image1: Pixels
    transfer: Transfer
    K0: NDArray[np.float64] | None = None
    K1: NDArray[np.float64] | None = None
    T_1_0: NDArray[np.float64] | None = None
    name: str = ""


class PairSource(Protocol):
    """Pairs by number: the same number always gives the same pair, whatever was made before it.

    So that a resumed run goes on exactly, and that several workers can make pairs at once.
    """

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index` (any integer >= 0)."""
