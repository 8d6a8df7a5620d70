"""A fine branch on an image of any size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.frontend.heads.fine import FineBranch, FineMaps
from slamfeat.types import PixelMap


def describe_fine(branch: FineBranch, image: Tensor, keypoints: Tensor) -> Tensor:
    """Fine descriptors at keypoints.

    The image is resized to whole steps of the branch, which changes it by less than a step, as XFeat does.

    Args:
        branch: in evaluation mode.
        image: (B, 3, H, W) in [0, 1].
        keypoints: (B, K, 2) pixels of the image.

    Returns:
        (B, K, branch.dim) of unit length.
    """
    height, width = image.shape[-2:]
    size = tuple(max(branch.step, side // branch.step * branch.step) for side in (width, height))
    resized = image
    if size != (width, height):
        resized = F.interpolate(image, size[::-1], mode="bilinear", align_corners=False)
    to_resized = PixelMap(scale=(size[0] / width, size[1] / height))
    return branch.describe(FineMaps(branch.features(resized)), to_resized.apply(keypoints), (size[0], size[1]))


def freeze(module: torch.nn.Module) -> torch.nn.Module:
    """The module in evaluation mode, without gradients."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
