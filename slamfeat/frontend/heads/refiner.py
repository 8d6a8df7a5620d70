"""From a coarse match to sub-pixel: local correlation of learned features of two patches, with its uncertainty.

Both patches pass a small network; the middle of the first is correlated with the second at every shift within reach,
and from these few numbers the shift, its 2 x 2 covariance and the odds that the match is right are read. Repeated from
where the point was found, so that in the end the shift to be found is small. Sub-pixel error decides the accuracy of
poses (RoMa v2, arXiv 2511.15706, its perturbation test), and predicted precision weights what pose estimation does with
the matches (the same paper, Sec. 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.patches import even_patches, sample_patches

_LEAST_LOG, _MOST_LOG = -4.0, 3.0  # of the deviations: a fiftieth of a pixel to twenty pixels


@dataclass
class RefinerConfig:
    """Size of the refiner.

    Attributes:
        patch: side of the patches; pixels, odd.
        channels: of the features.
        groups: the channels are correlated in so many groups.
        reach: largest shift that one pass sees; pixels.
        hidden: width of what reads the correlations.
        passes: how often a match is refined.
    """

    patch: int = 21
    channels: int = 16
    groups: int = 2
    reach: int = 3
    hidden: int = 128
    passes: int = 2

    def __post_init__(self) -> None:
        if self.channels % self.groups:
            raise ConfigError(f"refiner: channels {self.channels} must be a multiple of groups {self.groups}")
        if self.patch % 2 == 0 or self.core < 3 or self.passes < 1:
            raise ConfigError("refiner: an odd patch of at least 2 * reach + 9 pixels, and one pass, are needed")

    @property
    def mapped(self) -> int:
        """Side of the feature patches: the network's three layers take a pixel each on every side."""
        return self.patch - 6

    @property
    def core(self) -> int:
        """Side of the middle part that is correlated."""
        return self.mapped - 2 * self.reach


class Refined(NamedTuple):
    """What the refiner says of M matches.

    Attributes:
        offset: (M, 2) from the second point to where it should be; pixels of the first image's patch.
        cholesky: (M, 3) of the offset's covariance L L^T: log of the two diagonal entries, and the lower one.
        logit: (M,) that the match is right, that is, within reach.
    """

    offset: Tensor
    cholesky: Tensor
    logit: Tensor


class PatchRefiner(nn.Module):
    """See the module."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        c, shifts = config.channels, (2 * config.reach + 1) ** 2
        self.features = nn.Sequential(
            nn.Conv2d(1, c, 3), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3)
        )
        self.window = nn.Parameter(torch.zeros(config.groups, 1, config.core**2))
        self.read = nn.Sequential(
            nn.Linear(config.groups * shifts, config.hidden), nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(inplace=True), nn.Linear(config.hidden, 6),
        )  # fmt: skip
        self.register_buffer("pairs", _pairs_of_shifts(config), persistent=False)
        self.pairs: Tensor

    def forward(self, patches0: Tensor, patches1: Tensor) -> Refined:
        """One pass on patches (M, 1, patch, patch) as `even_patches` gives them."""
        correlation = self.correlate(self.features(patches0), self.features(patches1))
        out = self.read(correlation.flatten(1))
        cholesky = torch.cat([out[:, 2:4].clamp(_LEAST_LOG, _MOST_LOG), out[:, 4:5]], 1)
        return Refined(out[:, :2], cholesky, out[:, 5])

    def correlate(self, features0: Tensor, features1: Tensor) -> Tensor:
        """Correlation (M, groups, shifts) of the middle of the first patch with the second, shift by shift."""
        config, reach = self.config, self.config.reach
        core = features0[..., reach:-reach, reach:-reach]
        first, second = (_unit_groups(x, config.groups) for x in (core, features1))
        products = (first.mT @ second).flatten(2)  # (M, groups, core pixels * mapped pixels)
        by_shift = products.index_select(2, self.pairs).view(len(products), config.groups, -1, config.core**2)
        return (by_shift * self.window.softmax(2)[None]).sum(3)

    def refine(
        self, image0: Tensor, image1: Tensor, points0: Tensor, points1: Tensor, affine: Tensor
    ) -> tuple[Tensor, Refined]:
        """Refine the matches of a pair.

        Args:
            image0, image1: (1, 1, H, W) grey, float, 0..255.
            points0, points1: (M, 2) pixels.
            affine: (M, 2, 2) by which surroundings move from image 0 to image 1.

        Returns:
            Points of image 1 (M, 2), and what the last pass said (its covariance is of the patch's pixels: of image 0).
        """
        patches0 = even_patches(sample_patches(image0, points0, None, self.config.patch))
        found = points1
        said = None
        for _ in range(self.config.passes):
            patches1 = even_patches(sample_patches(image1, found, affine, self.config.patch))
            said = self(patches0, patches1)
            found = found + (affine @ said.offset[..., None])[..., 0]
        assert said is not None
        return found, said


def _unit_groups(features: Tensor, groups: int) -> Tensor:
    """(M, C, h, w) to (M, groups, C / groups, h * w) of unit length over a group's channels."""
    split = features.flatten(2).view(features.shape[0], groups, features.shape[1] // groups, -1)
    return F.normalize(split, dim=2)


def _pairs_of_shifts(config: RefinerConfig) -> Tensor:
    """For every shift and every pixel of the core, the place of their product among all pairs of pixels."""
    core, mapped, reach = config.core, config.mapped, config.reach
    rows = torch.arange(core)
    steps = torch.arange(2 * reach + 1)
    at = (steps[:, None, None, None] + rows[None, None, :, None]) * mapped
    at = at + steps[None, :, None, None] + rows[None, None, None, :]  # (shift y, shift x, row, column) in the second
    own = rows[:, None] * core + rows[None]
    return (own * mapped**2 + at).flatten()
