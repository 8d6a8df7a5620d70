"""Grid-aligned keypoints: in every cell of the patch grid the most salient pixel, without learned parameters.

The rule is DINO-VO's (arXiv 2507.13145, Sec. III-A): Gaussian blur, Sobel magnitude, one argmax a cell, suppression of
neighbours across cell borders, threshold, top-K. Shi-Tomasi's smaller eigenvalue is the other saliency. Coverage (a
quota for every region of the image), sub-pixel peaks and several cells a patch are slamfeat's own. With learned
saliency the rule proposes keypoints, and a trained head ranks them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.subpixel import parabola_offset, soft_offset

Saliency = Literal["gradient", "shi_tomasi", "center", "learned", "fine"]
Judge = Callable[[Tensor], Tensor]
"""From proposed keypoints (B, N, 2), pixels of the fitted image, to how good they are (B, N), above 0 and up to 1."""
_LEAST_SIDE = 7


@dataclass
class SelectorConfig:
    """How keypoints are chosen.

    Attributes:
        saliency: "gradient" (Gaussian + Sobel magnitude), "shi_tomasi" (smaller eigenvalue of the structure tensor),
            "center": the cell's centre itself, scored by its strongest gradient, "learned": the strongest gradient of
            a cell, scored by the trained saliency of `frontend.heads`, or "fine": the detector that their fine branch
            was published with (XFeat's, ALIKED's).
        sigma: standard deviation of the blur before the gradient, or of the structure tensor's window; pixels.
        nms_radius: of two peaks closer than this (pixels) the weaker is dropped.
        threshold: least saliency, as a fraction of the image's 99th percentile of cell peaks.
        floor: least saliency in absolute terms (grey levels in 0..1 a pixel; odds with "fine"), so that a black or flat
            image gives none (with "fine" such parts of an image give none in any case, see `textured`).
        splits: parts a cell is split into along each side, each with its own keypoint (1: one keypoint a cell, as
            DINO-VO); 0 for as many as leave 7 pixels to a side.
        coverage: regions along the longer image side that get an equal share of the K slots first; 0 for pure top-K.
        subpixel: fit a parabola to the saliency around the peak; with "fine", the mean place of a sharpened window, as
            ALIKED.
        border: keypoints keep this distance from the image border; pixels.
        aligned: one keypoint a part of a cell; without it `nms_radius` alone, then a square's half side in whole
            pixels, keeps keypoints apart, as in detectors that know of no cells. For comparison.
    """

    saliency: str = "gradient"
    sigma: float = 2.0
    nms_radius: float = 5.0
    threshold: float = 0.05
    floor: float = 0.002
    splits: int = 0
    coverage: int = 8
    subpixel: bool = True
    border: int = 4
    aligned: bool = True

    def __post_init__(self) -> None:
        if self.saliency not in get_args(Saliency):
            raise ConfigError(f"unknown saliency '{self.saliency}'; use one of {', '.join(get_args(Saliency))}")
        if self.splits < 0 or self.sigma <= 0 or self.nms_radius < 0 or self.coverage < 0 or self.border < 0:
            raise ConfigError("selector: sigma > 0, and splits, nms_radius, coverage, border >= 0 are needed")
        if not self.aligned and (self.saliency in ("center", "learned") or self.nms_radius < 1):
            raise ConfigError("selector.aligned=false needs nms_radius >= 1, and neither center nor learned saliency")


def select_keypoints(
    gray: Tensor, cell: int, count: int, config: SelectorConfig, allowed: Tensor | None = None,
    judge: Judge | None = None, response: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Choose `count` keypoints an image.

    Args:
        gray: (B, 1, H, W), uint8 or floats in [0, 1], H and W multiples of `cell`.
        cell: pixels of `gray` that one patch covers.
        count: slots K.
        config: see `SelectorConfig`.
        allowed: (B, 1, H, W) bool, False where no keypoint may lie.
        judge: scores what "learned" saliency proposes.
        response: (B, 1, H, W) saliency that is known, instead of what `saliency_map` makes of `gray`; any H and W.

    Returns:
        keypoints (B, K, 2) in pixels of `gray`, scores (B, K), mask (B, K); best first, empty slots last and zero.

    Raises:
        ConfigError: `cell` cannot be split into `config.splits` equal parts, or "learned" saliency without a judge.
    """
    side = part_side(cell, config.splits)
    if config.saliency == "learned" and judge is None:
        raise ConfigError("selector.saliency=learned needs trained heads with a saliency head; set heads=")
    if config.saliency == "fine" and response is None:
        raise ConfigError("selector.saliency=fine needs trained heads with a published fine branch; set heads=")
    saliency = saliency_map(gray, config) if response is None else response
    usable = _without_border(saliency, config.border)
    if allowed is not None:
        usable = usable * allowed
    usable = F.pad(usable, (0, -usable.shape[-1] % side, 0, -usable.shape[-2] % side))  # a response of any size
    points, peaks = _aligned_peaks(usable, side, config) if config.aligned else _free_peaks(usable, config.nms_radius)
    # The level is one of peaks of cells, also where most pixels are no peak.
    keep = _above_threshold(peaks, peaks if config.aligned else F.max_pool2d(peaks, side), config)
    if config.saliency == "learned" and judge is not None:
        peaks = judge(points.flatten(1, 2)).view_as(peaks)
    keypoints, scores, mask = _take_best(points, peaks, keep, count, config.coverage)
    if config.subpixel and config.saliency != "center":
        offset = soft_offset if config.saliency == "fine" else parabola_offset
        keypoints = keypoints + offset(saliency, keypoints) * mask[..., None]
    return keypoints, scores, mask


