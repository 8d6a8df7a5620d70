"""The head between tokens and prototypes, of DINO (arXiv 2104.14294, App. C), iBOT and DINOv2.

Kept for pretraining only: what is exported is the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.pretrain.precision import unit


@dataclass
class HeadConfig:
    """A head's size.

    Attributes:
        hidden: width of the layers before the bottleneck.
        bottleneck: dimensions in which tokens and prototypes are compared.
        layers: linear layers up to the bottleneck.
        prototypes: of the last layer, one a logit.
    """

    hidden: int = 2048
    bottleneck: int = 256
    layers: int = 3
    prototypes: int = 65536

    def __post_init__(self) -> None:
        if min(self.hidden, self.bottleneck, self.layers, self.prototypes) < 1:
            raise ConfigError("head: hidden, bottleneck, layers and prototypes of at least 1 are needed")


class Prototypes(nn.Module):
    """Cosines with learned directions.

    Weight normalisation (arXiv 1602.07868) with every magnitude held at 1: the weight's rows count by direction alone.

    Attributes:
        weight: (K, C), rows of any length.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) of any length -> cosines (..., K), of the type of `x`."""
        return F.linear(unit(x).to(x.dtype), unit(self.weight).to(self.weight.dtype))


class ProjectionHead(nn.Module):
    """Tokens to logits: linear layers with GELU between, unit length, cosines with prototypes.

    Attributes:
        mlp: up to the bottleneck.
        last_layer: the prototypes, which DINO holds still in the first epoch.
    """

    def __init__(self, dim: int, config: HeadConfig | None = None) -> None:
        """A head with random weights for tokens of `dim` channels."""
        super().__init__()
        self.config = config = config or HeadConfig()
        widths = [dim, *[config.hidden] * (config.layers - 1), config.bottleneck]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [_linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*parts[:-1])
        self.last_layer = Prototypes(config.bottleneck, config.prototypes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (..., K) of tokens (..., dim), each between -1 and 1 before a temperature."""
        logits: Tensor = self.last_layer(self.mlp(tokens))
        return logits


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
