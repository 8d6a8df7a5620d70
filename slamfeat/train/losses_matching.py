"""The matcher's loss, the likelihood of the true assignment (LightGlue, ICCV 2023, eq. 10), and its quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.assignment import NEVER, Scores, mutual_matches
from slamfeat.frontend.heads.matcher import AttentionMatcher, LayerOutput
from slamfeat.train.labels import IGNORE, UNMATCHABLE

_LEAST_PROBABILITY = 0.1
_SURE = 30.0
"""Logit of a keypoint that has a partner for certain."""


class MatchingLoss(NamedTuple):
    """What a matcher is told.

    Attributes:
        loss: scalar, to be minimised.
        statistics: scalars without gradient, mean over the pairs: `nll` (the loss), `positive`, `negative` (its two
            parts, before they are weighed), `matches` and `unmatchable` (how many of either a pair has).
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def matching_nll(scores: Scores, index0: Tensor, index1: Tensor, balance: float = 0.5) -> MatchingLoss:
    """LightGlue's loss of one layer.

    Of each pair: the mean of -log P over its true matches, and the mean of -log(1 - sigma) over the unmatchable points
    of each image, averaged over the two images; a pair without either has 0 for it. The two are weighed, and pairs
    averaged. At a balance of one half this is half of eq. 10.

    Args:
        scores: of B pairs of M and N keypoints.
        index0: (B, M) true partner in the second image, -1 for surely none, -2 to ignore (see `labels`).
        index1: (B, N) likewise.
        balance: share of the matches in the loss, 0..1; the rest is the unmatchable points'.

    Raises:
        ConfigError: a balance outside 0..1.
    """
    if not 0 <= balance <= 1:
        raise ConfigError(f"balance must lie between 0 and 1, got {balance}")
    similarity, matchable0, matchable1 = (_single(value) for value in scores)
    assert index0.shape == similarity.shape[:2] and index1.shape == (len(index0), similarity.shape[2]), (
        "labels do not fit"
    )
    matched = index0 >= 0
    positive = _mean(-_log_probability(similarity, matchable0, matchable1, index0.clamp_min(0)), matched)
    alone0, alone1 = index0 == UNMATCHABLE, index1 == UNMATCHABLE
    negative = 0.5 * (_mean(F.softplus(matchable0), alone0) + _mean(F.softplus(matchable1), alone1))
    loss = (balance * positive + (1 - balance) * negative).mean()
    statistics = {
        "nll": loss.detach(),
        "positive": positive.detach().mean(),
        "negative": negative.detach().mean(),
        "matches": matched.sum(1).to(loss.dtype).mean(),
        "unmatchable": (alone0.sum(1) + alone1.sum(1)).to(loss.dtype).mean(),
    }
    return MatchingLoss(loss, statistics)


def descriptor_nll(
    descriptors0: Tensor, descriptors1: Tensor, mask0: Tensor, mask1: Tensor, index0: Tensor, index1: Tensor,
    temperature: float,
) -> Tensor:  # fmt: skip
    """Mean -log of the dual softmax of true matches, by the descriptors alone (as XFeat, CVPR 2024, eq. 4; LoFTR).

    Args:
        descriptors0, descriptors1: (B, M, D) and (B, N, D) of unit length.
        mask0, mask1: (B, M) and (B, N), False for empty slots.
        index0, index1: labels as in `matching_nll`.
        temperature: of the softmax.
    """
    similarity = descriptors0.float() @ descriptors1.float().mT / temperature
    similarity = similarity.masked_fill(~(mask0[:, :, None] & mask1[:, None]), NEVER)
    sure0, sure1 = torch.full_like(similarity[:, :, 0], _SURE), torch.full_like(similarity[:, 0], _SURE)
    return matching_nll(Scores(similarity, sure0, sure1), index0, index1, balance=1.0).loss


def settled_nll(
    confidences: tuple[Tensor, Tensor], scores: Scores, final: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor]
) -> Tensor:
    """Binary cross entropy of whether a keypoint's match after a layer is its match after the last (LightGlue, eq. 11).

    What later leaves layers out goes by these confidences. A keypoint that is unmatched both times is settled too.

    Args:
        confidences: logits (B, M) and (B, N).
        scores: of the layer; without gradient here.
        final: `partners` by the last layer.
        masks: (B, M) and (B, N) bool, filled slots.
    """
    with torch.no_grad():
        same = [(one == other).float() for one, other in zip(partners(scores), final, strict=True)]
    losses = [
        F.binary_cross_entropy_with_logits(logits.float(), truth, weight=mask.float(), reduction="sum")
        for logits, truth, mask in zip(confidences, same, masks, strict=True)
    ]
    return torch.stack(losses).sum() / torch.stack([mask.sum() for mask in masks]).sum().clamp_min(1)


def settled_losses(matcher: AttentionMatcher, outputs: Sequence[LayerOutput], masks: tuple[Tensor, Tensor]) -> Tensor:
    """Mean of `settled_nll` over the layers before the last of `outputs`; 0 where there is none."""
    counts = masks[0].shape[1], masks[1].shape[1]
    last = outputs[-1]
    with torch.no_grad():
        final = partners(last.scores)
    losses = [settled_nll(matcher.confidences(out, counts), out.scores, final, masks) for out in outputs[:-1]]
    return torch.stack(losses).mean() if losses else last.states.new_zeros(())


