"""Similarities with and without bfloat16, and linking found points to keypoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slamfeat.errors import InputError
from slamfeat.frontend import Frontend, FrontendConfig, MatcherConfig
from slamfeat.frontend.matcher import NEVER
from slamfeat.frontend.matching import descriptor_matches, gated_similarity, link_points, match_features
from slamfeat.frontend.refine import RefineConfig
from slamfeat.types import Features

CONFIG = FrontendConfig()


@pytest.fixture(scope="module")
def frontend() -> Frontend:
    return Frontend.from_pretrained("default", config=CONFIG, engine="torch", precision="fp32")


@pytest.fixture(scope="module")
def pair(frontend: Frontend, sample: Path) -> tuple[Features, Features]:
    frames = sorted((sample / "rgb").iterdir())
    return frontend.extract(frames[0]), frontend.extract(frames[4])


def found(pair: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch, native: bool) -> tuple[torch.Tensor, ...]:
    """Similarity and indices on a processor with and without bfloat16."""
    monkeypatch.setattr("slamfeat.frontend.matching.cpu_has_bfloat16", lambda: native)
    return gated_similarity(*pair, CONFIG), descriptor_matches(*pair, CONFIG)[0]


@pytest.mark.parametrize("frames", [(0, 2), (0, 4), (20, 28)])
def test_bfloat16_decides_between_nearly_equal_rivals_alone(
    frames: tuple[int, int], frontend: Frontend, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((sample / "rgb").iterdir())
    pair = (frontend.extract(files[frames[0]]), frontend.extract(files[frames[1]]))
    half, half_indices = found(pair, monkeypatch, native=True)
    full, full_indices = found(pair, monkeypatch, native=False)
    allowed = full > NEVER
    assert torch.equal(allowed, half > NEVER) and 0.05 < allowed.float().mean() < 0.5
    assert not torch.equal(half, full)
    assert (half - full).abs()[allowed].max() < 2e-3
    equal, both = half_indices == full_indices, (half_indices >= 0) & (full_indices >= 0)
    assert both.sum() > 200
    # The slots that one of the two leaves unmatched lose a near tie of the other direction.
    assert equal[both].float().mean() >= 0.99 and equal.float().mean() > 0.97
    picked = [full.gather(2, at.clamp_min(0)[..., None])[..., 0] for at in (half_indices, full_indices)]
    assert (picked[0] - picked[1]).abs()[both].max() < 2e-3


def test_bfloat16_is_for_tokens_alone(pair: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch) -> None:
    """Features without their grid do not say which channels are a token's; nothing is rounded then."""
    config = replace(CONFIG, matcher=MatcherConfig(gate=1))
    bare0, bare1 = (replace(features, grid=None) for features in pair)
    expected = bare0.descriptors @ bare1.descriptors.mT
    filled = bare0.mask[:, :, None] & bare1.mask[:, None]
    monkeypatch.setattr("slamfeat.frontend.matching.cpu_has_bfloat16", lambda: True)
    assert (gated_similarity(bare0, bare1, config) - expected).abs()[filled].max() < 1e-6
    assert (gated_similarity(*pair, config) - expected).abs()[filled].max() > 1e-5


def test_a_missing_grid_is_named_with_what_helps(pair: tuple[Features, Features]) -> None:
    bare0, bare1 = (replace(features, grid=None) for features in pair)
    with pytest.raises(InputError, match=r"matcher\.gate=1 with a method other than guided"):
        match_features(bare0, bare1, CONFIG)
    free = replace(CONFIG, matcher=MatcherConfig(gate=1))
    assert len(match_features(bare0, bare1, free)) > 200


def linked(points: list[list[float]], keypoints: list[list[float]], **hidden: list[int]) -> list[int]:
    """Indices by `link_points`; `valid` and `present` name what does not count."""
    counted = []
    for values, name in ((points, "valid"), (keypoints, "present")):
        mask = torch.ones(len(values), dtype=torch.bool)
        mask[hidden.get(name, [])] = False
        counted.append(mask)
    return link_points(torch.tensor(points), counted[0], torch.tensor(keypoints), counted[1]).tolist()


def test_points_are_linked_within_three_pixels() -> None:
    keypoints = [[50.0, 50.0], [10.0, 10.0], [90.0, 10.0]]
    assert linked([[12.9, 10.0], [90.0, 13.1], [50.0, 49.0]], keypoints) == [1, -1, 0]


def test_links_are_mutual() -> None:
    """Of two points at a keypoint the nearer has it, and the other takes no second best."""
    assert linked([[11.0, 10.0], [10.5, 10.0]], [[10.0, 10.0], [13.5, 10.0]]) == [-1, 0]


def test_empty_slots_are_not_linked() -> None:
    points, keypoints = [[10.0, 10.0], [0.0, 0.0]], [[0.0, 0.0], [10.0, 11.0], [10.0, 12.0]]
    assert linked(points, keypoints) == [1, 0]
    assert linked(points, keypoints, valid=[1], present=[1]) == [2, -1]
    assert linked(points, keypoints, present=[0, 1, 2]) == [-1, -1]
    assert linked(points, keypoints, valid=[0, 1]) == [-1, -1]


@pytest.mark.parametrize("method", ["mutual", "dual_softmax", "guided", "attention"])
def test_no_keypoints_are_no_matches(method: str, sample: Path) -> None:
    config = FrontendConfig(matcher=MatcherConfig(method=method), heads="light" if method == "attention" else "")
    frontend = Frontend.from_pretrained("default", config=config, engine="torch", precision="fp32")
    image = sorted((sample / "rgb").iterdir())[0]
    some, none = frontend.extract(image, 64), frontend.describe(image, torch.zeros(1, 0, 2))
    for first, second in ((some, none), (none, some), (none, none)):
        matches = frontend.match(first, second)
        assert len(matches) == 0 and matches.mask.shape == first.mask.shape
        assert matches.num_keypoints1 == second.mask.shape[1] and bool((matches.indices == -1).all())


def test_a_match_that_keeps_its_place_keeps_its_score(sample: Path) -> None:
    """Those that refinement lost have the matcher's score, not that of the place where they were sought in vain."""
    frames = sorted((sample / "rgb").iterdir())
    config = FrontendConfig(num_keypoints=256, refine=RefineConfig(fill=False, keep=True, min_correlation=0.95))
    frontend = Frontend.from_pretrained("default", config=config, engine="torch", precision="fp32")
    features = frontend.extract(frames[0]), frontend.extract(frames[4])
    coarse = match_features(*features, replace(config, refine=RefineConfig(method="none")))
    refined = frontend.match(*features)
    stayed = refined.mask & coarse.mask & (refined.points1 == coarse.points1).all(2)
    assert 5 < int(stayed.sum()) < int(refined.mask.sum())
    assert torch.equal(refined.scores[stayed], coarse.scores[stayed])
    assert bool((refined.scores[refined.mask & ~stayed] >= 0.95).all())
