"""From a coarse match to sub-pixel, each match by itself: its patch is seen through an affine map of its own.

Where a scene has depth, or where the view comes much nearer, no one plane is right for all matches, as Lucas-Kanade on
whole images needs it. Here the surroundings of a match say how its patch was turned and stretched, and that map is
refined together with the place. Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004,
Sec. 3.2), first for the place alone, on patches of zero mean and unit deviation, which do not care about exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_NOISE = 2.0  # grey levels: keeps the noise of flat patches from being blown up to texture
_SIDE, _STEP = 13, 2  # samples a side of the patch, and pixels between them
_WIDTH = 3.5  # deviations of the weights a side: the border has no say
_RIDGE = 1e-3  # of the Hessian's mean diagonal
_STIFF = 0.05  # maps that neighbours vouch for bend little: as if so much of the patch's texture said so
_LONGEST_PX, _MOST_BEND = 6.0, 0.35  # that a step may move, and by how much of itself it may change a map
_SMOOTH = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_CHUNK = 256  # matches at once: their patches stay in the cache


_ROUNDS = ((3, False), (4, True))  # Gauss-Newton steps, and whether they refine the map too


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


def smoothed(image: NDArray[np.uint8]) -> Floats:
    """A grey image (H, W) made such that samples two pixels apart lose nothing."""
    import cv2

    blurred = cv2.sepFilter2D(image, cv2.CV_32F, _SMOOTH, _SMOOTH, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def align_points(image0: Floats, image1: Floats, points0: Floats, points1: Floats, affines: Floats) -> Aligned:
    """Find patches of the first image, of about 26 pixels, in the second; whether they are there the correlation says.

    Args:
        image0, image1: (H, W) as `smoothed` makes them.
        points0: (M, 2) pixels.
        points1: (M, 2) where to begin, up to about a quarter of a patch off.
        affines: (M, 2, 2) to begin with, invertible.
    """
    parts = []
    for begin in range(0, len(points0), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        aligned = Aligned(points1[part], affines[part], np.zeros(len(points1[part]), np.float32))
        for steps, bends in _ROUNDS:
            aligned = _search(image0, image1, points0[part], aligned, steps, bends)
        parts.append(aligned)
    if not parts:
        return Aligned(points1, affines, np.zeros(0, np.float32))
    return Aligned(*(np.concatenate([getattr(part, name) for part in parts]) for name in Aligned.__annotations__))


def _window(side: int) -> tuple[Floats, Floats]:
    """Weights (N,) of a patch's samples, summing to one, and their places (N, 2) in pixels from its middle."""
    steps = np.arange(side, dtype=np.float32) - (side - 1) / 2
    places = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    weights = np.exp(-np.square(places).sum(1) / (2 * (side / _WIDTH) ** 2))
    return (weights / weights.sum()).astype(np.float32), (_STEP * places).astype(np.float32)


_WEIGHTS, _PLACES = _window(_SIDE)
_WIDER_PLACES = _window(_SIDE + 2)[1]


def _search(image0: Floats, image1: Floats, points0: Floats, start: Aligned, steps: int, bends: bool) -> Aligned:
    template, jacobian = _template(image0, points0, bends)
    weighted = (_WEIGHTS * jacobian).astype(np.float32)
    downhill = np.linalg.inv(_hessian(jacobian, weighted)) @ weighted  # (M, 2 or 6, N)
    points, affines = start.points, start.affines
    for _ in range(steps):
        seen, _ = _even(_samples(image1, points, affines, _PLACES))
        moved = (downhill @ (seen - template)[..., None])[..., 0]
        if bends:
            bend = np.clip(moved[:, 2:], -_MOST_BEND, _MOST_BEND).reshape(-1, 2, 2)
            affines = affines @ np.linalg.inv(np.eye(2, dtype=np.float32) + bend)
        shift = np.clip(moved[:, :2], -_LONGEST_PX, _LONGEST_PX)
        points = points - (affines @ shift[..., None])[..., 0]
    seen, _ = _even(_samples(image1, points, affines, _PLACES))
    return Aligned(points, affines, np.asarray((seen * template) @ _WEIGHTS, dtype=np.float32))


def _template(image: Floats, points: Floats, bends: bool) -> tuple[Floats, Floats]:
    """Patches (M, N) of zero mean and unit deviation, and their slopes (M, 2 or 6, N) by shift [1/px] and map."""
    upright = np.broadcast_to(np.eye(2, dtype=np.float32), (len(points), 2, 2))
    patch = _samples(image, points, upright, _WIDER_PLACES).reshape(-1, _SIDE + 2, _SIDE + 2)
    template, deviation = _even(patch[:, 1:-1, 1:-1].reshape(len(points), -1))
    changes = np.stack([patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2], patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]], 1)
    slopes: Floats = np.asarray(
        changes.reshape(len(points), 2, -1) / (2 * _STEP * deviation[:, None]), dtype=np.float32
    )
    slopes -= (slopes @ _WEIGHTS)[..., None]
    if not bends:
        return template, slopes
    x, y = _PLACES.T
    columns = [slopes, slopes[:, :1] * x, slopes[:, :1] * y, slopes[:, 1:] * x, slopes[:, 1:] * y]
    return template, np.asarray(np.concatenate(columns, 1), dtype=np.float32)


def _hessian(jacobian: Floats, weighted: Floats) -> Floats:
    hessian = weighted @ jacobian.swapaxes(1, 2)
    size = hessian.shape[1]
    diagonal = hessian.diagonal(axis1=1, axis2=2)
    stiff = np.where(np.arange(size) < 2, 0, _STIFF * (_STEP * _SIDE / 4) ** 2)  # a shift has no prior
    extra = _RIDGE * diagonal[:, :2].mean(1)[:, None] + stiff * diagonal[:, :2].mean(1)[:, None] + 1e-9
    return np.asarray(hessian + extra[..., None] * np.eye(size), dtype=np.float32)


def _samples(image: Floats, points: Floats, affines: Floats, places: Floats) -> Floats:
    """(M, N) read bilinearly; beyond the border the nearest pixel's value."""
    import cv2

    where = affines @ places.T + points[..., None]
    x, y = (np.ascontiguousarray(where[:, axis], dtype=np.float32) for axis in (0, 1))
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def _even(values: Floats) -> tuple[Floats, Floats]:
    """(M, N) with weighted mean 0 and deviation 1, and the deviation (M, 1)."""
    centred = values - (values @ _WEIGHTS)[:, None]
    deviation = np.sqrt(np.square(centred) @ _WEIGHTS + _NOISE**2)[:, None]
    return np.asarray(centred / deviation, dtype=np.float32), np.asarray(deviation, dtype=np.float32)
