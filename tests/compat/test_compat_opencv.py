"""OpenCV takes the keypoints, and the adapter answers as an ORB object would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from compat_features import make_features, make_grid

from slamfeat.compat import OpenCVFeature2D, features_to_cv2
from slamfeat.errors import InputError
from slamfeat.types import Features


@dataclass
class FakeFrontend:
    """Keypoints on a lattice of 20 px, described by their position; remembers what it was given."""

    name: str = "fake"
    seen: list[np.ndarray] = field(default_factory=list)

    def extract(self, image: Any, num_keypoints: int | None = None, mask: Any = None) -> Features:
        height, width = image.shape[:2]
        y, x = np.mgrid[10:height:20, 10:width:20]
        points = torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.float32)
        return self._features(image, points[:num_keypoints][None])

    def describe(self, image: Any, points: torch.Tensor) -> Features:
        return self._features(image, points)

    def _features(self, image: np.ndarray, points: torch.Tensor) -> Features:
        self.seen.append(image)
        height, width = image.shape[:2]
        inside = (points >= 0).all(-1) & (points[..., 0] < width) & (points[..., 1] < height)
        angle = points[..., :1] / width + 3 * points[..., 1:] / height
        descriptors = torch.cat([angle.cos(), angle.sin()], -1) * inside[..., None]
        size = torch.tensor([[width, height]])
        return Features(points, inside.float(), descriptors, inside, size, make_grid())


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)


def test_features_to_cv2() -> None:
    features = make_features(batch=2, slots=5, valid=3)
    keypoints, descriptors = features_to_cv2(features, 1)
    assert len(keypoints) == 3 and descriptors.shape == (3, 8) and descriptors.dtype == np.float32
    for k, keypoint in enumerate(keypoints):
        assert keypoint.pt == pytest.approx(features.keypoints[1, k].tolist())
        assert keypoint.response == pytest.approx(float(features.scores[1, k]))
        assert keypoint.size == pytest.approx(7.0)  # patch 14 on an image shown at twice its size
    assert features.to_cv2(1)[0][0].pt == keypoints[0].pt
    assert features_to_cv2(make_features(valid=0))[0] == []


def test_opencv_accepts_it(image: np.ndarray) -> None:
    detector = OpenCVFeature2D(FakeFrontend())
    keypoints, descriptors = detector.detectAndCompute(image, None)
    assert len(keypoints) == 20 and descriptors is not None and descriptors.dtype == np.float32
    drawn = cv2.drawKeypoints(image, keypoints, None, flags=cv2.DRAW_MATCHES_FLAGS_DRAW_RICH_KEYPOINTS)
    assert drawn.shape == image.shape
    matches = cv2.BFMatcher(detector.defaultNorm(), crossCheck=True).match(descriptors, descriptors)
    assert [m.queryIdx for m in matches] == [m.trainIdx for m in matches]
    assert cv2.drawMatches(image, keypoints, image, keypoints, matches, None).shape == (80, 200, 3)


def test_colour_and_gray(image: np.ndarray) -> None:
    frontend = FakeFrontend()
    detector = OpenCVFeature2D(frontend)
    detector.detect(image)
    assert np.array_equal(frontend.seen[-1], image[..., ::-1])
    detector.detect(image[..., 0])
    assert np.array_equal(frontend.seen[-1], np.repeat(image[..., :1], 3, axis=2))
    detector.detect(np.dstack([image, image[..., 0]]))
    assert np.array_equal(frontend.seen[-1], image[..., ::-1])


def test_mask_keeps_keypoints_out(image: np.ndarray) -> None:
    mask = np.zeros((80, 100), np.uint8)
    mask[:40, :50] = 255
    keypoints, descriptors = OpenCVFeature2D(FakeFrontend()).detectAndCompute(image, mask)
    assert {keypoint.pt for keypoint in keypoints} == {(10, 10), (30, 10), (10, 30), (30, 30)}
    assert descriptors is not None and len(descriptors) == 4
    # Nothing found is what OpenCV returns for nothing found.
    nothing = cv2.ORB.create().detectAndCompute(np.zeros((80, 100), np.uint8), None)
    assert OpenCVFeature2D(FakeFrontend()).detectAndCompute(image, np.zeros_like(mask)) == nothing == ((), None)


def test_compute_at_given_keypoints(image: np.ndarray) -> None:
    detector = OpenCVFeature2D(FakeFrontend())
    keypoints, descriptors = detector.detectAndCompute(image, None)
    asked = [*reversed(keypoints), cv2.KeyPoint(500.0, 5.0, 1.0)]
    kept, computed = detector.compute(image, asked)
    assert computed is not None and descriptors is not None
    assert len(kept) == 20 and np.allclose(computed, descriptors[::-1])
    assert kept[0] is asked[0]
    assert detector.compute(image, []) == ((), None)


def test_the_rest_of_the_interface(image: np.ndarray) -> None:
    detector = OpenCVFeature2D(FakeFrontend(), max_features=7)
    assert detector.descriptorSize() == 2
    assert detector.getMaxFeatures() == 7 == len(detector.detect(image))
    detector.setMaxFeatures(3)
    assert detector.getMaxFeatures() == 3 == len(detector.detect(image))
    assert (detector.descriptorType(), detector.defaultNorm()) == (cv2.CV_32F, cv2.NORM_L2)
    assert detector.empty() is False and detector.getDefaultName() == "Feature2D.slamfeat.fake"
    missing = {name for name in dir(cv2.Feature2D) if not name.startswith("_")} - set(dir(detector))
    assert missing <= {"clear", "read", "save", "write"}  # files of parameters, which a frontend has none of


def test_wrong_input(image: np.ndarray) -> None:
    detector = OpenCVFeature2D(FakeFrontend())
    with pytest.raises(InputError, match=r"cv2\.imread returns None"):
        detector.detect(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gray, BGR or BGRA in uint8, got float64"):
        detector.detect(image.astype(float))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mask is \(10, 10\) but the image is \(80, 100\)"):
        detector.detect(image, np.ones((10, 10), np.uint8))
    with pytest.raises(InputError, match="positive"):
        detector.setMaxFeatures(0)
