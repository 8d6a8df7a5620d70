"""OpenCV's ORB and SIFT with the settings their users take.

ORB (Rublee et al., ICCV 2011): OpenCV's default settings (8 levels, FAST threshold 20), and with threshold 7 where that
leaves slots empty, as ORB-SLAM2 does; Hamming distance, mutual nearest neighbours.
SIFT (Lowe, IJCV 2004): OpenCV's default settings, RootSIFT (Arandjelovic and Zisserman, CVPR 2012), mutual nearest
neighbours with Lowe's ratio 0.8.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.bench.peer_tools import Detected, Mask, PeerFrontend, Settings, match_each
from slamfeat.errors import ConfigError
from slamfeat.frontend import FeatureFrontend
from slamfeat.types import Features, Matches

RATIO = 0.8
SETTINGS: dict[str, Settings] = {
    "orb": {"levels": 8, "scale_factor": 1.2, "fast_threshold": "20, else 7", "matching": "Hamming, mutual"},
    "sift": {"descriptor": "RootSIFT", "matching": "L2, mutual", "ratio": RATIO},
}


class OpenCVFrontend(PeerFrontend):
    """A cv2 detector with brute-force matching; settings at the top of this file."""

    def __init__(self, name: str, num_keypoints: int = 1024) -> None:
        """`name` is "orb" or "sift".

        Raises:
            ConfigError: another name.
        """
        if name not in SETTINGS:
            raise ConfigError(f"unknown OpenCV frontend '{name}'; use one of {', '.join(SETTINGS)}")
        detect = functools.partial(_detect, name)
        pair = _mutual_hamming if name == "orb" else _mutual_ratio

        def match(features0: Features, features1: Features) -> Matches:
            return match_each(features0, features1, pair)

        super().__init__(name, num_keypoints, detect, match, SETTINGS[name], gray=True)


FRONTENDS: dict[str, Callable[[int], FeatureFrontend]] = {
    name: functools.partial(OpenCVFrontend, name) for name in SETTINGS
}


@functools.cache
def _detector(name: str, count: int, fast_threshold: int) -> Any:
    import cv2

    return cv2.ORB.create(count, fastThreshold=fast_threshold) if name == "orb" else cv2.SIFT.create(count)


def _detect(name: str, image: Tensor, count: int, mask: Mask) -> Detected:
    points, values = _detector(name, count, 20).detectAndCompute(image[0, 0].numpy(), mask)
    if name == "orb" and len(points) < count:
        points, values = _detector(name, count, 7).detectAndCompute(image[0, 0].numpy(), mask)
    if not points:
        return Detected(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 32 if name == "orb" else 128))
    descriptors = values.astype(np.float32)
    if name == "sift":
        descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    keypoints = np.array([point.pt for point in points], np.float32)
    scores = np.array([point.response for point in points], np.float32)
    return Detected(*(torch.from_numpy(value) for value in (keypoints, scores, descriptors)))


def _mutual_hamming(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    import cv2

    d0, d1 = (image["descriptors"][0].numpy().astype(np.uint8) for image in (image0, image1))
    _, nearest = cv2.batchDistance(d0, d1, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1, crosscheck=True)
    first = np.flatnonzero(nearest[:, 0] >= 0)
    return _answer(first, nearest[first, 0].astype(np.int64))


def _mutual_ratio(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    d0, d1 = (image["descriptors"][0].numpy() for image in (image0, image1))
    similarity = d0 @ d1.T
    nearest, back = similarity.argmax(1), similarity.argmax(0)
    mutual = back[nearest] == np.arange(len(d0))
    if len(d1) > 1:
        # Of unit vectors, so the squared distance is 2 - 2 * similarity.
        second, best = np.sqrt(np.maximum(2 - 2 * np.partition(similarity, -2, axis=1)[:, -2:], 0)).T
        mutual &= best < RATIO * second
    first = np.flatnonzero(mutual)
    return _answer(first, nearest[first])


def _answer(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(first), torch.from_numpy(second), torch.ones(len(first))
