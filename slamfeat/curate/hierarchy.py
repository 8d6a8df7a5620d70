"""Hierarchical k-means with resampling (arXiv 2405.15613): clusters of clusters, evenly spread over what there is.

Plain k-means puts its centroids where the data are dense; clustering the centroids anew, and again from the members
closest to each, spreads the upper levels over the data's range instead of its density.

FOLDER/                 beside the files of `leaves`
  parents-2.npy ...     (K of the level below,) the cluster above of each
  centroids-2.npy ...   (K, D) of a level; written after its parents
  levels.json           number of clusters of each level, finest first; written last
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.cells import Pool
from slamfeat.curate.config import ClusterConfig
from slamfeat.curate.engine import Engine
from slamfeat.curate.kmeans import Clustering, Run, assign, drop_empty, fit_kmeans, one_by_one
from slamfeat.curate.leaves import PartVectors, kept_of_cells, make_leaves
from slamfeat.curate.rows import FileVectors, Floats, Ints, RowFiles, Vectors, load_array, save_array
from slamfeat.files import write_text

_FEWEST = 8  # clusters of a level that is made unasked
_PER_LEAF = 30
_FACTOR = 10


@dataclass(frozen=True)
class Hierarchy:
    """What the stage left in its folder.

    Attributes:
        folder: of the stage.
    """

    folder: Path

    @cached_property
    def levels(self) -> list[int]:
        """Number of clusters of each level, finest first."""
        return [int(count) for count in json.loads((self.folder / "levels.json").read_text(encoding="utf-8"))]

    @property
    def centroids(self) -> Floats:
        """(K, D) of the finest clusters, mapped."""
        return load_array(self.folder / "centroids.npy")

    @property
    def labels(self) -> NDArray[np.int32]:
        """(rows,) finest cluster, -1 where left out, mapped."""
        return load_array(self.folder / "labels.npy")

    @property
    def closeness(self) -> Floats:
        """(rows,) to the centroid of the finest cluster, mapped."""
        return load_array(self.folder / "closeness.npy")

    @cached_property
    def parents(self) -> list[Ints]:
        """A level an entry, finest first: the cluster above of each of its clusters."""
        levels = range(2, len(self.levels) + 1)
        return [np.array(load_array(self.folder / f"parents-{level}.npy")) for level in levels]

    def path(self, leaf: int) -> list[int]:
        """A finest cluster and those above it."""
        found = [leaf]
        for parent in self.parents:
            found.append(int(parent[found[-1]]))
        return found


def cluster(pool: Pool, kept: Path, config: ClusterConfig, seed: int, engine: Engine, folder: Path) -> Hierarchy:
    """Cluster the kept rows of a pool; what is there is taken up.

    Args:
        pool: embeddings; kept: a (rows,) bool in a file, at least one of them true.
        config, seed: see `ClusterConfig`.
        engine: carries out the finest level by cells, the others by blocks.
        folder: of the stage.

    Raises:
        OutputError: the disk is full.
    """
    if not (folder / "levels.json").is_file():
        sizes = kept_of_cells(pool, kept)
        levels = choose_levels(int(sizes.sum()), config.levels)
        make_leaves(pool, kept, sizes, levels[0], config, seed, engine, folder)
        points = _centroids(folder / "centroids.npy")
        counts = [points.rows]
        for level, clusters in enumerate(levels[1:], start=2):
            points = _make_level(points, clusters, level, config, seed, engine, folder)
            counts.append(points.rows)
        write_text(folder / "levels.json", json.dumps(counts) + "\n")
    return Hierarchy(folder)


def choose_levels(rows: int, asked: Sequence[int]) -> list[int]:
    """Number of clusters of each level for so many rows; those asked for where there are any."""
    levels = [min(count, rows) for count in asked] or [max(1, rows // _PER_LEAF)]
    while not asked and levels[-1] // _FACTOR >= _FEWEST:
        levels.append(levels[-1] // _FACTOR)
    return levels


def cluster_centroids(
    points: Vectors, clusters: int, config: ClusterConfig, seed: int, run: Run = one_by_one
) -> Clustering:
    """A level above the first: k-means of centroids, and again of the members closest to each new centroid.

    Half the mean size of a cluster is taken from each, as in the paper.
    """
    found = _fit(points, clusters, config, seed, run)
    size = max(1, points.rows // (2 * max(1, clusters)))
    for step in range(config.resample):
        anew = _fit(PartVectors(points, closest_members(found, size)), clusters, config, seed + step + 1, run)
        found = assign(points, anew.centroids, spherical=config.spherical, run=run)
    return drop_empty(found)


def closest_members(found: Clustering, size: int) -> Ints:
    """Rows, rising: of each cluster the `size` closest to its centroid."""
    order = np.lexsort((-found.closeness, found.labels))
    labels = found.labels[order]
    place = np.arange(len(order)) - np.searchsorted(labels, labels)
    return np.sort(order[place < size])


def _fit(points: Vectors, clusters: int, config: ClusterConfig, seed: int, run: Run) -> Clustering:
    return fit_kmeans(
        points, clusters, iterations=config.iterations, seed=seed, spherical=config.spherical, run=run
    )  # fmt: skip


def _make_level(
    points: Vectors, clusters: int, level: int, config: ClusterConfig, seed: int, engine: Engine, folder: Path
) -> FileVectors:
    """Centroids of a level, kept in its file, from which every task reads what it needs of them."""
    path = folder / f"centroids-{level}.npy"
    if not path.is_file():
        found = cluster_centroids(points, clusters, config, seed + level, engine.run)
        save_array(folder / f"parents-{level}.npy", found.labels.astype(np.int64))
        save_array(path, found.centroids)
    return _centroids(path)


def _centroids(path: Path) -> FileVectors:
    count, dim = load_array(path).shape
    return FileVectors(RowFiles([path], [count]), dim, as_is=True)
