"""Keypoints by the detector that a fine branch was published with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import InputError
from slamfeat.frontend.heads.describe import FineView
from slamfeat.frontend.selector import SelectorConfig, select_keypoints


def select_seen(
    seen: FineView, cell: int, count: int, config: SelectorConfig, mask: NDArray[np.uint8] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (B, K, 2) in pixels of the original image, scores (B, K), which are valid (B, K).

    Args:
        seen: made with `detect`.
        cell: pixels of the seen image that one patch covers; the grid begins at its corner.
        count: slots K.
        config: see the class.
        mask: (H, W) of the original image, non-zero where keypoints may lie.

    Raises:
        InputError: a mask of another size.
        ConfigError: a branch without a detector.
    """
    response = seen.detect()
    allowed = None if mask is None else _resized(mask, seen).to(response.device)
    points, scores, valid = select_keypoints(response, cell, count, config, allowed, response=response)
    return seen.to_seen.inverse().apply(points), scores, valid


def _resized(mask: NDArray[np.uint8], seen: FineView) -> Tensor:
    """(1, 1, h, w) bool, of the seen image."""
    size = tuple(round(side / scale) for side, scale in zip(seen.size, seen.to_seen.scale, strict=True))
    if mask.shape != size[::-1]:
        raise InputError(f"mask is {mask.shape[::-1]} (W, H) but the image is {size}")
    inside = torch.from_numpy(np.ascontiguousarray(mask != 0))[None, None].float()
    return F.interpolate(inside, seen.size[::-1], mode="nearest-exact") > 0
