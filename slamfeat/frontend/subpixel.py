"""Where between the pixels a peak lies."""

from __future__ import annotations

import torch
from torch import Tensor


def parabola_offset(response: Tensor, points: Tensor) -> Tensor:
    """Sub-pixel offset (B, K, 2) of peaks at integer `points` (B, K, 2) by a parabola along each axis, within 0.5."""
    height, width = response.shape[-2:]
    x = points[..., 0].round().long().clamp(1, width - 2)
    y = points[..., 1].round().long().clamp(1, height - 2)
    flat = response.flatten(1)

    def at(dx: int, dy: int) -> Tensor:
        return flat.gather(1, (y + dy) * width + x + dx)

    middle = at(0, 0)

    def offset(before: Tensor, after: Tensor) -> Tensor:
        curvature = 2 * middle - before - after
        peak = (curvature > 1e-9) & (middle >= before) & (middle >= after)
        return torch.where(peak, (after - before) / (2 * curvature.clamp_min(1e-9)), 0.0).clamp(-0.5, 0.5)

    return torch.stack([offset(at(-1, 0), at(1, 0)), offset(at(0, -1), at(0, 1))], -1)


def soft_offset(response: Tensor, points: Tensor, radius: int = 2, temperature: float = 0.1) -> Tensor:
    """Offset (B, K, 2) of peaks at integer `points` (B, K, 2): the mean place in a window, weighted by a softmax.

    ALIKED's differentiable keypoint detection (Zhao et al., "ALIKE", TMM 2022, Sec. III-B).
    """
    height, width = response.shape[-2:]
    steps = torch.arange(-radius, radius + 1, device=points.device)
    dy, dx = (part.flatten() for part in torch.meshgrid(steps, steps, indexing="ij"))
    x, y = (points[..., i].round().long()[..., None] + d for i, d in ((0, dx), (1, dy)))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    around = response.flatten(1).gather(1, index.flatten(1)).view_as(index)
    weight = (around / temperature).masked_fill(~inside, -torch.inf).softmax(-1)
    return torch.stack([(weight * dx).sum(-1), (weight * dy).sum(-1)], -1)
