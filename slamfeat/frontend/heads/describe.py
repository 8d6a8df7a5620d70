"""A fine branch on an image of any size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.fine import FineBranch, FineMaps
from slamfeat.types import PixelMap


@dataclass(frozen=True)
class FineView:
    """An image as a fine branch sees it, computed once and read at any keypoints.

    Attributes:
        branch: that made it.
        maps: what it made.
        size: (W, H) of the image it saw.
        to_seen: from pixels of the original image to pixels of that one.
    """

    branch: FineBranch
    maps: FineMaps
    size: tuple[int, int]
    to_seen: PixelMap

    def detect(self) -> Tensor:
        """How good a keypoint each pixel of the seen image would be, (B, 1, h, w).

        Raises:
            ConfigError: a branch that does not say.
        """
        found = self.branch.detect(self.maps)
        if found is None:
            raise ConfigError("selector.saliency=fine: this fine branch has no detector; use XFeat's or ALIKED's heads")
        return found

    def describe(self, keypoints: Tensor) -> Tensor:
        """Fine descriptors (B, K, branch.dim) of unit length at keypoints (B, K, 2), pixels of the original image."""
        return self.branch.describe(self.maps, self.to_seen.apply(keypoints), self.size)


def view_fine(branch: FineBranch, image: Tensor, detect: bool = False) -> FineView:
    """Run a fine branch over images (B, 3, H, W) or (B, 1, H, W) in [0, 1]; `detect` for its saliency as well.

    The image is resized to whole steps of the branch, which changes it by less than a step, as XFeat does.
    """
    resized, to_seen = _in_whole_steps(branch, image)
    maps: FineMaps = branch(resized) if detect else FineMaps(branch.features(resized))
    return FineView(branch, maps, (resized.shape[-1], resized.shape[-2]), to_seen)


def describe_fine(branch: FineBranch, image: Tensor, keypoints: Tensor) -> Tensor:
    """Fine descriptors at keypoints; what `view_fine` and `FineView.describe` give, for images that are read once.

    Args:
        branch: that reads them.
        image: (B, 3, H, W) or (B, 1, H, W) in [0, 1].
        keypoints: (B, K, 2) pixels of the image.

    Returns:
        (B, K, branch.dim) of unit length.
    """
    resized, to_seen = _in_whole_steps(branch, image)
    return branch.read(resized, to_seen.apply(keypoints))


def _in_whole_steps(branch: FineBranch, image: Tensor) -> tuple[Tensor, PixelMap]:
    height, width = image.shape[-2:]
    size = tuple(max(branch.step, side // branch.step * branch.step) for side in (width, height))
    resized = image
    if size != (width, height):
        resized = F.interpolate(image, size[::-1], mode="bilinear", align_corners=False)
    return resized, PixelMap(scale=(size[0] / width, size[1] / height))


def freeze(module: torch.nn.Module) -> torch.nn.Module:
    """The module in evaluation mode, without gradients."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
