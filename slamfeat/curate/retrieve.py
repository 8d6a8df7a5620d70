"""The stage that keeps images for their likeness to query images, as in DINOv2's appendix A.

FOLDER/
  queries-0/ ...   neighbours found, a file a task (see `search`)
  hits.npz         rows kept, the set and image that each was kept for, and their cosine; written last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slamfeat.curate.balance import allocate, pick
from slamfeat.curate.cells import Pool
from slamfeat.curate.config import CurateConfig
from slamfeat.curate.engine import Engine
from slamfeat.curate.hierarchy import Hierarchy
from slamfeat.curate.kmeans import assign
from slamfeat.curate.rows import Floats, Ints, load_arrays, save_arrays
from slamfeat.curate.search import Search, block_rows, neighbours
from slamfeat.curate.store import EmbeddingStore


class Hits(NamedTuple):
    """Rows kept, rising, and why.

    Attributes:
        rows: (H,); sets: (H,) number of the query set; queries: (H,) row of the nearest query image there, or -1 for
            one that came with its cluster; cosines: (H,) to that image, 0 for none.
    """

    rows: Ints
    sets: Ints
    queries: Ints
    cosines: Floats

    def at(self, index: Ints) -> Hits:
        """Some of them."""
        return Hits(self.rows[index], self.sets[index], self.queries[index], self.cosines[index])


@dataclass(frozen=True)
class Retrieval:
    """What is looked through, and how.

    Attributes:
        pool: embeddings; kept: a (rows,) bool in a file: rows that may be retrieved.
        hierarchy: clusters of those rows, for the method "cluster"; None where there are no such rows.
    """

    pool: Pool
    kept: Path
    hierarchy: Hierarchy | None


def retrieve(
    source: Retrieval, query_sets: Sequence[EmbeddingStore], config: CurateConfig, engine: Engine, folder: Path
) -> Hits:
    """What sets of query images bring; a row that several bring is counted for the nearest. What is there is taken up.

    Raises:
        OutputError: the disk is full.
    """
    path = folder / "hits.npz"
    if not path.is_file():
        found = [
            _by_cluster(source, queries, number, config, engine)
            if config.retrieve.method == "cluster"
            else _by_sample(source, queries, number, config, engine, folder / f"queries-{number}")
            for number, queries in enumerate(query_sets)
        ]
        save_arrays(path, **_nearest_of_each(found)._asdict())
    return Hits(**load_arrays(path))


def _by_sample(
    source: Retrieval, queries: EmbeddingStore, number: int, config: CurateConfig, engine: Engine, folder: Path
) -> Hits:
    """The nearest rows of each query image, the nearest of all first where there is a cap."""
    pool = source.pool
    search = Search(
        queries=queries.vectors, pool=pool, count=config.retrieve.neighbours, least=-1.0, probes=config.search.probes,
        block=block_rows(config.memory_mb, engine.together, pool.vectors.dim), folder=folder, kept=source.kept,
    )  # fmt: skip
    found = [_hits(one.rows, number, one.queries, one.cosines) for one in neighbours(search, engine)]
    hits = _nearest_of_each(found)
    chosen = np.sort(np.lexsort((hits.rows, -hits.cosines))[: config.retrieve.cap])
    return hits.at(chosen)


def _by_cluster(source: Retrieval, queries: EmbeddingStore, number: int, config: CurateConfig, engine: Engine) -> Hits:
    """Rows of the finest clusters that hold enough query images, so many of each, drawn at random."""
    hierarchy, none = source.hierarchy, np.empty(0, np.int64)
    if hierarchy is None:  # nothing was left to cluster
        return Hits(none, none, none, np.empty(0, np.float32))
    asked = assign(queries.vectors, np.array(hierarchy.centroids), spherical=config.cluster.spherical, run=engine.run)
    labels = np.asarray(hierarchy.labels, np.int64)
    counts = np.bincount(asked.labels, minlength=len(hierarchy.centroids))
    sizes = np.bincount(labels[labels >= 0], minlength=len(counts))
    wanted = np.where(counts > config.retrieve.min_queries, np.minimum(sizes, config.retrieve.per_cluster), 0)
    rng = np.random.default_rng([config.seed, number])
    rows = pick(labels, allocate(wanted, config.retrieve.cap), rng.random(len(labels)))
    return _hits(rows, number, np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.float32))


def _hits(rows: Ints, number: int, queries: Ints, cosines: Floats) -> Hits:
    return Hits(rows, np.full(len(rows), number, np.int64), queries, cosines)


def _nearest_of_each(found: Sequence[Hits]) -> Hits:
    """Each row once, for the nearest query image; earlier sets first."""
    if not found:
        none = np.empty(0, np.int64)
        return Hits(none, none, none, np.empty(0, np.float32))
    joined = Hits(
        np.concatenate([one.rows for one in found]), np.concatenate([one.sets for one in found]),
        np.concatenate([one.queries for one in found]), np.concatenate([one.cosines for one in found]),
    )  # fmt: skip
    order = np.lexsort((joined.queries, joined.sets, -joined.cosines, joined.rows))
    firsts = order[np.unique(joined.rows[order], return_index=True)[1]]
    return joined.at(firsts)
