"""From a coarse match to sub-pixel, without training: pyramidal Lucas-Kanade from the coarse position.

Lucas-Kanade follows shifts but neither roll nor zoom, so the second image is first seen through the plane-to-plane
map that most coarse matches agree on. Every match is tracked forward and back; it survives when it comes home and the
two patches look alike (zero-mean normalised cross-correlation, which does not care about gain and offset of the
exposure). Lost points are tried again from where their neighbours went. What is lost for good, because no one plane is
right for the whole scene, can be aligned match by match (`slamfeat.frontend.align_lost`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.frontend.align_lost import AlignLimits, align_lost
from slamfeat.frontend.attempt import Attempt
from slamfeat.frontend.plane_warp import (
    LEAST_FOR_WARP,
    Doubles,
    Floats,
    inside,
    inverse_warp,
    map_points,
    plane_warp,
    undo_warp,
)
from slamfeat.frontend.refine_images import even_contrast, of_one_size, shrunk, shrunk_shape

RefineMethod = Literal["none", "lk", "learned"]
_Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]
_MOST_SHRINK = 4
_COARSE_PX, _FINE_PX = 12.0, 6.0
_NEIGHBOURS = 7


@dataclass
class RefineConfig:
    """How coarse matches are refined.

    Attributes:
        method: "none", "lk" (pyramidal Lucas-Kanade), or "learned" (the refiner of `heads`, which of the settings
            below takes only `fill`, `min_confidence`, `keep` and `covariances`).
        window: side of the tracked patch; pixels of the shrunk image, odd.
        levels: pyramid levels above the full image.
        shrink: refine in images shrunk by this whole number, 1 to 4: less exact, and several times faster.
        normalize: bring both images to equal local mean and contrast first: Lucas-Kanade assumes that a point keeps
            its grey value, which a change of exposure or light breaks.
        passes: how often points are tried, from the second time on those that were lost, from where their neighbours
            went.
        fill: from the second pass on, and where matches are aligned, also look for keypoints that have no match.
        max_shift: "lk" only: a match that moves further than this from its coarse position is lost; pixels of the
            original image, 0 for no limit.
        max_return: largest distance between a point and itself tracked forward and back; pixels of the shrunk image.
        min_correlation: least correlation of the two patches, -1..1.
        align: "lk" only: seek what Lucas-Kanade lost match by match, each patch seen through the affine map by which
            its surroundings moved: for scenes of much depth and views from nearer. The patches are of 26 pixels of the
            shrunk image whatever `window`, and their correlations are weighted to the middle. Costs about as much as
            Lucas-Kanade.
        min_confidence: "learned" only: least probability that a refined match is right.
        keep: a coarse match that is lost, or not refined with `min_confidence`, keeps its coarse place (for the learned
            refiner with a deviation of 2 px) instead of being dropped. Where it is found again from its neighbours,
            that place counts.
        covariances: "learned" only: matches carry the refiner's covariances.
    """

    method: str = "lk"
    window: int = 21
    levels: int = 2
    shrink: int = 1
    normalize: bool = True
    passes: int = 2
    fill: bool = True
    max_shift: float = 0.0
    max_return: float = 1.0
    min_correlation: float = 0.6
    align: bool = False
    min_confidence: float = 0.5
    keep: bool = False
    covariances: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(RefineMethod):
            raise ConfigError(f"unknown refine method '{self.method}'; use one of {', '.join(get_args(RefineMethod))}")
        if self.window < 5 or self.window % 2 == 0 or self.levels < 0 or self.max_return <= 0:
            raise ConfigError("refine: window must be odd and at least 5, levels >= 0, max_return > 0")
        if self.passes < 1:
            raise ConfigError(f"refine.passes must be at least 1, got {self.passes}")
        if not 1 <= self.shrink <= _MOST_SHRINK:
            raise ConfigError(f"refine.shrink must be between 1 and {_MOST_SHRINK}, got {self.shrink}")


def refine_points(
    gray0: Tensor, gray1: Tensor, points0: Tensor, points1: Tensor, config: RefineConfig, known: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Refine the matches of one pair.

    Args:
        gray0, gray1: (H, W) uint8 images.
        points0, points1: (M, 2) coarse matches in pixels.
        config: see `RefineConfig`.
        known: (M,) bool, false where `points1` says nothing and the neighbours must; all are known when None.

    Returns:
        points1 refined (M, 2), correlation (M,) in -1..1, kept (M,) bool.
    """
    if config.method == "none" or len(points0) == 0:
        ones = torch.ones(len(points0), device=points0.device)
        return points1, ones, ones.bool() if known is None else known
    image0, image1 = of_one_size(*(shrunk(gray.cpu().numpy(), config.shrink) for gray in (gray0, gray1)))
    images = (even_contrast(image0) if config.normalize else image0), image1
    start, coarse = (_scaled(points.detach().cpu().numpy(), 1 / config.shrink) for points in (points0, points1))
    given = np.ones(len(start), dtype=bool) if known is None else known.cpu().numpy()
    attempt = _first(images, start, coarse, given, config)
    for _ in range(config.passes - 1):
        if attempt.kept.sum() < LEAST_FOR_WARP or attempt.kept.all():
            break
        attempt = _again(images, start, attempt, config)
    shape = shrunk_shape(gray1, config.shrink)
    attempt = replace(attempt, kept=attempt.kept & inside(attempt.found, shape))
    if config.align:
        limits = AlignLimits(config.min_correlation, config.max_return, shape)
        attempt = align_lost(image0, image1, start, coarse, given, attempt, limits)
    kept = attempt.kept
    if config.max_shift > 0:
        shift = np.linalg.norm(attempt.found - coarse, axis=1) * config.shrink
        kept = kept & (~given | (shift < config.max_shift))
    found = torch.from_numpy(_scaled(attempt.found, config.shrink)).to(points1)
    correlation, chosen = torch.from_numpy(attempt.correlation).to(points1), torch.from_numpy(kept).to(points1.device)
    if config.keep:
        stay = torch.from_numpy(given).to(points1.device) & ~chosen
        found, chosen = torch.where(stay[:, None], points1, found), chosen | stay
    return found, correlation, chosen


