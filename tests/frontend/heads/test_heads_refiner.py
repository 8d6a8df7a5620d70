"""Patches, local affine maps and the refiner's correlation."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from slamfeat.frontend.heads.patches import even_patches, local_affines, sample_patches
from slamfeat.frontend.heads.refiner import PatchRefiner, RefinerConfig


def test_patches_seen_through_the_affine_are_those_of_opencv(photo: np.ndarray) -> None:
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    points = torch.tensor([[120.25, 200.5], [400.0, 99.75]])
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]]) * 1.3
    found = sample_patches(torch.from_numpy(gray)[None, None].float(), points, turn.expand(2, 2, 2), 15)
    for point, patch in zip(points.numpy(), found, strict=True):
        matrix = np.column_stack([turn.numpy(), point - turn.numpy() @ [7.0, 7.0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        wanted = cv2.warpAffine(gray.astype(np.float32), matrix, (15, 15), flags=flags)
        assert np.abs(patch[0].numpy() - wanted).max() < 4  # OpenCV rounds positions to 1/32 of a pixel
        assert np.abs(patch[0].numpy() - wanted).mean() < 0.5


def test_exposure_does_not_matter(photo: np.ndarray) -> None:
    image = torch.from_numpy(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))[None, None].float()
    points = torch.tensor([[120.0, 200.0], [400.0, 100.0]])
    plain, darker = (even_patches(sample_patches(x, points, None, 15), 0.0) for x in (image, 0.4 * image + 30))
    torch.testing.assert_close(plain, darker, atol=1e-3, rtol=0)


def test_the_affine_of_neighbours_is_that_of_the_scene_despite_wrong_matches() -> None:
    generator = torch.Generator().manual_seed(1)
    points0 = torch.rand(400, 2, generator=generator) * torch.tensor([640.0, 480.0])
    true = torch.tensor([[1.3, 0.4], [-0.3, 1.1]])
    points1 = points0 @ true.T + torch.tensor([30.0, -10.0])
    points1[::6] = torch.rand(len(points1[::6]), 2, generator=generator) * 500
    found = local_affines(points0, points1)
    right = torch.ones(400, dtype=torch.bool)
    right[::6] = False
    error = (found[right] - true).abs().amax((1, 2))
    assert error.median() < 0.05 and (error < 0.15).float().mean() > 0.9


def test_few_matches_say_nothing_of_the_affine() -> None:
    points = torch.tensor([[1.0, 2.0], [30.0, 40.0]])
    torch.testing.assert_close(local_affines(points, points + 3), torch.eye(2).expand(2, 2, 2))


def test_correlation_peaks_at_the_true_shift(photo: np.ndarray) -> None:
    """Whole shifts, with untrained features."""
    torch.manual_seed(0)
    refiner = PatchRefiner(RefinerConfig()).eval()
    image = torch.from_numpy(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))[None, None].float()
    corners = cv2.goodFeaturesToTrack(image[0, 0].byte().numpy(), 50, 0.01, 15)[:, 0]
    points = torch.from_numpy(corners)
    points = points[((points > 30) & (points < torch.tensor([610.0, 450.0]))).all(1)]
    for shift in ((2, -3), (0, 1), (-1, 0)):
        first = sample_patches(image, points, None, 19) / 50
        second = sample_patches(image, points + torch.tensor(shift), None, 19) / 50
        with torch.inference_mode():
            correlation = refiner.correlate(refiner.features(first), refiner.features(second)).sum(1)
        best = correlation.argmax(1)
        found = torch.stack([best % 7 - 3, best // 7 - 3], 1)
        assert (found == -torch.tensor(shift)).all(1).float().mean() > 0.95


def test_a_pass_learns_sub_pixel_shifts(photo: np.ndarray) -> None:
    """A few steps on one image halve the error of doing nothing, on points that were not trained on."""
    torch.manual_seed(0)
    refiner = PatchRefiner(RefinerConfig(patch=15, reach=2, hidden=64))
    image = torch.from_numpy(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))[None, None].float()
    corners = torch.from_numpy(cv2.goodFeaturesToTrack(image[0, 0].byte().numpy(), 400, 0.005, 8)[:, 0])
    train, held_out = corners[::2], corners[1::2]
    optimizer = torch.optim.Adam(refiner.parameters(), lr=2e-3)

    def batch(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shift = torch.rand(len(points), 2) * 2 - 1
        first, second = (even_patches(sample_patches(image, p, None, 15)) for p in (points, points + shift))
        return first, second, -shift

    for _ in range(150):
        first, second, wanted = batch(train)
        loss = (refiner(first, second).offset - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first, second, wanted = batch(held_out)
    with torch.inference_mode():
        error = (refiner(first, second).offset - wanted).norm(dim=1).median()
    assert error < 0.5 * wanted.norm(dim=1).median()
