"""Grid-aligned keypoints on images whose salient points are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slamfeat.errors import ConfigError
from slamfeat.frontend.selector import SelectorConfig, part_side, saliency_map, select_keypoints
from slamfeat.frontend.subpixel import parabola_offset
from slamfeat.image import fit_to_patch, to_gray

CELL = 14


def gray_of(photo: np.ndarray, cell: int = CELL) -> torch.Tensor:
    return to_gray(fit_to_patch(photo, cell)[0])


def squares(centers: list[tuple[int, int]], size: tuple[int, int] = (140, 112)) -> torch.Tensor:
    image = np.zeros((size[1], size[0]), np.float32)
    for x, y in centers:
        cv2.circle(image, (x, y), 2, 1.0, -1)
    return torch.from_numpy(image)[None, None]


@pytest.mark.parametrize("saliency", ["gradient", "shi_tomasi", "center"])
@pytest.mark.parametrize("splits", [1, 2])
def test_at_most_one_keypoint_a_cell_and_slots_are_sorted(photo: np.ndarray, saliency: str, splits: int) -> None:
    config = SelectorConfig(saliency=saliency, splits=splits, subpixel=False)
    points, scores, mask = select_keypoints(gray_of(photo), CELL, 700, config)
    assert points.shape == (1, 700, 2) and mask.any()
    assert (scores[0, :-1] >= scores[0, 1:]).all()
    assert not scores[~mask].any() and not points[~mask].any()
    cells = torch.unique((points[mask] // (CELL // splits)).long(), dim=0)
    assert len(cells) == mask.sum()


def test_peaks_are_the_strongest_gradient_of_their_cell(photo: np.ndarray) -> None:
    """Against OpenCV's blur and Sobel, cell by cell."""
    config = SelectorConfig(nms_radius=0, splits=1, subpixel=False, coverage=0, border=0, threshold=0)
    gray = gray_of(photo)
    points, _, mask = select_keypoints(gray, CELL, 5000, config)
    image = gray[0, 0].numpy()
    blurred = cv2.GaussianBlur(image, (5, 5), 2.0, borderType=cv2.BORDER_REFLECT_101)
    gx, gy = (cv2.Sobel(blurred, cv2.CV_32F, *d, ksize=3, borderType=cv2.BORDER_REPLICATE) for d in ((1, 0), (0, 1)))
    magnitude = np.hypot(gx, gy)
    agree = 0
    chosen = points[0][mask[0]].numpy().astype(int)
    for x, y in chosen:
        row, column = y // CELL * CELL, x // CELL * CELL
        cell = magnitude[row : row + CELL, column : column + CELL]
        agree += magnitude[y, x] >= 0.999 * cell.max()
    assert agree >= 0.99 * len(chosen)


def test_neighbours_across_a_cell_border_are_thinned() -> None:
    image = squares([(26, 40), (31, 40), (90, 70)])  # the first two lie in neighbouring cells, 5 px apart
    few = select_keypoints(image, CELL, 64, SelectorConfig(saliency="shi_tomasi", nms_radius=8))
    all_ = select_keypoints(image, CELL, 64, SelectorConfig(saliency="shi_tomasi", nms_radius=0))
    assert few[2].sum() < all_[2].sum()
    kept = few[0][few[2]]
    assert (torch.cdist(kept, kept) + 100 * torch.eye(len(kept))).min() >= 7


@given(st.integers(0, 2**31 - 1), st.floats(4, 12))
@settings(max_examples=20, deadline=None)
def test_no_two_keypoints_are_closer_than_the_radius(seed: int, radius: float) -> None:
    noise = torch.rand(1, 1, 112, 140, generator=torch.Generator().manual_seed(seed))
    points, _, mask = select_keypoints(noise, CELL, 200, SelectorConfig(nms_radius=radius, subpixel=False))
    kept = points[mask]
    assert (torch.cdist(kept, kept) + 1e3 * torch.eye(len(kept))).min() >= radius - 1e-4


