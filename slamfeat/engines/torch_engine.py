"""The backbone as it is, in torch."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.engines.base import EngineName, Precision


class TorchEngine:
    """See `Engine`. Runs on the backbone's device, in the type of its weights (float32 or bfloat16)."""

    name: EngineName = "torch"

    def __init__(self, backbone: Backbone, layers: list[int]) -> None:
        self._backbone, self._layers = backbone, layers
        self.precision: Precision = "bf16" if backbone.dtype == torch.bfloat16 else "fp32"
        self.patch_size = backbone.patch_size

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `Engine`."""
        backbone = self._backbone
        backbone.check_images(images)
        found = backbone.intermediate(backbone.normalize(images), self._layers)
        return [tokens.to(images.device, torch.float32) for tokens in found]


def cast(backbone: Backbone, precision: Precision) -> Backbone:
    """The backbone in another precision; a copy, unless it has it already."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return backbone if backbone.dtype == dtype else copy.deepcopy(backbone).to(dtype)