def _scaled(points: NDArray[Any], scale: float) -> Floats:
    """Pixels (M, 2) in an image that was resized by `scale`."""
    return np.asarray((points + 0.5) * scale - 0.5, dtype=np.float32)


def _attempt(images: _Images, start: Floats, guess: Floats, warp: Doubles, config: RefineConfig) -> Attempt:
    """Track from `guess`, with the second image seen through `warp`; the first has even contrast already."""
    image0, image1 = images[0], undo_warp(images[1], warp, images[0].shape)
    if config.normalize:  # after the warp, so that both windows cover the same part of the scene
        image1 = even_contrast(image1)
    found, kept = _track(image0, image1, start, map_points(inverse_warp(warp), guess), config)
    correlation = patch_correlation(image0, image1, start, found, config.window)
    back = map_points(warp, found)
    kept &= inside(back, images[1].shape) & (correlation >= config.min_correlation)
    chosen = kept.nonzero()[0]  # the way home is the dearer the more points are lost on it
    if len(chosen):
        home, returned = _track(image1, image0, found[chosen], start[chosen], config)
        kept[chosen] = returned & (np.linalg.norm(home - start[chosen], axis=1) < config.max_return)
    return Attempt(back, correlation, kept)


def _first(images: _Images, start: Floats, coarse: Floats, known: NDArray[np.bool_], config: RefineConfig) -> Attempt:
    """Try the known matches from where they are said to be."""
    lost = Attempt(coarse, np.zeros(len(start), np.float32), np.zeros(len(start), dtype=bool))
    if not known.any():
        return lost
    guess = coarse[known]
    warp = plane_warp(start[known], guess, _COARSE_PX)
    return lost.with_part(known, _attempt(images, start[known], guess, warp, config))


def _again(images: _Images, start: Floats, before: Attempt, config: RefineConfig) -> Attempt:
    """Try the points that were lost from where their found neighbours went."""
    kept, lost = before.kept, ~before.kept
    warp = plane_warp(start[kept], before.found[kept], _FINE_PX)
    flat = map_points(inverse_warp(warp), before.found[kept])
    _, nearest = cKDTree(start[kept]).query(start[lost], k=_NEIGHBOURS)
    moved = np.median((flat - start[kept])[nearest], axis=1)
    guess = map_points(warp, (start[lost] + moved).astype(np.float32))
    return before.with_part(lost, _attempt(images, start[lost], guess, warp, config))


def patch_correlation(
    image0: NDArray[np.uint8], image1: NDArray[np.uint8], points0: Floats, points1: Floats, window: int
) -> Floats:
    """Zero-mean normalised cross-correlation (M,) of patches of `window` pixels around matched points (M, 2).

    Every second pixel each way: the patches are smooth enough.
    """
    patches0, patches1 = _patches(image0, points0, window), _patches(image1, points1, window)
    return np.asarray(np.clip(np.einsum("mp,mp->m", patches0, patches1), -1, 1), dtype=np.float32)


def _patches(image: NDArray[np.uint8], points: Floats, window: int) -> Floats:
    """(M, samples) zero mean and unit length; a flat patch is all zero."""
    import cv2

    steps = np.arange(window // 2 % 2, window, 2, dtype=np.float32) - window // 2
    dx, dy = (step.ravel() for step in np.meshgrid(steps, steps))
    x, y = points[:, :1] + dx, points[:, 1:] + dy
    sampled = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    sampled -= sampled.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("mp,mp->m", sampled, sampled))
    return np.asarray(sampled / np.maximum(length, 1e-3)[:, None], dtype=np.float32)


def _track(
    image0: NDArray[np.uint8], image1: NDArray[np.uint8], start: Floats, guess: Floats, config: RefineConfig
) -> tuple[Floats, NDArray[np.bool_]]:
    import cv2

    found, status, _ = cv2.calcOpticalFlowPyrLK(
        image0, image1, start[:, None], guess[:, None].copy(),
        winSize=(config.window, config.window), maxLevel=config.levels, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.03),
    )  # fmt: skip
    points = np.asarray(found[:, 0], dtype=np.float32)
    return points, (status[:, 0] == 1) & inside(points, image1.shape)
