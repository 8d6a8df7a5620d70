"""Matching two sets of features as the settings say: find candidates, then refine to sub-pixel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from slamfeat.cpu import cpu_has_bfloat16
from slamfeat.errors import InputError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.heads.bundle import Heads
from slamfeat.frontend.learned import attention_matches, refine_learned
from slamfeat.frontend.local import LOCAL_DIM
from slamfeat.frontend.matcher import (
    NEVER,
    dual_softmax,
    forbid,
    look_up_in_grid,
    mutual_nearest,
    slot_gate,
    smooth_displacements,
    token_gate,
)
from slamfeat.frontend.refine import refine_points
from slamfeat.types import Features, Matches, PatchGrid

_REACH_PX = 3.0
_Refined = tuple[Tensor, Tensor, Tensor, Tensor | None]  # points1, quality, kept, covariances


def match_features(
    features0: Features, features1: Features, config: FrontendConfig, heads: Heads | None = None
) -> Matches:
    """Match two batches of features; `heads` are those of their frontend.

    Raises:
        InputError: batch sizes or descriptor lengths differ, or grid or pixels are missing where they are needed.
    """
    if len(features0) != len(features1):
        raise InputError(f"batches of {len(features0)} and {len(features1)} images cannot be matched pairwise")
    if features0.descriptors.shape[2] != features1.descriptors.shape[2]:
        raise InputError("the features come from different frontends: their descriptors differ in length")
    if not (features0.mask.shape[1] and features1.mask.shape[1]):
        return _no_matches(features0, features1)
    if config.matcher.method == "guided":
        points1, scores, mask = _guided(features0, features1, config)
    else:
        with record_function("slamfeat.match"):
            found, scores = _find_matches(features0, features1, config, heads)
        mask = found >= 0
        safe = found.clamp_min(0)[..., None].expand(-1, -1, 2)
        points1 = features1.keypoints.gather(1, safe)
    with record_function("slamfeat.refine"):
        points1, scores, mask, covariances = _refine(features0, features1, points1, scores, mask, config, heads)
    with record_function("slamfeat.link"):
        indices = _nearest_keypoints(points1, mask, features1)
    return Matches(
        points0=features0.keypoints,
        points1=points1 * mask[..., None],
        scores=scores * mask,
        indices=indices,
        mask=mask,
        num_keypoints1=int(features1.mask.shape[1]),
        covariances=None if covariances is None else covariances * mask[..., None, None],
    )


def _no_matches(features0: Features, features1: Features) -> Matches:
    """Of two sets, one of which has no slots."""
    nothing = torch.zeros_like(features0.mask)
    return Matches(
        points0=features0.keypoints,
        points1=torch.zeros_like(features0.keypoints),
        scores=torch.zeros_like(features0.scores),
        indices=torch.full_like(nothing, -1, dtype=torch.long),
        mask=nothing,
        num_keypoints1=int(features1.mask.shape[1]),
    )


def _find_matches(
    features0: Features, features1: Features, config: FrontendConfig, heads: Heads | None
) -> tuple[Tensor, Tensor]:
    if config.matcher.method != "attention":
        return descriptor_matches(features0, features1, config)
    assert heads is not None and heads.matcher is not None, "Frontend checks this"
    return attention_matches(features0, features1, heads.matcher, config.matcher)


def descriptor_matches(features0: Features, features1: Features, config: FrontendConfig) -> tuple[Tensor, Tensor]:
    """Index (B, K0) of the second set's most similar features, -1 for none, and the score (B, K0) in 0..1."""
    settings = config.matcher
    similarity = gated_similarity(features0, features1, config)
    ranked = similarity
    if settings.method == "dual_softmax":
        # A row of nothing but forbidden pairs would come out of the softmax as if all were equally good.
        ranked = dual_softmax(similarity, settings.temperature).masked_fill(similarity <= NEVER, NEVER)
    indices, best = mutual_nearest(ranked)
    alike = similarity.gather(2, indices.clamp_min(0)[..., None])[..., 0]
    return torch.where(alike >= settings.min_similarity, indices, -1), best.clamp(0, 1)


def gated_similarity(features0: Features, features1: Features, config: FrontendConfig) -> Tensor:
    """Similarity (B, K0, K1) of the descriptors, with pairs that must not match at or below -1e4."""
    settings = config.matcher
    points0, points1, mask0, mask1 = features0.keypoints, features1.keypoints, features0.mask, features1.mask
    if settings.gate < 1:
        gate = token_gate(_grid(features0), _grid(features1), points0, points1, mask0, mask1, settings.gate)
    else:
        gate = slot_gate(mask0, mask1)
    coarse = _token_channels(features0, config) if config.local_weight > 0.5 else 0
    similarity = _added_products(gate, features0.descriptors, features1.descriptors, coarse)
    return forbid(similarity, points0, points1, settings.radius)


def _token_channels(features: Features, config: FrontendConfig) -> int:
    """How many of the descriptors' channels are a token's, with a local descriptor behind them; 0 where unknown."""
    if config.local == "none" or features.grid is None:
        return 0
    channels = features.descriptors.shape[2] - LOCAL_DIM
    return channels if channels == features.grid.tokens.shape[1] else 0


