"""Pairs brought to one image size, so that whole images stack: cropped to its proportions, resized, labels and all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend.pixels import interpolation
from slamfeat.train.pairs import HIDDEN, VISIBLE, Pixels, Points, TrainingPair, Transfer, Transferred
from slamfeat.types import PixelMap

Size = tuple[int, int]


def fit_pair(pair: TrainingPair, size: Size) -> TrainingPair:
    """The pair with images of `size` (W, H): the largest middle part of its proportions, resized."""
    (image0, map0), (image1, map1) = (_fit(image, size) for image in (pair.image0, pair.image1))
    K0, K1 = (None if K is None else _moved(K, to) for K, to in ((pair.K0, map0), (pair.K1, map1)))
    transfer = FittedTransfer(pair.transfer, map0, map1, size)
    return replace(pair, image0=image0, image1=image1, K0=K0, K1=K1, transfer=transfer)


@dataclass(frozen=True)
class FittedTransfer:
    """The map between two images that were cropped and resized; what was cropped away is HIDDEN.

    Attributes:
        original: between the images as they were.
        map0, map1: from pixels of the original images to those of the new ones.
        size: (W, H) of the new images.
    """

    original: Transfer
    map0: PixelMap
    map1: PixelMap
    size: Size

    def forth(self, points0: Points) -> Transferred:
        """See `slamfeat.train.pairs.Transfer`."""
        return self._landed(self.original.forth(_apply(self.map0.inverse(), points0)), self.map1)

    def back(self, points1: Points) -> Transferred:
        """See `slamfeat.train.pairs.Transfer`."""
        return self._landed(self.original.back(_apply(self.map1.inverse(), points1)), self.map0)

    def _landed(self, there: Transferred, to_new: PixelMap) -> Transferred:
        points = _apply(to_new, there.points)
        inside = ((points >= -0.5) & (points <= np.array(self.size) - 0.5)).all(1)
        return Transferred(points, np.where((there.state == VISIBLE) & ~inside, HIDDEN, there.state).astype(np.int8))


def _fit(image: Pixels, size: Size) -> tuple[Pixels, PixelMap]:
    import cv2

    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    kept = min(width, round(size[0] / scale)), min(height, round(size[1] / scale))
    left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
    part = np.ascontiguousarray(image[top : top + kept[1], left : left + kept[0]])
    if kept != size:
        part = np.asarray(cv2.resize(part, size, interpolation=interpolation(kept, size)), np.uint8)
    resized = PixelMap(scale=(size[0] / kept[0], size[1] / kept[1]))
    return part, PixelMap(shift=(-left, -top)).then(resized)


def _apply(to: PixelMap, points: Points) -> Points:
    return np.asarray(to.apply(torch.from_numpy(np.asarray(points, np.float64))).numpy())


def _moved(K: NDArray[np.float64], to: PixelMap) -> NDArray[np.float64]:
    """Intrinsics (3, 3) of the new image."""
    (sx, sy), (tx, ty) = to.scale, to.shift
    return np.array([[sx, 0, 0.5 * sx - 0.5 + tx], [0, sy, 0.5 * sy - 0.5 + ty], [0, 0, 1]]) @ K
