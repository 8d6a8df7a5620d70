"""Classification with a frozen backbone's vectors: by weighted neighbours, and by a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def leave_one_out_accuracy(
    vectors: Tensor, labels: Tensor, neighbours: int = 20, temperature: float = 0.07, block: int = 1024
) -> float:
    """Share of images whose nearest neighbours vote for their class (Wu et al., CVPR 2018; DINO's protocol).

    Every image is asked, and all the others are known.

    Args:
        vectors: (N, C) of any length.
        labels: (N,) classes from 0.
        neighbours: that vote, each with exp(cosine / temperature).
        temperature: see above.
        block: images asked at a time; memory grows with it.
    """
    unit, classes = F.normalize(vectors, dim=1), int(labels.max()) + 1
    hits = 0
    for first in range(0, len(unit), block):
        asked = torch.arange(first, min(first + block, len(unit)))
        alike = unit[asked] @ unit.T
        alike[torch.arange(len(asked)), asked] = -torch.inf  # nobody votes for itself
        best, which = alike.topk(min(neighbours, len(unit) - 1), dim=1)
        votes = alike.new_zeros(len(asked), classes)
        votes.scatter_add_(1, labels[which], (best / temperature).exp())
        hits += int((votes.argmax(1) == labels[asked]).sum())
    return hits / len(unit)


def held_out_accuracy(
    known: Tensor, known_labels: Tensor, asked: Tensor, asked_labels: Tensor, neighbours: int = 20,
    temperature: float = 0.07,
) -> float:  # fmt: skip
    """Share of asked images whose nearest known neighbours vote for their class; see `leave_one_out_accuracy`.

    Args:
        known, asked: (N, C) and (M, C) vectors of any length.
        known_labels, asked_labels: (N,) and (M,) classes from 0.
        neighbours, temperature: of the vote.
    """
    alike = F.normalize(asked, dim=1) @ F.normalize(known, dim=1).T
    best, which = alike.topk(min(neighbours, len(known)), dim=1)
    votes = alike.new_zeros(len(asked), int(known_labels.max()) + 1)
    votes.scatter_add_(1, known_labels[which], (best / temperature).exp())
    return float((votes.argmax(1) == asked_labels).double().mean())


def linear_accuracy(
    known: Tensor,
    known_labels: Tensor,
    asked: Tensor,
    asked_labels: Tensor,
    decays: tuple[float, ...] = (1e-3, 1e-2, 1e-1),
) -> float:
    """Share of images that a linear layer classifies, trained to its optimum (logistic regression by L-BFGS).

    The weight decay is chosen by a fifth of the known images, which then join the rest.

    Args:
        known, asked: (N, C) and (M, C) vectors.
        known_labels, asked_labels: (N,) and (M,) classes from 0.
        decays: to choose from.
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


def linear_in_folds(vectors: Tensor, labels: Tensor, folds: int = 5) -> float:
    """Share of images that a linear layer classifies which learnt on the other folds; see `linear_accuracy`.

    Args:
        vectors: (N, C).
        labels: (N,) classes from 0.
        folds: into which images are dealt out, always alike.
    """
    drawn = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    of, hits = drawn % folds, 0.0
    for fold in range(folds):
        asked = of == fold
        share = linear_accuracy(vectors[~asked], labels[~asked], vectors[asked], labels[asked])
        hits += share * int(asked.sum())
    return hits / len(vectors)


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
