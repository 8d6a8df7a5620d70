"""Surfaces without texture."""

from __future__ import annotations

import numpy as np

from slamfeat.bench.degrade.base import Degradation, Image, Shot

PASSES, WINDOW = 16, 5
"""Repetitions of the filter, and its side in pixels: small and often is quicker than large and once."""


def low_texture(shot: Shot) -> Image:
    """The picture with what is fainter than about `amount` grey levels smoothed away; outlines stay."""
    import cv2

    image = shot.image
    # OpenCV adds up the differences of the channels, so a difference of grey counts three times. All three channels
    # even of a monochrome image, since OpenCV 5 rounds down on one channel, which darkens it pass by pass.
    sigma = 3 * shot.amount
    for _ in range(PASSES):
        image = np.asarray(cv2.bilateralFilter(image, WINDOW, sigma, WINDOW), dtype=np.uint8)
    return image


LOW_TEXTURE = Degradation(
    "low_texture", (10, 25, 50), "grey levels",
    "Bare surfaces: sixteen passes of the bilateral filter (Tomasi and Manduchi 1998), 5x5 px, whose range sigma is "
    "the amount, so that fainter texture goes and outlines stay; cv2.bilateralFilter.",
    low_texture, limits=(1, 1000),
)  # fmt: skip
