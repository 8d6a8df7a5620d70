"""Blur that moves nothing: kernels symmetric about their middle, (rows, columns) float32, sum 1, odd sides.

kornia's motion kernel has whole odd lengths, and it has no disk.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kernel = NDArray[np.float32]
_MOMENTS, _SUBPIXELS = 65, 16


def blur(light: Tensor, kernel: Kernel) -> Tensor:
    """Every channel of (1, C, H, W) float32 on the CPU averaged with a symmetric kernel; the border repeats."""
    import cv2

    # Not kornia's filter2d: 8 to 40 ms at 640x480 on one core, where OpenCV takes 1 to 8.
    planes = [cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REPLICATE) for plane in light[0].numpy()]
    return torch.from_numpy(np.stack(planes))[None]


def line_kernel(length: float, angle: float) -> Kernel:
    """Mean over a straight way of `length` pixels at `angle` (radians, from x to y), bilinear between pixels."""
    moments = np.linspace(-0.5, 0.5, _MOMENTS) * length
    across, down = moments * np.cos(angle), moments * np.sin(angle)
    columns, rows = _offsets(np.abs(across).max()), _offsets(np.abs(down).max())
    near_x = np.maximum(1 - np.abs(columns[:, None] - across), 0)
    near_y = np.maximum(1 - np.abs(rows[:, None] - down), 0)
    kernel = near_y @ near_x.T
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def disk_kernel(radius: float) -> Kernel:
    """Mean over a disk of `radius` pixels (thin lens, round aperture), each pixel by its share in the disk."""
    pixels = _offsets(radius)
    within = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    fine = (pixels[:, None] + within).reshape(-1)
    inside = np.hypot(fine[:, None], fine) <= max(radius, 0.5 / _SUBPIXELS * np.sqrt(2))
    share = inside.reshape(len(pixels), _SUBPIXELS, len(pixels), _SUBPIXELS).mean((1, 3))
    return np.asarray(share / share.sum(), dtype=np.float32)


def _offsets(reach: float) -> NDArray[np.float64]:
    half = int(np.floor(reach)) + 1
    return np.arange(-half, half + 1, dtype=np.float64)
