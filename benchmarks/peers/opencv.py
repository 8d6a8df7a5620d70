"""OpenCV's ORB and SIFT under slamfeat's frontend contract, with the settings their users take."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.image import ImageLike, to_batch, to_gray
from slamfeat.types import Features, Matches


class OpenCVFrontend:
    """A cv2 detector with brute-force matching.

    ORB: 8 levels, FAST threshold 7 (ORB-SLAM2's fallback, so that dim frames give points), Hamming distance, mutual.
    SIFT: default settings, RootSIFT, mutual nearest neighbours with Lowe's ratio 0.8.
    """

    def __init__(self, name: str, num_keypoints: int = 1024) -> None:
        """`name` is "orb" or "sift"."""
        if name not in ("orb", "sift"):
            raise ValueError(f"unknown OpenCV frontend '{name}'")
        self.name = f"opencv-{name}"
        self._binary = name == "orb"
        self._count = num_keypoints
        self._detector = (
            cv2.ORB.create(num_keypoints, nlevels=8, fastThreshold=7)
            if self._binary
            else cv2.SIFT.create(num_keypoints)
        )
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING if self._binary else cv2.NORM_L2)

    def extract(
        self, image: ImageLike, num_keypoints: int | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Features:
        """One image to K slots; `num_keypoints` other than the constructor's is not supported."""
        gray = (to_gray(to_batch(image))[0, 0] * 255).round().to(torch.uint8).numpy()
        points, descriptors = self._detector.detectAndCompute(gray, mask)
        order = sorted(range(len(points)), key=lambda i: -points[i].response)[: self._count]
        width = 32 if self._binary else 128
        slots = np.zeros((1, self._count, width), np.float32)
        keypoints = np.zeros((1, self._count, 2), np.float32)
        scores = np.zeros((1, self._count), np.float32)
        if order:
            values = descriptors[order].astype(np.float32)
            slots[0, : len(order)] = (
                values if self._binary else np.sqrt(values / np.maximum(values.sum(1), 1e-9)[:, None])
            )
            keypoints[0, : len(order)] = [points[i].pt for i in order]
            scores[0, : len(order)] = [points[i].response for i in order]
        filled = torch.arange(self._count)[None] < len(order)
        size = torch.tensor([[gray.shape[1], gray.shape[0]]])
        return Features(*(torch.from_numpy(v) for v in (keypoints, scores, slots)), mask=filled, image_size=size)

    def match(self, features0: Features, features1: Features) -> Matches:
        """Mutual nearest neighbours; for SIFT with the ratio test."""
        d0, d1 = (self._descriptors(f) for f in (features0, features1))
        indices = torch.full(features0.mask.shape, -1)
        if len(d0) > 1 and len(d1) > 1:
            forward = self._matcher.knnMatch(d0, d1, k=2)
            backward = {m[0].queryIdx: m[0].trainIdx for m in self._matcher.knnMatch(d1, d0, k=1) if m}
            for best, second in (pair for pair in forward if len(pair) == 2):
                distinct = self._binary or best.distance < 0.8 * second.distance
                if distinct and backward.get(best.trainIdx) == best.queryIdx:
                    indices[0, best.queryIdx] = best.trainIdx
        mask = indices >= 0
        points1 = features1.keypoints.gather(1, indices.clamp_min(0)[..., None].expand(-1, -1, 2)) * mask[..., None]
        return Matches(features0.keypoints, points1, mask.float(), indices, mask, int(features1.mask.shape[1]))

    def _descriptors(self, features: Features) -> NDArray[np.float32] | NDArray[np.uint8]:
        values = features.descriptors[0][features.mask[0]].numpy()
        return values.astype(np.uint8) if self._binary else values
