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

CHUNK = 128
"""Matches at once: so few stay in the processor's cache from layer to layer."""
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

    patch: int = 19
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

    def covariances(self, affine: Tensor) -> Tensor:
        """Covariances A L L^T A^T (M, 2, 2), pixels squared of image 1, for `affine` A (M, 2, 2) from image 0 to it."""
        log_first, log_second, lower = self.cholesky.unbind(1)
        rows = [log_first.exp(), torch.zeros_like(lower)], [lower, log_second.exp()]
        factor = affine @ torch.stack([torch.stack(row, 1) for row in rows], 1)
        return factor @ factor.mT


class PatchRefiner(nn.Module):
    """See the module."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        c, shifts = config.channels, (2 * config.reach + 1) ** 2
        self.features = nn.Sequential(
            nn.Conv2d(1, c, 3), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3)
        )
        self.window = nn.Parameter(torch.zeros(config.groups, 1, config.core**2))  # how much each pixel counts
        self.read = nn.Sequential(
            nn.Linear(config.groups * shifts, config.hidden), nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(inplace=True), nn.Linear(config.hidden, 6),
        )  # fmt: skip

    def forward(self, patches0: Tensor, patches1: Tensor) -> Refined:
        """One pass on patches (M, 1, patch, patch) as `even_patches` gives them."""
        return self.compare(self.features(patches0), self.features(patches1))

    def compare(self, features0: Tensor, features1: Tensor) -> Refined:
        """One pass on features (M, channels, mapped, mapped) of the patches."""
        return as_refined(self.read(self.correlate(features0, features1).flatten(1)))

    def describe(self, patches: Tensor) -> Tensor:
        """Kernels (M, groups, channels / groups, core, core) of the first image's patches, for `compare_patches`."""
        return torch.cat([self.kernels(self.features(part)) for part in torch.split(patches, CHUNK)])

    def compare_patches(self, kernels0: Tensor, patches1: Tensor) -> Refined:
        """One pass on kernels of `describe` and the second image's patches."""
        parts = zip(torch.split(kernels0, CHUNK), torch.split(patches1, CHUNK), strict=True)
        return as_refined(torch.cat([self.numbers(*part) for part in parts]))

    def numbers(self, kernels0: Tensor, patches1: Tensor) -> Tensor:
        """What `as_refined` reads (M, 6), for arguments as of `compare_patches`."""
        correlation = slide(kernels0, _unit_groups(self.features(patches1), self.config.groups))
        said: Tensor = self.read(correlation.flatten(1))
        return said

    def correlate(self, features0: Tensor, features1: Tensor) -> Tensor:
        """Correlation (M, groups, shifts) of the middle of the first patch with the second, shift by shift."""
        return slide(self.kernels(features0), _unit_groups(features1, self.config.groups))

    def kernels(self, features: Tensor) -> Tensor:
        """The weighted middle (M, groups, channels / groups, core, core) of features (M, channels, mapped, mapped)."""
        groups, core, reach = self.config.groups, self.config.core, self.config.reach
        weight = self.window.softmax(2).view(1, groups, 1, core, core)
        return weight * _unit_groups(features[..., reach:-reach, reach:-reach], groups)

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
        kernels0 = self.describe(even_patches(sample_patches(image0, points0, None, self.config.patch)))
        found = points1
        said = None
        for _ in range(self.config.passes):
            patches1 = even_patches(sample_patches(image1, found, affine, self.config.patch))
            said = self.compare_patches(kernels0, patches1)
            found = found + (affine @ said.offset[..., None])[..., 0]
        assert said is not None
        return found, said


def as_refined(out: Tensor) -> Refined:
    """What the six numbers a match (M, 6) that the network ends with mean."""
    cholesky = torch.cat([out[:, 2:4].clamp(_LEAST_LOG, _MOST_LOG), out[:, 4:5]], 1)
    return Refined(out[:, :2], cholesky, out[:, 5])


def slide(first: Tensor, second: Tensor) -> Tensor:
    """Products (M, groups, shifts) of `first` (M, groups, C, core, core) with `second` (M, groups, C, side, side)."""
    if first.device.type == "cpu" and not torch.is_grad_enabled():
        return _slide_by_product(first, second)
    return _slide_by_convolution(first, second)


def _slide_by_convolution(first: Tensor, second: Tensor) -> Tensor:
    """With every match's own kernels, which keeps no intermediate results for the gradients."""
    count, groups, _, _, side = second.shape
    slid = F.conv2d(second.reshape(1, -1, side, side), first.flatten(0, 1), groups=count * groups)
    return slid.view(count, groups, -1)


def _slide_by_product(first: Tensor, second: Tensor) -> Tensor:
    """The same in half the time on a processor, for some hundred matches at once: all pairs of pixels are multiplied.

    Of each pixel of `first`, the products with the pixels within reach of it count.
    """
    core, side = first.shape[-1], second.shape[-1]
    shifts = side - core + 1
    products = (first.flatten(3).transpose(2, 3) @ second.flatten(3)).view(*first.shape[:2], core * core, side, side)
    total = torch.zeros_like(products[:, :, 0, :shifts, :shifts])
    for pixel in range(core * core):
        y, x = divmod(pixel, core)
        total += products[:, :, pixel, y : y + shifts, x : x + shifts]
    return total.flatten(2)


def _unit_groups(features: Tensor, groups: int) -> Tensor:
    """(M, C, h, w) to (M, groups, C / groups, h, w) of unit length over a group's channels."""
    count, channels, height, width = features.shape
    split = features.reshape(count, groups, channels // groups, height, width)
    squares = split.square()
    total = squares[:, :, :1] + 1e-8
    for channel in range(1, channels // groups):  # a sum over this axis takes three times as long, F.normalize twenty
        total = total + squares[:, :, channel : channel + 1]
    return split * total.rsqrt()
