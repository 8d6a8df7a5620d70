"""Frames that never arrive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.degrade.base import Degradation, Image, Shot, generator


def kept(count: int, amount: float, seed: int) -> NDArray[np.bool_]:
    """Which of `count` frames arrive, (count,) bool, when `amount` per cent are dropped; the first always does.

    Every choice of frames is equally likely, so the lengths of bursts are geometric, as on a link that fails
    independently of its past: single frames and bursts.
    """
    dropped = min(round(count * amount / 100), count - 1)
    keep = np.ones(count, np.bool_)
    keep[1 + generator(seed, "frame_drops").permutation(count - 1)[:dropped]] = False
    return keep


def unchanged(shot: Shot) -> Image:
    """The image as it is: only the number of frames changes."""
    return shot.image


FRAME_DROPS = Degradation(
    "frame_drops", (25, 50, 70), "% dropped",
    "A lossy link: frames are dropped at random, singly and in bursts of geometric length, never the first; own code.",
    unchanged, limits=(0, 99), keep=kept,
)  # fmt: skip
