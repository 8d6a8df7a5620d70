"""Carrying a keyframe's keypoints from frame to frame without the frontend.

Frame-to-frame tracking alone drifts, and a keyframe's patch alone is out of reach once the camera has moved. So the
positions of the last frame are tracked into the next one, which gives a guess, and from that guess the patch of the
keyframe itself is aligned, forward and back, by the same refiner that makes matches exact
(`slamfeat.frontend.refine`). What is found is always a place that looks like the keyframe, and no error adds up.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend.matcher import smooth_displacements
from slamfeat.frontend.refine import RefineConfig, refine_points
from slamfeat.frontend.refine_images import even_contrast
from slamfeat.types import Features
from slamfeat.vo.keyframe import Correspondences

_Image = NDArray[np.uint8]
_Points = NDArray[np.float32]

# The guess need only be good to a pixel or two, so images of half the size will do; from there the full image aligns
# with the keyframe in one pass. Chosen by points kept and time on fr1/rpy and ngp_fox (train split).
_WINDOW, _LEVELS = (11, 11), 3
_ALIGN = RefineConfig(passes=1, levels=0)
_NEIGHBOURS = 7
_LEAST = 8


class KeypointCarrier:
    """The keypoints of one keyframe and where they were last seen.

    Attributes:
        placed: how many keypoints were known to be in the frame that carrying started from.
    """

    def __init__(self, features: Features, image: NDArray[np.uint8]) -> None:
        """Start at the keyframe itself.

        Args:
            features: of the keyframe (batch of one).
            image: (H, W, 3) uint8 RGB, of the keyframe.
        """
        valid = features.mask[0].cpu().numpy()
        self._slots = np.flatnonzero(valid)
        self._start: _Points = features.keypoints[0].detach().cpu().numpy()[valid].astype(np.float32)
        self._keyframe = _gray(image)
        self._last = _small(self._keyframe)
        self._where = self._start.copy()
        self._seen = np.ones(len(self._start), dtype=bool)
        self.placed = len(self._start)

    def place(self, found: Correspondences, image: NDArray[np.uint8]) -> None:
        """Go on from another frame, with image (H, W, 3), in which the frontend found the keyframe's keypoints."""
        self._last = _small(_gray(image))
        self._seen = np.isin(self._slots, found.slots)
        self._where = self._start.copy()
        self._where[np.searchsorted(self._slots, found.slots)] = found.points1
        self.placed = len(found)

    def advance(self, image: NDArray[np.uint8]) -> Correspondences:
        """Where the keyframe's keypoints are in the next image (H, W, 3); empty where too few could be followed."""
        gray = _gray(image)
        small = _small(gray)
        guess, known = self._start.copy(), self._seen.copy()
        guess[self._seen], known[self._seen] = _follow(self._last, small, self._where[self._seen])
        if known.sum() < _LEAST:
            return self._found(np.zeros(len(self._start), dtype=bool))
        guess = np.where(known[:, None], guess, _from_neighbours(self._start, guess, known))
        images = torch.from_numpy(self._keyframe), torch.from_numpy(gray)
        points = torch.from_numpy(self._start), torch.from_numpy(guess)
        found, _, kept = refine_points(*images, *points, _ALIGN)
        self._last, self._where, self._seen = small, found.numpy(), kept.numpy()
        return self._found(self._seen)

    def _found(self, seen: NDArray[np.bool_]) -> Correspondences:
        start, where = self._start[seen].astype(np.float64), self._where[seen].astype(np.float64)
        return Correspondences(start, where, self._slots[seen])


def _gray(image: NDArray[np.uint8]) -> _Image:
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _small(gray: _Image) -> _Image:
    """Half the size, at even contrast so that a change of exposure does not matter; pixel (x, y) is at (2x, 2y)."""
    import cv2

    return even_contrast(np.asarray(cv2.pyrDown(gray), dtype=np.uint8))


def _follow(last: _Image, image: _Image, points: _Points) -> tuple[_Points, NDArray[np.bool_]]:
    """Points (N, 2) of the last image in the next one, in pixels of the full images, and which were found."""
    import cv2

    if not len(points):
        return points, np.zeros(0, dtype=bool)
    found, status, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
        last, image, points[:, None] / 2, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    return np.asarray(found[:, 0] * 2, dtype=np.float32), status[:, 0] == 1


def _from_neighbours(start: _Points, found: _Points, known: NDArray[np.bool_]) -> _Points:
    """Where points (N, 2) that were not found should be: moved as their neighbours were."""
    points0, points1, trusted = (torch.from_numpy(value) for value in (start, found, known))
    return np.asarray(smooth_displacements(points0, points1, trusted, _NEIGHBOURS).numpy(), dtype=np.float32)
