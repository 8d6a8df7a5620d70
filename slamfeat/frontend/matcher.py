"""How to match, and matching without training: who is whose nearest neighbour, where the tokens say a point went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.types import PatchGrid

MatchMethod = Literal["guided", "mutual", "dual_softmax", "attention"]
NEVER = -1e4


@dataclass
class MatcherConfig:
    """How features are matched.

    Attributes:
        method: "mutual" (mutual nearest neighbours of descriptors), "dual_softmax" (the same on the product of the
            two softmaxes, LoFTR eq. 2), or "guided": each keypoint's token is looked up in the other image's whole
            grid, and the refiner finds the pixel from there. "attention": the learned matcher of `heads`.
        radius: only keypoints within this distance are compared; pixels, 0 for no limit. Both positions are in
            their own image, so this is a limit on the displacement.
        min_similarity: least cosine similarity of a match.
        temperature: of the dual softmax.
        gate: share of the other image's cells whose tokens are most alike where a match may lie; 1 for all.
            Descriptors decide among them.
        min_probability: "attention" only: least probability of a match.
        layers: "attention" only: layers of the matcher to compute; 0 for all.
        exit: "attention" only: share of keypoints whose match must be final for the other layers to be left out, in
            each pair of images (LightGlue, ICCV 2023, Sec. 3.3); 0 for never. With this or `prune` torch computes
            the matcher, whatever the engine.
        prune: "attention" only: how sure it must be that a keypoint has no partner for later layers to drop it,
            LightGlue's width confidence; 0 for never.
        bf16: "attention" only: bfloat16 will do on OpenVINO beside a backbone in int8 too; beside one in bf16 it always
            does, beside one in fp32 never.
        neighbours: "guided" only: keypoints around a keypoint whose median displacement replaces its token's own; 1
            for none.
    """

    method: str = "mutual"
    radius: float = 0.0
    min_similarity: float = 0.0
    temperature: float = 0.05
    gate: float = 0.3
    min_probability: float = 0.1
    layers: int = 0
    exit: float = 0.0
    prune: float = 0.0
    bf16: bool = False
    neighbours: int = 9

    def __post_init__(self) -> None:
        if self.method not in get_args(MatchMethod):
            raise ConfigError(f"unknown matcher method '{self.method}'; use one of {', '.join(get_args(MatchMethod))}")
        if self.radius < 0 or self.temperature <= 0 or not 0 < self.gate <= 1 or self.neighbours < 1:
            raise ConfigError("matcher: radius >= 0, temperature > 0, 0 < gate <= 1 and neighbours >= 1 are needed")
        if self.layers < 0 or not 0 <= self.exit <= 1 or not 0 <= self.prune <= 1:
            raise ConfigError("matcher: layers >= 0, and exit and prune between 0 and 1 are needed")


def mutual_nearest(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Mutual nearest neighbours of a similarity matrix; of equal rivals for a column the first row wins.

    Args:
        similarity: (B, K0, K1); pairs that must not match are at or below -1e4.

    Returns:
        indices (B, K0) into the second set, -1 where unmatched, and the similarity (B, K0), 0 where unmatched.
    """
    best, index1 = similarity.max(dim=2)
    # The largest value of a column is found ten times faster than its place, which is known from the row's side.
    mutual = (best == similarity.amax(dim=1).gather(1, index1)) & (best > NEVER)
    rows = torch.arange(similarity.shape[1], device=similarity.device).expand_as(index1)
    claims = torch.where(mutual, rows, similarity.shape[1])
    first = torch.full_like(similarity[:, 0], similarity.shape[1], dtype=torch.long)
    first = first.scatter_reduce(1, index1, claims, "amin")
    mutual = first.gather(1, index1) == rows
    return torch.where(mutual, index1, -1), torch.where(mutual, best, 0.0)


def dual_softmax(similarity: Tensor, temperature: float) -> Tensor:
    """Product of the softmax over rows and over columns, (B, K0, K1) (LoFTR, arXiv 2104.00680, eq. 2)."""
    scaled = similarity / temperature
    return scaled.softmax(2) * scaled.softmax(1)


