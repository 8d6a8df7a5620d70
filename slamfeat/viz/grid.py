"""Picture of one image's patch grid: keypoints on its cells, and what the tokens see as colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.types import Features, PatchGrid
from slamfeat.viz.figure import ORANGE, fit_inches, saved_figure
from slamfeat.viz.tokens import token_colors


def plot_grid(image: NDArray[np.uint8], features: Features, path: str | Path, heading: str = "") -> None:
    """Draw an image with its keypoints and cells, and beside it the tokens' main directions as colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        features: of that image, with their grid.
        path: picture to write.
        heading: the title.
    """
    if features.grid is None:
        raise ValueError("features without a token grid cannot be drawn")
    height, width = image.shape[:2]
    stacked = width > 2 * height
    keypoints = features.keypoints[0][features.mask[0]].detach().cpu().numpy()
    with saved_figure(path, fit_inches(width, 2 * height) if stacked else fit_inches(2 * width, height)) as figure:
        first, second = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
        for axes in (first, second):
            axes.imshow(image)
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axes.axis("off")
        _draw_cells(first, features.grid)
        first.scatter(keypoints[:, 0], keypoints[:, 1], s=7, color=ORANGE, edgecolors="white", linewidths=0.25)
        seen = token_colors(features.grid.tokens[0])
        second.imshow(seen, extent=_extent(features.grid), interpolation="nearest", alpha=0.85)
        rows, columns = features.grid.shape
        first.set_title(f"{len(keypoints)} keypoints on {columns} x {rows} cells", fontsize=10)
        second.set_title("patch tokens: three main directions as colours", fontsize=10)
        figure.suptitle(heading, fontsize=12)


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
    # A middle grey is seen on black screens and on white paper alike.
    style = {"color": "#94a3b8", "lw": 0.35, "alpha": 0.6}
    axes.vlines(np.linspace(left, right, columns + 1), top, bottom, **style)
    axes.hlines(np.linspace(top, bottom, rows + 1), left, right, **style)
