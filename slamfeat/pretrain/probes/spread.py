"""Whether features have collapsed: how many directions they use, and how unlike the images are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NEAREST = 1e-3
"""Distance on the sphere that equal images count as."""


def effective_rank(features: Tensor) -> float:
    """RankMe (Garrido et al., ICML 2023, eq. 1): the exponential entropy of the singular values of (N, C) features."""
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-300) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def mean_cosine(features: Tensor) -> float:
    """Mean cosine between different rows of (N, C): 1 where all images look the same."""
    unit = F.normalize(features.double(), dim=1)
    count = len(unit)
    return float((unit.sum(0).square().sum() - count) / max(count * (count - 1), 1))


def nearest_entropy(features: Tensor) -> float:
    """Kozachenko-Leonenko's estimate of the entropy on the sphere, up to a constant.

    A nearest image is at least `NEAREST` away, so that a few that are the same do not decide alone.
    """
    unit = F.normalize(features.double(), dim=1)
    alike = unit @ unit.T
    alike.fill_diagonal_(-1)
    return float((2 - 2 * alike.amax(1)).clamp_min(NEAREST**2).sqrt().log().mean())
