"""KoLeo: images are to spread over the sphere (Sablayrolles et al., "Spreading vectors", ICLR 2019, arXiv 1806.03198).

By the Kozachenko-Leonenko estimate of the entropy, the mean log distance to the nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.pretrain.precision import full_precision, unit


def koleo_loss(features: Tensor, group: int = 0, eps: float = 1e-8) -> Tensor:
    """Mean of -log(distance to the nearest other image + eps), at unit length.

    Two features that are exactly the same have no direction to go apart in, and get no gradient of one another.

    Args:
        features: (B, C) of B images, before any head.
        group: so many consecutive images have their neighbours among themselves (DINOv3: 16); 0 for the whole batch.
        eps: distance that is added.

    Raises:
        ConfigError: see `check_groups`.
    """
    check_groups(len(features), group)
    size = group or len(features)
    with full_precision(features):
        grouped = unit(features, eps).view(-1, size, features.shape[1])
        nearest = _nearest(grouped.detach())
        neighbours = grouped.gather(1, nearest[..., None].expand_as(grouped))
        distance: Tensor = torch.linalg.vector_norm(grouped - neighbours, dim=-1)
        return -(distance + eps).log().mean()


def koleo_of_views(views: Sequence[Tensor], group: int = 0) -> Tensor:
    """DINOv2's sum over the global crops (B, C) each: the crops of one image are to be alike, and are no neighbours."""
    return torch.stack([koleo_loss(view, group) for view in views]).sum()


def check_groups(images: int, group: int = 0) -> None:
    """Refuse what `koleo_loss` cannot find neighbours in.

    Args:
        images: of a micro-batch in one process.
        group: see `koleo_loss`.

    Raises:
        ConfigError: a group of one image, or groups that do not divide the batch.
    """
    size = group or images
    if size < 2:
        raise ConfigError(
            "KoLeo needs two images or more a process to find neighbours among; use a larger batch, fewer processes, or"
            " no KoLeo"
        )
    if images % size:
        raise ConfigError(f"KoLeo: groups of {size} do not divide a process's batch of {images}; use a multiple of it")


def _nearest(grouped: Tensor) -> Tensor:
    """Index (G, n) of each vector's nearest other one in its group (G, n, C), all of unit length."""
    similarity = grouped @ grouped.mT
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return similarity.argmax(2)
