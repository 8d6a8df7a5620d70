"""The pool as it is searched: as it lies, or sorted into cells, so that most of it need not be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from slamfeat.curate.config import SearchConfig
from slamfeat.curate.engine import Engine
from slamfeat.curate.faiss_tools import nearest
from slamfeat.curate.kmeans import AssignBlock, Span, fit_kmeans, spans
from slamfeat.curate.rows import FileVectors, Floats, Ints, RowFiles, Vectors, load_array, save_array

_PART = 16_384  # rows of a file of the sorted copy
_SAMPLED = 64  # rows a cell is placed by
_ITERATIONS = 10


@dataclass(frozen=True)
class Pool:
    """What is searched.

    Attributes:
        vectors: embeddings, those of a cell one after the other.
        folder: of the order and the cells; None where the embeddings lie as in the store.
        is_whole: everything is one cell.
    """

    vectors: Vectors
    folder: Path | None = None
    is_whole: bool = True

    @cached_property
    def starts(self) -> Ints:
        """(cells + 1,) places where the cells begin, and the number of rows."""
        if self.folder is None or self.is_whole:
            return np.array([0, self.vectors.rows], np.int64)
        return np.array(load_array(self.folder / "starts.npy"))

    def rows(self, places: Ints) -> Ints:
        """Rows of the store at some places."""
        return places if self.folder is None else np.array(load_array(self.folder / "order.npy")[places])

    def probe(self, queries: Floats, count: int) -> Ints:
        """(Q, count or fewer) cells whose centroids are nearest."""
        if self.folder is None or self.is_whole:
            return np.zeros((len(queries), 1), np.int64)
        return nearest(queries, np.array(load_array(self.folder / "centroids.npy")), count)[1]


def make_pool(vectors: FileVectors, folder: Path, config: SearchConfig, seed: int, engine: Engine) -> Pool:
    """The pool to search; cells, where there are to be any, are kept in `folder` and taken up where they were left.

    Raises:
        OutputError: the disk is full: the sorted copy is as large as the embeddings.
    """
    if vectors.rows <= config.exact_up_to:
        return Pool(vectors)
    parts = spans(vectors.rows, _PART)
    if not (folder / "starts.npy").is_file():
        _place(vectors, folder, config, seed, engine)
        _sort(vectors.rows, folder, engine, vectors, parts)
    paths = [_part_path(folder, part) for part in parts]
    files = RowFiles(paths, [stop - start for start, stop in parts])
    return Pool(FileVectors(files, vectors.dim), folder, is_whole=False)


def _place(vectors: FileVectors, folder: Path, config: SearchConfig, seed: int, engine: Engine) -> None:
    """Centroids of the cells, by k-means of a sample."""
    if (folder / "centroids.npy").is_file():
        return
    cells = min(config.cells or round(vectors.rows**0.5), vectors.rows)
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(vectors.rows, min(vectors.rows, _SAMPLED * cells), replace=False))
    if not (folder / "sample.npy").is_file():
        save_array(folder / "sample.npy", vectors.files.gather(sample))
    points = FileVectors(RowFiles([folder / "sample.npy"], [len(sample)]), vectors.dim)
    found = fit_kmeans(points, cells, iterations=_ITERATIONS, seed=seed, run=engine.run)
    save_array(folder / "centroids.npy", found.centroids)
    (folder / "sample.npy").unlink()


def _sort(rows: int, folder: Path, engine: Engine, vectors: FileVectors, parts: list[Span]) -> None:
    """The order of the rows by cell, and the copy in that order; `starts.npy` comes last.

    The order is made once: on another machine a row between two cells might fall into the other one, and parts of the
    copy that are there already would no longer be in order.
    """
    if not (folder / "order.npy").is_file():
        centroids = np.array(load_array(folder / "centroids.npy"))
        labels = np.empty(rows, np.int32)
        blocks = engine.run(AssignBlock(vectors, centroids, spherical=True, sums=False), spans(rows))
        for (start, stop), block in zip(spans(rows), blocks, strict=True):
            labels[start:stop] = block.labels
        save_array(folder / "counts.npy", np.bincount(labels, minlength=len(centroids)))
        save_array(folder / "order.npy", np.argsort(labels, kind="stable"))
    todo = [part for part in parts if not _part_path(folder, part).is_file()]
    for _ in engine.run(_CopyPart(vectors.files, folder), todo):
        pass
    counts = load_array(folder / "counts.npy")
    save_array(folder / "starts.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@dataclass(frozen=True)
class _CopyPart:
    """Work: write a part of the sorted copy."""

    files: RowFiles
    folder: Path

    def __call__(self, part: Span) -> None:
        order: Ints = np.array(load_array(self.folder / "order.npy")[part[0] : part[1]])
        save_array(_part_path(self.folder, part), self.files.gather(order))


def _part_path(folder: Path, part: Span) -> Path:
    return folder / "sorted" / f"{part[0]:012d}.npy"
