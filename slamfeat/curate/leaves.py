"""The finest level of the hierarchy, cell by cell: no step of k-means passes over all rows.

FOLDER/
  leaves/00012.npz          finest clusters of a cell: centroids, and label and closeness of its kept rows
  centroids.npy             (K, D) of all finest clusters
  labels.npy closeness.npy  (rows,) finest cluster, -1 for rows left out, and closeness to its centroid
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slamfeat.curate.cells import Pool
from slamfeat.curate.config import ClusterConfig
from slamfeat.curate.engine import Engine
from slamfeat.curate.kmeans import drop_empty, fit_kmeans
from slamfeat.curate.rows import Floats, Ints, Vectors, load_array, load_arrays, save_array, save_arrays


@dataclass(frozen=True)
class PartVectors:
    """Some rows of others, see `Vectors`."""

    vectors: Vectors
    chosen: Ints

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.chosen)

    @property
    def dim(self) -> int:
        """Numbers of one."""
        return self.vectors.dim

    def read(self, start: int, stop: int) -> Floats:
        """See `Vectors`."""
        return self.vectors.gather(self.chosen[start:stop])

    def gather(self, rows: Ints) -> Floats:
        """See `Vectors`."""
        return self.vectors.gather(self.chosen[rows])


@dataclass(frozen=True)
class _ClusterCell:
    """Work: the finest clusters of a cell; a task is the cell and their number."""

    pool: Pool
    kept: Path
    config: ClusterConfig
    seed: int
    folder: Path

    def __call__(self, task: tuple[int, int]) -> None:
        cell, clusters = task
        path = _cell_path(self.folder, cell)
        if not path.is_file():
            points = PartVectors(self.pool.vectors, _kept_places(self.pool, cell, self.kept))
            found = drop_empty(
                fit_kmeans(
                    points, clusters, iterations=self.config.iterations, seed=self.seed + cell,
                    spherical=self.config.spherical,
                )
            )  # fmt: skip
            save_arrays(path, centroids=found.centroids, labels=found.labels, closeness=found.closeness)


def kept_of_cells(pool: Pool, kept: Path) -> Ints:
    """(cells,) number of kept rows in each."""
    return np.array([len(_kept_places(pool, cell, kept)) for cell in range(len(pool.starts) - 1)], np.int64)


def make_leaves(
    pool: Pool, kept: Path, sizes: Ints, clusters: int, config: ClusterConfig, seed: int, engine: Engine, folder: Path
) -> None:
    """Make the finest clusters; each cell gets its share of them. What is there is taken up.

    Args:
        pool: embeddings; kept: a (rows,) bool in a file; sizes: what `kept_of_cells` counts.
        clusters: K; fewer where rows are equal, more where cells are smaller than a cluster.
        config, seed, engine, folder: as in `hierarchy.cluster`.
    """
    tasks = [(cell, int(share)) for cell, share in enumerate(apportion(sizes, clusters)) if share]
    for _ in engine.run(_ClusterCell(pool, kept, config, seed, folder), tasks):
        pass
    _gather(pool, kept, [cell for cell, _ in tasks], folder)


def apportion(sizes: Ints, total: int) -> Ints:
    """Shares of (K,) sizes in a total, in proportion: at least 1 and at most the size where there is any."""
    exact = sizes * (total / max(1, int(sizes.sum())))
    shares = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - shares), kind="stable")[: max(0, total - int(shares.sum()))]
    shares[rest] += 1
    return np.asarray(np.minimum(np.maximum(shares, 1), sizes), np.int64)


def _gather(pool: Pool, kept: Path, cells: Sequence[int], folder: Path) -> None:
    """What the cells hold, as one: labels and closeness by row, centroids one after the other."""
    rows = pool.vectors.rows
    labels, closeness, centroids, first = np.full(rows, -1, np.int32), np.zeros(rows, np.float32), [], 0
    for cell in cells:
        held = load_arrays(_cell_path(folder, cell))
        mine = pool.rows(_kept_places(pool, cell, kept))
        labels[mine], closeness[mine] = held["labels"] + first, held["closeness"]
        centroids.append(held["centroids"])
        first += len(held["centroids"])
    save_array(folder / "labels.npy", labels)
    save_array(folder / "closeness.npy", closeness)
    save_array(folder / "centroids.npy", np.concatenate(centroids))


def _kept_places(pool: Pool, cell: int, kept: Path) -> Ints:
    places = np.arange(*pool.starts[cell : cell + 2], dtype=np.int64)
    return np.asarray(places[load_array(kept)[pool.rows(places)]])


def _cell_path(folder: Path, cell: int) -> Path:
    return folder / "leaves" / f"{cell:06d}.npz"
