"""A local descriptor in pure torch: upright RootSIFT read from pooled orientation maps.

SIFT (Lowe, IJCV 2004, Sec. 6) sums gradients into 4 x 4 spatial bins of 8 orientations around every keypoint. With one
scale and no rotation all keypoints share the sums, so they are pooled once for the whole image (as DAISY does,
Tola et al., TPAMI 2010, Sec. 3) and read where the keypoints' bins lie: the cost no longer grows with the patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_ORIENTATIONS, _SIDE = 8, 4
LOCAL_DIM = _ORIENTATIONS * _SIDE**2
_SHRINK = 4  # pixels of the image to one of the pooled maps: a bin is wider than that
_BLUR = 0.8  # pixels at half resolution: SIFT's 1.6 at full
_REACH = 0.8  # of the triangle, in bins: reading the small maps bilinearly widens it to about one


def dense_root_sift(gray: Tensor, keypoints: Tensor, diameter: float) -> Tensor:
    """Upright RootSIFT (Arandjelovic and Zisserman, CVPR 2012) at given keypoints.

    Args:
        gray: (B, 1, H, W) uint8.
        keypoints: (B, K, 2) pixels.
        diameter: as OpenCV's keypoint size, in pixels: a bin is 1.5 times as wide, the whole support six times.

    Returns:
        (B, K, 128) of unit length; zero where the image is flat.
    """
    width = 1.5 * diameter
    maps = orientation_maps(gray, width)
    batch, count = keypoints.shape[:2]
    steps = (torch.arange(_SIDE, device=gray.device, dtype=torch.float32) - (_SIDE - 1) / 2) * width
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(1, 1, -1, 2)
    points = (keypoints.float()[:, :, None] + offsets + 0.5) / _SHRINK  # here a map's pixel i covers [i, i + 1)
    limits = points.new_tensor([maps.shape[-1], maps.shape[-2]])
    bins = F.grid_sample(maps, points / limits * 2 - 1, padding_mode="border", align_corners=False)
    # The window that SIFT lays over the pixels, here over whole bins: a Gaussian of half the support's width.
    weight = torch.exp(-(offsets[0, 0] / (_SIDE / 2 * width)).square().sum(-1) / 2)
    histograms = (bins * weight).permute(0, 2, 3, 1).reshape(batch, count, LOCAL_DIM)
    return F.normalize(histograms.clamp_min(0).sqrt(), dim=2, eps=1e-6)


def orientation_maps(gray: Tensor, width: float) -> Tensor:
    """Gradient magnitude by orientation, summed over spatial bins.

    Args:
        gray: (B, 1, H, W) uint8.
        width: of a spatial bin, pixels of the image.

    Returns:
        (B, 8, H / 4, W / 4), sides rounded up; channel o is for gradients that point to 45 degrees times o.
    """
    half = _gaussian(F.avg_pool2d(gray.float(), 2, ceil_mode=True))
    padded = F.pad(half, (1, 1, 1, 1), mode="replicate")
    gx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    gy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    magnitude = (gx * gx + gy * gy).sqrt()
    turns = torch.atan2(gy, gx) * (_ORIENTATIONS / (2 * math.pi))
    turns = torch.where(turns < 0, turns + _ORIENTATIONS, turns)
    centers = torch.arange(_ORIENTATIONS, device=gray.device, dtype=torch.float32).view(1, -1, 1, 1)
    # One minus the distance d around the circle: with a = |turns - center| < 8, d = 4 - |a - 4|.
    share = (turns - centers).abs_().sub_(_ORIENTATIONS / 2).abs_().sub_(_ORIENTATIONS / 2 - 1).clamp_min_(0)
    maps = F.avg_pool2d(share.mul_(magnitude), 2, ceil_mode=True)
    return _triangle(maps, _REACH * width / _SHRINK)


def _gaussian(image: Tensor) -> Tensor:
    steps = torch.arange(-2, 3, device=image.device, dtype=image.dtype)
    return _separable(image, torch.exp(-steps.square() / (2 * _BLUR**2)))


def _triangle(maps: Tensor, reach: float) -> Tensor:
    """Filter with a triangle that falls to zero `reach` pixels away."""
    radius = max(0, math.ceil(reach) - 1)
    steps = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    return _separable(maps, (1 - steps.abs() / reach).clamp_min(0))


def _separable(maps: Tensor, weights: Tensor) -> Tensor:
    """Filter every channel along x and y; the weights are brought to a sum of one, borders are repeated."""
    radius, channels = len(weights) // 2, maps.shape[1]
    kernel = (weights / weights.sum()).expand(channels, 1, -1)
    maps = F.pad(maps, (radius, radius, radius, radius), mode="replicate")
    maps = F.conv2d(maps, kernel[:, :, None], groups=channels)
    return F.conv2d(maps, kernel[..., None], groups=channels)
