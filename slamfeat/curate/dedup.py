"""The stage that drops duplicates, and images that evaluation sets hold.

FOLDER/
  pairs/ evaluation-0/ ...   pairs of the same picture, a file a task (see `search`)
  keeper.npy cosine.npy      (rows,) the row that stands for an image's duplicates (itself where it is kept), and the
                             cosine to it
  leak_set.npy leak_row.npy leak_via.npy
                             (rows,) evaluation set and its row for which an image is dropped, -1 for none, and the row
                             that resembles it: the image, or a duplicate of it
  kept.npy                   (rows,) bool, written last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.cells import Pool
from slamfeat.curate.config import CurateConfig
from slamfeat.curate.duplicates import FindDuplicates, choose_direct, choose_kept, components
from slamfeat.curate.engine import Engine
from slamfeat.curate.kmeans import spans
from slamfeat.curate.rows import Floats, Ints, Vectors, exact_cosines, load_array, save_array
from slamfeat.curate.search import QUERIES, Neighbours, Search, block_rows, found_share, read_result
from slamfeat.curate.store import EmbeddingStore
from slamfeat.errors import ConfigError

_BATCH = 1_000_000  # pairs joined at once


@dataclass(frozen=True)
class Deduplicated:
    """What the stage left in its folder; arrays are mapped.

    Attributes:
        folder: of the stage.
    """

    folder: Path

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(rows,) whether an image goes on."""
        return load_array(self.folder / "kept.npy")

    @property
    def keeper(self) -> Ints:
        """(rows,) see the module."""
        return load_array(self.folder / "keeper.npy")

    @property
    def cosine(self) -> Floats:
        """(rows,) to the keeper."""
        return load_array(self.folder / "cosine.npy")

    @property
    def leaks(self) -> tuple[Ints, Ints, Ints]:
        """(rows,) sets, their rows, and the rows that resemble them; -1 for none."""
        sets, rows, via = (load_array(self.folder / f"leak_{name}.npy") for name in ("set", "row", "via"))
        return sets, rows, via


def deduplicate(
    store: EmbeddingStore, pool: Pool, evaluation: Sequence[EmbeddingStore], config: CurateConfig, engine: Engine,
    folder: Path,
) -> Deduplicated:  # fmt: skip
    """Find what is there twice, keep the largest image of each group, and drop groups that evaluation sets hold.

    Raises:
        ConfigError: too little memory, or thumbnails wanted of a store without them.
        OutputError: the disk is full.
    """
    done = Deduplicated(folder)
    if (folder / "kept.npy").is_file():
        return done
    _check_thumbs([store, *evaluation], config)
    keeper = _keepers(store, pool, config, engine, folder / "pairs")
    leaks = _leaks(store, evaluation, keeper, config, engine, folder)
    save_array(folder / "keeper.npy", keeper)
    save_array(folder / "cosine.npy", _cosines(store.vectors, keeper))
    for name, values in zip(("set", "row", "via"), leaks, strict=True):
        save_array(folder / f"leak_{name}.npy", values)
    save_array(folder / "kept.npy", (keeper == np.arange(store.rows)) & (leaks[0] < 0))
    return done


def share_found(pool: Pool, config: CurateConfig, engine: Engine) -> float | None:
    """Share of the near neighbours of `search.check` random images that the cells find; None where all is compared."""
    if pool.is_whole or not config.search.check:
        return None
    rng, rows = np.random.default_rng(config.seed), pool.vectors.rows
    places = np.sort(rng.choice(rows, min(config.search.check, QUERIES, rows), replace=False))
    found, there = found_share(_own_search(pool, config, engine, Path()), places)
    return found / there if there else 1.0


def _keepers(store: EmbeddingStore, pool: Pool, config: CurateConfig, engine: Engine, folder: Path) -> Ints:
    """For every row the one that stands for it."""
    if not config.dedup.enabled:
        return np.arange(store.rows, dtype=np.int64)
    search = _own_search(pool, config, engine, folder)
    work = FindDuplicates(search, store.folder, store.folder, config.dedup.correlation)
    pairs, pixels = _batches(_carry_out(work, engine)), store.sizes().astype(np.int64).prod(1)
    return choose_kept(components(pairs, store.rows), pixels) if config.dedup.chain else choose_direct(pairs, pixels)


