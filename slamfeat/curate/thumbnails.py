"""Whether two photographs are the same picture: grey thumbnails, correlated after the best shift and zoom.

An embedding overlooks much of what tells two pictures of alike things apart. The correlation does not, and overlooks
in turn what copying does: size, compression, brightness and contrast, and a tenth cut off.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 32
"""Of a thumbnail, in pixels; the whole picture is squashed into it."""
_ZOOMS = (0.95, 0.9, 0.85)
_SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_COARSE = 8
_FLAT = 2.0  # grey levels: a spread below it is noise
_SURELY_NOT = 0.6  # at 8x8, where the least of 400 copies with a tenth cut off is 0.67
_AT_ONCE = 256


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(SIDE, SIDE) grey of (H, W, 3) RGB."""
    import cv2

    return np.asarray(cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def correlations(a: NDArray[np.uint8], b: NDArray[np.uint8], least: float) -> Floats:
    """Correlation of each pair in -1..1, the best over windows of either picture held against the whole other one.

    Two pictures without texture are the same (1), one with and one without are not (0).

    Args:
        a, b: (P, SIDE, SIDE) uint8.
        least: what matters: below it the result may be that of a coarse look, which is too low by little.
    """
    found = np.empty(len(a), np.float32)
    for start in range(0, len(a), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = _correlate(a[part].astype(np.float32), b[part].astype(np.float32), least)
    return found


def _correlate(a: Floats, b: Floats, least: float) -> Floats:
    flat_a, flat_b = a.std((1, 2)) < _FLAT, b.std((1, 2)) < _FLAT
    best = np.where(flat_a & flat_b, np.float32(1), np.float32(0))
    open_ = np.flatnonzero(~(flat_a | flat_b))
    best[open_] = _both_ways(_shrink(a[open_]), _shrink(b[open_]))
    fine = open_[best[open_] >= min(_SURELY_NOT, least)]
    best[fine] = _both_ways(a[fine], b[fine])
    return best


def _shrink(pictures: Floats) -> Floats:
    step = SIDE // _COARSE
    return np.asarray(pictures.reshape(len(pictures), _COARSE, step, _COARSE, step).mean((2, 4)), np.float32)


def _both_ways(a: Floats, b: Floats) -> Floats:
    """Windows of a against b, and of b against a; (P,) of (P, S, S)."""
    unit_a, unit_b = _unit(a[:, None]), _unit(b[:, None])
    best: Floats = np.einsum("pik,pik->p", unit_a, unit_b)
    for maps in _window_maps(a.shape[-1]):
        for picture, other in ((a, unit_b), (b, unit_a)):
            best = np.maximum(best, np.einsum("pik,pjk->pi", _unit(_windows(picture, maps)), other).max(1))
    return best


def _windows(pictures: Floats, maps: Floats) -> Floats:
    """(P, K * K, S, S): the pictures seen through windows of one zoom at K shifts each way."""
    rows = np.matmul(maps[None], pictures[:, None])  # P K S S
    both = np.matmul(rows[:, :, None], maps.transpose(0, 2, 1)[None, None])  # P K K S S
    return np.asarray(both.reshape(len(pictures), len(maps) ** 2, *pictures.shape[1:]), np.float32)


def _unit(pictures: Floats) -> Floats:
    """(P, N, S * S) without mean and of unit length."""
    flat = pictures.reshape(*pictures.shape[:2], pictures.shape[-1] * pictures.shape[-2])
    flat = flat - flat.mean(-1, keepdims=True)
    length = np.sqrt(np.einsum("pik,pik->pi", flat, flat))
    return np.asarray(flat / np.maximum(length, 1e-6)[..., None], np.float32)


@cache
def _window_maps(side: int) -> tuple[Floats, ...]:
    """For each zoom (K, S, S): linear interpolation along an axis of S pixels, at K shifts."""
    return tuple(np.stack([_window_map(side, zoom, shift) for shift in _SHIFTS]) for zoom in _ZOOMS)


def _window_map(side: int, zoom: float, shift: float) -> Floats:
    places = np.clip((np.arange(side) + 0.5) * zoom - 0.5 + shift * side * (1 - zoom), 0, side - 1)
    left = np.minimum(places.astype(np.int64), side - 2)
    weights = np.zeros((side, side), np.float32)
    weights[np.arange(side), left] = 1 - (places - left)
    weights[np.arange(side), left + 1] = places - left
    return weights