def part_side(cell: int, splits: int) -> int:
    """Pixels along a side of what one keypoint is chosen from; see `SelectorConfig.splits`.

    Raises:
        ConfigError: `cell` cannot be split into that many equal parts.
    """
    if splits == 0:
        return next((side for side in range(_LEAST_SIDE, cell) if cell % side == 0), cell)
    if cell % splits:
        raise ConfigError(f"selector.splits={splits} does not divide the cell of {cell} pixels")
    return cell // splits


def saliency_map(gray: Tensor, config: SelectorConfig) -> Tensor:
    """Saliency (B, 1, H, W) of every pixel of grey images (B, 1, H, W), uint8 or floats in [0, 1].

    In grey levels (0..1) a pixel (for Shi-Tomasi the square root of the eigenvalue).
    """
    if gray.dtype == torch.uint8:
        if gray.device.type == "cpu" and config.saliency != "shi_tomasi":
            return torch.stack([torch.from_numpy(_gradient(one, config.sigma)) for one in gray[:, 0].numpy()])[:, None]
        gray = gray.float() / 255
    from kornia.filters import gaussian_blur2d, spatial_gradient

    size = _window(config.sigma)
    kernel, sigma = (size, size), (config.sigma, config.sigma)
    if config.saliency != "shi_tomasi":
        gradient: Tensor = spatial_gradient(gaussian_blur2d(gray, kernel, sigma))[:, 0]
        return gradient.square().sum(1, keepdim=True).sqrt()
    gx, gy = spatial_gradient(gray)[:, 0].unbind(1)
    xx, yy, xy = gaussian_blur2d(torch.stack([gx * gx, gy * gy, gx * gy], 1), kernel, sigma).unbind(1)
    smaller: Tensor = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()
    return smaller.clamp_min(0).sqrt()[:, None]


def textured(gray: Tensor, sigma: float = 2.0, floor: float = 0.002, reach: int = 4) -> Tensor:
    """(B, 1, H, W) bool: where grey images (B, 1, H, W) have a gradient of at least `floor` within `reach` pixels.

    A learned detector finds maxima in a black image too.
    """
    gradient = saliency_map(gray, SelectorConfig(sigma=sigma))
    if gradient.device.type == "cpu":
        import cv2

        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        near = [torch.from_numpy(cv2.dilate(one, kernel)) for one in gradient[:, 0].numpy()]
        return torch.stack(near)[:, None] >= floor
    return F.max_pool2d(gradient, 2 * reach + 1, stride=1, padding=reach) >= floor


def _window(sigma: float) -> int:
    return 2 * max(1, round(sigma)) + 1


def _gradient(gray: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """The same gradient magnitude of one image (H, W) by OpenCV, which on a CPU takes a third of the time."""
    import cv2

    size = _window(sigma)
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (size, size), sigma)
    gx, gy = (
        cv2.Sobel(smooth, cv2.CV_32F, dx, dy, scale=1 / (8 * 255), borderType=cv2.BORDER_REPLICATE)
        for dx, dy in ((1, 0), (0, 1))
    )
    # Not cv2.magnitude: its last bit depends on where in memory the arrays lie, and equal images would differ.
    return np.asarray(np.sqrt(gx * gx + gy * gy), dtype=np.float32)


def _without_border(saliency: Tensor, border: int) -> Tensor:
    if border == 0:
        return saliency
    inside = torch.zeros_like(saliency)
    inside[..., border:-border, border:-border] = saliency[..., border:-border, border:-border]
    return inside


def _index_to_points(index: Tensor, width: int) -> Tensor:
    """(B, 1, h, w) flat indices to (B, h, w, 2) pixels."""
    index = index[:, 0]
    return torch.stack([index % width, index.div(width, rounding_mode="floor")], -1).float()


