"""A lens out of focus, and a picture compressed too far."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from slamfeat.bench.degrade.base import Degradation, Image, Shot
from slamfeat.bench.degrade.light import Light, to_linear, to_srgb
from slamfeat.image import rgb_of_bgr

_FINE = 8
"""Sub-pixels a side in which the rim of the disk is counted."""


def defocus(shot: Shot) -> Image:
    """The picture averaged over the lens's disk, in linear light; the border mirrors."""
    import cv2

    radius = shot.amount * shot.size[0] / 640
    return to_srgb(np.asarray(cv2.filter2D(to_linear(shot.image), -1, disk(radius)), dtype=np.float32))


@lru_cache(maxsize=16)
def disk(radius: float) -> Light:
    """A disk of `radius` pixels that sums to 1, (2 * ceil(radius) + 1)² float32, its rim by the area it covers."""
    side = 2 * int(np.ceil(radius)) + 1
    ticks = (np.arange(side * _FINE) + 0.5) / _FINE - side / 2
    inside = (ticks[:, None] ** 2 + ticks[None] ** 2 <= radius**2).astype(np.float64)
    area = inside.reshape(side, _FINE, side, _FINE).mean(axis=(1, 3))
    return np.asarray(area / area.sum(), dtype=np.float32)


def jpeg(shot: Shot) -> Image:
    """The picture after JPEG at quality `amount`."""
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, round(shot.amount)]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(shot.image, cv2.COLOR_RGB2BGR), quality)
    assert done, "OpenCV encodes any 8-bit picture"
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV decodes its own JPEG"
    return rgb_of_bgr(decoded)


DEFOCUS = Degradation(
    "defocus", (2, 4, 8), "px radius at 640 px width",
    "Lens out of focus: a disk kernel (geometric optics) in linear light, its radius scaled with the image's width; "
    "own kernel, cv2.filter2D.",
    defocus, limits=(0.5, 100),
)  # fmt: skip
JPEG = Degradation(
    "jpeg", (40, 15, 5), "JPEG quality",
    "Compression for a thin link: each frame coded as JPEG on its own; cv2.imencode.",
    jpeg, limits=(1, 100),
)  # fmt: skip
