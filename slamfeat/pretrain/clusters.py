"""Spherical k-means: prototypes of a frozen teacher's tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError


def spherical_kmeans(vectors: Tensor, count: int, iterations: int = 20, seed: int = 0, block: int = 8192) -> Tensor:
    """Centres (K, C) at unit length, each the mean direction of the vectors nearest to it.

    Dhillon & Modha, "Concept decompositions", Machine Learning 2001. A centre that nobody is nearest to is put on the
    vector that is worst served. The same for the same seed and device.

    Args:
        vectors: (N, C) of any length.
        count: K.
        iterations: of assignment and mean.
        seed: of the first centres, which are vectors drawn at random.
        block: vectors compared at a time.

    Raises:
        ConfigError: fewer vectors than centres.
    """
    if len(vectors) < count:
        raise ConfigError(f"{len(vectors)} tokens make no {count} prototypes; lower the count, or take more images")
    unit = F.normalize(vectors.float(), dim=1)
    drawn = torch.randperm(len(unit), generator=torch.Generator().manual_seed(seed))[:count]
    centres = unit[drawn.to(unit.device)]
    for _ in range(iterations):
        alike, nearest = _nearest(unit, centres, block)
        sums = torch.zeros_like(centres).index_add_(0, nearest, unit)
        empty = (torch.bincount(nearest, minlength=count) == 0).nonzero().flatten()
        sums[empty] = unit[alike.topk(len(empty), largest=False).indices]
        centres = F.normalize(sums, dim=1)
    return centres


def _nearest(unit: Tensor, centres: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Cosine (N,) with the nearest centre, and which it is (N,)."""
    found = [(part @ centres.T).max(1) for part in torch.split(unit, block)]
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])
