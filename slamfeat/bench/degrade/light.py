"""Between 8-bit sRGB and linear light, by tables: light adds up and is counted linearly, pixel values are not.

The curve is sRGB's (IEC 61966-2-1) as kornia.color has it. That cameras of the data sets follow it is an assumption;
their own curves are not published.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.degrade.base import Image

Light = NDArray[np.float32]
_STEPS = 65536


def to_linear(image: Image) -> Light:
    """Linear light in 0..1 of sRGB values, same shape, float32."""
    import cv2

    return np.asarray(cv2.LUT(image, _decode()), dtype=np.float32)


def to_srgb(light: Light) -> Image:
    """The nearest 8-bit sRGB values of linear light, same shape; what is outside 0..1 is clipped."""
    steps = np.clip(light, 0.0, 1.0) * np.float32(_STEPS - 1) + np.float32(0.5)
    coded: Image = _encode()[steps.astype(np.uint16)]
    return coded


def through_table(image: Image, table: Image) -> Image:
    """Each value v of the image replaced by table[v], table (256,)."""
    import cv2

    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


@lru_cache(maxsize=1)
def _decode() -> Light:
    import torch
    from kornia.color import rgb_to_linear_rgb

    values = torch.arange(256, dtype=torch.float64).expand(3, 1, 256) / 255
    return np.asarray(rgb_to_linear_rgb(values)[0, 0].numpy(), dtype=np.float32)


@lru_cache(maxsize=1)
def _encode() -> Image:
    import torch
    from kornia.color import linear_rgb_to_rgb

    values = torch.linspace(0, 1, _STEPS, dtype=torch.float64).expand(3, 1, _STEPS)
    return np.asarray((linear_rgb_to_rgb(values)[0, 0] * 255).round().numpy(), dtype=np.uint8)
