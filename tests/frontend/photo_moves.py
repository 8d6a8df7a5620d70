"""A photograph moved by known maps."""

from __future__ import annotations

import cv2
import numpy as np


def corners(gray: np.ndarray, border: int = 60) -> np.ndarray:
    mask = np.zeros_like(gray)
    mask[border:-border, border:-border] = 1
    return cv2.goodFeaturesToTrack(gray, 200, 0.01, 10, mask=mask)[:, 0]


def warped(gray: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpPerspective(gray, matrix, gray.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[:, None].astype(np.float64), matrix)[:, 0]
