"""Pictures of one image's patch grid, and of the matches between two images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.geometry.se3 import Array
from slamfeat.types import Features, Matches, PatchGrid
from slamfeat.viz.figure import ORANGE, saved_figure

_MOST_LINES = 300


def pca_colors(grid: PatchGrid, batch: int = 0) -> NDArray[np.float64]:
    """The three main directions of an image's tokens as colours, (h, w, 3) in [0, 1]."""
    tokens = grid.tokens[batch].detach().float().cpu().flatten(1).t()
    centred = tokens - tokens.mean(0)
    # The random start of torch's pca_lowrank would colour the same image differently each time.
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ _signed(directions[:3]).t()
    low, high = projected.quantile(0.01, 0), projected.quantile(0.99, 0)
    colors = ((projected - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return np.asarray(colors.reshape(*grid.shape, 3), dtype=np.float64)


def plot_pair(
    image0: NDArray[np.uint8],
    image1: NDArray[np.uint8],
    features0: Features,
    matches: Matches,
    path: str | Path,
    inliers: NDArray[np.bool_] | None = None,
    heading: str = "",
) -> None:
    """Draw the matches of two images side by side, coloured by where they start.

    Args:
        image0, image1: (H, W, 3) uint8 RGB.
        features0: of the first image, for its keypoints.
        matches: of the pair.
        path: picture to write.
        inliers: (M,) bool over the matches; the others are drawn thin and grey.
        heading: the title.
    """
    points0, points1, scores = matches.numpy()
    agreed = np.ones(len(points0), dtype=bool) if inliers is None else inliers
    height = max(image0.shape[0], image1.shape[0])
    canvas = np.full((height, image0.shape[1] + image1.shape[1] + 8, 3), 255, dtype=np.uint8)
    canvas[: image0.shape[0], : image0.shape[1]] = image0
    canvas[: image1.shape[0], image0.shape[1] + 8 :] = image1
    shift = np.array([image0.shape[1] + 8.0, 0.0])
    with saved_figure(path, (13, 13 * height / canvas.shape[1] + 0.5)) as figure:
        axes = figure.subplots()
        axes.imshow(canvas)
        axes.axis("off")
        keypoints = features0.keypoints[0][features0.mask[0]].detach().cpu().numpy()
        axes.scatter(keypoints[:, 0], keypoints[:, 1], s=3, color="white", alpha=0.5, linewidths=0)
        _draw_lines(axes, points0[~agreed], points1[~agreed] + shift, None)
        chosen = _spread(points0, scores, np.flatnonzero(agreed))
        _draw_lines(axes, points0[chosen], points1[chosen] + shift, _hues(points0[chosen], image0.shape))
        axes.set_title(heading, fontsize=11)


def plot_grid(image: NDArray[np.uint8], features: Features, path: str | Path, heading: str = "") -> None:
    """Draw an image with its keypoints and cells, and beside it the tokens' main directions as colours."""
    if features.grid is None:
        raise ValueError("features without a token grid cannot be drawn")
    height, width = image.shape[:2]
    keypoints = features.keypoints[0][features.mask[0]].detach().cpu().numpy()
    with saved_figure(path, (13, 6.5 * height / width + 0.5)) as figure:
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.imshow(image)
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axes.axis("off")
        right.imshow(pca_colors(features.grid), extent=_extent(features.grid), interpolation="nearest", alpha=0.85)
        _draw_cells(left, features.grid)
        left.scatter(keypoints[:, 0], keypoints[:, 1], s=5, color=ORANGE, linewidths=0)
        left.set_title(
            f"{len(keypoints)} keypoints on {features.grid.shape[0]} x {features.grid.shape[1]} cells", fontsize=10
        )
        right.set_title("patch tokens, three main directions as colours", fontsize=10)
        figure.suptitle(heading, fontsize=11)


def _signed(directions: Tensor) -> Tensor:
    """Each direction with its largest entry positive: a singular vector's sign is arbitrary."""
    largest = directions.abs().argmax(1, keepdim=True)
    return directions * directions.gather(1, largest).sign()


def _extent(grid: PatchGrid) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the grid in original pixels, as matplotlib wants them."""
    rows, columns = grid.shape
    p = grid.patch_size
    corners = torch.tensor([[-0.5, -0.5], [columns * p - 0.5, rows * p - 0.5]])
    (left, top), (right, bottom) = grid.pixel_map.inverse().apply(corners).tolist()
    return left, right, bottom, top


def _draw_cells(axes: Any, grid: PatchGrid) -> None:
    left, right, bottom, top = _extent(grid)
    rows, columns = grid.shape
    axes.vlines(np.linspace(left, right, columns + 1), top, bottom, color="white", lw=0.3, alpha=0.35)
    axes.hlines(np.linspace(top, bottom, rows + 1), left, right, color="white", lw=0.3, alpha=0.35)


def _spread(points: Array, scores: Array, candidates: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most 300 matches, the best of every tile first: a thousand lines hide the picture."""
    if len(candidates) <= _MOST_LINES:
        return candidates
    tiles = (points[candidates] // 40).astype(int)
    order = candidates[np.lexsort((-scores[candidates], tiles[:, 1], tiles[:, 0]))]
    _, first, count = np.unique((points[order] // 40).astype(int), axis=0, return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    return order[np.argsort(rank, kind="stable")][:_MOST_LINES]


def _hues(points: Array, shape: tuple[int, ...]) -> Array:
    from matplotlib import colormaps

    place = points / (shape[1], shape[0])
    return np.asarray(colormaps["turbo"](0.1 + 0.8 * (0.7 * place[:, 0] + 0.3 * place[:, 1])), dtype=np.float64)


def _draw_lines(axes: Any, start: Array, end: Array, colors: Array | None) -> None:
    from matplotlib.collections import LineCollection

    strong = colors is not None
    axes.add_collection(
        LineCollection(
            np.stack([start, end], 1).tolist(),
            colors=colors if strong else "#9ca3af",
            linewidths=0.9 if strong else 0.3,
            alpha=0.8 if strong else 0.4,
        )  # fmt: skip
    )
    if colors is not None:
        for points in (start, end):
            axes.scatter(points[:, 0], points[:, 1], s=6, c=colors, linewidths=0)