def test_images_without_texture_have_no_keypoints() -> None:
    for level in (0.0, 0.5, 1.0):
        _, scores, mask = select_keypoints(torch.full((2, 1, 112, 140), level), CELL, 50, SelectorConfig())
        assert mask.shape == (2, 50) and not mask.any() and not scores.any()


def test_coverage_gives_every_textured_region_its_share(photo: np.ndarray) -> None:
    gray = gray_of(photo)
    gray[..., : gray.shape[-1] // 2] *= 0.1  # the left half is ten times weaker
    left_shares = []
    for coverage in (0, 6):
        points, _, mask = select_keypoints(gray, CELL, 200, SelectorConfig(coverage=coverage, threshold=0.001))
        left_shares.append((points[mask][:, 0] < gray.shape[-1] / 2).float().mean().item())
    assert left_shares[1] > left_shares[0] + 0.1


def test_nothing_outside_the_mask_or_at_the_border(photo: np.ndarray) -> None:
    gray = gray_of(photo)
    allowed = torch.zeros_like(gray, dtype=torch.bool)
    allowed[..., 100:300, 200:400] = True
    points, _, mask = select_keypoints(gray, CELL, 500, SelectorConfig(subpixel=False), allowed)
    x, y = points[mask].unbind(1)
    assert mask.any() and (x >= 200).all() and (x < 400).all() and (y >= 100).all() and (y < 300).all()
    points, _, mask = select_keypoints(gray, CELL, 2000, SelectorConfig(subpixel=False, border=10))
    assert points[mask].min() >= 10 and (points[mask][:, 0] < gray.shape[-1] - 10).all()


@given(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45))
def test_parabola_finds_the_top_of_a_paraboloid(dx: float, dy: float) -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    response = 50 - (x - 4 - dx) ** 2 - 2 * (y - 4 - dy) ** 2
    offset = parabola_offset(response[None, None], torch.tensor([[[4.0, 4.0]]]))
    assert torch.allclose(offset[0, 0], torch.tensor([dx, dy]), atol=1e-4)


def test_subpixel_corners_follow_a_shift_of_half_a_pixel(photo: np.ndarray) -> None:
    shift = np.array([[1, 0, 0.5], [0, 1, 0.25]], np.float32)
    moved = cv2.warpAffine(photo, shift, photo.shape[1::-1], flags=cv2.INTER_CUBIC)
    config = SelectorConfig(saliency="shi_tomasi")
    found = [select_keypoints(gray_of(image), CELL, 800, config) for image in (photo, moved)]
    first, second = (points[mask] for points, _, mask in found)
    distance, nearest = torch.cdist(first, second).min(1)
    close = distance < 1.5
    error = (second[nearest] - first)[close].mean(0)
    assert close.float().mean() > 0.8
    assert torch.allclose(error, torch.tensor([0.5, 0.25]), atol=0.1)


def test_shi_tomasi_agrees_with_opencv(photo: np.ndarray) -> None:
    config = SelectorConfig(saliency="shi_tomasi", sigma=1.5)
    ours = saliency_map(gray_of(photo), config)[0, 0].numpy() ** 2
    theirs = cv2.cornerMinEigenVal(gray_of(photo)[0, 0].numpy(), 5)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("cell", "side"), [(14, 7), (16, 8), (21, 7), (28, 7), (32, 8), (13, 13), (5, 5)])
def test_parts_of_a_cell_are_at_least_seven_pixels_wide(cell: int, side: int) -> None:
    assert part_side(cell, 0) == side


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="laplace"):
        SelectorConfig(saliency="laplace")
    with pytest.raises(ConfigError, match="splits"):
        SelectorConfig(splits=-1)
    with pytest.raises(ConfigError, match="does not divide"):
        select_keypoints(torch.rand(1, 1, 28, 28), 14, 5, SelectorConfig(splits=4))
