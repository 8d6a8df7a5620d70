"""Keypoints by the detector that a fine branch was published with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import InputError
from slamfeat.frontend.heads.describe import FineView
from slamfeat.frontend.selector import SelectorConfig, select_keypoints, textured


def select_seen(
    seen: FineView, gray: Tensor, cell: int, count: int, config: SelectorConfig, mask: NDArray[np.uint8] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (B, K, 2) in pixels of the original image, scores (B, K), which are valid (B, K).

    Args:
        seen: made with `detect`.
        gray: (B, 1, H, W) the original image; where it is flat there is no keypoint, whatever the detector says.
        cell: pixels of the seen image that one patch covers; the grid begins at its corner.
        count: slots K.
        config: see the class.
        mask: (H, W) of the original image, non-zero where keypoints may lie.

    Raises:
        InputError: a mask of another size.
        ConfigError: a branch without a detector.
    """
    response, allowed = seen.detect(), textured(gray, config.sigma)
    if mask is not None:
        if mask.shape != tuple(gray.shape[-2:]):
            raise InputError(f"mask is {mask.shape[::-1]} (W, H) but the image is {tuple(gray.shape[:-3:-1])}")
        allowed = allowed & torch.from_numpy(np.ascontiguousarray(mask != 0)).to(allowed.device)
    allowed = F.interpolate(allowed.float(), response.shape[-2:], mode="nearest-exact") > 0
    points, scores, valid = select_keypoints(response, cell, count, config, allowed, response=response)
    return seen.to_seen.inverse().apply(points), scores, valid