def _aligned_peaks(usable: Tensor, side: int, config: SelectorConfig) -> tuple[Tensor, Tensor]:
    """One point (B, h, w, 2) a part of `side` pixels, and its strength (B, 1, h, w), 0 for none."""
    peaks, index = F.max_pool2d(usable, side, return_indices=True)
    if config.saliency == "center":
        return _centers(peaks, side), peaks
    points = _index_to_points(index, usable.shape[-1])
    return points, peaks * _is_local_best(peaks, points, config.nms_radius, side)


def _free_peaks(usable: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Every pixel (B, H, W, 2), and its strength (B, 1, H, W) where it is the strongest around, else 0."""
    reach = int(radius)
    rows = F.max_pool2d(usable, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    strongest = F.max_pool2d(rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return _centers(usable, 1), usable * (usable == strongest)


def _centers(peaks: Tensor, side: int) -> Tensor:
    batch, _, rows, columns = peaks.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centers = torch.stack([x, y], -1).to(peaks) * side + (side - 1) / 2
    return centers.expand(batch, -1, -1, -1)


def _is_local_best(peaks: Tensor, points: Tensor, radius: float, side: int) -> Tensor:
    """1 where no stronger peak lies within `radius`, else 0; (B, 1, h, w).

    With one peak a cell of `side` pixels, only the cells around need to be looked at. Of two equal peaks the one that
    comes first in reading order stays.
    """
    batch, _, rows, columns = peaks.shape
    reach = math.ceil(radius / side)
    width, middle = 2 * reach + 1, 2 * reach * (reach + 1)
    pad = (reach, reach, reach, reach)
    xy = points.permute(0, 3, 1, 2)
    around = F.unfold(F.pad(xy, pad, value=float("inf")), width).view(batch, 2, width**2, rows, columns)
    strength = F.unfold(F.pad(peaks, pad, value=-1.0), width).view(batch, width**2, rows, columns)
    near = (around - xy[:, :, None]).square().sum(1) < radius**2
    earlier = torch.arange(width**2, device=peaks.device).view(1, -1, 1, 1) < middle
    stronger = (strength > peaks) | ((strength == peaks) & earlier)
    stronger[:, middle] = False
    return (~(near & stronger).any(1, keepdim=True)).to(peaks.dtype)


def _above_threshold(peaks: Tensor, reference: Tensor, config: SelectorConfig) -> Tensor:
    level = _high_quantile(reference.flatten(1), 0.99).view(-1, 1, 1, 1) * config.threshold
    return peaks >= level.clamp_min(config.floor)


def _high_quantile(values: Tensor, share: float) -> Tensor:
    """`torch.quantile` of each row (B, N) from its largest values alone, which saves sorting the others."""
    rank = np.float32(share) * np.float32(values.shape[1] - 1)
    below = math.floor(rank)
    top = values.topk(values.shape[1] - below, dim=1).values
    return torch.lerp(top[:, -1], top[:, max(top.shape[1] - 2, 0)], float(rank - np.float32(below)))


def _take_best(points: Tensor, peaks: Tensor, keep: Tensor, count: int, coverage: int) -> tuple[Tensor, Tensor, Tensor]:
    scores = (peaks * keep).flatten(1)
    flat = points.flatten(1, 2)
    slots = min(count, scores.shape[1])
    order = (scores + _quota_bonus(scores.view_as(peaks), count, coverage)).topk(slots, dim=1).indices
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    scores = F.pad(scores.gather(1, order), (0, count - slots))
    keypoints = F.pad(flat.gather(1, order[..., None].expand(-1, -1, 2)), (0, 0, 0, count - slots))
    mask = scores > 0
    return keypoints * mask[..., None], scores, mask


def _quota_bonus(scores: Tensor, count: int, coverage: int) -> Tensor:
    """Lift the best `count / regions` peaks of every region above all others; (B, h*w)."""
    batch, _, rows, columns = scores.shape
    if coverage == 0 or count >= rows * columns:
        return scores.new_zeros(batch, rows * columns)
    side = -(-max(rows, columns) // coverage)
    padded = F.pad(scores, (0, -columns % side, 0, -rows % side))
    # As `unfold` and `fold`, but by views alone: faster, and every runtime that reads exported graphs knows them.
    tall, wide = padded.shape[-2] // side, padded.shape[-1] // side
    regions = padded.view(batch, tall, side, wide, side).transpose(2, 3).reshape(batch, tall * wide, side * side)
    quota = max(1, count // regions.shape[1])
    best = regions.argsort(dim=2, descending=True, stable=True)[..., :quota]
    lifted = torch.zeros_like(regions).scatter(2, best, 1.0) * (regions > 0) * (1 + scores.max())
    folded = lifted.view(batch, tall, wide, side, side).transpose(2, 3).reshape(batch, 1, tall * side, wide * side)
    return folded[..., :rows, :columns].flatten(1)
