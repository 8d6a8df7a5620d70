"""Classification with a frozen backbone's vectors: by weighted neighbours, and by a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def knn_accuracy(
    known: Tensor, known_labels: Tensor, asked: Tensor, asked_labels: Tensor, neighbours: int = 20,
    temperature: float = 0.07,
) -> float:  # fmt: skip
    """Share of images whose nearest neighbours vote for their class (Wu et al., CVPR 2018; DINO's protocol).

    Args:
        known, asked: (N, C) and (M, C) vectors of any length.
        known_labels, asked_labels: (N,) and (M,) classes from 0.
        neighbours: that vote, each with exp(cosine / temperature).
        temperature: see above.
    """
    alike = F.normalize(asked, dim=1) @ F.normalize(known, dim=1).T
    return _vote(alike, known_labels, asked_labels, min(neighbours, len(known)), temperature)


def leave_one_out_accuracy(vectors: Tensor, labels: Tensor, neighbours: int = 20, temperature: float = 0.07) -> float:
    """`knn_accuracy` where every image (N, C) is asked, and all the others are known."""
    alike = F.normalize(vectors, dim=1) @ F.normalize(vectors, dim=1).T
    alike.fill_diagonal_(-torch.inf)
    return _vote(alike, labels, labels, min(neighbours, len(vectors) - 1), temperature)


def linear_accuracy(
    known: Tensor,
    known_labels: Tensor,
    asked: Tensor,
    asked_labels: Tensor,
    decays: tuple[float, ...] = (1e-3, 1e-2, 1e-1),
) -> float:
    """Share of images that a linear layer classifies, trained to its optimum (logistic regression by L-BFGS).

    Arguments as of `knn_accuracy`. The weight decay is chosen by a fifth of the known images, which then join the rest.
    """
    mean, spread = known.mean(0), known.std(0).clamp_min(1e-6)
    known, asked = (known - mean) / spread, (asked - mean) / spread
    fold = torch.arange(len(known)) % 5 == 0
    classes = int(known_labels.max()) + 1

    def fitted(rows: Tensor, decay: float) -> Tensor:
        return _fit(known[rows], known_labels[rows], classes, decay)

    scores = [_accuracy(fitted(~fold, decay), known[fold], known_labels[fold]) for decay in decays]
    best = decays[scores.index(max(scores))]
    return _accuracy(fitted(torch.ones_like(fold), best), asked, asked_labels)


def _vote(alike: Tensor, known_labels: Tensor, asked_labels: Tensor, neighbours: int, temperature: float) -> float:
    best, which = alike.topk(neighbours, dim=1)
    votes = torch.zeros(len(alike), int(known_labels.max()) + 1, dtype=alike.dtype)
    votes.scatter_add_(1, known_labels[which], (best / temperature).exp())
    return float((votes.argmax(1) == asked_labels).double().mean())


def _fit(features: Tensor, labels: Tensor, classes: int, decay: float) -> Tensor:
    """(C + 1, K) weights, the last row the bias."""
    ones = torch.cat([features, features.new_ones(len(features), 1)], 1)
    weights = ones.new_zeros(ones.shape[1], classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(ones @ weights, labels) + decay * weights[:-1].square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _accuracy(weights: Tensor, features: Tensor, labels: Tensor) -> float:
    scores = features @ weights[:-1] + weights[-1]
    return float((scores.argmax(1) == labels).double().mean())
