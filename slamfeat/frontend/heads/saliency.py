"""Learned saliency: which of the untrained detector's peaks another view will show too, and where exactly they lie.

The detector proposes one pixel a part of a cell, so that keypoints stay spread over the image whatever is learned (a
score that is free to choose places ends in a few regions). From the fine branch's feature there a small network reads
the log odds that the keypoint is found again in another view, by which the proposals are ranked, and an offset of less
than `reach` pixels that brings the two views' keypoints onto the same point of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from slamfeat.errors import ConfigError


@dataclass
class SaliencyConfig:
    """Size of the saliency head.

    Attributes:
        input_dim: channels of the fine branch.
        hidden: width of the network.
        reach: largest offset along each axis; pixels.
    """

    input_dim: int = 64
    hidden: int = 64
    reach: float = 1.0

    def __post_init__(self) -> None:
        if min(self.input_dim, self.hidden) < 1 or self.reach < 0:
            raise ConfigError("saliency: input_dim, hidden >= 1 and reach >= 0 are needed")


class Judged(NamedTuple):
    """What is said of proposed keypoints.

    Attributes:
        logit: (B, N) that another view shows the keypoint too.
        offset: (B, N, 2) to where it should lie; pixels.
    """

    logit: Tensor
    offset: Tensor


class SaliencyHead(nn.Module):
    """See the module."""

    def __init__(self, config: SaliencyConfig) -> None:
        super().__init__()
        self.config = config
        self.read = nn.Sequential(nn.Linear(config.input_dim, config.hidden), nn.ReLU(inplace=True))
        self.score = nn.Linear(config.hidden, 1)
        self.offset = nn.Linear(config.hidden, 2)
        nn.init.zeros_(self.offset.weight)  # begin where the detector put them
        nn.init.zeros_(self.offset.bias)

    def forward(self, fine: Tensor) -> Judged:
        """Judge keypoints by the fine features (B, N, input_dim) at them, of unit length."""
        hidden = self.read(fine)
        return Judged(self.score(hidden)[..., 0], self.config.reach * self.offset(hidden).tanh())
