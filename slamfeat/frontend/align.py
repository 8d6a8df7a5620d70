"""From a coarse match to sub-pixel, each match by itself: its patch is seen through an affine map of its own.

Where a scene has depth, or where the view comes much nearer, no one plane is right for all matches, as Lucas-Kanade on
whole images needs it. Here the surroundings of a match say how its patch was turned and stretched, and that map is
refined together with the place. Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004,
Sec. 3.2), coarse to fine, on patches of zero mean and unit deviation, which do not care about exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_NOISE = 2.0  # grey levels: keeps the noise of flat patches from being blown up to texture
_WIDTH = 3.5  # deviations of the weights a side: the border has no say
_RIDGE = 1e-3  # of the Hessian's mean diagonal
_STIFF = 0.05  # maps that neighbours vouch for bend little: as if so much of the patch's texture said so
_LONGEST, _MOST_BEND = 3.0, 0.35  # samples that a step may move, and by how much of itself it may change a map
_SMOOTH = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_CHUNK = 256  # matches at once: their patches stay in the cache


@dataclass(frozen=True)
class _Round:
    """Part of the search: Gauss-Newton `steps` on samples `step` pixels apart; where it `bends`, of the map too."""

    step: int
    steps: int
    bends: bool


_ROUNDS = (_Round(2, 4, False), _Round(2, 4, True), _Round(1, 4, True))


@dataclass(frozen=True)
class Aligned:
    """Where M patches of the first image are in the second.

    Attributes:
        points: (M, 2) pixels.
        affines: (M, 2, 2) from steps in the first image to steps in the second.
        correlation: (M,) weighted, of the two patches, -1..1.
    """

    points: Floats
    affines: Floats
    correlation: Floats


def align_points(
    image0: NDArray[np.uint8], image1: NDArray[np.uint8], points0: Floats, points1: Floats, affines: Floats, side: int
) -> Aligned:
    """Find patches of the first image in the second; whether they are there, the correlation says.

    Args:
        image0, image1: (H, W) grey.
        points0: (M, 2) pixels.
        points1: (M, 2) where to begin, up to about half a patch off.
        affines: (M, 2, 2) to begin with, invertible.
        side: of the patches, odd; pixels.
    """
    plain = [image.astype(np.float32) for image in (image0, image1)]
    smooth = [_smoothed(image) for image in plain]
    scales = {1: plain, 2: smooth}
    window = _Window.of(side)
    parts = []
    for begin in range(0, len(points0), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        aligned = Aligned(points1[part], affines[part], np.zeros(len(points1[part]), np.float32))
        for one in _ROUNDS:
            aligned = _search(scales[one.step], points0[part], aligned, window, one)
        parts.append(aligned)
    if not parts:
        return Aligned(points1, affines, np.zeros(0, np.float32))
    return Aligned(*(np.concatenate([getattr(part, name) for part in parts]) for name in Aligned.__annotations__))


@dataclass(frozen=True)
class _Window:
    """Weights (N,) of a patch's samples, summing to one, and their places (N, 2) in samples from its middle."""

    side: int
    weights: Floats
    places: Floats

    @classmethod
    def of(cls, side: int) -> _Window:
        """Of a patch of `side` samples a side, which is odd."""
        steps = np.arange(side, dtype=np.float32) - (side - 1) / 2
        places = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        weights = np.exp(-np.square(places).sum(1) / (2 * (side / _WIDTH) ** 2))
        return cls(side, (weights / weights.sum()).astype(np.float32), places)


def _search(images: list[Floats], points0: Floats, start: Aligned, window: _Window, level: _Round) -> Aligned:
    template, jacobian = _template(images[0], points0, window, level)
    weighted = (window.weights * jacobian).astype(np.float32)
    inverse = np.linalg.inv(_hessian(jacobian, weighted, window.side))
    points, affines = start.points, start.affines
    for _ in range(level.steps):
        seen, _ = _even(_samples(images[1], points, affines * level.step, window.places), window.weights)
        moved = (inverse @ (weighted @ (seen - template)[..., None]))[..., 0]
        if level.bends:
            bend = np.clip(moved[:, 2:], -_MOST_BEND, _MOST_BEND).reshape(-1, 2, 2)
            affines = affines @ np.linalg.inv(np.eye(2, dtype=np.float32) + bend)
        shift = np.clip(moved[:, :2], -_LONGEST, _LONGEST)
        points = points - level.step * (affines @ shift[..., None])[..., 0]
    seen, _ = _even(_samples(images[1], points, affines * level.step, window.places), window.weights)
    return Aligned(points, affines, np.asarray((seen * template) @ window.weights, dtype=np.float32))


def _template(image: Floats, points: Floats, window: _Window, level: _Round) -> tuple[Floats, Floats]:
    """Patches (M, N) of zero mean and unit deviation, and their slopes (M, 2 or 6, N) by shift and map."""
    wider = _Window.of(window.side + 2)
    steps = np.broadcast_to(level.step * np.eye(2, dtype=np.float32), (len(points), 2, 2))
    patch = _samples(image, points, steps, wider.places).reshape(-1, wider.side, wider.side)
    template, deviation = _even(patch[:, 1:-1, 1:-1].reshape(len(points), -1), window.weights)
    changes = np.stack([patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2], patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]], 1) / 2
    slopes: Floats = np.asarray(changes.reshape(len(points), 2, -1) / deviation[:, None], dtype=np.float32)
    slopes -= (slopes @ window.weights)[..., None]
    if not level.bends:
        return template, slopes
    x, y = window.places.T
    columns = [slopes, slopes[:, :1] * x, slopes[:, :1] * y, slopes[:, 1:] * x, slopes[:, 1:] * y]
    return template, np.asarray(np.concatenate(columns, 1), dtype=np.float32)


def _hessian(jacobian: Floats, weighted: Floats, side: int) -> Floats:
    hessian = weighted @ jacobian.swapaxes(1, 2)
    size = hessian.shape[1]
    diagonal = hessian.diagonal(axis1=1, axis2=2)
    stiff = np.where(np.arange(size) < 2, 0, _STIFF * side**2 / 16)  # a shift has no prior
    extra = _RIDGE * diagonal.mean(1)[:, None] + stiff * diagonal[:, :2].mean(1)[:, None] + 1e-9
    return np.asarray(hessian + extra[..., None] * np.eye(size), dtype=np.float32)


def _samples(image: Floats, points: Floats, affines: Floats, places: Floats) -> Floats:
    """(M, N) read bilinearly; beyond the border the nearest pixel's value."""
    import cv2

    where = affines @ places.T + points[..., None]
    x, y = (np.ascontiguousarray(where[:, axis], dtype=np.float32) for axis in (0, 1))
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def _even(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """(M, N) with weighted mean 0 and deviation 1, and the deviation (M, 1)."""
    centred = values - (values @ weights)[:, None]
    deviation = np.sqrt(np.square(centred) @ weights + _NOISE**2)[:, None]
    return np.asarray(centred / deviation, dtype=np.float32), np.asarray(deviation, dtype=np.float32)


def _smoothed(image: Floats) -> Floats:
    """The image such that samples two pixels apart lose nothing."""
    import cv2

    blurred = cv2.sepFilter2D(image, -1, _SMOOTH, _SMOOTH, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)
