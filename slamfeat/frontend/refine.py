"""From a coarse match to sub-pixel, without training: pyramidal Lucas-Kanade from the coarse position.

Every match is tracked forward and back; it survives when it comes home and the two patches look alike (zero-mean
normalised cross-correlation, which does not care about gain and offset of the exposure).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError

Floats = NDArray[np.float32]
RefineMethod = Literal["none", "lk"]
_LEAST_FOR_WARP = 12
_WARP_ERROR_PX = 12.0


@dataclass
class RefineConfig:
    """How coarse matches are refined.

    Attributes:
        method: "none" or "lk" (pyramidal Lucas-Kanade).
        window: side of the tracked patch; pixels, odd.
        levels: pyramid levels above the full image.
        prewarp: first undo the plane-to-plane map that the coarse matches agree on, since Lucas-Kanade follows shifts
            but neither roll nor zoom.
        max_shift: a match that moves further than this from its coarse position is dropped; pixels, 0 for no limit.
        max_return: largest distance between a point and itself tracked forward and back; pixels.
        min_correlation: least correlation of the two patches, -1..1.
    """

    method: str = "lk"
    window: int = 15
    levels: int = 2
    prewarp: bool = True
    max_shift: float = 0.0
    max_return: float = 1.0
    min_correlation: float = 0.6

    def __post_init__(self) -> None:
        if self.method not in get_args(RefineMethod):
            raise ConfigError(f"unknown refine method '{self.method}'; use one of {', '.join(get_args(RefineMethod))}")
        if self.window < 5 or self.window % 2 == 0 or self.levels < 0 or self.max_return <= 0:
            raise ConfigError("refine: window must be odd and at least 5, levels >= 0, max_return > 0")


def refine_points(
    gray0: Tensor, gray1: Tensor, points0: Tensor, points1: Tensor, config: RefineConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Refine the matches of one pair.

    Args:
        gray0, gray1: (H, W) uint8 images.
        points0, points1: (M, 2) coarse matches in pixels.
        config: see `RefineConfig`.

    Returns:
        points1 refined (M, 2), correlation (M,) in -1..1, kept (M,) bool.
    """
    if config.method == "none" or len(points0) == 0:
        ones = torch.ones(len(points0), device=points0.device)
        return points1, ones, ones.bool()
    image0, image1 = gray0.cpu().numpy(), gray1.cpu().numpy()
    start, guess = (p.detach().cpu().numpy().astype(np.float32) for p in (points0, points1))
    warp = plane_warp(start, guess) if config.prewarp else np.eye(3)
    image1 = _undo(image1, warp, image0.shape)
    guess = _map(np.linalg.inv(warp), guess)
    found, forward = _track(image0, image1, start, guess, config)
    home, backward = _track(image1, image0, found, start, config)
    kept = forward & backward & (np.linalg.norm(home - start, axis=1) < config.max_return)
    if config.max_shift > 0:
        kept &= np.linalg.norm(found - guess, axis=1) < config.max_shift
    flat = torch.from_numpy(found).to(points1)
    correlation = patch_correlation(gray0, torch.from_numpy(image1), points0, flat, config.window)
    keep = torch.from_numpy(kept).to(points1.device) & (correlation >= config.min_correlation)
    return torch.from_numpy(_map(warp, found)).to(points1), correlation, keep


def plane_warp(points0: Floats, points1: Floats) -> NDArray[np.float64]:
    """Homography (3, 3) from the first image to the second that most coarse matches roughly agree on.

    The identity where too few agree, or where it would squeeze or stretch the image beyond what coarse matches can
    vouch for.
    """
    import cv2

    if len(points0) < _LEAST_FOR_WARP:
        return np.eye(3)
    warp, agreed = cv2.findHomography(points0, points1, cv2.RANSAC, _WARP_ERROR_PX, maxIters=500, confidence=0.99)
    if warp is None or agreed.sum() < max(_LEAST_FOR_WARP, 0.3 * len(points0)):
        return np.eye(3)
    area = np.linalg.svd(warp[:2, :2] - np.outer(warp[:2, 2], warp[2, :2]), compute_uv=False)
    sane = 0.25 < area[1] and area[0] < 4 and np.abs(warp[2, :2]).max() < 2e-3
    return np.asarray(warp, dtype=np.float64) if sane else np.eye(3)


def patch_correlation(gray0: Tensor, gray1: Tensor, points0: Tensor, points1: Tensor, window: int) -> Tensor:
    """Zero-mean normalised cross-correlation (M,) of patches of `window` pixels around matched points."""
    patches0, patches1 = _patches(gray0, points0, window), _patches(gray1, points1, window)
    return (patches0 * patches1).sum(1).clamp(-1, 1)


def _patches(gray: Tensor, points: Tensor, window: int) -> Tensor:
    """(M, window * window) zero mean and unit length; a flat patch is all zero."""
    height, width = gray.shape
    steps = torch.arange(window, device=points.device, dtype=torch.float32) - window // 2
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    grid = points.float()[:, None] + torch.stack([dx, dy], -1).view(1, -1, 2)
    limits = torch.tensor([width - 1, height - 1], device=points.device, dtype=torch.float32)
    image = gray[None, None].to(device=points.device, dtype=torch.float32)
    sampled = F.grid_sample(image, (grid / limits * 2 - 1)[None], padding_mode="border", align_corners=True)
    centred = sampled[0, 0] - sampled[0, 0].mean(1, keepdim=True)
    return F.normalize(centred, dim=1, eps=1e-3)


def _undo(image: NDArray[np.uint8], warp: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The second image as the first camera would see the plane."""
    import cv2

    if np.array_equal(warp, np.eye(3)):
        return image
    inverse = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return np.asarray(cv2.warpPerspective(image, warp, (shape[1], shape[0]), flags=inverse), dtype=np.uint8)


def _map(homography: NDArray[np.float64], points: Floats) -> Floats:
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return (homogeneous[:, :2] / homogeneous[:, 2:]).astype(np.float32)


def _track(
    image0: NDArray[np.uint8], image1: NDArray[np.uint8], start: Floats, guess: Floats, config: RefineConfig
) -> tuple[Floats, NDArray[np.bool_]]:
    import cv2

    found, status, _ = cv2.calcOpticalFlowPyrLK(
        image0, image1, start[:, None], guess[:, None].copy(),
        winSize=(config.window, config.window), maxLevel=config.levels, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.01),
    )  # fmt: skip
    height, width = image1.shape
    points = found[:, 0]
    inside = (points >= 0).all(1) & (points[:, 0] <= width - 1) & (points[:, 1] <= height - 1)
    return points, (status[:, 0] == 1) & inside
