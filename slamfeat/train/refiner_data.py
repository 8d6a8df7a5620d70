"""What the refiner learns from: small surroundings of matched points, cut from pairs with exact correspondences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.heads.patches import even_patches
from slamfeat.image import to_gray
from slamfeat.train.cache import Fields
from slamfeat.train.labels import local_maps
from slamfeat.train.pairs import Pixels, Points, TrainingPair

SIDE0, SIDE1 = 27, 51
"""Sides of the cuts around the points of the first and the second image; the second is moved, turned and zoomed."""
_LEAST_ZOOM, _MOST_ZOOM = 0.4, 1.7

Arrays = dict[str, NDArray[Any]]


class RefinerPreparer:
    """Rows of a `PairCache`: up to `points` matches of a pair."""

    def __init__(self, frontend: Frontend, points: int) -> None:
        """Use its keypoints, `points` of them a pair at most."""
        self.frontend, self.points = frontend, points

    @property
    def fields(self) -> Fields:
        """Of a `PairCache`: both cuts, where the point lies in each, the affine map between, and how many there are."""
        return {
            "cut0": ((self.points, SIDE0, SIDE0), "uint8"),
            "cut1": ((self.points, SIDE1, SIDE1), "uint8"),
            "point0": ((self.points, 2), "float32"),
            "point1": ((self.points, 2), "float32"),
            "affine": ((self.points, 2, 2), "float32"),
            "count": ((), "int32"),
        }

    def __call__(self, pair: TrainingPair) -> Arrays:
        """One row; the matches are in random order, the same for the same pair."""
        features = self.frontend.extract(pair.image0)
        points0 = features.keypoints[0][features.mask[0]].double().cpu().numpy()
        points1, affine, seen = local_maps(points0, pair.transfer.forth)
        points0, points1, affine = points0[seen], points1[seen], affine[seen]
        gray0, gray1 = _gray(pair.image0), _gray(pair.image1)
        fits = _fits(points0, gray0.shape, SIDE0) & _fits(points1, gray1.shape, SIDE1) & _plain(affine)
        chosen = np.random.default_rng(len(points0)).permutation(np.flatnonzero(fits))[: self.points]
        row: Arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self.fields.items()}
        count = len(chosen)
        row["cut0"][:count], row["point0"][:count] = _cut(gray0, points0[chosen], SIDE0)
        row["cut1"][:count], row["point1"][:count] = _cut(gray1, points1[chosen], SIDE1)
        row["affine"][:count], row["count"] = affine[chosen], np.asarray(count, np.int32)
        return row


def _gray(image: Pixels) -> NDArray[np.uint8]:
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    return np.asarray((to_gray(planes)[0, 0] * 255).round().to(torch.uint8).numpy())


def _fits(points: Points, shape: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    corner = np.round(points) - side // 2
    return np.asarray(((corner >= 0) & (corner + side <= (shape[1], shape[0]))).all(1))


def _plain(affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Maps that the cut of the second image has room for."""
    zooms = np.linalg.svd(affine, compute_uv=False) if len(affine) else np.zeros((0, 2))
    return np.asarray((zooms[:, 1] > _LEAST_ZOOM) & (zooms[:, 0] < _MOST_ZOOM) & (np.linalg.det(affine) > 0))


def _cut(gray: NDArray[np.uint8], points: Points, side: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cuts (M, side, side) around points (M, 2), and where the points lie in them."""
    corner = np.round(points).astype(int) - side // 2
    rows, columns = (corner[:, axis, None] + np.arange(side) for axis in (1, 0))
    return gray[rows[:, :, None], columns[:, None]], (points - corner).astype(np.float32)


def patches_from_cuts(cuts: Tensor, points: Tensor, affine: Tensor | None, side: int) -> Tensor:
    """Patches as `slamfeat.frontend.heads.patches.sample_patches` reads them, each from a cut of its own.

    Args:
        cuts: (M, S, S) uint8.
        points: (M, 2) in the cuts.
        affine: (M, 2, 2) or None for the identity.
        side: of the patches.

    Returns:
        (M, 1, side, side) with even contrast.
    """
    steps = torch.arange(side, dtype=torch.float32, device=points.device) - (side - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([x, y], -1).view(1, -1, 2)
    if affine is not None:
        offsets = offsets @ affine.mT
    where = ((points[:, None] + offsets + 0.5) / cuts.shape[-1] * 2 - 1).view(len(cuts), side, side, 2)
    sampled = torch.nn.functional.grid_sample(
        cuts[:, None].float(), where, mode="bilinear", padding_mode="border", align_corners=False
    )
    return even_patches(sampled)
