"""Picture of the matches between two images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.types import Features, Matches
from slamfeat.viz.figure import fit_inches, saved_figure

_MOST_LINES = 120
_TILES = 12
_GAP = 8


def plot_pair(
    image0: NDArray[np.uint8],
    image1: NDArray[np.uint8],
    features0: Features,
    matches: Matches,
    path: str | Path,
    inliers: NDArray[np.bool_] | None = None,
    heading: str = "",
) -> None:
    """Draw the matches of two images, coloured by where they start; wide images stand above each other.

    All matched points are dots, of one colour in both images; lines join the best of every part of the image, because
    a thousand lines hide the picture.

    Args:
        image0, image1: (H, W, 3) uint8 RGB.
        features0: of the first image, for its keypoints.
        matches: of the pair.
        path: picture to write.
        inliers: (M,) bool over the matches; the others are thin and grey.
        heading: the title.
    """
    points0, points1, scores = matches.numpy()
    agreed = np.ones(len(points0), dtype=bool) if inliers is None else inliers
    canvas, shift = _side_by_side(image0, image1)
    height, width = canvas.shape[:2]
    with saved_figure(path, fit_inches(width, height)) as figure:
        axes = figure.subplots()
        axes.imshow(canvas)
        axes.axis("off")
        keypoints = features0.keypoints[0][features0.mask[0]].detach().cpu().numpy()
        axes.scatter(keypoints[:, 0], keypoints[:, 1], s=2.5, color="white", alpha=0.6, linewidths=0)
        colors = _hues(points0, image0.shape)
        astray = _spread(points0, scores, np.flatnonzero(~agreed), image0.shape)
        drawn = _spread(points0, scores, np.flatnonzero(agreed), image0.shape)
        _draw_lines(axes, points0[astray], points1[astray] + shift, "#d1d5db", 0.4)
        _draw_lines(axes, points0[drawn], points1[drawn] + shift, colors[drawn], 0.8)
        for points in (points0[agreed], points1[agreed] + shift):
            axes.scatter(*points.T, s=9, c=colors[agreed], edgecolors="black", linewidths=0.25)
        # Dots at the border would otherwise widen the axes.
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axes.set_title(heading, fontsize=11)


def _side_by_side(image0: NDArray[np.uint8], image1: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Array]:
    """Both images on one canvas, and where the second one's origin lies on it."""
    (height0, width0), (height1, width1) = image0.shape[:2], image1.shape[:2]
    if width0 > 2 * height0:
        size, corner = (height0 + _GAP + height1, max(width0, width1)), (height0 + _GAP, 0)
    else:
        size, corner = (max(height0, height1), width0 + _GAP + width1), (0, width0 + _GAP)
    canvas = np.full((*size, 3), 255, dtype=np.uint8)
    canvas[:height0, :width0] = image0
    canvas[corner[0] : corner[0] + height1, corner[1] : corner[1] + width1] = image1
    return canvas, np.array([corner[1], corner[0]], dtype=np.float64)


def _spread(points: Array, scores: Array, candidates: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """At most 120 matches, the best of every tile of the image first."""
    if len(candidates) <= _MOST_LINES:
        return candidates
    tiles = (points // (max(shape[:2]) / _TILES)).astype(int)
    order = candidates[np.lexsort((-scores[candidates], tiles[candidates, 1], tiles[candidates, 0]))]
    _, first, count = np.unique(tiles[order], axis=0, return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    return order[np.argsort(rank, kind="stable")][:_MOST_LINES]


def _hues(points: Array, shape: tuple[int, ...]) -> Array:
    """A colour a match, (M, 4): neighbours alike, far ones apart."""
    from matplotlib import colormaps

    place = points / (shape[1], shape[0])
    return np.asarray(colormaps["turbo"](0.1 + 0.8 * (0.7 * place[:, 0] + 0.3 * place[:, 1])), dtype=np.float64)


def _draw_lines(axes: Any, start: Array, end: Array, colors: Array | str, width: float) -> None:
    from matplotlib.collections import LineCollection

    segments = np.stack([start, end], 1).tolist()
    axes.add_collection(LineCollection(segments, colors=colors, linewidths=width, alpha=0.75))
