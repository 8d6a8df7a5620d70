"""DINO's loss: the student says of one crop of an image what the teacher says of another (arXiv 2104.14294, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from slamfeat.pretrain.precision import wide


def dino_loss(global_logits: Tensor, local_logits: Tensor | None, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross entropy, mean over all pairs of a student's crop and a teacher's view that are not the same crop.

    With 2 global and 8 local crops that is 2 + 16 = 18 pairs. DINOv2's code has the same sum: it takes the two global
    pairs as one term, counts it twice, and divides by 18. (Without local crops it divides by 3, here it is by 2.)

    Args:
        global_logits: (V, B, K) the student's, of V global crops of B images.
        local_logits: (L, B, K) of their local crops; None for no such crops.
        targets: (V, B, K) the teacher's probabilities of the global crops, in the same order: crop A is judged by
            view B. They get no gradient.
        temperature: of the student's softmax.
    """
    views, local = len(targets), 0 if local_logits is None else len(local_logits)
    pairs = views * (views - 1 + local)
    assert global_logits.shape == targets.shape, "a target for each global crop is needed"
    assert pairs > 0, "no pairs"
    sums: list[Tensor] = []
    if views > 1:
        others = torch.stack([targets[[j for j in range(views) if j != i]].sum(0) for i in range(views)])
        sums.append(_summed(global_logits, others, temperature))
    if local_logits is not None and local:
        sums.append(_summed(local_logits, targets.sum(0), temperature))
    return torch.stack(sums).sum() / pairs


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """-sum t log softmax(z / temperature) of each row, (...,) float32 or better.

    Args:
        logits: z (..., K).
        targets: t, weights that broadcast to them; they get no gradient.
        temperature: above 0.
    """
    return -(targets.detach() * (wide(logits) / temperature).log_softmax(-1)).sum(-1)


def _summed(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Over crops, of the mean over images. The loss is linear in targets: a sum of them does for several pairs."""
    return soft_cross_entropy(logits, targets, temperature).mean(1).sum()