def _own_search(pool: Pool, config: CurateConfig, engine: Engine, folder: Path) -> Search:
    """The pool's neighbours in the pool."""
    return Search(
        queries=pool.vectors, pool=pool, count=config.dedup.neighbours, least=config.dedup.threshold,
        probes=config.search.probes, block=block_rows(config.memory_mb, engine.together, pool.vectors.dim),
        folder=folder, own=True,
    )  # fmt: skip


def _leaks(
    store: EmbeddingStore, evaluation: Sequence[EmbeddingStore], groups: Ints, config: CurateConfig, engine: Engine,
    folder: Path,
) -> tuple[Ints, Ints, Ints]:  # fmt: skip
    """Set, its row, and the row that resembles it, for every row that must go."""
    nearest = np.full(store.rows, -1, np.float32)
    sets, rows = np.full(store.rows, -1, np.int64), np.full(store.rows, -1, np.int64)
    for number, held_out in enumerate(evaluation):
        search = Search(
            queries=store.vectors, pool=Pool(held_out.vectors), count=config.dedup.neighbours,
            least=min(config.dedup.threshold, config.dedup.evaluation), probes=1,
            block=block_rows(config.memory_mb, engine.together, store.vectors.dim),
            folder=folder / f"evaluation-{number}",
        )  # fmt: skip
        surely = config.dedup.evaluation if config.dedup.correlation else 0.0
        work = FindDuplicates(search, store.folder, held_out.folder, config.dedup.correlation, surely)
        for found in _carry_out(work, engine):
            firsts = np.unique(found.queries, return_index=True)[1]
            queries, cosines = found.queries[firsts], found.cosines[firsts]
            nearer = cosines > nearest[queries]
            queries = queries[nearer]
            nearest[queries], sets[queries] = cosines[nearer], number
            rows[queries] = found.rows[firsts][nearer]
    return _spread(groups, nearest, sets, rows)


def _spread(groups: Ints, nearest: Floats, sets: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """A group goes as a whole, for the one of its images that is nearest to an evaluation image."""
    via = np.full(len(groups), -1, np.int64)
    leaking = np.flatnonzero(sets >= 0)
    leaking = leaking[np.lexsort((leaking, -nearest[leaking], groups[leaking]))]
    hit, firsts = np.unique(groups[leaking], return_index=True)
    members = np.flatnonzero(np.isin(groups, hit))
    via[members] = leaking[firsts][np.searchsorted(hit, groups[members])]
    via[leaking] = leaking
    gone = via >= 0
    return np.where(gone, sets[via], -1), np.where(gone, rows[via], -1), via


def _carry_out(work: FindDuplicates, engine: Engine) -> Iterator[Neighbours]:
    tasks = spans(work.search.queries.rows, QUERIES)
    for span, _ in zip(tasks, engine.run(work, tasks), strict=True):
        yield read_result(work.search.folder, span)


def _batches(results: Iterator[Neighbours]) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of many tasks together, since joining them costs a pass each."""
    held: list[Neighbours] = []
    for result in results:
        held.append(result)
        if sum(len(one.rows) for one in held) >= _BATCH:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(results: Sequence[Neighbours]) -> tuple[Ints, Ints]:
    return np.concatenate([one.queries for one in results]), np.concatenate([one.rows for one in results])


def _cosines(vectors: Vectors, keeper: Ints) -> Floats:
    cosines = np.ones(len(keeper), np.float32)
    dropped = np.flatnonzero(keeper != np.arange(len(keeper)))
    for start, stop in spans(len(dropped), QUERIES):
        rows = dropped[start:stop]
        cosines[rows] = exact_cosines(vectors.gather(rows), vectors.gather(keeper[rows]))
    return cosines


def _check_thumbs(stores: Sequence[EmbeddingStore], config: CurateConfig) -> None:
    for store in stores:
        if config.dedup.correlation and store.rows and not store.has_thumbs:
            raise ConfigError(f"{store.folder} holds no thumbnails; use dedup.correlation=0")
