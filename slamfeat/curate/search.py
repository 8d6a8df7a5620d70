"""Nearest neighbours of many images, in blocks of bounded memory; every cosine that is kept is computed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.cells import Pool
from slamfeat.curate.engine import Engine
from slamfeat.curate.faiss_tools import nearest
from slamfeat.curate.kmeans import Span, spans
from slamfeat.curate.rows import Floats, Ints, Vectors, exact_cosines, load_array, load_arrays, save_arrays
from slamfeat.errors import ConfigError

QUERIES = 4096
"""Queries a task answers."""
_SLACK = 1e-3  # by which faiss's float32 cosine may be off
_SPARE = 4  # neighbours found beyond those wanted, so that this error does not decide which are kept
_LEAST_ROWS = 1024
_PAIRS = 4096  # whose exact cosines are computed at once


class Neighbours(NamedTuple):
    """Pairs of a query and a row of the pool, by query, and by falling cosine within one.

    Attributes:
        queries, rows: (P,) int64; cosines: (P,) float32.
    """

    queries: Ints
    rows: Ints
    cosines: Floats

    def at(self, index: NDArray[Any]) -> Neighbours:
        """Some of the pairs."""
        return Neighbours(self.queries[index], self.rows[index], self.cosines[index])


@dataclass(frozen=True)
class Search:
    """Work: the neighbours of some queries, written to a file.

    Attributes:
        queries: embeddings, named by their row.
        pool: what is searched.
        count: neighbours of a query, at most.
        least: cosine that a neighbour must have.
        probes: cells that are looked into.
        block: rows of the pool at once.
        folder: of the files.
        own: the queries are the pool's own embeddings, as they lie there; a row is not its own neighbour.
        kept: a mapped (rows,) bool: rows that may be found; None for all.
    """

    queries: Vectors
    pool: Pool
    count: int
    least: float
    probes: int
    block: int
    folder: Path
    own: bool = False
    kept: Path | None = None

    def __call__(self, span: Span) -> None:
        """Search, unless the file is there."""
        path = result_path(self.folder, span)
        if not path.is_file():
            places = np.arange(*span, dtype=np.int64)
            found = self.find(self.queries.read(*span), self.pool.rows(places) if self.own else places)
            save_arrays(path, **found._asdict())

    def find(self, queries: Floats, names: Ints) -> Neighbours:
        """Neighbours of embeddings (Q, D) that are called (Q,) numbers: rows where they are the pool's own."""
        wanted = min(self.count + _SPARE + self.own, self.pool.vectors.rows)
        best = _Best(len(queries), wanted, self.least - _SLACK)
        probed = self.pool.probe(queries, self.probes)
        for cell in np.unique(probed):
            asking = np.flatnonzero((probed == cell).any(1))
            first, last = (int(place) for place in self.pool.starts[cell : cell + 2])
            for start, stop in spans(last - first, self.block):
                self._look(queries, asking, (first + start, first + stop), best)
        return self._settle(queries, names, best)

    def _look(self, queries: Floats, asking: Ints, part: Span, best: _Best) -> None:
        base, places = self.pool.vectors.read(*part), np.arange(*part, dtype=np.int64)
        if self.kept is not None:
            allowed = load_array(self.kept)[self.pool.rows(places)]
            base, places = base[allowed], places[allowed]
        if len(base):
            cosines, found = nearest(queries[asking], base, best.count)
            best.add(asking, cosines, places[found])

    def _settle(self, queries: Floats, names: Ints, best: _Best) -> Neighbours:
        """The best by exact cosine; equal ones by their row."""
        asking, at = np.nonzero(best.places >= 0)
        places = best.places[asking, at]
        rows = self.pool.rows(places)
        cosines = np.empty(len(places), np.float32)
        for start, stop in spans(len(places), _PAIRS):
            part = slice(start, stop)
            cosines[part] = exact_cosines(queries[asking[part]], self.pool.vectors.gather(places[part]))
        keep = cosines >= self.least
        if self.own:
            keep &= rows != names[asking]
        asking, rows, cosines = asking[keep], rows[keep], cosines[keep]
        order = np.lexsort((rows, -cosines, asking))
        asking, rows, cosines = asking[order], rows[order], cosines[order]
        rank = np.arange(len(asking)) - np.searchsorted(asking, asking)
        first = rank < self.count
        return Neighbours(names[asking[first]], rows[first], cosines[first])


