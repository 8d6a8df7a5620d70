"""Shi-Tomasi corners tracked by pyramidal Lucas-Kanade, as VINS-Mono and most visual-inertial odometry do.

Corners (Shi and Tomasi, CVPR 1994): quality 0.01 of the best, at least 8 px apart. VIO spaces some 150 corners 20 to
30 px apart; at the budgets compared here (512 and more) that would leave slots empty.
Tracks (Bouguet 2001): windows of 21x21, image and 3 halvings, kept where tracking back returns to within 0.5 px
(VINS-Fusion's figure; the check is Kalal et al.'s, ICPR 2010). No prediction: tracks begin where the point was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.bench.peer_tools import Detected, Mask, PeerFrontend, Settings
from slamfeat.errors import InputError
from slamfeat.frontend import FeatureFrontend
from slamfeat.types import Features, Matches

QUALITY, DISTANCE, BLOCK = 0.01, 8, 3
WINDOW, LEVELS, RETURN_PX = 21, 3, 0.5
SETTINGS: Settings = {
    "quality": QUALITY, "min_distance_px": DISTANCE, "block": BLOCK,
    "window_px": WINDOW, "halvings": LEVELS, "forward_backward_px": RETURN_PX,
}  # fmt: skip


def gftt_lk(num_keypoints: int) -> FeatureFrontend:
    """The frontend; its matches are places in the second image and never its keypoints (indices -1)."""
    return PeerFrontend("gftt-lk", num_keypoints, _detect, _match, SETTINGS, gray=True)


FRONTENDS: dict[str, Callable[[int], FeatureFrontend]] = {"gftt-lk": gftt_lk}


def _detect(image: Tensor, count: int, mask: Mask) -> Detected:
    import cv2

    corners, quality = cv2.goodFeaturesToTrackWithQuality(
        image[0, 0].numpy(), count, QUALITY, DISTANCE, mask, blockSize=BLOCK
    )
    keypoints = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
    scores = np.zeros(0, np.float32) if quality is None else quality.reshape(-1)
    return Detected(torch.from_numpy(keypoints), torch.from_numpy(scores), torch.zeros(len(keypoints), 1))


def _match(features0: Features, features1: Features) -> Matches:
    if features0.gray is None or features1.gray is None:
        raise InputError("gftt-lk tracks pixels: give it features of its own, which carry the grey image")
    points1, mask = torch.zeros_like(features0.keypoints), torch.zeros_like(features0.mask)
    for b in range(len(features0)):
        valid = features0.mask[b]
        start = features0.keypoints[b][valid].numpy()
        if not len(start):
            continue
        ends, found = _track(features0.gray[b, 0].numpy(), features1.gray[b, 0].numpy(), start)
        points1[b, valid] = torch.from_numpy(ends * found[:, None])
        mask[b, valid] = torch.from_numpy(found)
    nowhere = torch.full(mask.shape, -1)
    return Matches(features0.keypoints, points1, mask.float(), nowhere, mask, int(features1.mask.shape[1]))


def _track(
    gray0: NDArray[np.uint8], gray1: NDArray[np.uint8], start: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points (N, 2) of the first image are in the second, and which of them the way back confirms."""
    import cv2

    height, width = gray1.shape
    gray0, gray1 = _same_size(gray0, gray1)
    settings: dict[str, Any] = {"winSize": (WINDOW, WINDOW), "maxLevel": LEVELS}
    ends, there, _ = cv2.calcOpticalFlowPyrLK(gray0, gray1, start, None, **settings)
    again, back, _ = cv2.calcOpticalFlowPyrLK(gray1, gray0, ends, None, **settings)
    found = (there[:, 0] > 0) & (back[:, 0] > 0) & (np.linalg.norm(again - start, axis=1) <= RETURN_PX)
    inside = ((ends >= -0.5) & (ends < (width - 0.5, height - 0.5))).all(1)
    return ends, found & inside


def _same_size(gray0: NDArray[np.uint8], gray1: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lucas-Kanade wants images of one size: the smaller is continued to the right and below."""
    if gray0.shape == gray1.shape:
        return gray0, gray1
    height, width = np.maximum(gray0.shape, gray1.shape)
    padded = [np.pad(g, ((0, height - g.shape[0]), (0, width - g.shape[1])), mode="edge") for g in (gray0, gray1)]
    return padded[0], padded[1]
