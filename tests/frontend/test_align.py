"""Patches aligned one by one: known maps of a photograph, a pattern known in closed form, and scenes of two depths."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from photo_moves import corners, moved, warped

from slamfeat.frontend.align import Aligned, Smooth, _even, _samples, _template, align_points
from slamfeat.frontend.align_lost import AlignLimits, align_lost
from slamfeat.frontend.attempt import Attempt
from slamfeat.frontend.presets import PRESETS, find_preset
from slamfeat.frontend.refine import RefineConfig, refine_points


def align(image0: np.ndarray, image1: np.ndarray, points0: np.ndarray, guess: np.ndarray, maps: np.ndarray) -> Aligned:
    return align_points(Smooth.of(image0), Smooth.of(image1), points0, guess, maps)


def about_the_middle(roll_deg: float, zoom: float) -> np.ndarray:
    return np.vstack([cv2.getRotationMatrix2D((320, 240), roll_deg, zoom), [0, 0, 1]])


def alike(affine: np.ndarray, count: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(affine.astype(np.float32), (count, 2, 2)))


@pytest.mark.parametrize(("roll_deg", "zoom"), [(0, 1.0), (35, 1.0), (0, 1.6), (-20, 0.7)])
def test_places_and_maps_of_a_known_warp(gray: np.ndarray, roll_deg: float, zoom: float) -> None:
    """Begun 2 px off, with a map that is 5 degrees and 5 % off."""
    matrix = about_the_middle(roll_deg, zoom)
    points = corners(gray)
    truth = moved(points, matrix)
    inside = ((truth > 30) & (truth < np.array(gray.shape[::-1]) - 30)).all(1)
    points, truth = points[inside], truth[inside].astype(np.float32)
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, len(points))
    guess = truth + 2 * np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    rough = about_the_middle(roll_deg + 5, zoom * 1.05)[:2, :2]
    aligned = align(gray, warped(gray, matrix), points, guess, alike(rough, len(points)))
    error = np.linalg.norm(aligned.points - truth, axis=1)
    right = aligned.correlation > 0.9
    assert right.mean() > 0.8
    # Along an edge a patch is at home in more places than one: finding the way back is what sorts these out.
    assert np.median(error[right]) < (0.05 if zoom == 1 else 0.15) and np.mean(error[right] < 1) > 0.9
    assert np.median(np.abs(aligned.affines[right] - matrix[:2, :2]).max((1, 2))) < 0.03


def test_a_pattern_known_in_closed_form() -> None:
    """No interpolation made the second image: what is left is the error of the method, and of 256 grey levels."""
    affine, shift = np.array([[1.1, 0.2], [-0.15, 0.95]]), np.array([4.3, -2.6])
    y, x = np.mgrid[0:240, 0:320].astype(np.float64)
    seen_from = np.linalg.inv(affine) @ (np.stack([x.ravel(), y.ravel()]) - shift[:, None])

    def pattern(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        waves = np.sin(u / 5) * np.cos(v / 7) + 0.6 * np.sin(u / 3.1 + v / 4.3)
        return np.rint(128 + 60 * waves).astype(np.uint8)

    image0, image1 = pattern(x, y), pattern(*seen_from).reshape(y.shape)
    points = np.stack(np.meshgrid(np.arange(60, 220, 16), np.arange(90, 180, 16)), -1).reshape(-1, 2).astype(np.float32)
    truth = (points @ affine.T + shift).astype(np.float32)
    start = truth + np.float32([0.8, -0.9])
    aligned = align(image0, image1, points, start, alike(np.eye(2), len(points)))
    error = np.linalg.norm(aligned.points - truth, axis=1)
    assert np.median(error) < 0.03 and error.max() < 0.15
    assert np.abs(aligned.affines - affine).max() < 0.05 and aligned.correlation.min() > 0.95


def test_changes_are_those_of_finite_differences(gray: np.ndarray) -> None:
    """By each of the six parameters of place and map, of a smooth picture with slopes of its own everywhere."""
    y, x = np.mgrid[0:160, 0:200].astype(np.float32)
    picture = 90 + 0.4 * x - 0.3 * y + 30 * np.sin(x / 9) * np.cos(y / 11)
    image = Smooth(picture, *(np.asarray(slope, np.float32) for slope in np.gradient(picture)[::-1]))
    points = np.array([[60.0, 50.0], [121.3, 88.6]], np.float32)
    template, jacobian = _template(image, points)
    for parameter in range(6):
        for sign, step in ((1, 0.02), (1, 0.05)):
            change = np.zeros(6, np.float32)
            change[parameter] = sign * step / (1 if parameter < 2 else 8)
            seen = _even(
                _samples(picture, points + change[:2], np.eye(2, dtype=np.float32) + change[2:].reshape(1, 2, 2))
            )
            difference, told = seen[0] - template, change[parameter] * jacobian[:, parameter]
            assert np.abs(difference - told).max() < 0.15 * np.abs(told).max(), parameter


def test_exposure_does_not_matter(gray: np.ndarray) -> None:
    points = corners(gray)
    guess, maps = points + np.float32([1.5, -1.0]), alike(np.eye(2), len(points))
    darker = align(gray, (gray * 0.4 + 20).astype(np.uint8), points, guess, maps)
    assert np.median(np.linalg.norm(darker.points - points, axis=1)) < 0.08


@pytest.mark.parametrize("level", [0, 255])
def test_where_nothing_is_to_be_seen_nothing_is_found(gray: np.ndarray, level: int) -> None:
    points = corners(gray)
    flat = np.full_like(gray, level)
    for images in ((gray, flat), (flat, gray), (flat, flat)):
        aligned = align(*images, points, points, alike(np.eye(2), len(points)))
        assert np.isfinite(aligned.points).all() and np.isfinite(aligned.affines).all()
        assert np.abs(aligned.correlation).max() < 0.5


def lost_ones(points: np.ndarray, kept: np.ndarray, truth: np.ndarray) -> Attempt:
    return Attempt(np.where(kept[:, None], truth, 0).astype(np.float32), np.zeros(len(points), np.float32), kept)


def test_lost_points_are_sought_where_neighbours_went(gray: np.ndarray) -> None:
    """A third was found; a third has a coarse place, for the rest nobody knows one."""
    matrix = about_the_middle(12, 1.3)
    points = corners(gray, 90)
    truth = moved(points, matrix)
    kind = np.arange(len(points)) % 3
    given = kind < 2
    coarse = np.where(given[:, None], truth + 2, 0).astype(np.float32)
    before = lost_ones(points, kind == 0, truth)
    images = gray, warped(gray, matrix)
    after = align_lost(*images, points, coarse, given, before, AlignLimits(0.6, 1.0, gray.shape))
    error = np.linalg.norm(after.found - truth, axis=1)
    for each in (1, 2):
        chosen = (kind == each) & after.kept
        assert chosen.sum() > 0.75 * (kind == each).sum() and np.median(error[chosen]) < 0.15
        assert np.mean(error[chosen] < 1) > 0.95
    assert np.array_equal(after.found[kind == 0], before.found[kind == 0])
    other = np.ascontiguousarray(gray[:, ::-1])
    noise = align_lost(gray, other, points, coarse, given, before, AlignLimits(0.6, 1.0, gray.shape))
    assert noise.kept[kind > 0].mean() < 0.05


def test_too_few_or_crushed_neighbours_change_nothing(gray: np.ndarray) -> None:
    points = corners(gray)[:40]
    limits = AlignLimits(0.6, 1.0, gray.shape)
    nothing = lost_ones(points, np.zeros(len(points), dtype=bool), points)
    alone = align_lost(
        gray,
        gray,
        points[:5],
        points[:5],
        np.ones(5, dtype=bool),
        lost_ones(points[:5], np.zeros(5, dtype=bool), points[:5]),
        limits,
    )
    assert not alone.kept.any()
    crushed = np.broadcast_to(points[:1], points.shape).copy()  # all are said to be at one place
    after = align_lost(gray, gray, points, crushed, np.ones(len(points), dtype=bool), nothing, limits)
    assert np.isfinite(after.found).all() and after.kept.sum() < 5


def test_what_a_plane_cannot_explain_is_found_by_alignment(gray: np.ndarray) -> None:
    """Half of the scene comes 1.5 times nearer, the other half moves on: Lucas-Kanade takes the one or the other."""
    height, width = gray.shape
    near, far = about_the_middle(0, 1.5), np.array([[1, 0, 9.0], [0, 1, -4.0], [0, 0, 1.0]])
    near[0, 2] -= 60
    columns = np.arange(width) > width // 2 + 15
    image = np.where(columns[None], warped(gray, far), warped(gray, near)).astype(np.uint8)
    points = corners(gray)
    truths = moved(points, near), moved(points, far)
    is_near, is_far = truths[0][:, 0] < width // 2 - 15, truths[1][:, 0] > width // 2 + 45
    seen = is_near ^ is_far
    truth = np.where(is_near[:, None], *truths)
    seen &= ((truth > 20) & (truth < np.array([width, height]) - 20)).all(1)
    points, truth = points[seen], truth[seen]
    guess = truth + np.random.default_rng(1).uniform(-2, 2, truth.shape)
    tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in (gray, image)]
    places = [torch.from_numpy(value.astype(np.float32)) for value in (points, guess)]
    _, _, before = refine_points(*tensors, *places, RefineConfig())
    found, correlation, after = refine_points(*tensors, *places, RefineConfig(align=True))
    error = np.linalg.norm(found.numpy() - truth, axis=1)
    gained = (after & ~before).numpy()
    assert after.float().mean() > before.float().mean() + 0.1
    assert np.median(error[gained]) < 0.5 and np.mean(error[gained] < 1) > 0.85
    assert correlation[after].min() >= RefineConfig().min_correlation


def test_which_presets_align() -> None:
    assert {name for name in PRESETS if find_preset(name).refine.align} == {"accurate", "balanced"}
