"""Dense correspondence under known warps: is a patch most alike the patch that shows the same place?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.pretrain.probes.features import Describe

Matrix = NDArray[np.float64]


def draw_warp(size: int, strength: float, rng: np.random.Generator) -> Matrix:
    """A homography (3, 3) of a square's pixels whose corners move by up to `strength` of its side, each way."""
    import cv2

    corners = np.array([[0, 0], [size - 1, 0], [size - 1, size - 1], [0, size - 1]], np.float32)
    moved = corners + rng.uniform(-strength, strength, (4, 2)).astype(np.float32) * size
    return np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64)


def warp(image: Tensor, homography: Matrix) -> Tensor:
    """An image (3, S, S) seen through a homography, black where there was nothing."""
    import cv2

    size = image.shape[-1]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return torch.from_numpy(cv2.warpPerspective(pixels, homography, (size, size))).permute(2, 0, 1)


def correspondence_accuracy(
    describe: Describe, images: Sequence[Tensor], patch: int, *, strength: float = 0.2, light: float = 0.3,
    seed: int = 0,
) -> float:  # fmt: skip
    """Share of patches whose most alike patch in the warped image lies at most one cell from where they went.

    Patches that left the image do not count. Another light (gain and gamma) keeps raw pixels from being enough.

    Args:
        describe: see `Describe`.
        images: (3, S, S) RGB in [0, 1] each.
        patch: pixels a cell covers.
        strength: of the warp, see `draw_warp`.
        light: gain and gamma lie within 1 / (1 + light) and 1 + light.
        seed: of the warps.

    Returns:
        0..1; nan without images.
    """
    hits = total = 0
    for number, image in enumerate(images):
        rng = np.random.default_rng([seed, number])
        homography = draw_warp(image.shape[-1], strength, rng)
        gain, gamma = np.exp(rng.uniform(-1, 1, 2) * np.log1p(light))
        seen = (gain * warp(image, homography)).clamp(0, 1) ** float(gamma)
        described = describe(torch.stack([image, seen])).patches
        right, asked = _hits(described[0], described[1], homography, patch)
        hits, total = hits + right, total + asked
    return hits / total if total else float("nan")


def _hits(first: Tensor, second: Tensor, homography: Matrix, patch: int) -> tuple[int, int]:
    """Patches found within a cell, and patches looked for; of grids (C, h, w)."""
    rows, columns = first.shape[1:]
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).flatten(0, 1)
    centres = place.flip(-1) * patch + (patch - 1) / 2
    homogeneous = torch.cat([centres, torch.ones(len(centres), 1)], 1).double() @ torch.from_numpy(homography).T
    went = homogeneous[:, :2] / homogeneous[:, 2:]
    cell = (went - (patch - 1) / 2) / patch  # (x, y) in cells, whole at a centre
    inside = (homogeneous[:, 2] > 0) & (cell > -0.5).all(1) & (cell[:, 0] < columns - 0.5) & (cell[:, 1] < rows - 0.5)
    alike = F.normalize(first.flatten(1), dim=0).T @ F.normalize(second.flatten(1), dim=0)
    best = alike.argmax(1).cpu()
    found = torch.stack([best % columns, best // columns], 1)
    near = (found - cell).abs().amax(1) <= 1
    return int((near & inside).sum()), int(inside.sum())
