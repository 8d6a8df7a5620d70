"""Balanced sampling from a tree of clusters, from the top down (arXiv 2405.15613), and how even cluster sizes are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.rows import Ints


def allocate(sizes: Ints, total: int) -> Ints:
    """How many to take of each of (K,) clusters: all of the small ones, equally many of the others.

    The cap is searched for, so that the sum is `total`, or everything where there is less. What one more for every
    large cluster would exceed goes to the first of them.
    """
    low, high = 0, int(sizes.max(initial=0))
    while low < high:  # the largest cap that does not exceed the total
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= total else (low, middle - 1)
    quotas = np.minimum(sizes, low)
    larger = np.flatnonzero(sizes > low)
    quotas[larger[: max(0, total - int(quotas.sum()))]] += 1
    return np.asarray(quotas, np.int64)


def sample_tree(sizes: Ints, parents: Sequence[Ints], total: int) -> Ints:
    """How many to take of each of the finest clusters (K,).

    Args:
        sizes: (K,) of the finest clusters.
        parents: a level an entry, finest first: the cluster above of each of its clusters.
        total: over all.
    """
    levels = [sizes]
    for parent in parents:
        above = np.zeros(int(parent.max(initial=-1)) + 1, np.int64)
        np.add.at(above, parent, levels[-1])
        levels.append(above)
    quotas = allocate(levels[-1], total)
    for level, parent in zip(levels[-2::-1], reversed(parents), strict=True):
        below = np.zeros(len(level), np.int64)
        order = np.argsort(parent, kind="stable")
        for children in np.split(order, np.cumsum(np.bincount(parent, minlength=len(quotas)))[:-1]):
            if len(children):
                below[children] = allocate(level[children], int(quotas[parent[children[0]]]))
        quotas = below
    return quotas


def pick(labels: Ints, quotas: Ints, ranks: NDArray[np.generic]) -> Ints:
    """Rows taken, rising: of each cluster as many as its quota, those of the least rank.

    Args:
        labels: (N,) clusters, -1 for rows that cannot be taken.
        quotas: (K,).
        ranks: (N,) numbers, such as random ones.
    """
    order = np.lexsort((ranks, labels))
    order = order[np.searchsorted(labels[order], 0) :]
    sorted_labels = labels[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    return np.sort(order[place < quotas[sorted_labels]])


def gini(sizes: NDArray[np.generic]) -> float:
    """Unevenness of sizes: 0 where all are equal, towards 1 where few hold everything."""
    rising = np.sort(np.asarray(sizes, np.float64))
    if not len(rising) or not rising.sum():
        return 0.0
    ranks = np.arange(1, len(rising) + 1)
    return float(2 * (ranks * rising).sum() / (len(rising) * rising.sum()) - (len(rising) + 1) / len(rising))
