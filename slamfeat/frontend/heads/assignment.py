"""From the matcher's states to matches: matchability and the double softmax (LightGlue, ICCV 2023, eq. 7-9)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.frontend.matcher import mutual_nearest

NEVER = -1e4


class Scores(NamedTuple):
    """What a layer thinks of all pairs.

    Attributes:
        similarity: (B, K0, K1) logits; pairs with an empty slot are at or below -1e4.
        matchable0, matchable1: (B, K0) and (B, K1) logits that a keypoint has a partner at all.
    """

    similarity: Tensor
    matchable0: Tensor
    matchable1: Tensor

    def log_assignment(self) -> Tensor:
        """log P (B, K0, K1): both keypoints matchable, and each the other's choice."""
        rows, columns = self.similarity.log_softmax(2), self.similarity.log_softmax(1)
        certain = F.logsigmoid(self.matchable0)[:, :, None] + F.logsigmoid(self.matchable1)[:, None]
        return rows + columns + certain


class AssignmentHead(nn.Module):
    """Similarity and matchability from states; one a layer, for deep supervision and early exit."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.matchable = nn.Linear(dim, 1)

    def forward(self, state0: Tensor, state1: Tensor, bias: Tensor | None = None) -> Scores:
        """Scores of states (B, K0, dim) and (B, K1, dim); `bias` (B, K0, K1) is added to the similarity."""
        scale = state0.shape[-1] ** -0.25
        projected0, projected1 = self.project(state0) * scale, self.project(state1) * scale
        similarity = projected0 @ projected1.transpose(1, 2)
        if bias is not None:
            similarity = similarity + bias
        return Scores(similarity, self.matchable(state0)[..., 0], self.matchable(state1)[..., 0])


def mutual_matches(scores: Scores, threshold: float) -> tuple[Tensor, Tensor]:
    """Matches that are each other's best and likely enough.

    Returns:
        indices (B, K0) into the second image, -1 for none, and probabilities (B, K0), 0 for none.
    """
    similarity = scores.similarity
    # The log assignment with its sums taken apart, which makes one large matrix instead of five.
    by_row = F.logsigmoid(scores.matchable0) - similarity.logsumexp(2)
    by_column = F.logsigmoid(scores.matchable1) - similarity.logsumexp(1)
    index1, best = mutual_nearest(torch.add(by_column[:, None], similarity, alpha=2).add_(by_row[:, :, None]))
    probability = best.exp()
    keep = (index1 >= 0) & (probability > threshold)
    return torch.where(keep, index1, -1), torch.where(keep, probability, 0.0)


def hide_empty(mask: Tensor, always: bool = False) -> Tensor | None:
    """Bias (B, 1, 1, K) that hides empty slots from all; None where all are filled, unless it is wanted always.

    An exported graph, which cannot look, always has it.
    """
    if not (always or torch.compiler.is_compiling()) and bool(mask.all()):
        return None
    return mask.logical_not()[:, None, None] * NEVER
