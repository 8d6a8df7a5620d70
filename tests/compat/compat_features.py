"""Small features and matches."""

from __future__ import annotations

import torch

from slamfeat.types import Features, PatchGrid, PixelMap


def make_grid(batch: int = 1) -> PatchGrid:
    """Tokens of patch 14 on an image shown to the backbone at twice its size."""
    return PatchGrid(torch.randn(batch, 8, 4, 5), 14, PixelMap((2.0, 2.0)))


def make_features(seed: int = 0, batch: int = 1, slots: int = 6, valid: int = 6) -> Features:
    """Random features with the first `valid` slots filled."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(slots) < valid).expand(batch, slots)
    points = torch.rand(batch, slots, 2, generator=generator) * 50 * mask[..., None]
    scores = torch.rand(batch, slots, generator=generator).sort(descending=True).values * mask
    descriptors = torch.nn.functional.normalize(torch.randn(batch, slots, 8, generator=generator), dim=2)
    size = torch.tensor([[64, 56]]).expand(batch, 2)
    return Features(points, scores, descriptors * mask[..., None], mask, size, make_grid(batch))
