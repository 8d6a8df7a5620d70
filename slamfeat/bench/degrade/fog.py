"""Fog."""

from __future__ import annotations

import numpy as np

from slamfeat.bench.degrade.base import Degradation, Image, Shot
from slamfeat.bench.degrade.depth import dense_depth, street_depth
from slamfeat.bench.degrade.light import to_linear, to_srgb

AIRLIGHT = 0.7
"""Linear light of endless fog, 0..1: a bright overcast grey, 218 of 255 in sRGB."""


def fog(shot: Shot) -> Image:
    """The picture through fog of optical thickness `amount` at the median depth (Koschmieder 1924).

    I = J t + A (1 - t) with t = exp(-beta d), beta = amount / median(d), in linear light. The depth is the frame's,
    its holes filled, or `street_depth` where there is none.
    """
    known = dense_depth(shot)
    depth = street_depth(shot) if known is None else known
    through = np.exp(depth * np.float32(-shot.amount / np.median(depth)))[..., None]
    air = np.float32(AIRLIGHT)
    return to_srgb((to_linear(shot.image) - air) * through + air)


FOG = Degradation(
    "fog", (0.5, 1.5, 3), "optical thickness at the median depth",
    "Homogeneous fog by Koschmieder's law (1924) in linear light, airlight 0.7, 8-bit sRGB, on the frame's depth map "
    "(holes filled smoothly) or, without one, that of an empty street, growing towards the horizon; own code.",
    fog, limits=(0, 20), needs_depth=True,
)  # fmt: skip
