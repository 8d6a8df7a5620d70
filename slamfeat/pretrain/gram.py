"""The Gram teacher: an earlier state of the teacher, whose patches' likeness the student keeps (DINOv3, Sec. 4.2)."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.backbones.base import Backbone
from slamfeat.pretrain.losses import Negatives, gram_loss
from slamfeat.pretrain.packed import run_packed
from slamfeat.pretrain.recipe import GramConfig


class GramTeacher(nn.Module):
    """Sees global crops without changes of light, maybe larger.

    Attributes:
        backbone: without gradients.
    """

    def __init__(self, teacher: Backbone, config: GramConfig) -> None:
        """Begin as the teacher's backbone is."""
        super().__init__()
        self.backbone = copy.deepcopy(teacher)
        self._config = config

    def loss(self, patches: Tensor, crops: Tensor) -> Tensor:
        """Gram loss of a student.

        Args:
            patches: (B, N, C) the student's, of square global crops.
            crops: (B, 3, S, S) uint8 the same windows, at the Gram teacher's size.
        """
        taught: Tensor = self(crops)
        return gram_loss(patches, taught, cast(Negatives, self._config.negatives))

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        """(B, N, C) patches on the student's grid, of crops (B, 3, S, S) uint8."""
        images = self.backbone.normalize(crops.float() / 255)
        ((tokens,),) = run_packed(self.backbone, [images])
        side = images.shape[-1] // self.backbone.patch_size
        grid = tokens.patch.mT.reshape(len(images), -1, side, side)
        side //= self._config.scale
        # In single precision: not every processor has a bicubic kernel for halves.
        return F.interpolate(grid.float(), (side, side), mode="bicubic").flatten(2).mT.contiguous()
