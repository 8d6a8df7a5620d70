"""The joined descriptor: the backbone's token, which knows what is there, and the fine feature, which knows where.

DINO-VO's fusion (arXiv 2507.13145, Sec. III-B, eq. 1): both are put side by side and one linear layer makes the
descriptor of them. Two things are slamfeat's own: tokens are read bilinearly, where the paper takes the cell's, and the
descriptor has unit length, so that it can be compared without the matcher too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.errors import ConfigError


@dataclass
class DescriptorConfig:
    """What is joined.

    Attributes:
        layers: blocks of the backbone whose tokens are used, from 0; the tokens of several are put side by side.
        token_dim: channels of the tokens at a keypoint, of all layers together.
        fine_dim: channels of the fine branch.
        dim: of the descriptor.
    """

    layers: list[int] = field(default_factory=lambda: [5])
    token_dim: int = 384
    fine_dim: int = 64
    dim: int = 192

    def __post_init__(self) -> None:
        if min(self.token_dim, self.fine_dim, self.dim) < 1 or not self.layers or min(self.layers) < 0:
            raise ConfigError("descriptor: token_dim, fine_dim, dim >= 1 and layers, counted from 0, are needed")


class JoinedDescriptor(nn.Module):
    """See the module."""

    def __init__(self, config: DescriptorConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.token_dim + config.fine_dim, config.dim)

    def forward(self, tokens: Tensor, fine: Tensor) -> Tensor:
        """Descriptors (B, K, dim) of unit length.

        Args:
            tokens: (B, K, token_dim) at the keypoints, of unit length.
            fine: (B, K, fine_dim) of the fine branch, of unit length.
        """
        return F.normalize(self.project(torch.cat([tokens, fine], 2)), dim=2)
