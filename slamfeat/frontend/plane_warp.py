"""The plane-to-plane map that most coarse matches agree on, and images and points seen through it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
LEAST_FOR_WARP = 12
"""Matches: fewer say nothing of a plane."""


def plane_warp(points0: Floats, points1: Floats, error_px: float) -> Doubles:
    """Homography (3, 3) from the first image to the second that most coarse matches agree on to within `error_px`.

    The identity where too few agree, or where it would squeeze or stretch the image beyond what coarse matches can
    vouch for.
    """
    import cv2

    if len(points0) < LEAST_FOR_WARP:
        return np.eye(3)
    warp, agreed = cv2.findHomography(points0, points1, cv2.RANSAC, error_px, maxIters=500, confidence=0.99)
    if warp is None or agreed.sum() < max(LEAST_FOR_WARP, 0.3 * len(points0)):
        return np.eye(3)
    area = np.linalg.svd(warp[:2, :2] - np.outer(warp[:2, 2], warp[2, :2]), compute_uv=False)
    sane = area[1] > 0.25 and area[0] < 4 and np.abs(warp[2, :2]).max() < 2e-3
    return np.asarray(warp, dtype=np.float64) if sane else np.eye(3)


def undo_warp(image: NDArray[np.uint8], warp: Doubles, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The second image as the first camera would see the plane."""
    import cv2

    if np.array_equal(warp, np.eye(3)):
        return image
    inverse = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return np.asarray(cv2.warpPerspective(image, warp, (shape[1], shape[0]), flags=inverse), dtype=np.uint8)


def inverse_warp(warp: Doubles) -> Doubles:
    """The homography (3, 3) back."""
    return np.asarray(np.linalg.inv(warp), dtype=np.float64)


def map_points(homography: Doubles, points: Floats) -> Floats:
    """Where a homography (3, 3) moves points (M, 2)."""
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return (homogeneous[:, :2] / homogeneous[:, 2:]).astype(np.float32)


def inside(points: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which points (M, 2) lie within an image of `shape` (H, W)."""
    return np.asarray(((points >= 0) & (points <= (shape[1] - 1, shape[0] - 1))).all(1), dtype=np.bool_)
