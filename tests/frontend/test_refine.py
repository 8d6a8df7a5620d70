"""Sub-pixel refinement on a real photograph moved by known maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from photo_moves import corners, moved, warped

from slamfeat.errors import ConfigError
from slamfeat.frontend.plane_warp import plane_warp
from slamfeat.frontend.refine import RefineConfig, patch_correlation, refine_points


def refine(gray0: np.ndarray, gray1: np.ndarray, points0: np.ndarray, guess: np.ndarray, **settings: object):
    tensors = (torch.from_numpy(np.ascontiguousarray(value)) for value in (gray0, gray1))
    points = (torch.from_numpy(value.astype(np.float32)) for value in (points0, guess))
    return refine_points(*tensors, *points, RefineConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("shift", np.array([[1, 0, 11.3], [0, 1, -6.7], [0, 0, 1.0]])),
        ("roll", np.vstack([cv2.getRotationMatrix2D((320, 240), 25, 1.0), [0, 0, 1]])),
        ("zoom", np.vstack([cv2.getRotationMatrix2D((320, 240), 0, 1.25), [0, 0, 1]])),
    ],
)
def test_coarse_guesses_become_sub_pixel(gray: np.ndarray, name: str, matrix: np.ndarray) -> None:
    """Guesses are off by up to half a cell; the truth is the warp itself."""
    points = corners(gray)
    truth = moved(points, matrix)
    inside = ((truth > 30) & (truth < np.array(gray.shape[::-1]) - 30)).all(1)
    points, truth = points[inside], truth[inside]
    guess = truth + np.random.default_rng(0).uniform(-7, 7, truth.shape)
    found, correlation, kept = refine(gray, warped(gray, matrix), points, guess)
    error = np.linalg.norm(found.numpy() - truth, axis=1)[kept.numpy()]
    assert kept.float().mean() > 0.85, name
    assert np.median(error) < 0.1 and np.mean(error < 1) > 0.97, name
    assert correlation[kept].min() >= RefineConfig().min_correlation


def test_lost_points_are_found_from_their_neighbours(gray: np.ndarray) -> None:
    points = corners(gray)
    image = warped(gray, np.array([[1, 0, 20.0], [0, 1, 9.0], [0, 0, 1]]))
    guess = points + np.array([20.0, 9.0])
    guess[::3] += 150  # a third of the guesses are far off
    once = refine(gray, image, points, guess, passes=1)[2].float().mean()
    found, _, kept = refine(gray, image, points, guess, passes=2)
    assert kept.float().mean() > once + 0.2
    assert np.abs((found.numpy() - points)[kept.numpy()] - [20, 9]).max(1).mean() < 0.2


def test_exposure_does_not_matter_but_another_picture_does(gray: np.ndarray) -> None:
    points = corners(gray)
    darker = (gray * 0.5 + 10).astype(np.uint8)
    assert refine(gray, darker, points, points)[2].float().mean() > 0.8
    other = np.random.default_rng(0).integers(0, 255, gray.shape, dtype=np.uint8)
    assert refine(gray, other, points, points)[2].float().mean() < 0.1


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("shape", [(480, 640), (471, 633)])
def test_half_the_size_is_half_as_exact_and_not_biased(gray: np.ndarray, shape: tuple[int, int], align: bool) -> None:
    """Sides that are no multiple of the factor must not shift the pixels."""
    first = np.ascontiguousarray(gray[: shape[0], : shape[1]])
    matrix = np.array([[1, 0, 11.3], [0, 1, -6.7], [0, 0, 1.0]])
    points = corners(first)
    truth = moved(points, matrix)
    found, _, kept = refine(first, warped(first, matrix), points, truth + 3, shrink=2, window=11, align=align)
    error = (found.numpy() - truth)[kept.numpy()]
    assert kept.float().mean() > 0.8
    assert np.abs(np.median(error, axis=0)).max() < 0.12  # half a pixel where frames are mixed up
    assert np.median(np.linalg.norm(error, axis=1)) < 0.2


def test_keypoints_without_a_match_are_found_where_their_neighbours_went(gray: np.ndarray) -> None:
    matrix = np.array([[1, 0, 25.0], [0, 1, -12.0], [0, 0, 1.0]])
    points = corners(gray)
    truth = moved(points, matrix)
    known = np.arange(len(points)) % 3 > 0
    guess = np.where(known[:, None], truth, 0.0).astype(np.float32)
    images = torch.from_numpy(gray), torch.from_numpy(warped(gray, matrix))
    found, _, kept = refine_points(
        *images, torch.from_numpy(points), torch.from_numpy(guess), RefineConfig(), known=torch.from_numpy(known)
    )
    unknown = torch.from_numpy(~known)
    assert kept[unknown].float().mean() > 0.8
    assert (found - torch.from_numpy(truth)).norm(dim=1)[kept & unknown].median() < 0.1
    once = refine_points(
        *images, torch.from_numpy(points), torch.from_numpy(guess), RefineConfig(passes=1),
        known=torch.from_numpy(known),
    )  # fmt: skip
    assert not once[2][unknown].any()


def test_correlation_equals_opencvs(gray: np.ndarray) -> None:
    points = np.array([[100.0, 120.0], [300.0, 200.0]], np.float32)
    others = points + np.array([[3.0, 1.0], [0.0, 0.0]], np.float32)
    ours = patch_correlation(gray, gray, points, others, 15)

    def patch(point: np.ndarray) -> np.ndarray:
        x, y = int(point[0]), int(point[1])
        return np.ascontiguousarray(gray[y - 6 : y + 7 : 2, x - 6 : x + 7 : 2])

    theirs = [
        cv2.matchTemplate(patch(a), patch(b), cv2.TM_CCOEFF_NORMED)[0, 0] for a, b in zip(points, others, strict=True)
    ]
    assert np.allclose(ours, theirs, atol=1e-4)


def test_plane_warp_is_the_identity_without_agreement() -> None:
    generator = np.random.default_rng(0)
    scattered = (generator.uniform(0, 600, (100, 2)).astype(np.float32) for _ in range(2))
    assert np.array_equal(plane_warp(*scattered, 6.0), np.eye(3))
    few = generator.uniform(0, 600, (5, 2)).astype(np.float32)
    assert np.array_equal(plane_warp(few, few, 6.0), np.eye(3))


def test_nothing_in_nothing_out(gray: np.ndarray) -> None:
    empty = np.zeros((0, 2))
    found, correlation, kept = refine(gray, gray, empty, empty)
    assert found.shape == (0, 2) and correlation.shape == (0,) and kept.shape == (0,)


@pytest.mark.parametrize("shrink", [1, 2])
def test_the_largest_shift_is_of_original_pixels(gray: np.ndarray, shrink: int) -> None:
    points = corners(gray)
    guess = points + np.float32([4, 3])  # 5 px off
    settings = {"shrink": shrink, "window": 11, "passes": 1}
    assert not refine(gray, gray, points, guess, max_shift=3, **settings)[2].any()
    assert refine(gray, gray, points, guess, max_shift=7, **settings)[2].float().mean() > 0.8


def test_settings_that_make_no_sense_are_refused() -> None:
    for values in (
        {"method": "magic"}, {"window": 4}, {"passes": 0}, {"max_return": 0.0}, {"shrink": 0}, {"shrink": 5},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            RefineConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("align", [False, True])
def test_keep_leaves_what_is_lost_where_it_was(gray: np.ndarray, align: bool) -> None:
    matrix = np.array([[1, 0, 11.3], [0, 1, -6.7], [0, 0, 1.0]])
    points = corners(gray)
    guess = moved(points, matrix)
    wrong = np.arange(len(points)) % 4 == 0
    guess[wrong] += [90.0, -70.0]
    known = torch.from_numpy(np.arange(len(points)) % 5 != 0)
    other = warped(gray, matrix)
    tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in (gray, other)]
    places = [torch.from_numpy(value.astype(np.float32)) for value in (points, guess)]
    dropped, _, some = refine_points(*tensors, *places, RefineConfig(passes=1), known)
    found, _, kept = refine_points(*tensors, *places, RefineConfig(passes=1, keep=True), known)
    lost = known & ~some
    assert int(lost.sum()) > 20 and torch.equal(kept, known | some)
    assert torch.equal(found[lost], places[1][lost]) and torch.equal(found[some], dropped[some])
    # Found again from their neighbours, they are where they belong.
    again, _, both = refine_points(
        *tensors, *places, RefineConfig(passes=1 if align else 2, align=align, keep=True), known
    )
    error = np.linalg.norm(again.numpy() - moved(points, matrix), axis=1)
    assert both.float().mean() > 0.95 and np.mean(error[both.numpy()] < 1) > 0.9


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("planar", [True, False])
def test_images_of_different_sizes(gray: np.ndarray, planar: bool, align: bool) -> None:
    """Whether or not the matches agree on a plane, the second image is whole, and nothing is found outside it."""
    matrix = np.array([[1, 0, 3.3], [0, 1, -2.7], [0, 0, 1.0]])
    points = corners(gray)
    wide = np.concatenate([warped(gray, matrix), gray[:, :112]], 1)
    small = np.ascontiguousarray(warped(gray, matrix)[:-60, :-90])
    chosen = np.arange(len(points)) if planar else np.arange(len(points))[:9]
    start, guess = points[chosen], moved(points[chosen], matrix) + 1.0
    for other in (wide, small):
        tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in (gray, other)]
        places = [torch.from_numpy(value.astype(np.float32)) for value in (start, guess)]
        found, _, kept = refine_points(*tensors, *places, RefineConfig(align=align))
        within = (guess < np.array(other.shape[::-1]) - 12).all(1)
        error = np.linalg.norm(found.numpy() - moved(start, matrix), axis=1)
        assert kept.numpy()[within].mean() > 0.8 and np.median(error[kept.numpy()]) < 0.2
        inside = (found.numpy() <= np.array(other.shape[::-1]) - 1).all(1)
        assert inside[kept.numpy()].all()