def forbid(similarity: Tensor, points0: Tensor, points1: Tensor, radius: float) -> Tensor:
    """Similarity with pairs further apart than `radius` (0: no limit) set to never match."""
    if radius <= 0:
        return similarity
    return similarity.masked_fill(torch.cdist(points0, points1) > radius, NEVER)


def token_gate(
    grid0: PatchGrid, grid1: PatchGrid, points0: Tensor, points1: Tensor, mask0: Tensor, mask1: Tensor, share: float
) -> Tensor:
    """Pairs of keypoints that may match: each lies in one of the other's cells most alike in tokens.

    Every cell is compared with every other, since there are mostly fewer of them than keypoints. Of a large image only
    the cells in which keypoints lie are compared with the other's, so that the cost grows with the image's area, not
    with its square.

    Args:
        grid0, grid1: tokens of unit length.
        points0, points1: (B, K, 2) pixels; mask0, mask1: (B, K) bool, empty slots may match nothing.
        share: of the other image's cells, in (0, 1]; 1 lets all pass.

    Returns:
        (B, K0, K1): 0 for pairs that may match, -2e4 for others, to be added to a similarity.
    """
    cells0, cells1 = _cell_index(grid0, points0, mask0), _cell_index(grid1, points1, mask1)
    if _cell_count(grid0) * _cell_count(grid1) <= cells0.shape[1] * cells1.shape[1]:
        return _gate_of_all_cells(grid0, grid1, cells0, cells1, share)
    return _gate_of_own_cells(grid0, grid1, cells0, cells1, share)


def _gate_of_all_cells(grid0: PatchGrid, grid1: PatchGrid, cells0: Tensor, cells1: Tensor, share: float) -> Tensor:
    """`token_gate` by a table of all pairs of cells; cells (B, K0) and (B, K1) of the keypoints."""
    alike = grid0.tokens.flatten(2).mT @ grid1.tokens.flatten(2)
    likely = (alike >= _least_kept(alike, share)) & (alike >= _least_kept(alike.mT, share).mT)
    penalty = F.pad(likely, (0, 1, 0, 1)).logical_not() * (2 * NEVER)  # one more cell, for empty slots
    # Columns first: then the large result is made of whole rows.
    columns = penalty.gather(2, cells1[:, None].expand(-1, penalty.shape[1], -1))
    first = torch.arange(columns.shape[0], device=columns.device)[:, None] * columns.shape[1]
    chosen = columns.flatten(0, 1).index_select(0, (cells0 + first).flatten())
    return chosen.view(-1, cells0.shape[1], cells1.shape[1])


def _gate_of_own_cells(grid0: PatchGrid, grid1: PatchGrid, cells0: Tensor, cells1: Tensor, share: float) -> Tensor:
    """The same, with each keypoint's cell compared with all of the other image's."""
    near0 = _near_own_cells(grid0, grid1, cells0, cells1, share)
    near1 = _near_own_cells(grid1, grid0, cells1, cells0, share)
    filled0, filled1 = cells0 < _cell_count(grid0), cells1 < _cell_count(grid1)
    likely = near0 & near1.mT & filled0[:, :, None] & filled1[:, None]
    return likely.logical_not() * (2 * NEVER)


def _near_own_cells(grid: PatchGrid, other: PatchGrid, cells: Tensor, others: Tensor, share: float) -> Tensor:
    """For `cells` (B, K), whether each of the other grid's cells `others` (B, L) is of its likest; (B, K, L) bool."""
    tokens = grid.tokens.flatten(2).mT
    own = tokens.gather(1, _valid(cells, grid)[..., None].expand(-1, -1, tokens.shape[2]))
    alike = own @ other.tokens.flatten(2)
    near = alike >= _least_kept(alike, share)
    return near.gather(2, _valid(others, other)[:, None].expand(-1, cells.shape[1], -1))


