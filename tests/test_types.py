"""The nouns: cameras, patch grids, trajectories."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slamfeat.errors import InputError
from slamfeat.types import Camera, Matches, PatchGrid, PixelMap, Trajectory

FREIBURG1 = Camera(640, 480, 517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))


def test_normalize_inverts_project_to_the_corners() -> None:
    y, x = np.mgrid[0:480:20.0, 0:640:20.0]
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    plane = FREIBURG1.normalize(pixels)
    again, _ = cv2.projectPoints(
        np.column_stack([plane, np.ones(len(plane))]), np.zeros(3), np.zeros(3), FREIBURG1.K, np.array(FREIBURG1.dist)
    )
    assert np.abs(again[:, 0] - pixels).max() < 1e-8


@pytest.mark.parametrize(
    "values",
    [
        {"fx": float("nan")},
        {"cx": float("inf")},
        {"fy": 0.0},
        {"fx": -5.0},
        {"width": 0},
        {"dist": (0.1,)},
        {"dist": (0.1, 0.0, 0.0, float("nan"))},
    ],
)
def test_impossible_cameras_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="calibration"):
        Camera(**{"width": 640, "height": 480, "fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, **values})  # type: ignore[arg-type]


def test_cell_centres_follow_the_convention() -> None:
    grid = PatchGrid(torch.zeros(1, 4, 2, 3), 14)
    assert grid.cell_centers().tolist() == [
        [6.5, 6.5],
        [20.5, 6.5],
        [34.5, 6.5],
        [6.5, 20.5],
        [20.5, 20.5],
        [34.5, 20.5],
    ]


@given(st.floats(0.3, 3), st.floats(-20, 20), st.integers(0, 2**31 - 1))
def test_bilinear_sampling_is_exact_for_linear_tokens_and_clamps_outside(scale: float, shift: float, seed: int) -> None:
    """Tokens that are a linear function of the cell are reproduced between centres, held beyond the outermost."""
    rows, columns = 5, 7
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    tokens = torch.stack([2.0 * x - y, x + 3.0 * y])[None].double()
    grid = PatchGrid(tokens, 14, PixelMap((scale, scale), (shift, -shift)))
    generator = torch.Generator().manual_seed(seed)
    cells = (
        torch.rand(1, 20, 2, generator=generator, dtype=torch.float64) * torch.tensor([columns + 2.0, rows + 2.0]) - 1.5
    )
    points = grid.pixel_map.inverse().apply((cells + 0.5) * 14 - 0.5)
    held = torch.stack([cells[..., 0].clamp(0, columns - 1), cells[..., 1].clamp(0, rows - 1)], -1)
    expected = torch.stack([2 * held[..., 0] - held[..., 1], held[..., 0] + 3 * held[..., 1]], -1)
    assert torch.allclose(grid.sample(points), expected, atol=1e-6)


def test_floor_lookup_is_the_cell_the_pixel_lies_in() -> None:
    grid = PatchGrid(torch.arange(12.0).view(1, 1, 3, 4), 14)
    points = torch.tensor([[[0.0, 0.0], [13.0, 13.0], [14.0, 13.0], [55.0, 41.0], [-0.4, 27.6]]])
    expected = [int(y // 14) * 4 + int(x // 14) for x, y in [(0, 0), (13, 13), (14, 13), (55, 41), (0, 28)]]
    assert grid.sample(points, mode="floor")[0, :, 0].tolist() == expected


def test_cell_centres_sample_their_own_token() -> None:
    grid = PatchGrid(torch.rand(2, 8, 4, 5), 16, PixelMap((0.5, 0.6), (3, -2)))
    centers = grid.cell_centers()[None].expand(2, -1, -1)
    flat = grid.tokens.flatten(2).transpose(1, 2)
    assert torch.allclose(grid.sample(centers), flat, atol=1e-5)
    assert torch.equal(grid.sample(centers, "floor"), flat)


def test_trajectories_refuse_nonsense() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    with pytest.raises(InputError, match="increase"):
        Trajectory(np.array([1.0, 1.0]), poses)
    with pytest.raises(InputError, match="2 poses"):
        Trajectory(np.array([1.0]), poses)
    with pytest.raises(InputError, match="finite"):
        Trajectory(np.array([1.0, 2.0]), poses * np.nan)


def some_matches() -> Matches:
    """Two pairs of three slots, made as callers did who know nothing of covariances."""
    mask = torch.tensor([[True, False, True], [False, True, False]])
    points = torch.rand(2, 3, 2)
    return Matches(points, points + 1, mask.float(), torch.where(mask, 0, -1), mask, 3)


def test_matches_need_no_covariances() -> None:
    assert some_matches().covariances is None and some_matches().numpy_covariances() is None


def test_covariances_go_with_their_matches() -> None:
    plain, covariances = some_matches(), torch.rand(2, 3, 2, 2)
    matches = replace(plain, covariances=covariances)
    for batch, slots in ((0, [0, 2]), (1, [1])):
        found = matches.numpy_covariances(batch)
        assert found is not None and found.dtype == np.float64
        assert np.array_equal(found, covariances[batch, slots].double().numpy())
        assert len(found) == len(matches.numpy(batch)[0])
    assert replace(matches, scores=matches.scores / 2).covariances is covariances
    # LightGlue's dictionary speaks of keypoints alone.
    assert matches.as_dict().keys() == plain.as_dict().keys()