class _Best:
    """The nearest places found so far, (Q, count), -1 where there are fewer."""

    def __init__(self, queries: int, count: int, least: float) -> None:
        self.count, self._least = count, least
        self.places = np.full((queries, count), -1, np.int64)
        self._cosines = np.full((queries, count), -np.inf, np.float32)

    def add(self, asking: Ints, cosines: Floats, places: Ints) -> None:
        """Take in what was found (q, m) for the queries at `asking`."""
        hopeful = cosines[:, 0] >= self._least
        asking, cosines, places = asking[hopeful], cosines[hopeful], places[hopeful]
        if not len(asking):
            return
        cosines = np.where(cosines >= self._least, cosines, -np.inf)
        places = np.where(np.isfinite(cosines), places, -1)
        all_cosines = np.concatenate([self._cosines[asking], cosines], 1)
        all_places = np.concatenate([self.places[asking], places], 1)
        order = np.lexsort((all_places, -all_cosines), axis=1)[:, : self.count]
        self._cosines[asking] = np.take_along_axis(all_cosines, order, 1)
        self.places[asking] = np.take_along_axis(all_places, order, 1)


def block_rows(memory_mb: int, workers: int, dim: int) -> int:
    """Rows of the pool that a worker may hold at once, beside its queries and what was found for them.

    Args:
        memory_mb: of a machine, for all its workers.
        workers: that share it.
        dim: of an embedding.

    Raises:
        ConfigError: too little for the queries of every worker.
    """
    fixed = QUERIES * (4 * 4 * dim + 100 * 24)  # queries, those of a cell, both of a pair, and what was found
    row = 3 * 4 * dim  # as read, as float32, and a copy of those that may be found
    rows = (memory_mb * 2**20 // workers - fixed) // row
    if rows < _LEAST_ROWS:
        least = workers * (fixed + _LEAST_ROWS * row) // 2**20 + 1
        raise ConfigError(
            f"memory_mb={memory_mb} is too little for {workers} workers; give memory_mb={least}, or fewer workers"
        )
    return rows


def neighbours(search: Search, engine: Engine) -> Iterator[Neighbours]:
    """Carry out a search, going on with what is there; the results in the order of the queries."""
    tasks = spans(search.queries.rows, QUERIES)
    for span, _ in zip(tasks, engine.run(search, tasks), strict=True):
        yield read_result(search.folder, span)


def read_result(folder: Path, span: Span) -> Neighbours:
    """What a task has written.

    Raises:
        InputError: missing or damaged.
    """
    return Neighbours(**load_arrays(result_path(folder, span)))


def result_path(folder: Path, span: Span) -> Path:
    """The file of a task."""
    return folder / f"{span[0]:012d}.npz"


def found_share(search: Search, places: Ints) -> tuple[int, int]:
    """Of the neighbours that some places have in all of the pool: how many its cells find, and how many there are.

    Args:
        search: of the pool's own neighbours.
        places: at most `QUERIES`.
    """
    queries, names = search.pool.vectors.gather(places), search.pool.rows(places)
    there = replace(search, pool=replace(search.pool, is_whole=True)).find(queries, names)
    found = search.find(queries, names)
    pairs = [set(zip(one.queries.tolist(), one.rows.tolist(), strict=True)) for one in (found, there)]
    return len(pairs[0] & pairs[1]), len(pairs[1])
