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
    _cell_index,
    _gate_of_all_cells,
    _gate_of_own_cells,
    dual_softmax,
    forbid,
    look_up_in_grid,
    mutual_nearest,
    slot_gate,
    smooth_displacements,
    token_gate,
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
    similarity = forbid(slot_gate(mask0, mask1) + 1, points, points, radius=12)
    allowed = [(0, 0), (1, 0), (1, 2)]
    assert [(i, j) for i in range(3) for j in range(3) if similarity[0, i, j] > 0] == allowed
    assert mutual_nearest(slot_gate(mask0 & False, mask1) + 1)[0].max() == -1


def cells_of(tokens: torch.Tensor, columns: int) -> tuple[PatchGrid, torch.Tensor]:
    """A grid of given tokens (N, C), row by row, and a point in the middle of every cell, (1, N, 2)."""
    grid = PatchGrid(F.normalize(tokens, dim=1).mT.reshape(1, tokens.shape[1], -1, columns), 14)
    return grid, grid.cell_centers()[None]


def test_gate_keeps_each_ones_likest_cells() -> None:
    grid, points = cells_of(torch.eye(4), 2)
    full = torch.ones(1, 4, dtype=torch.bool)
    kept = token_gate(grid, grid, points, points, full, full, share=0.25) == 0
    assert torch.equal(kept[0], torch.eye(4, dtype=torch.bool))
    assert (token_gate(grid, grid, points, points, full, full, share=1.0) == 0).all()


def test_gate_looks_up_the_cell_of_each_point_and_shuts_out_empty_slots() -> None:
    grid0, _ = cells_of(torch.eye(6), 3)
    turned, _ = cells_of(torch.eye(6).flip(0), 3)
    points = torch.tensor([[[3.0, 2.0], [40.0, 27.0], [-5.0, 99.0]]])  # first, last, and beyond the lower left cell
    mask = torch.tensor([[True, True, True]])
    kept = token_gate(grid0, turned, points, points, mask, mask, share=1 / 6) == 0
    assert kept[0].tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    shut = token_gate(grid0, turned, points, points, mask, torch.tensor([[True, False, True]]), share=1 / 6) == 0
    assert shut[0].tolist() == [[False, False, False], [True, False, False], [False, False, False]]


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_gate_keeps_its_share_seen_from_either_side(seed: int) -> None:
    tokens = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(seed))
    (grid0, points), (grid1, _) = cells_of(tokens[0], 5), cells_of(tokens[1], 5)
    full = torch.ones(1, 30, dtype=torch.bool)
    kept = token_gate(grid0, grid1, points, points, full, full, share=0.2)[0] == 0
    alike = F.normalize(tokens[0], dim=1) @ F.normalize(tokens[1], dim=1).mT
    rank0 = (alike[:, None] > alike[:, :, None]).sum(2)
    rank1 = (alike.mT[:, None] > alike.mT[:, :, None]).sum(2).mT
    assert torch.equal(kept, (rank0 < 6) & (rank1 < 6))


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.1, 0.3, 1.0]))
@settings(deadline=None, max_examples=30)
def test_gate_is_the_same_by_all_cells_and_by_the_keypoints_own(
    seed: int, count0: int, count1: int, share: float
) -> None:
    """A batch of two, grids of other sizes, points beyond the border and empty slots."""
    generator = torch.Generator().manual_seed(seed)
    grids, cells = [], []
    for rows, columns, count in ((6, 5, count0), (4, 9, count1)):
        grid = grid_of(torch.randn(2, 8, rows, columns, generator=generator))
        points = torch.rand(2, count, 2, generator=generator) * 160 - 15
        mask = torch.rand(2, count, generator=generator) < 0.8
        grids.append(grid)
        cells.append(_cell_index(grid, points, mask))
    expected = _gate_of_all_cells(grids[0], grids[1], cells[0], cells[1], share)
    assert torch.equal(_gate_of_own_cells(grids[0], grids[1], cells[0], cells[1], share), expected)


def test_equal_rivals_leave_one_match() -> None:
    same = torch.ones(1, 5, 3)
    indices, _ = mutual_nearest(same)
    assert indices[0].tolist() == [0, -1, -1, -1, -1]


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
