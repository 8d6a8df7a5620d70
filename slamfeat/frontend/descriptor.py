"""Descriptors without training: tokens on the patch grid, joined with a descriptor of the pixels around."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.engines import Engine
from slamfeat.types import PatchGrid, PixelMap


def token_grid(engine: Engine, image: Tensor, pixel_map: PixelMap, center: bool) -> PatchGrid:
    """Run the backbone and keep its patch tokens.

    Args:
        engine: gives the tokens of one or several blocks; each block's are brought to unit length, then joined.
        image: (B, 3, H, W) in [0, 1], sides multiples of the patch.
        pixel_map: from original pixels to pixels of `image`.
        center: subtract each image's mean token first.

    Returns:
        A grid with float32 tokens of unit length, (B, C * blocks, h, w).
    """
    parts = engine(image)
    if center:
        parts = [tokens - tokens.mean((2, 3), keepdim=True) for tokens in parts]
    joined = torch.cat([F.normalize(tokens, dim=1) for tokens in parts], 1) / len(parts) ** 0.5
    return PatchGrid(joined, engine.patch_size, pixel_map)


def tokens_at(grid: PatchGrid, keypoints: Tensor) -> Tensor:
    """Tokens (B, K, C) of unit length at keypoints (B, K, 2), read bilinearly, as trained heads know them."""
    return F.normalize(grid.sample(keypoints).float(), dim=2)


def join(tokens: Tensor, local: Tensor, local_weight: float) -> Tensor:
    """Descriptors whose dot product is the weighted mean of the two similarities, (B, K, C + D), unit length.

    A part without weight is left out.
    """
    if local_weight in (0.0, 1.0):
        return local if local_weight else tokens
    return torch.cat([tokens * (1 - local_weight) ** 0.5, local * local_weight**0.5], 2)
