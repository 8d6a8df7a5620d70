"""Parts of the selector that are written so that they can be exported, against torch's own functions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.frontend.selector import _high_quantile, _quota_bonus


@pytest.mark.parametrize("count", [1, 2, 99, 101, 5984])
def test_high_quantile_is_torchs(count: int) -> None:
    values = torch.rand(3, count, generator=torch.Generator().manual_seed(count))
    assert torch.equal(_high_quantile(values, 0.99), torch.quantile(values, 0.99, dim=1))


@pytest.mark.parametrize(("rows", "columns", "count"), [(34, 45, 256), (3, 88, 40), (20, 7, 5)])
def test_quota_lifts_the_best_of_every_region(rows: int, columns: int, count: int) -> None:
    scores = torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(rows))
    scores = (scores * 16).round() / 16  # with ties, and zeros that nothing lifts
    lifted = _quota_bonus(scores, count, 8).view_as(scores) > 0
    assert torch.equal(lifted, _lifted_by_unfold(scores, count, 8))


def _lifted_by_unfold(scores: Tensor, count: int, coverage: int) -> Tensor:
    rows, columns = scores.shape[-2:]
    side = -(-max(rows, columns) // coverage)
    padded = F.pad(scores, (0, -columns % side, 0, -rows % side))
    regions = F.unfold(padded, side, stride=side)
    rank = regions.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
    chosen = (rank < max(1, count // regions.shape[-1])) & (regions > 0)
    folded = F.fold(chosen.float(), padded.shape[-2:], side, stride=side)
    return folded[..., :rows, :columns] > 0
