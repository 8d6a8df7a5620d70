"""Matching and refining with trained heads: from features to tensors the heads know, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from slamfeat.errors import InputError
from slamfeat.frontend.descriptor import tokens_at
from slamfeat.frontend.heads.adaptive import Effort, adaptive_scores
from slamfeat.frontend.heads.assignment import mutual_matches
from slamfeat.frontend.heads.matcher import AttentionMatcher, MatcherInput, normalize_positions
from slamfeat.frontend.heads.patches import guess_from_neighbours, local_affines
from slamfeat.frontend.heads.refiner import PatchRefiner
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.refine import RefineConfig
from slamfeat.types import Features

_LEAST_NEIGHBOURS = 8
_COARSE_PX = 2.0  # deviation of a match that stays where the matcher put it


def tokens_at_keypoints(features: Features) -> Tensor:
    """Tokens (B, K, C) of unit length at the keypoints.

    Raises:
        InputError: the features carry no tokens.
    """
    if features.grid is None:
        raise InputError("the learned matcher needs the token grid: use features of Frontend.extract")
    return tokens_at(features.grid, features.keypoints)


def matcher_input(features: Features, with_tokens: bool) -> MatcherInput:
    """One side of a pair, for the attention matcher.

    Raises:
        InputError: the features carry no tokens, but the matcher wants them.
    """
    tokens = tokens_at_keypoints(features) if with_tokens else None
    positions = normalize_positions(features.keypoints, features.image_size)
    return MatcherInput(positions, features.descriptors, tokens, features.mask)


def attention_matches(
    features0: Features, features1: Features, matcher: AttentionMatcher, settings: MatcherConfig
) -> tuple[Tensor, Tensor]:
    """Index (B, K0) of the second set's partner, -1 for none, and its probability (B, K0).

    Raises:
        InputError: descriptors of another length than the matcher knows, or no tokens.
        ConfigError: more layers than the matcher has.
    """
    if features0.descriptors.shape[2] != matcher.config.input_dim:
        raise InputError(
            f"the learned matcher knows descriptors of {matcher.config.input_dim} channels, "
            f"not {features0.descriptors.shape[2]}: use features of this frontend"
        )
    with_tokens = matcher.tokens is not None
    with torch.inference_mode():
        images = matcher_input(features0, with_tokens), matcher_input(features1, with_tokens)
        if settings.exit or settings.prune:
            scores = adaptive_scores(matcher, *images, Effort(settings.layers, settings.exit, settings.prune))
        else:
            scores = matcher(*images, settings.layers)
        return mutual_matches(scores, settings.min_probability)


class RefinedMatches(NamedTuple):
    """What became of M matches of a pair.

    Attributes:
        points1: (M, 2) pixels of image 1.
        confidence: (M,) probability that the match is right.
        kept: (M,) bool.
        covariances: (M, 2, 2) of `points1`, pixels squared; meaningful where kept.
    """

    points1: Tensor
    confidence: Tensor
    kept: Tensor
    covariances: Tensor

    def with_part(self, chosen: Tensor, part: RefinedMatches) -> RefinedMatches:
        """The same with what became of the chosen (M,) matches replaced."""
        whole = [value.clone() for value in self]
        for value, new in zip(whole, part, strict=True):
            value[chosen] = new
        return RefinedMatches(*whole)


@torch.inference_mode()
def refine_learned(
    gray0: Tensor, gray1: Tensor, points0: Tensor, points1: Tensor, known: Tensor, refiner: PatchRefiner,
    config: RefineConfig,
) -> RefinedMatches:  # fmt: skip
    """Refine the matches of one pair, and look for unmatched keypoints where their neighbours went.

    Args:
        gray0, gray1: (H, W) uint8 images.
        points0: (M, 2) pixels.
        points1: (M, 2), meaningful where `known`.
        known: (M,) bool.
        refiner: trained.
        config: `min_confidence`, `fill` and `keep` are read.
    """
    images, least = (gray0[None, None].float(), gray1[None, None].float()), config.min_confidence
    first = RefinedMatches(
        points1, points1.new_zeros(len(points1)), torch.zeros_like(known), points1.new_zeros(len(points1), 2, 2)
    )
    if int(known.sum()) >= _LEAST_NEIGHBOURS:
        affine = local_affines(points0[known], points1[known])
        first = first.with_part(known, _pass(images, points0[known], points1[known], affine, refiner, least))
    found = first
    if config.fill and int(first.kept.sum()) >= _LEAST_NEIGHBOURS and not bool(first.kept.all()):
        lost = ~first.kept
        guess, affine = guess_from_neighbours(points0, first.points1, first.kept, lost)
        found = first.with_part(lost, _pass(images, points0[lost], guess, affine, refiner, least))
    if config.keep:
        stay = known & ~found.kept & _inside(points1, gray1)
        found = found.with_part(stay, _coarse(points1[stay], first.confidence[stay]))
    return found


def _pass(
    images: tuple[Tensor, Tensor], points0: Tensor, points1: Tensor, affine: Tensor, refiner: PatchRefiner, least: float
) -> RefinedMatches:
    points, said = refiner.refine(*images, points0, points1, affine)
    confidence = said.logit.sigmoid()
    kept = (confidence >= least) & _inside(points, images[1])
    return RefinedMatches(points, confidence, kept, said.covariances(affine))


def _coarse(points1: Tensor, confidence: Tensor) -> RefinedMatches:
    """Matches (M, 2) that stay where the matcher put them."""
    covariance = _COARSE_PX**2 * torch.eye(2, dtype=points1.dtype, device=points1.device)
    kept = torch.ones_like(confidence, dtype=torch.bool)
    return RefinedMatches(points1, confidence, kept, covariance.expand(len(points1), 2, 2))


def _inside(points: Tensor, gray: Tensor) -> Tensor:
    limits = points.new_tensor([gray.shape[-1] - 1, gray.shape[-2] - 1])
    return ((points >= 0) & (points <= limits)).all(1)