def _added_products(start: Tensor, descriptors0: Tensor, descriptors1: Tensor, coarse: int) -> Tensor:
    """`start` (B, K0, K1) plus the dot products of descriptors, the first `coarse` channels of which weigh little.

    For those bfloat16 serves, where the processor multiplies it natively. `start` is overwritten: it may be large.
    """
    if torch.compiler.is_compiling():  # an exported graph has neither bfloat16 nor anything to overwrite
        return torch.baddbmm(start, descriptors0, descriptors1.mT)
    if coarse and start.device.type == "cpu" and cpu_has_bfloat16():
        first0, first1 = (descriptors[..., :coarse].bfloat16() for descriptors in (descriptors0, descriptors1))
        start += first0 @ first1.mT
        descriptors0, descriptors1 = descriptors0[..., coarse:], descriptors1[..., coarse:]
    return start.baddbmm_(descriptors0, descriptors1.mT)


def _guided(features0: Features, features1: Features, config: FrontendConfig) -> tuple[Tensor, Tensor, Tensor]:
    settings = config.matcher
    grid0, grid1 = _grid(features0), _grid(features1)
    found, scores, mutuals = [], [], []
    for b in range(len(features0)):
        one0, one1 = (PatchGrid(g.tokens[b : b + 1], g.patch_size, g.pixel_map) for g in (grid0, grid1))
        points0 = features0.keypoints[b]
        points1, similarity, mutual = look_up_in_grid(points0, one0, one1, settings.radius)
        trusted = mutual & features0.mask[b] & (similarity >= settings.min_similarity)
        if settings.neighbours > 1:
            points1 = smooth_displacements(points0, points1, trusted, settings.neighbours)
            trusted = features0.mask[b]
        found.append(points1)
        scores.append(similarity.clamp(0, 1))
        mutuals.append(trusted)
    return torch.stack(found), torch.stack(scores), torch.stack(mutuals)


def _refine(
    features0: Features, features1: Features, points1: Tensor, scores: Tensor, mask: Tensor, config: FrontendConfig,
    heads: Heads | None,
) -> _Refined:  # fmt: skip
    if config.refine.method == "none":
        return points1, scores, mask, None
    if features0.gray is None or features1.gray is None:
        raise InputError("refinement needs the images' pixels: use features of Frontend.extract, or refine.method=none")
    refined, kept, quality = points1.clone(), torch.zeros_like(mask), torch.zeros_like(scores)
    told = config.refine.method == "learned" and config.refine.covariances
    covariances = points1.new_zeros((*mask.shape, 2, 2)) if told else None
    for b in range(len(features0)):
        chosen = (features0.mask[b] if config.refine.fill else mask[b]).nonzero()[:, 0]
        grays = features0.gray[b, 0], features1.gray[b, 0]
        matches = features0.keypoints[b, chosen], points1[b, chosen]
        known = mask[b, chosen]
        found, alike, stays, spread = _refine_pair(grays, matches, known, config, heads)
        # What refinement said of another place says nothing of a match that kept its own.
        unmoved = known & stays & (found == matches[1]).all(1)
        refined[b, chosen], kept[b, chosen] = found, stays
        quality[b, chosen] = torch.where(unmoved, scores[b, chosen].to(alike), alike)
        if covariances is not None and spread is not None:
            covariances[b, chosen] = spread
    return refined, quality.clamp(0, 1), kept, covariances


def _refine_pair(
    grays: tuple[Tensor, Tensor], matches: tuple[Tensor, Tensor], known: Tensor, config: FrontendConfig,
    heads: Heads | None,
) -> _Refined:  # fmt: skip
    if config.refine.method == "lk":
        return *refine_points(*grays, *matches, config.refine, known=known), None
    assert heads is not None and heads.refiner is not None, "Frontend checks this"
    return refine_learned(*grays, *matches, known, heads.refiner, config.refine)


def _nearest_keypoints(points1: Tensor, mask: Tensor, features1: Features) -> Tensor:
    """Index (B, K) of the second image's keypoint at each found point, one to one; -1 where none is within reach.

    Points are found to sub-pixel, not at keypoints; hosts that link observations by keypoint need the index.
    """
    linked = [
        link_points(points1[b], mask[b], features1.keypoints[b], features1.mask[b]) for b in range(len(features1))
    ]
    return torch.stack(linked)


def link_points(points: Tensor, valid: Tensor, keypoints: Tensor, present: Tensor) -> Tensor:
    """Index (K,) of the keypoint nearest to each point, within 3 pixels and mutually; -1 for none.

    Args:
        points: (K, 2), `valid` (K,) bool.
        keypoints: (N, 2), `present` (N,) bool.
    """
    from scipy.spatial import cKDTree

    rows, columns = valid.cpu().numpy().nonzero()[0], present.cpu().numpy().nonzero()[0]
    out = np.full(len(points), -1, dtype=np.int64)
    if len(rows) and len(columns):
        found, there = points.detach().cpu().numpy()[rows], keypoints.detach().cpu().numpy()[columns]
        distance, forth = cKDTree(there).query(found, distance_upper_bound=_REACH_PX)
        _, back = cKDTree(found).query(there, distance_upper_bound=_REACH_PX)
        reached = np.isfinite(distance).nonzero()[0]
        mutual = reached[back[forth[reached]] == reached]
        out[rows[mutual]] = columns[forth[mutual]]
    return torch.from_numpy(out).to(points.device)


def _grid(features: Features) -> PatchGrid:
    if features.grid is None:
        raise InputError(
            "this matcher needs the token grid: use features of Frontend.extract, "
            "or matcher.gate=1 with a method other than guided"
        )
    return features.grid
