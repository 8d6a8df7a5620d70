"""Features and matches as the dictionaries of LightGlue, hloc and glue-factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import InputError
from slamfeat.types import Features, Matches


def matches_to_dict(matches: Matches) -> dict[str, Any]:
    """LightGlue's output.

    Matches whose second point lies at no detected keypoint (index -1) cannot be told by indices: they are left out
    here and stand in `matches.points1`. Where several keypoints chose the same partner, `matches1` names the one
    with the highest score.

    Returns:
        matches0 (B, K0) and matches1 (B, K1): long, -1 where unmatched; matching_scores0 and matching_scores1 of the
        same shapes; matches: a list of (M, 2) index pairs; scores: a list of (M,).
    """
    batch, count0 = matches.indices.shape
    valid = matches.mask & (matches.indices >= 0)
    matches0 = torch.where(valid, matches.indices, -1).long()
    scores0 = torch.where(valid, matches.scores, torch.zeros_like(matches.scores))
    matches1 = matches0.new_full((batch, matches.num_keypoints1), -1)
    scores1 = scores0.new_zeros((batch, matches.num_keypoints1))
    pairs, scores = [], []
    for b in range(batch):
        slots = torch.nonzero(valid[b])[:, 0]
        partners, kept = matches0[b, slots], scores0[b, slots]
        scores1[b].scatter_reduce_(0, partners, kept, "amax")
        best = kept == scores1[b, partners]
        # Of equal scores the lower slot, so that the result does not depend on the device.
        first = torch.full_like(matches1[b], count0).scatter_reduce_(0, partners[best], slots[best], "amin")
        matches1[b] = torch.where(first < count0, first, -1)
        pairs.append(torch.stack([slots, partners], dim=1))
        scores.append(kept)
    return {
        "matches0": matches0,
        "matches1": matches1,
        "matching_scores0": scores0,
        "matching_scores1": scores1,
        "matches": pairs,
        "scores": scores,
    }


def features_from_dict(data: Mapping[str, Any]) -> Features:
    """Features from a dictionary with LightGlue's keys; tensors or arrays, with or without a batch dimension.

    Args:
        data: keypoints (B, K, 2), descriptors (B, K, D) or hloc's (B, D, K), image_size (B, 2) as (W, H); and where
            they are known keypoint_scores (B, K) and mask (B, K). The order of the keypoints is kept.

    Raises:
        InputError: a key is missing, or shapes do not fit together.
    """
    missing = [key for key in ("keypoints", "descriptors", "image_size") if key not in data]
    if missing:
        raise InputError(f"features dictionary lacks {', '.join(missing)}; it has {', '.join(data)}")
    keypoints = _batched(data["keypoints"], 3).float()
    if keypoints.ndim != 3 or keypoints.shape[2] != 2:
        raise InputError(f"keypoints must be (B, K, 2), got {tuple(keypoints.shape)}")
    shape = keypoints.shape[:2]
    descriptors = _descriptors(_batched(data["descriptors"], 3).float(), shape)
    scores = _batched(data["keypoint_scores"], 2).float() if "keypoint_scores" in data else keypoints.new_ones(shape)
    mask = _batched(data["mask"], 2).bool() if "mask" in data else torch.ones_like(scores, dtype=torch.bool)
    size = _batched(data["image_size"], 2).round().long().expand(shape[0], 2)
    if scores.shape != shape or mask.shape != shape:
        raise InputError(f"keypoint_scores {tuple(scores.shape)} and mask {tuple(mask.shape)} must be {tuple(shape)}")
    return Features(keypoints, scores * mask, F.normalize(descriptors, dim=2) * mask[..., None], mask, size)


def _batched(value: Any, dimensions: int) -> Tensor:
    tensor = torch.as_tensor(value)
    return tensor[None] if tensor.ndim == dimensions - 1 else tensor


def _descriptors(descriptors: Tensor, shape: torch.Size) -> Tensor:
    """(B, K, D), turned if they come as hloc's (B, D, K)."""
    if descriptors.shape[:2] == shape:
        return descriptors
    if descriptors.ndim == 3 and (descriptors.shape[0], descriptors.shape[2]) == tuple(shape):
        return descriptors.transpose(1, 2)
    raise InputError(f"descriptors {tuple(descriptors.shape)} do not fit {shape[1]} keypoints in {shape[0]} images")
