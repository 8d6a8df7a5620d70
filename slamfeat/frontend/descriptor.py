"""Descriptors without training: tokens on the patch grid, and upright RootSIFT of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.backbones import Backbone
from slamfeat.types import PatchGrid, PixelMap


def token_grid(
    backbone: Backbone, image: Tensor, layers: Sequence[int], pixel_map: PixelMap, center: bool
) -> PatchGrid:
    """Run the backbone and keep its patch tokens.

    Args:
        backbone: frozen.
        image: (B, 3, H, W) in [0, 1], sides multiples of the patch.
        layers: blocks whose tokens are used; each is brought to unit length, then they are joined.
        pixel_map: from original pixels to pixels of `image`.
        center: subtract each image's mean token first.

    Returns:
        A grid with float32 tokens of unit length, (B, C * len(layers), h, w).
    """
    parts = [tokens.float() for tokens in backbone.intermediate(backbone.normalize(image), list(layers))]
    if center:
        parts = [tokens - tokens.mean((2, 3), keepdim=True) for tokens in parts]
    joined = torch.cat([F.normalize(tokens, dim=1) for tokens in parts], 1) / len(parts) ** 0.5
    return PatchGrid(joined, backbone.patch_size, pixel_map)


def root_sift(gray: Tensor, keypoints: Tensor, diameter: float) -> Tensor:
    """Upright RootSIFT (Arandjelovic and Zisserman, CVPR 2012) at given keypoints.

    Args:
        gray: (B, 1, H, W) uint8.
        keypoints: (B, K, 2) pixels.
        diameter: size of OpenCV's keypoint in pixels; the descriptor's support is six times as wide.

    Returns:
        (B, K, 128) of unit length.
    """
    import cv2

    sift = cv2.SIFT.create()
    described = []
    for image, points in zip(gray.cpu().numpy()[:, 0], keypoints.cpu().numpy(), strict=True):
        # class_id carries the slot: OpenCV may drop or reorder what it is given.
        wanted = [cv2.KeyPoint(float(x), float(y), diameter, 0.0, 1.0, 0, i) for i, (x, y) in enumerate(points)]
        kept, values = sift.compute(image, wanted)
        rows = np.zeros((len(points), 128), dtype=np.float32)
        if len(kept):
            rows[[k.class_id for k in kept]] = values
        described.append(torch.from_numpy(rows))
    histograms = torch.stack(described).to(keypoints.device)
    return F.normalize(F.normalize(histograms, p=1, dim=2).sqrt(), dim=2)


def join(tokens: Tensor, local: Tensor, local_weight: float) -> Tensor:
    """Descriptors whose dot product is the weighted mean of the two similarities, (B, K, C + D), unit length.

    A part without weight is left out.
    """
    if local_weight in (0.0, 1.0):
        return local if local_weight else tokens
    return torch.cat([tokens * (1 - local_weight) ** 0.5, local * local_weight**0.5], 2)
