"""The local descriptor against OpenCV's SIFT and against gradients known beforehand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slamfeat.frontend.local import dense_root_sift, orientation_maps

DIAMETER = 6.0


def opencv_root_sift(gray: np.ndarray, points: np.ndarray) -> np.ndarray:
    keypoints = [cv2.KeyPoint(float(x), float(y), DIAMETER, 0.0, 1.0, 0) for x, y in points]
    _, raw = cv2.SIFT_create().compute(gray, keypoints)
    root = np.sqrt(raw / raw.sum(1, keepdims=True))
    return root / np.linalg.norm(root, axis=1, keepdims=True)


def ours(gray: np.ndarray, points: np.ndarray) -> np.ndarray:
    return dense_root_sift(torch.from_numpy(gray)[None, None], torch.from_numpy(points)[None], DIAMETER)[0].numpy()


def found(first: np.ndarray, second: np.ndarray) -> float:
    """Share of rows whose nearest neighbour is the row of the same number."""
    return float(((first @ second.T).argmax(1) == np.arange(len(first))).mean())


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_it_tells_points_apart_as_well_as_opencvs(photo: np.ndarray, gain: float) -> None:
    """Corners of a photograph, and the same turned by 8 degrees, shrunk, blurred, noisy and in other light."""
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 8, 0.9)
    seen = cv2.GaussianBlur(cv2.warpAffine(gray, turn, (width, height)), (0, 0), 1.0) * gain
    noise = np.random.default_rng(0).normal(0, 3, seen.shape)
    other = np.clip(seen + noise, 0, 255).astype(np.uint8)
    points = cv2.goodFeaturesToTrack(gray[60:-60, 60:-60], 300, 0.01, 6)[:, 0] + np.float32(60)
    moved = (points @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    theirs = found(opencv_root_sift(gray, points), opencv_root_sift(other, moved))
    assert theirs > 0.5
    assert found(ours(gray, points), ours(other, moved)) > theirs - 0.02


@pytest.mark.parametrize("turns", range(8))
def test_a_ramp_lies_in_the_channel_of_its_direction(turns: int) -> None:
    y, x = np.mgrid[:96, :96]
    angle = turns * np.pi / 4
    ramp = 128 + 1.5 * ((x - 48) * np.cos(angle) + (y - 48) * np.sin(angle)) / np.sqrt(2)
    maps = orientation_maps(torch.from_numpy(ramp.round().astype(np.uint8))[None, None], 9.0)
    middle = maps[0, :, 8:-8, 8:-8].mean((1, 2))
    assert int(middle.argmax()) == turns
    assert middle[turns] > 0.9 * middle.sum()


def test_it_moves_with_the_image(photo: np.ndarray) -> None:
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    points = np.array([[200.0, 150.0], [333.0, 260.0], [411.0, 199.0]], np.float32)
    there = ours(np.ascontiguousarray(gray[8:, 12:]), points - np.float32([12, 8]))
    assert np.allclose(ours(gray, points), there, atol=1e-4)
    # Shifts that the pooled maps' pixels do not share change little.
    there = ours(np.ascontiguousarray(gray[5:, 3:]), points - np.float32([3, 5]))
    assert ((ours(gray, points) * there).sum(1) > 0.95).all()


def test_flat_images_and_borders_give_finite_values() -> None:
    flat = np.full((50, 70), 90, np.uint8)
    corner = np.array([[0.0, 0.0], [69.0, 49.0], [30.0, 20.0]], np.float32)
    assert not ours(flat, corner).any()
    flat[20:, 30:] = 200
    described = ours(flat, corner)
    assert np.isfinite(described).all()
    assert np.linalg.norm(described[2]) == pytest.approx(1, abs=1e-5)