def _valid(cells: Tensor, grid: PatchGrid) -> Tensor:
    """Cells of the grid; those of empty slots are any."""
    return cells.clamp_max(_cell_count(grid) - 1)


def _cell_count(grid: PatchGrid) -> int:
    rows, columns = grid.shape
    return rows * columns


def slot_gate(mask0: Tensor, mask1: Tensor) -> Tensor:
    """As `token_gate`, where every pair of filled slots may match."""
    return (mask0[:, :, None] & mask1[:, None]).logical_not() * (2 * NEVER)


def _least_kept(alike: Tensor, share: float) -> Tensor:
    """The likeness (B, N0, 1) at which each row of `alike` (B, N0, N1) has kept its share."""
    count = alike.shape[2]
    return alike.kthvalue(count - max(1, math.ceil(share * count)) + 1, dim=2, keepdim=True).values


def _cell_index(grid: PatchGrid, points: Tensor, mask: Tensor) -> Tensor:
    """The cell (B, K) each point lies in, row by row; one past the last for empty slots."""
    rows, columns = grid.shape
    cells = grid.to_cells(points).round()
    column, row = cells[..., 0].clamp(0, columns - 1), cells[..., 1].clamp(0, rows - 1)
    return torch.where(mask, (row * columns + column).long(), rows * columns)


def look_up_in_grid(
    points0: Tensor, grid0: PatchGrid, grid1: PatchGrid, radius: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Where in the second image the tokens at `points0` are found.

    The best cell is refined by the similarity-weighted mean of its 3x3 neighbourhood; it must be mutual: the token of
    the found cell, looked up in the first grid, comes back to within one and a half cells of the point.

    Args:
        points0: (K, 2) pixels of the first image.
        grid0, grid1: grids with a batch of one, tokens of unit length.
        radius: largest displacement in pixels, 0 for no limit.

    Returns:
        points (K, 2) in the second image, similarity (K,), mutual (K,) bool.
    """
    tokens = F.normalize(grid0.sample(points0[None])[0], dim=1)
    cells0, cells1 = grid0.tokens[0].flatten(1), grid1.tokens[0].flatten(1)
    alike = tokens @ cells1
    centers1 = grid1.cell_centers()
    if radius > 0:
        alike = alike.masked_fill(torch.cdist(points0, centers1) > radius, -1.0)
    best, cell = alike.max(1)
    back = grid0.cell_centers()[(cells1.t() @ cells0).argmax(1)[cell]]
    reach = 1.5 * 2**0.5 * grid0.patch_size / min(grid0.pixel_map.scale)
    mutual = (back - points0).norm(dim=1) <= reach
    return _soft_position(alike, cell, grid1, centers1), best, mutual


def _soft_position(alike: Tensor, cell: Tensor, grid: PatchGrid, centers: Tensor) -> Tensor:
    """Mean of the 3x3 cell centres around `cell` (K,), weighted by softmax of the similarity (K, h*w)."""
    rows, columns = grid.shape
    steps = torch.arange(-1, 2, device=cell.device)
    row = (cell.div(columns, rounding_mode="floor")[:, None] + steps.repeat_interleave(3)).clamp(0, rows - 1)
    column = (cell[:, None] % columns + steps.repeat(3)).clamp(0, columns - 1)
    around = row * columns + column
    weight = (alike.gather(1, around) / 0.03).softmax(1)
    return (centers[around] * weight[..., None]).sum(1)


def smooth_displacements(points0: Tensor, points1: Tensor, trusted: Tensor, neighbours: int) -> Tensor:
    """Replace each displacement (K, 2) by the median over its nearest trusted neighbours in the first image."""
    from scipy.spatial import cKDTree

    count = min(neighbours, int(trusted.sum()))
    if count < 3:
        return points1
    start, known = points0.detach().cpu().numpy(), trusted.cpu().numpy()
    moved = points1.detach().cpu().numpy() - start
    _, nearest = cKDTree(start[known]).query(start, k=count)
    return points0 + torch.from_numpy(np.median(moved[known][nearest], axis=1)).to(points0)
