"""Doing less where a pair is easy: stop when most keypoints are settled, drop those without a partner.

As LightGlue has it (Lindenberger et al., ICCV 2023, Sec. 3.3), with its thresholds. Easy pairs need few layers; which
ones are easy the confidence heads tell, which must have been trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from slamfeat.frontend.heads.assignment import NEVER, AssignmentHead, Scores, hide_empty
from slamfeat.frontend.heads.matcher import AttentionMatcher, MatcherInput, Shared, cut, stack


@dataclass(frozen=True)
class Effort:
    """How much to compute.

    Attributes:
        layers: at most so many; 0 for all.
        exit: share of settled keypoints at which it stops; 0 for never.
        prune: how sure it must be that a keypoint has no partner to drop it, 0..1; 0 for never.
    """

    layers: int = 0
    exit: float = 0.0
    prune: float = 0.0


def adaptive_scores(matcher: AttentionMatcher, image0: MatcherInput, image1: MatcherInput, effort: Effort) -> Scores:
    """Scores after the layer at which each pair of the batch stops; of dropped keypoints as of empty slots.

    Raises:
        ConfigError: more layers than the matcher has.
    """
    pairs = [_one_pair(matcher, _pick(image0, b), _pick(image1, b), effort) for b in range(len(image0.mask))]
    return Scores(*(torch.cat(values) for values in zip(*pairs, strict=True)))


def settled_above(layer: int, layers: int) -> float:
    """The confidence above which a keypoint counts as settled after a layer, of `layers` (LightGlue eq. 11)."""
    return min(1.0, 0.8 + 0.1 * math.exp(-4.0 * layer / layers))


def _one_pair(matcher: AttentionMatcher, image0: MatcherInput, image1: MatcherInput, effort: Effort) -> Scores:
    """Of a batch of one."""
    both = stack(image0, image1)
    states, shared = matcher.start(both)
    count, last = both.mask.shape[1], matcher.depth(effort.layers) - 1
    left = _Left(states, shared, both.mask, torch.arange(count, device=both.mask.device).expand(2, -1))
    for layer in range(last + 1):
        left = left._replace(states=matcher.step(layer, left.states, left.shared))
        if layer == last:
            break
        threshold = settled_above(layer, matcher.config.layers)
        unsettled = matcher.confidence[layer](left.states)[..., 0].sigmoid() < threshold
        if effort.exit and (unsettled & left.mask).sum() < (1 - effort.exit) * both.mask.sum():
            break
        if effort.prune:
            matchable = cast(AssignmentHead, matcher.assignment[layer]).matchable(left.states)[..., 0].sigmoid()
            left = _drop(left, left.mask & (unsettled | (matchable > 1 - effort.prune)))
    scores = _spread(matcher.score(layer, left.states, left.shared), left.places, count)
    return cut(scores, (image0.mask.shape[1], image1.mask.shape[1]))


class _Left(NamedTuple):
    """The keypoints of both images that are still looked at, K of each.

    Attributes:
        states, shared: as the matcher has them.
        mask: (2, K) bool, filled slots.
        places: (2, K) slots they came from.
    """

    states: Tensor
    shared: Shared
    mask: Tensor
    places: Tensor


def _drop(left: _Left, keep: Tensor) -> _Left:
    """What is left with the kept keypoints (2, K) alone: as many slots as the image with more of them needs."""
    count = max(1, int(keep.sum(1).max()))
    if count == keep.shape[1]:
        return left
    order = keep.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    mask = keep.gather(1, order)
    shared, rows = left.shared, order[..., None]
    encoding = shared.encoding.gather(3, rows[None, :, None].expand(2, -1, 1, -1, shared.encoding.shape[-1]))
    alike = hints = None
    if shared.alike is not None and shared.hints is not None:
        columns = order.flip(0)[:, None].expand(-1, count, -1)
        alike = shared.alike.gather(1, rows.expand(-1, -1, shared.alike.shape[2])).gather(2, columns)
        hints = shared.hints.gather(1, rows.expand(-1, -1, shared.hints.shape[2]))
    states = left.states.gather(1, rows.expand(-1, -1, left.states.shape[2]))
    return _Left(states, Shared(encoding, hide_empty(mask), alike, hints), mask, left.places.gather(1, order))


def _spread(scores: Scores, places: Tensor, count: int) -> Scores:
    """Scores of all `count` slots of both images from those left; the others can match nothing."""
    if places.shape[1] == count:
        return scores
    similarity = scores.similarity.new_full((1, count, count), NEVER)
    similarity[:, places[0][:, None], places[1]] = scores.similarity
    matchable = similarity.new_full((2, count), NEVER).scatter(1, places, torch.cat(scores[1:]))
    return Scores(similarity, matchable[:1], matchable[1:])


def _pick(image: MatcherInput, pair: int) -> MatcherInput:
    """One image of a batch, as a batch of one."""
    one = slice(pair, pair + 1)
    tokens = None if image.tokens is None else image.tokens[one]
    return MatcherInput(image.positions[one], image.descriptors[one], tokens, image.mask[one])
