"""Pairs of the same picture: near in their embeddings, and alike as thumbnails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.kmeans import Span
from slamfeat.curate.rows import Ints, save_arrays
from slamfeat.curate.search import Neighbours, Search, result_path
from slamfeat.curate.store import EmbeddingStore
from slamfeat.curate.thumbnails import correlations

_PAIRS = 4096  # whose thumbnails are held at once: all neighbours of a video's frames would be half a gigabyte


@dataclass(frozen=True)
class FindDuplicates:
    """Work: the neighbours of some queries that show the same picture, written to a file as `Search` does.

    Attributes:
        search: finds the candidates.
        queries, rows: folders of the stores that hold the thumbnails; rows are those of the pool.
        correlation: least of the thumbnails, see `thumbnails.correlations`; 0 for no look at them.
        surely: cosine from which thumbnails need not be alike.
    """

    search: Search
    queries: Path
    rows: Path
    correlation: float
    surely: float = 2.0

    def __call__(self, span: Span) -> None:
        """Find them, unless the file is there."""
        path = result_path(self.search.folder, span)
        if path.is_file():
            return
        places = np.arange(*span, dtype=np.int64)
        names = self.search.pool.rows(places) if self.search.own else places
        found = self.search.find(self.search.queries.read(*span), names)
        save_arrays(path, **self._same(found)._asdict())

    def _same(self, found: Neighbours) -> Neighbours:
        if not self.correlation or not len(found.rows):
            return found
        keep = found.cosines >= self.surely
        asked = np.flatnonzero(~keep)
        ours, theirs = EmbeddingStore(self.queries), EmbeddingStore(self.rows)
        for start in range(0, len(asked), _PAIRS):
            some = asked[start : start + _PAIRS]
            a, b = ours.thumbs(found.queries[some]), theirs.thumbs(found.rows[some])
            keep[some] = correlations(a, b, self.correlation) >= self.correlation
        return found.at(keep)


def components(pairs: Iterable[tuple[Ints, Ints]], rows: int) -> Ints:
    """Groups of rows that pairs connect: for every row the first row of its group, itself where it is alone.

    Args:
        pairs: batches of two (P,) arrays of rows; a batch at a time is held.
        rows: how many there are.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    parent = np.arange(rows, dtype=np.int64)
    for a, b in pairs:
        ends, places = np.unique(_roots(parent, np.concatenate([a, b])), return_inverse=True)
        ones = np.ones(len(a), np.int8)
        graph = coo_array((ones, (places[: len(a)], places[len(a) :])), shape=(len(ends), len(ends)))
        _, labels = connected_components(graph, directed=False)
        _, firsts = np.unique(labels, return_index=True)  # `ends` rise, so the first of a group is its least row
        parent[ends] = ends[firsts][labels]
    return _roots(parent, np.arange(rows, dtype=np.int64))


def choose_kept(groups: Ints, pixels: NDArray[np.int64]) -> Ints:
    """For every row the row that stands for its group: the one with most pixels, the first of equal ones."""
    order = np.lexsort((np.arange(len(groups)), -pixels, groups))
    leads = order[np.unique(groups[order], return_index=True)[1]]
    kept = np.empty(len(groups), np.int64)
    kept[groups[leads]] = leads
    return kept[groups]


def choose_direct(pairs: Iterable[tuple[Ints, Ints]], pixels: NDArray[np.int64]) -> Ints:
    """For every row the row that stands for it, which shows the same itself: itself where it is kept.

    The largest image is kept and what shows the same dropped, then the largest of the rest, and so on; the first of
    equal ones. All pairs are held at once.
    """
    from scipy.sparse import coo_array

    rows = len(pixels)
    index = np.int32 if rows < 2**31 else np.int64
    batches = [(a.astype(index), b.astype(index)) for a, b in pairs]
    forth, back = (np.concatenate([batch[side] for batch in batches] or [np.empty(0, index)]) for side in (0, 1))
    del batches
    both = (np.concatenate([forth, back]), np.concatenate([back, forth]))
    links = coo_array((np.ones(len(both[0]), np.int8), both), shape=(rows, rows)).tocsr()
    keeper, is_free = np.arange(rows, dtype=np.int64), np.ones(rows, bool)
    order = np.lexsort((np.arange(rows), -pixels))
    for row in order[np.diff(links.indptr)[order] > 0]:
        if is_free[row]:
            same = links.indices[links.indptr[row] : links.indptr[row + 1]]
            same = same[is_free[same]]
            keeper[same] = row
            is_free[same] = is_free[row] = False
    return keeper


def _roots(parent: Ints, rows: Ints) -> Ints:
    found = parent[rows]
    while not np.array_equal(further := parent[found], found):
        found = further
    return found
