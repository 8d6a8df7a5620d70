"""ORB, SIFT and Shi-Tomasi with Lucas-Kanade: the contract, and a photograph whose shift is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slamfeat.bench.peer_tools import Detected, pad_features
from slamfeat.bench.registry import build_frontend
from slamfeat.errors import ConfigError, InputError

NAMES = ["orb", "sift", "gftt-lk"]


@pytest.mark.parametrize("name", NAMES)
def test_contract_and_a_shifted_photo(name: str, photo: np.ndarray) -> None:
    frontend = build_frontend(name, 400)
    assert frontend.name == name and frontend.settings["num_keypoints"] == 400
    first, second = frontend.extract(photo[:-20, :-40]), frontend.extract(photo[20:, 40:])
    assert first.keypoints.shape == (1, 400, 2) and first.mask.shape == (1, 400)
    assert first.image_size.tolist() == [[600, 460]]
    matches = frontend.match(first, second)
    points0, points1, scores = matches.numpy()
    error = np.linalg.norm(points0 - points1 - [40, 20], axis=1)
    assert len(points0) > 80 and (error < 4).mean() > 0.9  # ORB finds corners on coarse pyramid levels
    assert ((scores > 0) & (scores <= 1)).all()
    assert matches.num_keypoints1 == 400 and not matches.points1[~matches.mask].any()
    if name == "gftt-lk":
        assert (matches.indices == -1).all() and np.median(error) < 0.05  # pixels are the same: tracks are sub-pixel
    else:
        assert torch.equal(matches.indices >= 0, matches.mask)
        linked = second.keypoints[0][matches.indices[0][matches.mask[0]]]
        assert torch.equal(linked, matches.points1[0][matches.mask[0]])


@pytest.mark.parametrize("name", NAMES)
def test_slots_masks_batches_and_empty_images(name: str, photo: np.ndarray) -> None:
    frontend = build_frontend(name, 400)
    black = frontend.extract(np.zeros_like(photo))
    full = frontend.extract(photo, num_keypoints=150)
    assert not black.mask.any() and not black.keypoints.any()
    assert full.keypoints.shape == (1, 150, 2) and full.mask.all()
    assert (full.scores.diff() <= 0).all()
    for pair in ((black, full), (full, black), (black, black)):
        assert len(frontend.match(*pair)) == 0
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[100:300, 200:500] = 255
    masked = frontend.extract(photo, mask=mask)
    x, y = masked.keypoints[masked.mask].round().long().T
    assert len(x) > 20 and (mask[y, x] > 0).all()
    batch = torch.from_numpy(np.stack([np.zeros_like(photo), photo])).permute(0, 3, 1, 2)
    both = frontend.extract(batch, num_keypoints=150)
    assert torch.equal(both.keypoints[1], full.keypoints[0]) and not both.mask[0].any()
    with pytest.raises(ConfigError, match="num_keypoints"):
        frontend.extract(photo, num_keypoints=0)
    with pytest.raises(InputError, match="mask"):
        frontend.extract(photo, mask=mask[1:])
    with pytest.raises(InputError, match="batches"):
        frontend.match(both, full)


@pytest.mark.parametrize("name", ["orb", "sift"])
def test_matching_is_that_of_opencv_one_by_one(name: str, photo: np.ndarray) -> None:
    """The same matches as OpenCV's matcher with a loop over them, on a turned and scaled copy."""
    frontend = build_frontend(name, 300)
    turn = cv2.getRotationMatrix2D((320, 240), 20, 0.8)
    first, second = frontend.extract(photo), frontend.extract(cv2.warpAffine(photo, turn, (640, 480)))
    d0, d1 = (f.descriptors[0][f.mask[0]].numpy() for f in (first, second))
    if name == "orb":
        d0, d1 = d0.astype(np.uint8), d1.astype(np.uint8)
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING if name == "orb" else cv2.NORM_L2)
    back = [match[0].trainIdx for match in matcher.knnMatch(d1, d0, k=1)]
    expected = torch.full((300,), -1)
    for best, other in matcher.knnMatch(d0, d1, k=2):
        if back[best.trainIdx] == best.queryIdx and (name == "orb" or best.distance < 0.8 * other.distance):
            expected[best.queryIdx] = best.trainIdx
    assert (expected >= 0).sum() > 50
    assert torch.equal(frontend.match(first, second).indices[0], expected)


def test_tracks_that_leave_or_that_the_way_back_denies_are_dropped(photo: np.ndarray) -> None:
    frontend = build_frontend("gftt-lk", 400)
    first = frontend.extract(photo)
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8)
    assert len(frontend.match(first, frontend.extract(noise))) < 20
    cropped = frontend.extract(photo[:300, :400])  # another size: points beyond it have nowhere to go
    points0, points1, _ = frontend.match(first, cropped).numpy()
    assert len(points0) > 50 and (points1 < (399.5, 299.5)).all()
    assert np.abs(points0 - points1).max() < 1


def test_pad_features_keeps_the_best_inside_the_mask() -> None:
    found = Detected(torch.tensor([[0.0, 0], [5, 5], [9, 9], [2, 2]]), torch.tensor([0.1, 0.9, 0.5, 0.7]), torch.eye(4))
    mask = np.ones((10, 10), np.uint8)
    mask[5, 5] = 0
    features = pad_features([found], 2, (10, 10), mask=mask)
    assert features.keypoints.tolist() == [[[2, 2], [9, 9]]] and features.mask.all()
    features = pad_features([found], 6, (10, 10))
    assert features.mask.tolist() == [[True] * 4 + [False] * 2]
    assert features.descriptors[0, 0].tolist() == [0, 1, 0, 0] and not features.descriptors[0, 4:].any()
