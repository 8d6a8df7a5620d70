"""Nearest neighbours against OpenCV, gates and the token look-up on known grids."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.matcher import (
    MatcherConfig,
    dual_softmax,
    forbid,
    look_up_in_grid,
    mutual_nearest,
    smooth_displacements,
    too_different,
)
from slamfeat.types import PatchGrid


def descriptors(seed: int, count: int, dim: int = 16) -> torch.Tensor:
    return F.normalize(torch.randn(1, count, dim, generator=torch.Generator().manual_seed(seed)), dim=2)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60))
@settings(deadline=None)
def test_mutual_nearest_equals_opencvs_cross_check(seed: int, count0: int, count1: int) -> None:
    d0, d1 = descriptors(seed, count0), descriptors(seed + 1, count1)
    indices, _ = mutual_nearest(d0 @ d1.transpose(1, 2))
    ours = {(k, int(i)) for k, i in enumerate(indices[0]) if i >= 0}
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    theirs = {(m.queryIdx, m.trainIdx) for m in matcher.match(d0[0].numpy(), d1[0].numpy())}
    assert ours == theirs


def test_dual_softmax_is_the_product_of_both_softmaxes() -> None:
    similarity = torch.randn(2, 5, 7)
    raised = np.exp(similarity.double().numpy() / 0.1)
    expected = raised / raised.sum(2, keepdims=True) * (raised / raised.sum(1, keepdims=True))
    assert np.allclose(dual_softmax(similarity, 0.1).numpy(), expected, atol=1e-5)


def test_empty_slots_and_far_points_never_match() -> None:
    points = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]])
    mask0, mask1 = torch.tensor([[True, True, False]]), torch.tensor([[True, False, True]])
    similarity = forbid(torch.ones(1, 3, 3), mask0, mask1, points, points, radius=12)
    allowed = [(0, 0), (1, 0), (1, 2)]
    assert [(i, j) for i in range(3) for j in range(3) if similarity[0, i, j] > 0] == allowed
    assert mutual_nearest(forbid(torch.ones(1, 3, 3), mask0 & False, mask1, points, points, 0))[0].max() == -1


def test_gate_keeps_each_ones_likest_tokens() -> None:
    tokens = F.one_hot(torch.arange(4), 4).float()[None]
    full = torch.ones(1, 4, dtype=torch.bool)
    far = too_different(tokens @ tokens.mT, full, full, share=0.25)
    assert torch.equal(~far[0], torch.eye(4, dtype=torch.bool))
    assert not too_different(tokens @ tokens.mT, full, full, share=1.0).any()


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_gate_of_many_keeps_about_its_share(seed: int) -> None:
    """The share is estimated from a sample; a pair needs both sides' consent."""
    d0, d1 = descriptors(seed, 700, 8), descriptors(seed + 1, 900, 8)
    full0, full1 = torch.ones(1, 700, dtype=torch.bool), torch.ones(1, 900, dtype=torch.bool)
    alike = d0 @ d1.mT
    kept = ~too_different(alike, full0, full1, share=0.2)
    exact0 = alike >= alike.topk(180, dim=2).values[..., -1:]
    exact1 = alike >= alike.topk(140, dim=1).values[:, -1:]
    wanted = exact0 & exact1
    assert (kept & wanted).sum() > 0.85 * wanted.sum()
    assert abs(float(kept.sum() / wanted.sum()) - 1) < 0.15


def test_equal_rivals_leave_one_match() -> None:
    same = torch.ones(1, 5, 3)
    indices, _ = mutual_nearest(same)
    assert indices[0].tolist() == [0, -1, -1, -1, -1]


def test_gate_counts_only_filled_slots() -> None:
    """With two of four slots filled, half of them is one."""
    tokens = F.one_hot(torch.arange(4), 4).float()[None]
    half = torch.tensor([[True, True, False, False]])
    allowed = ~too_different(tokens @ -tokens.mT, half, half, share=0.5)[0, :2, :2]
    assert torch.equal(allowed, ~torch.eye(2, dtype=torch.bool))


def grid_of(tokens: torch.Tensor) -> PatchGrid:
    return PatchGrid(F.normalize(tokens, dim=1), 14)


def test_look_up_finds_where_the_grid_was_moved() -> None:
    """The second grid is the first, moved by two cells right and one down."""
    tokens = torch.randn(1, 64, 12, 16, generator=torch.Generator().manual_seed(0))
    grid0, grid1 = grid_of(tokens), grid_of(tokens.roll((1, 2), (2, 3)))
    inside = grid0.cell_centers().view(12, 16, 2)[1:-2, 1:-3].reshape(-1, 2)
    points, similarity, mutual = look_up_in_grid(inside, grid0, grid1)
    assert mutual.all() and similarity.min() > 0.99
    assert torch.allclose(points - inside, torch.tensor([28.0, 14.0]).expand_as(points), atol=0.5)


def test_look_up_respects_the_radius() -> None:
    tokens = torch.randn(1, 64, 12, 16, generator=torch.Generator().manual_seed(0))
    grid0, grid1 = grid_of(tokens), grid_of(tokens.roll(5, 3))
    points, _, mutual = look_up_in_grid(grid0.cell_centers()[50:60], grid0, grid1, radius=30)
    assert ((points - grid0.cell_centers()[50:60]).norm(dim=1) < 30 + 14 * 2**0.5).all()
    assert not mutual.all()


def test_smoothing_replaces_an_outlier_by_its_neighbours() -> None:
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    points0 = torch.stack([x, y], -1).reshape(-1, 2) * 20
    points1 = points0 + torch.tensor([7.0, -3.0])
    points1[12] += 100
    smooth = smooth_displacements(points0, points1, torch.ones(25, dtype=torch.bool), 9)
    assert torch.allclose(smooth - points0, torch.tensor([7.0, -3.0]).expand(25, 2))
    untouched = smooth_displacements(points0, points1, torch.zeros(25, dtype=torch.bool), 9)
    assert torch.equal(untouched, points1)


@pytest.mark.parametrize("values", [{"method": "flann"}, {"temperature": 0.0}, {"gate": 0.0}, {"radius": -1.0}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        MatcherConfig(**values)  # type: ignore[arg-type]
