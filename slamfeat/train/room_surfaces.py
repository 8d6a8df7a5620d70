"""What rectangles of a made-up scene are covered with: photographs, a repeated pattern, or one colour."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from slamfeat.train.pairs import Pixels
from slamfeat.train.textures import Textures

FINE = 4.0
"""Texels of the detail along one texel of the surface."""


class Surface:
    """Texels that are painted when the surface is first seen: most pairs show a part of their room.

    Attributes:
        distinct: False for a surface that looks alike all over: of one colour, or of a repeated pattern.
    """

    def __init__(
        self, paint: Callable[[], Pixels], distinct: bool = True, paint_detail: Callable[[], Pixels] | None = None
    ) -> None:
        """`paint` makes texels (h, w, 3) uint8, `paint_detail` a square (n, n) as `detail` does; each called once."""
        self._paint, self._paint_detail, self.distinct = paint, paint_detail, distinct

    @cached_property
    def pyramid(self) -> tuple[Pixels, ...]:
        """The texels and their halves, see `halves`."""
        return halves(self._paint())

    @cached_property
    def detail(self) -> tuple[Pixels, ...]:
        """Fine structure for a camera so close that it would see texels, (n, n) and its halves; empty for none.

        128 changes nothing, 0 makes black, 255 doubles. It is laid out mirrored side by side, `FINE` of its texels
        along one of the surface's.
        """
        return halves(self._paint_detail()) if self._paint_detail else ()


def halves(texels: Pixels) -> tuple[Pixels, ...]:
    """An image (h, w) or (h, w, 3) and its halves, down to one texel; sides are rounded up.

    Areas are averaged, so every level covers all of it: texel i of n lies at (i + 0.5) / n of the side.
    """
    levels = [np.ascontiguousarray(texels)]
    while max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, dtype=np.uint8))
    return tuple(levels)


def photographs(rng: np.random.Generator, textures: Textures, size: tuple[int, int]) -> Pixels:
    """Rows of photographs until `size` (W, H) is full; (H, W, 3) uint8.

    One photograph stretched over a whole wall would have no detail left for a camera close to it.
    """
    width, height = size
    zoom = float(np.exp(rng.uniform(np.log(0.7), np.log(2.0))))
    canvas = np.empty((height, width, 3), np.uint8)
    top = 0
    while top < height:
        row = canvas[top : top + max(16, round(float(rng.uniform(160, 300)) * zoom))]
        left = 0
        while left < width:
            piece = _piece(rng, textures.draw(rng), zoom, (width - left, len(row)))
            row[:, left : left + piece.shape[1]] = piece
            left += piece.shape[1]
        top += len(row)
    return canvas


def repeated(rng: np.random.Generator, textures: Textures, size: tuple[int, int]) -> Pixels:
    """A piece of a photograph side by side with itself, under a slow gradient; (H, W, 3) uint8, `size` is (W, H)."""
    width, height = size
    side = (int(rng.integers(24, 160)), int(rng.integers(24, 160)))
    piece = _piece(rng, textures.draw(rng), float(rng.uniform(0.5, 1.0)), side)
    times = (math.ceil(height / piece.shape[0]), math.ceil(width / piece.shape[1]), 1)
    return _shaded(rng, np.tile(piece, times)[:height, :width].astype(np.float32), 0.15)


def blank(rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
    """One pale colour under a slow gradient, with a little grain; (H, W, 3) uint8, `size` is (W, H)."""
    width, height = size
    colour = rng.uniform(90, 220) + rng.uniform(-25, 25, 3)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(0.5, 3.0))
    return _shaded(rng, colour.astype(np.float32) + grain, 0.1)


def detail(rng: np.random.Generator, textures: Textures) -> Pixels:
    """Fine structure of a photograph (n, n) uint8 about 128, without its light and dark areas; see `Surface.detail`."""
    photo = textures.draw(rng)
    side = min(photo.shape[:2])
    x, y = (int(rng.integers(0, length - side + 1)) for length in photo.shape[1::-1])
    gray = cv2.cvtColor(np.ascontiguousarray(photo[y : y + side, x : x + side]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = gray - cv2.GaussianBlur(gray, (0, 0), 3)
    # Evenly strong, else one bold place is seen to repeat; but the sky has none, and noise is not to be blown up.
    contrast = np.sqrt(cv2.GaussianBlur(fine**2, (0, 0), 15))
    even = fine / (contrast + 3) * rng.uniform(6, 20)
    return np.asarray(np.clip(128.5 + even, 0, 255), dtype=np.uint8)


def _piece(rng: np.random.Generator, photo: Pixels, zoom: float, most: tuple[int, int]) -> Pixels:
    """A random part of a photograph, enlarged by `zoom` or until it is as high as `most` (W, H); at most as wide."""
    zoom = max(zoom, most[1] / photo.shape[0])
    wide, tall = (
        max(1, min(side, round(texels / zoom))) for side, texels in zip(photo.shape[1::-1], most, strict=True)
    )
    x, y = (int(rng.integers(0, spare + 1)) for spare in (photo.shape[1] - wide, photo.shape[0] - tall))
    size = (max(1, min(most[0], round(wide * zoom))), most[1])
    how = cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(photo[y : y + tall, x : x + wide], size, interpolation=how), dtype=np.uint8)


def _shaded(rng: np.random.Generator, texels: NDArray[np.float32], most: float) -> Pixels:
    """Texels (H, W, 3) brightened from one side to the other by a share of up to `most`."""
    height, width = texels.shape[:2]
    slope = rng.uniform(-most, most, 2)
    across = np.linspace(-slope[0], slope[0], width, dtype=np.float32)
    along = np.linspace(-slope[1], slope[1], height, dtype=np.float32)
    gain = 1 + across[None, :, None] + along[:, None, None]
    return np.asarray(np.clip(texels * gain + 0.5, 0, 255), dtype=np.uint8)
