"""Kornia's functions take the frames, and its LightGlue has the keys of our dictionaries."""

from __future__ import annotations

import kornia.feature as KF
import numpy as np
import pytest
import torch
from compat_features import make_features

from slamfeat.compat import features_from_dict, features_to_lafs, matches_to_dict
from slamfeat.errors import InputError
from slamfeat.types import Matches


def test_lafs() -> None:
    features = make_features(batch=2, slots=5, valid=3)
    lafs = features_to_lafs(features)
    assert lafs.shape == (2, 5, 2, 3)
    assert torch.equal(KF.get_laf_center(lafs), features.keypoints)
    assert torch.allclose(KF.get_laf_scale(lafs), torch.tensor(7.0))
    assert torch.equal(KF.get_laf_orientation(lafs), torch.zeros(2, 5, 1))
    patches = KF.extract_patches_from_pyramid(torch.rand(2, 1, 56, 64), lafs, PS=16)
    assert patches.shape == (2, 5, 1, 16, 16) and torch.isfinite(patches).all()
    assert torch.equal(features.to_lafs(), lafs)


def make_matches() -> Matches:
    indices = torch.tensor([[2, -1, 0, 2, -1], [-1, -1, -1, -1, -1]])
    mask = torch.tensor([[True, False, True, True, True], [False] * 5])  # the last of the first pair: no keypoint there
    scores = torch.tensor([[0.5, 0.0, 0.9, 0.7, 0.8], [0.0] * 5])
    return Matches(torch.rand(2, 5, 2), torch.rand(2, 5, 2), scores, indices, mask, num_keypoints1=4)


def test_matches_to_dict() -> None:
    out = matches_to_dict(make_matches())
    assert out["matches0"].tolist() == [[2, -1, 0, 2, -1], [-1] * 5]
    assert out["matches1"].tolist() == [[2, -1, 3, -1], [-1] * 4]
    assert torch.allclose(out["matching_scores0"][0], torch.tensor([0.5, 0.0, 0.9, 0.7, 0.0]))
    assert torch.allclose(out["matching_scores1"][0], torch.tensor([0.9, 0.0, 0.7, 0.0]))
    assert out["matches"][0].tolist() == [[0, 2], [2, 0], [3, 2]] and out["matches"][1].shape == (0, 2)
    assert torch.allclose(out["scores"][0], torch.tensor([0.5, 0.9, 0.7])) and out["scores"][1].shape == (0,)


def test_keys_and_types_are_those_of_kornias_lightglue() -> None:
    features0, features1 = make_features(0, slots=6), make_features(1, slots=9, valid=9)
    matcher = KF.LightGlue(None, input_dim=8, descriptor_dim=16, num_heads=1, n_layers=1, flash=False).eval()
    with torch.inference_mode():
        theirs = matcher({"image0": features0.as_dict(), "image1": features1.as_dict()})
    ours = Matches(
        features0.keypoints, features0.keypoints, torch.rand(1, 6), torch.arange(6)[None],
        torch.ones(1, 6, dtype=torch.bool), num_keypoints1=9,
    ).as_dict()  # fmt: skip
    assert set(ours) <= set(theirs)
    for key, value in ours.items():
        if isinstance(value, list):
            assert len(value) == len(theirs[key]) and value[0].dtype == theirs[key][0].dtype
            assert value[0].shape[1:] == theirs[key][0].shape[1:]
        else:
            assert value.dtype == theirs[key].dtype and value.shape == theirs[key].shape


def test_features_round_trip() -> None:
    features = make_features(batch=2, slots=5, valid=3)
    back = features_from_dict(features.as_dict())
    for name in ("keypoints", "scores", "descriptors", "mask", "image_size"):
        assert torch.allclose(getattr(back, name).float(), getattr(features, name).float(), atol=1e-6), name


def test_features_of_hloc() -> None:
    rng = np.random.default_rng(0)
    data = {
        "keypoints": rng.uniform(0, 99, (5, 2)),
        "descriptors": rng.normal(size=(8, 5)),
        "image_size": np.array([100, 120]),
        "keypoint_scores": np.ones(5),
    }
    features = features_from_dict(data)
    assert features.descriptors.shape == (1, 5, 8) and features.mask.all()
    expected = data["descriptors"][:, 2] / np.linalg.norm(data["descriptors"][:, 2])
    assert np.allclose(features.descriptors[0, 2].numpy(), expected, atol=1e-6)


def test_wrong_dictionaries() -> None:
    good = make_features().as_dict()
    with pytest.raises(InputError, match="lacks descriptors"):
        features_from_dict({key: value for key, value in good.items() if key != "descriptors"})
    with pytest.raises(InputError, match="do not fit 6 keypoints"):
        features_from_dict({**good, "descriptors": torch.zeros(1, 7, 8)})
    with pytest.raises(InputError, match=r"keypoints must be \(B, K, 2\)"):
        features_from_dict({**good, "keypoints": torch.zeros(1, 6, 3)})
    with pytest.raises(InputError, match="keypoint_scores"):
        features_from_dict({**good, "keypoint_scores": torch.zeros(1, 5)})
