"""Small patches around matched points, the second image's seen through the local affine map of the match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PRIOR_PX = 10.0  # how strongly neighbours must outweigh "no zoom, no roll": as one neighbour this far away
_AGREES_PX = 3.0
_VOTERS = 7  # neighbours whose median guess counts
_TOLERANCES = (1.0, 0.5, 0.25, 0.15)  # shares of a neighbour's distance it may be off by, round by round


def sample_patches(image: Tensor, points: Tensor, affine: Tensor | None, side: int) -> Tensor:
    """Patches of one image.

    Args:
        image: (1, 1, H, W) grey, float.
        points: (M, 2) pixels.
        affine: (M, 2, 2): a step of one pixel in the patch is this step in the image; None for the identity.
        side: of the patch, odd.

    Returns:
        (M, 1, side, side), read bilinearly; beyond the border the nearest pixel's value.
    """
    steps = torch.arange(side, device=points.device, dtype=points.dtype) - (side - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([x, y], -1).view(1, -1, 2)
    scale = 2 / points.new_tensor([image.shape[-1], image.shape[-2]])  # to -1..1, border to border
    middle = ((points + 0.5) * scale - 1)[:, None]
    if affine is None:
        where = middle + offsets * scale
    else:
        where = torch.baddbmm(middle, offsets.expand(len(points), -1, -1), affine.mT * scale)
    values = F.grid_sample(image, where[None], mode="bilinear", padding_mode="border", align_corners=False)
    return values.view(len(points), 1, side, side)


def even_patches(patches: Tensor, noise: float = 4.0) -> Tensor:
    """Patches (M, 1, S, S) with zero mean and unit deviation, so that exposure does not matter.

    `noise`, in grey levels of the patches, keeps the noise of flat ones from being blown up to texture.
    """
    centered = patches - patches.mean((2, 3), keepdim=True)
    deviation = centered.square().mean((2, 3), keepdim=True)
    return centered / (deviation + noise**2).sqrt()


def local_affines(points0: Tensor, points1: Tensor, neighbours: int = 12) -> Tensor:
    """The affine map (M, 2, 2) by which the surroundings of each match moved, from its neighbours among the matches.

    Least squares on the neighbours' offsets, reweighted (Geman-McClure) so that a few wrong ones do not matter, and
    drawn to the identity where neighbours are few or close. From image 0 to image 1.

    Args:
        points0, points1: (M, 2) matches.
        neighbours: how many to look at.
    """
    count = min(neighbours, len(points0) - 1)
    identity = torch.eye(2, device=points0.device, dtype=points0.dtype)
    if count < 3:
        return identity.expand(len(points0), 2, 2)
    nearest = _nearest(points0, count + 1)[:, 1:]
    from0 = points0[nearest] - points0[:, None]
    from1 = points1[nearest] - points1[:, None]
    prior = _PRIOR_PX**2 * identity
    distance = from0.norm(dim=-1, keepdim=True)
    affine = identity.expand(len(points0), 2, 2)
    for tolerance in _TOLERANCES:
        error = (from1 - from0 @ affine.mT).norm(dim=-1, keepdim=True) / (tolerance * distance + _AGREES_PX)
        weighted = (from0 / (1 + error.square()).square()).mT
        affine = torch.linalg.solve(weighted @ from0 + prior, weighted @ from1 + prior).mT
    return affine


def guess_from_neighbours(points0: Tensor, points1: Tensor, kept: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:
    """Where lost points should be by their kept neighbours (N, 2), and the local affine there (N, 2, 2).

    Args:
        points0, points1: (M, 2) matches.
        kept, lost: (M,) bool: which are right, at least one; and which are asked for.
    """
    start, end = points0[kept], points1[kept]
    affines = local_affines(start, end)
    count = min(_VOTERS, len(start))
    nearest = torch.cdist(points0[lost], start).topk(count, largest=False).indices
    offsets = points0[lost][:, None] - start[nearest]
    guesses = end[nearest] + (affines[nearest] @ offsets[..., None])[..., 0]
    return guesses.median(1).values, affines[nearest[:, 0]]


def _nearest(points: Tensor, count: int) -> Tensor:
    """Indices (M, count) of the nearest of points (M, 2) to each, itself first."""
    if points.device.type != "cpu":
        return torch.cdist(points, points).topk(count, largest=False).indices
    from scipy.spatial import cKDTree  # in a third of the time

    places = points.detach().numpy()
    return torch.from_numpy(cKDTree(places).query(places, count)[1])
