"""From a coarse match to sub-pixel, each match by itself: its patch is seen through an affine map of its own.

Where a scene has depth, or where the view comes much nearer, no one plane is right for all matches, as Lucas-Kanade on
whole images needs it. Here the surroundings of a match say how its patch was turned and stretched, and that map is
refined together with the place. Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004,
Sec. 3.2), first for the place alone, on patches of zero mean and unit deviation, which do not care about exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.frontend.plane_warp import Floats

_NOISE = 2.0  # grey levels: keeps the noise of flat patches from being blown up to texture
_SIDE, _STEP = 13, 2  # samples a side of the patch, and pixels between them
_WIDTH = 3.5  # deviations of the weights a side: the border has no say
# Of steps of the place and of the map, in mean curvatures of the place: maps that neighbours vouch for change slowly.
_DAMPING = 1e-3, 0.05 * (_STEP * _SIDE / 4) ** 2
_LONGEST_PX, _MOST_BEND = 6.0, 0.35  # that a step may move, and by how much of itself it may change a map
_SMOOTH = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_CHUNK = 256  # matches at once: their patches stay in the cache
_STEPS = (False,) * 3 + (True,) * 4  # of Gauss-Newton, by whether they refine the map too


@dataclass(frozen=True)
class Smooth:
    """A grey image as it is aligned: smoothed, so that samples two pixels apart lose little, and its slopes.

    Attributes:
        values: (H, W) grey levels.
        dx, dy: (H, W) grey levels a pixel.
    """

    values: Floats
    dx: Floats
    dy: Floats

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> Smooth:
        """Of an image (H, W)."""
        import cv2

        def filtered(source: NDArray[Any], across: NDArray[Any], down: NDArray[Any]) -> Floats:
            out = cv2.sepFilter2D(source, cv2.CV_32F, across, down, borderType=cv2.BORDER_REPLICATE)
            return np.asarray(out, dtype=np.float32)

        values = filtered(image, _SMOOTH, _SMOOTH)
        difference, nothing = np.array([-0.5, 0.0, 0.5]), np.ones(1)
        return cls(values, filtered(values, difference, nothing), filtered(values, nothing, difference))


@dataclass(frozen=True)
class Aligned:
    """Where M patches of the first image are in the second.

    Attributes:
        points: (M, 2) pixels.
        affines: (M, 2, 2) from steps in the first image to steps in the second.
        correlation: (M,) weighted, of the two patches, -1..1; the less contrast they have, the lower.
    """

    points: Floats
    affines: Floats
    correlation: Floats


def align_points(image0: Smooth, image1: Smooth, points0: Floats, points1: Floats, affines: Floats) -> Aligned:
    """Find patches of the first image, 26 pixels wide, in the second; whether they are there, the correlation says.

    Args:
        image0, image1: see `Smooth`.
        points0: (M, 2) pixels.
        points1: (M, 2) where to begin, up to about a quarter of a patch off.
        affines: (M, 2, 2) to begin with, invertible.
    """
    parts = [
        _search(image0, image1, points0[part], points1[part], affines[part])
        for part in (slice(begin, begin + _CHUNK) for begin in range(0, max(1, len(points0)), _CHUNK))
    ]
    return Aligned(*(np.concatenate([getattr(part, name) for part in parts]) for name in Aligned.__annotations__))


def _window() -> tuple[Floats, Floats]:
    """Weights (N,) of a patch's samples, summing to one, and their places (N, 2) in pixels from its middle."""
    steps = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
    places = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    weights = np.exp(-np.square(places).sum(1) / (2 * (_SIDE / _WIDTH) ** 2))
    return (weights / weights.sum()).astype(np.float32), (_STEP * places).astype(np.float32)


_WEIGHTS, _PLACES = _window()


def _search(image0: Smooth, image1: Smooth, points0: Floats, points1: Floats, affines: Floats) -> Aligned:
    template, jacobian = _template(image0, points0)
    downhill = {bends: _downhill(jacobian if bends else jacobian[:, :2]) for bends in set(_STEPS)}
    seen = _even(_samples(image1.values, points1, affines))[0]
    for bends in _STEPS:
        moved = (downhill[bends] @ (seen - template)[..., None])[..., 0]
        if bends:
            bend = np.clip(moved[:, 2:], -_MOST_BEND, _MOST_BEND).reshape(-1, 2, 2)
            affines = affines @ np.linalg.inv(np.eye(2, dtype=np.float32) + bend)
        shift = np.clip(moved[:, :2], -_LONGEST_PX, _LONGEST_PX)
        points1 = points1 - (affines @ shift[..., None])[..., 0]
        seen = _even(_samples(image1.values, points1, affines))[0]
    return Aligned(points1, affines, np.asarray((seen * template) @ _WEIGHTS, dtype=np.float32))


def _template(image: Smooth, points: Floats) -> tuple[Floats, Floats]:
    """Evened patches (M, N), and their changes (M, 6, N) with a shift (x, y) and with the map's entries, row by row."""
    upright = np.broadcast_to(np.eye(2, dtype=np.float32), (len(points), 2, 2))
    template, deviation = _even(_samples(image.values, points, upright))
    x, y = _PLACES.T
    dx, dy = (_samples(slope, points, upright) / deviation for slope in (image.dx, image.dy))
    jacobian = np.stack([dx, dy, dx * x, dx * y, dy * x, dy * y], 1)
    jacobian -= (jacobian @ _WEIGHTS)[..., None]  # evening takes out what changes the mean
    jacobian -= (jacobian @ (_WEIGHTS * template)[..., None]) * template[:, None]  # and the deviation
    return template, np.asarray(jacobian, dtype=np.float32)


def _downhill(jacobian: Floats) -> Floats:
    """(M, P, N), from differences of patches to a Gauss-Newton step, for (M, P, N) changes."""
    weighted = _WEIGHTS * jacobian
    hessian = weighted @ jacobian.swapaxes(1, 2)
    curvature = hessian.diagonal(axis1=1, axis2=2)[:, :2].mean(1)
    damping = np.where(np.arange(hessian.shape[1]) < 2, *_DAMPING) * curvature[:, None] + 1e-9
    damped = (hessian + damping[..., None] * np.eye(hessian.shape[1])).astype(np.float32)
    return np.asarray(np.linalg.inv(damped) @ weighted, dtype=np.float32)


def _samples(image: Floats, points: Floats, affines: Floats) -> Floats:
    """(M, N) read bilinearly; beyond the border the nearest pixel's value."""
    import cv2

    where = affines @ _PLACES.T + points[..., None]
    x, y = (np.ascontiguousarray(where[:, axis], dtype=np.float32) for axis in (0, 1))
    if not len(x):
        return x
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def _even(values: Floats) -> tuple[Floats, Floats]:
    """(M, N) with weighted mean 0 and deviation 1, less where they are flat; and the deviation (M, 1)."""
    centred = values - (values @ _WEIGHTS)[:, None]
    deviation = np.sqrt(np.square(centred) @ _WEIGHTS + _NOISE**2)[:, None]
    return np.asarray(centred / deviation, dtype=np.float32), np.asarray(deviation, dtype=np.float32)