def partners(scores: Scores) -> tuple[Tensor, Tensor]:
    """Partner of each keypoint of the first image (B, M) and of the second (B, N); -1 for none."""
    found0, _ = mutual_matches(scores, _LEAST_PROBABILITY)
    batch, count = found0.shape[0], scores.similarity.shape[2]
    found1 = torch.full((batch, count + 1), -1, device=found0.device)
    rows = torch.arange(found0.shape[1], device=found0.device).expand_as(found0)
    found1.scatter_(
        1, torch.where(found0 >= 0, found0, count), rows
    )  # what has no partner lands in the column too many
    return found0, found1[:, :count]


def deep_matching_nll(layers: Sequence[Scores], index0: Tensor, index1: Tensor, balance: float = 0.5) -> MatchingLoss:
    """The mean of `matching_nll` over layers (deep supervision); the statistics are the last layer's."""
    assert layers, "no layers"
    judged = [matching_nll(scores, index0, index1, balance) for scores in layers]
    return MatchingLoss(torch.stack([one.loss for one in judged]).mean(), judged[-1].statistics)


def assignment_divergence(scores: Scores, teacher: Scores, index0: Tensor) -> Tensor:
    """How far an assignment is from a teacher's where the teacher is right: knowledge that is not to be forgotten.

    As in learning without forgetting (LwF, Li & Hoiem, ECCV 2016, eq. 2, but at temperature 1), for what an assignment
    is made of: for each true match that the teacher finds, the Kullback-Leibler divergences, from the teacher, of the
    softmax of its row, of that of its column, and of whether either keypoint has a partner. Mean over a pair's such
    matches, then over the pairs; a pair without any has 0.

    Args:
        scores: of B pairs of M and N keypoints.
        teacher: likewise; without gradient here.
        index0: (B, M) labels as in `matching_nll`.
    """
    student, known = (Scores(*(_single(value) for value in one)) for one in (scores, teacher))
    with torch.no_grad():
        found, _ = mutual_matches(known, _LEAST_PROBABILITY)
    right, partner = (index0 >= 0) & (found == index0), index0.clamp_min(0)
    of_first = _divergence(student.similarity, known.similarity, 2)
    of_first = of_first + _divergence(_or_not(student.matchable0), _or_not(known.matchable0), 2)
    of_second = _divergence(student.similarity, known.similarity, 1)
    of_second = of_second + _divergence(_or_not(student.matchable1), _or_not(known.matchable1), 2)
    return _mean(of_first + of_second.gather(1, partner), right).mean()


def precision_recall(found0: Tensor, index0: Tensor) -> tuple[Tensor, Tensor]:
    """Share of found matches that are true, among those whose truth is known, and share of true matches found.

    Args:
        found0: (B, M) partner in the second image that a matcher says, negative for none.
        index0: (B, M) labels as in `matching_nll`.

    Returns:
        Two scalars over the whole batch; 0 where there is nothing to take a share of.
    """
    said, known, true = found0 >= 0, index0 != IGNORE, index0 >= 0
    right = (said & true & (found0 == index0)).sum()
    return right / (said & known).sum().clamp_min(1), right / true.sum().clamp_min(1)


def matching_quality(scores: Scores, index0: Tensor) -> dict[str, Tensor]:
    """`precision` and `recall` of the matches that scores lead to, by labels (B, M); scalars without gradient."""
    with torch.no_grad():
        found, _ = mutual_matches(scores, _LEAST_PROBABILITY)
        precision, recall = precision_recall(found, index0)
        return {"precision": precision, "recall": recall}


def _log_probability(similarity: Tensor, matchable0: Tensor, matchable1: Tensor, partner: Tensor) -> Tensor:
    """log P (B, M) of each keypoint of the first image with `partner` (B, M): double softmax, both matchable."""
    # Not with `logsumexp`, which would need less memory, but takes twice as long with its derivative.
    rows, columns = (similarity.log_softmax(dim).gather(2, partner[..., None])[..., 0] for dim in (2, 1))
    return rows + columns + F.logsigmoid(matchable0) + F.logsigmoid(matchable1.gather(1, partner))


def _divergence(logits: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softmax along a dimension, which is summed away."""
    wanted = teacher.detach().log_softmax(dim)
    return F.kl_div(logits.log_softmax(dim), wanted, reduction="none", log_target=True).sum(dim)


def _or_not(logit: Tensor) -> Tensor:
    """Logits (..., 2) of something and of its opposite, whose softmax is the logistic function."""
    return torch.stack([logit, torch.zeros_like(logit)], -1)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean (B,) over the points (B, M) that count; 0 where none does."""
    return torch.where(where, values, 0.0).sum(1) / where.sum(1).clamp_min(1)


def _single(values: Tensor) -> Tensor:
    """Half-precision numbers have too few digits for sums of exponentials."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
