"""Features as kornia's local affine frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slamfeat.types import Features


def patch_diameter(features: Features) -> float:
    """Pixels of the original image that one patch of the backbone covers; 1 for features without a grid."""
    if features.grid is None:
        return 1.0
    sx, sy = features.grid.pixel_map.scale
    return features.grid.patch_size / math.sqrt(sx * sy)


def features_to_lafs(features: Features) -> Tensor:
    """Upright local affine frames (B, K, 2, 3) with the patch size in original pixels as scale.

    Empty slots have a frame too, so that the batch keeps its shape; `features.mask` tells them apart. Kornia's pixel
    convention is the same as slamfeat's.
    """
    from kornia.feature import laf_from_center_scale_ori

    center = features.keypoints
    scale = torch.full_like(center[..., :1, None], patch_diameter(features))
    lafs: Tensor = laf_from_center_scale_ori(center, scale, torch.zeros_like(center[..., :1]))
    return lafs
