"""Which matches of two uncalibrated images agree on one motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array

_LEAST = 8


def fundamental_inliers(points0: Array, points1: Array, threshold_px: float = 1.0) -> NDArray[np.bool_]:
    """Inliers of the fundamental matrix found by MAGSAC++ (Barath et al., CVPR 2020), as OpenCV has it.

    Args:
        points0, points1: (M, 2) matches in pixels.
        threshold_px: largest distance from the epipolar line.

    Returns:
        (M,) bool; all False with fewer than eight matches, or when no motion is found.
    """
    import cv2

    if len(points0) < _LEAST:
        return np.zeros(len(points0), dtype=bool)
    cv2.setRNGSeed(0)
    # OpenCV's stubs do not say that both are None when nothing is found.
    found: tuple[Any, Any] = cv2.findFundamentalMat(points0, points1, cv2.USAC_MAGSAC, threshold_px, 0.9999, 5000)
    matrix, mask = found
    if matrix is None or mask is None:
        return np.zeros(len(points0), dtype=bool)
    return np.asarray(mask[:, 0] > 0, dtype=np.bool_)
