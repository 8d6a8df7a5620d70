"""k-means by Lloyd's steps over blocks of rows: sums in float64, in one order, so the same whoever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.faiss_tools import nearest
from slamfeat.curate.rows import Floats, Ints, Vectors, unit

BLOCK = 8192
"""Rows that are compared with the centroids at once."""
_MOST_SEEDS = 1024  # choosing seeds one after the other costs a pass each
_SEEN = 16_384  # rows among which seeds are chosen

Span = tuple[int, int]


class Assigned(NamedTuple):
    """A block of rows and the clusters they fell to.

    Attributes:
        labels: (n,) clusters; closeness: (n,) inner product with the centroid, or minus the squared distance.
        clusters: (m,) those that got rows; sums: (m, D) float64 of their rows.
    """

    labels: NDArray[np.int32]
    closeness: Floats
    clusters: Ints
    sums: NDArray[np.float64]


class Run(Protocol):
    """Carries out blocks in their order; an engine's `run`."""

    def __call__(self, work: Callable[[Span], Assigned], tasks: Iterable[Span], /) -> Iterator[Assigned]:
        """What the work returned of each block."""
        ...


def one_by_one(work: Callable[[Span], Assigned], tasks: Iterable[Span]) -> Iterator[Assigned]:
    """Blocks one after the other, in the thread that asks."""
    return map(work, tasks)


@dataclass(frozen=True)
class Clustering:
    """Result of a k-means.

    Attributes:
        centroids: (K, D); labels: (N,); closeness: (N,) as in `Assigned`.
    """

    centroids: Floats
    labels: NDArray[np.int32]
    closeness: Floats


@dataclass(frozen=True)
class AssignBlock:
    """Work: the nearest centroid of the rows start..stop-1, with their sums where `sums`."""

    points: Vectors
    centroids: Floats
    spherical: bool
    sums: bool = True

    def __call__(self, span: Span) -> Assigned:
        """Assign a block."""
        rows = self.points.read(*span)
        values, found = nearest(rows, self.centroids, 1, euclidean=not self.spherical)
        labels = found[:, 0].astype(np.int32)
        closeness = values[:, 0] if self.spherical else -values[:, 0]
        if not self.sums:
            return Assigned(labels, closeness, np.empty(0, np.int64), np.empty((0, 0)))
        order = np.argsort(labels, kind="stable")
        clusters, firsts = np.unique(labels[order], return_index=True)
        sums = np.add.reduceat(rows[order], firsts, axis=0, dtype=np.float64)
        return Assigned(labels, closeness, clusters.astype(np.int64), sums)


def fit_kmeans(
    points: Vectors, clusters: int, *, iterations: int, seed: int, spherical: bool = True, run: Run = one_by_one
) -> Clustering:
    """Cluster rows of unit length.

    Args:
        points: (N, D), N at least 1.
        clusters: K; no more than N are made. Some may stay empty where rows are equal.
        iterations: at most; ends when no row changes its cluster.
        seed: of the first centroids.
        spherical: centroids of unit length and inner products; else means and Euclidean distances.
        run: carries out the blocks; an engine's `run`.
    """
    rng = np.random.default_rng(seed)
    centroids = _first_centroids(points, min(clusters, points.rows), rng)
    labels = np.full(points.rows, -1, np.int32)
    for _ in range(iterations):
        before = labels
        sums, counts, labels, closeness = _step(points, centroids, spherical, run)
        if np.array_equal(before, labels):
            break
        centroids = _means(sums, counts, centroids, spherical)
        _fill_empty(points, centroids, counts, labels, closeness)
    return assign(points, centroids, spherical=spherical, run=run)


def assign(points: Vectors, centroids: Floats, *, spherical: bool = True, run: Run = one_by_one) -> Clustering:
    """Each row's nearest centroid."""
    labels, closeness = np.empty(points.rows, np.int32), np.empty(points.rows, np.float32)
    work = AssignBlock(points, centroids, spherical, sums=False)
    for (start, stop), block in zip(spans(points.rows), run(work, spans(points.rows)), strict=True):
        labels[start:stop], closeness[start:stop] = block.labels, block.closeness
    return Clustering(centroids, labels, closeness)


def drop_empty(found: Clustering) -> Clustering:
    """The same without clusters that hold nothing."""
    used, labels = np.unique(found.labels, return_inverse=True)
    return Clustering(found.centroids[used], labels.astype(np.int32), found.closeness)


def spans(rows: int, block: int = BLOCK) -> list[Span]:
    """Blocks of consecutive rows."""
    return [(start, min(start + block, rows)) for start in range(0, rows, block)]


def _step(
    points: Vectors, centroids: Floats, spherical: bool, run: Run
) -> tuple[NDArray[np.float64], Ints, NDArray[np.int32], Floats]:
    """Sums and counts of every cluster, labels and closeness of every row."""
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids), np.int64)
    labels, closeness = np.empty(points.rows, np.int32), np.empty(points.rows, np.float32)
    blocks = run(AssignBlock(points, centroids, spherical), spans(points.rows))
    for (start, stop), block in zip(spans(points.rows), blocks, strict=True):
        labels[start:stop], closeness[start:stop] = block.labels, block.closeness
        sums[block.clusters] += block.sums
        counts += np.bincount(block.labels, minlength=len(counts))
    return sums, counts, labels, closeness


def _means(sums: NDArray[np.float64], counts: Ints, before: Floats, spherical: bool) -> Floats:
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], before)
    return unit(means) if spherical else means.astype(np.float32)


def _fill_empty(points: Vectors, centroids: Floats, counts: Ints, labels: NDArray[np.int32], closeness: Floats) -> None:
    """Give clusters without rows the rows that fit their own worst, one from a cluster."""
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    worst = np.argsort(closeness, kind="stable")
    worst = worst[counts[labels[worst]] > 1]
    _, firsts = np.unique(labels[worst], return_index=True)
    chosen = worst[np.sort(firsts)[: len(empty)]]
    if len(chosen):
        centroids[empty[: len(chosen)]] = points.gather(chosen)


def _first_centroids(points: Vectors, clusters: int, rng: np.random.Generator) -> Floats:
    """Rows far from one another (k-means++), or any rows where there are to be many clusters."""
    if clusters > _MOST_SEEDS:
        return np.array(points.gather(np.sort(rng.choice(points.rows, clusters, replace=False))))
    if points.rows > _SEEN:
        seen = points.gather(np.sort(rng.choice(points.rows, _SEEN, replace=False)))
    else:
        seen = points.read(0, points.rows)
    chosen = [int(rng.integers(len(seen)))]
    apart = _apart(seen, chosen[-1])
    while len(chosen) < clusters:
        total = np.cumsum(apart, dtype=np.float64)
        # Where all that is left equals a seed, any row will do: its cluster stays empty.
        at = np.searchsorted(total, rng.random() * total[-1], side="right") if total[-1] > 0 else len(chosen)
        chosen.append(min(int(at), len(seen) - 1))
        apart = np.minimum(apart, _apart(seen, chosen[-1]))
    return np.array(seen[chosen])


def _apart(rows: Floats, one: int) -> Floats:
    """(N,) squared distances to one of the rows."""
    return np.maximum(nearest(rows, rows[one : one + 1], 1, euclidean=True)[0][:, 0], 0)
