"""Smooth and sharp patterns over an image with which light is multiplied; sizes are (W, H), results (H, W) float32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
_SUBPIXEL_BITS = 4


def smooth_field(size: Size, rng: np.random.Generator) -> Tensor:
    """Between -1 and 1, without edges: 2 to 5 independent values a side, bicubic between them."""
    nodes = rng.uniform(-1, 1, (1, 1, *rng.integers(2, 6, 2))).astype(np.float32)
    wide = F.interpolate(torch.from_numpy(nodes), (size[1], size[0]), mode="bicubic", align_corners=False)
    return wide[0, 0].clamp(-1, 1)


def spots(size: Size, rng: np.random.Generator) -> Tensor:
    """Between 0 and 1: one or two Gaussian spots, 1 at the centre, 0.06 to 0.3 of the longer side wide, maybe oval."""
    x, y = _pixels(size)
    field = torch.zeros(size[1], size[0])
    for _ in range(rng.integers(1, 3)):
        left, top = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        sigma, oval, angle = max(size) * rng.uniform(0.06, 0.3), rng.uniform(0.4, 1), rng.uniform(0, np.pi)
        along = (x - left) * np.cos(angle) + (y - top) * np.sin(angle)
        across = (y - top) * np.cos(angle) - (x - left) * np.sin(angle)
        squared = (along / sigma) ** 2 + (across / (oval * sigma)) ** 2
        field = torch.maximum(field, torch.exp(-0.5 * squared))
    return field


def shadows(size: Size, rng: np.random.Generator) -> Tensor:
    """Between 0 and 1: 1 in one or two polygons of 3 to 6 corners; half of them have a penumbra of up to 8 px."""
    import cv2

    mask = np.zeros((size[1], size[0]), np.uint8)
    for _ in range(rng.integers(1, 3)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        radii = rng.uniform(0.1, 0.6, len(angles)) * max(size)
        corners = rng.uniform(0, size, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        fixed = np.round(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [fixed], (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    if rng.random() < 0.5:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 4.0)), dtype=np.uint8)
    return torch.from_numpy(mask).float() / 255


def vignetting(size: Size) -> Tensor:
    """0 in the middle, 1 in the corners, growing with the square of the distance."""
    x, y = _pixels(size)
    squared: Tensor = (x - (size[0] - 1) / 2) ** 2 + (y - (size[1] - 1) / 2) ** 2
    return squared / squared[0, 0].clamp(min=1e-6)


def _pixels(size: Size) -> tuple[Tensor, Tensor]:
    return torch.arange(size[0], dtype=torch.float32)[None], torch.arange(size[1], dtype=torch.float32)[:, None]
