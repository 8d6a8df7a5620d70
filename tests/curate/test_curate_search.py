"""Neighbours against brute force, with all images compared and with cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_helpers import as_held, fill, mixture

from benchmarks.memory_worker import forget_peak, resident_mb
from slamfeat.curate import search as searching
from slamfeat.curate.cells import Pool, make_pool
from slamfeat.curate.config import SearchConfig
from slamfeat.curate.engine import LocalEngine
from slamfeat.curate.rows import save_array
from slamfeat.curate.search import Search, block_rows, found_share, neighbours
from slamfeat.errors import ConfigError

ENGINE = LocalEngine(2)


def brute_force(queries: np.ndarray, base: np.ndarray, count: int, least: float, own: bool) -> list[tuple[int, ...]]:
    cosines = (queries.astype(np.float64) @ base.astype(np.float64).T).astype(np.float32)
    pairs = []
    for query, row in enumerate(cosines):
        allowed = [at for at in np.lexsort((np.arange(len(row)), -row)) if not (own and at == query)]
        pairs += [(query, int(at)) for at in allowed[:count] if row[at] >= least]
    return sorted(pairs)


def found(search: Search, engine: LocalEngine = ENGINE) -> list[tuple[int, int]]:
    return sorted(
        (int(query), int(row))
        for part in neighbours(search, engine)
        for query, row in zip(part.queries, part.rows, strict=True)
    )


@pytest.mark.parametrize("block", [7, 100, 1000])
def test_every_neighbour_is_found_whatever_the_blocks(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "QUERIES", 64)
    store = fill(tmp_path / "store", np.concatenate([mixture(300), mixture(300)[:20]]))  # equal rows are among them
    pool = Pool(store.vectors)
    for count, least in ((5, -1.0), (3, 0.9), (400, 0.8)):
        search = Search(pool.vectors, pool, count, least, 1, block, tmp_path / f"{count}", own=True)
        assert found(search) == brute_force(as_held(store), as_held(store), count, least, own=True)


def test_cells_find_what_is_near_and_say_how_much(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", mixture(2000, kinds=60, spread=0.12), shard=300)
    wanted = brute_force(as_held(store), as_held(store), 8, 0.8, own=True)
    few, many = SearchConfig(exact_up_to=0, cells=40, probes=1), SearchConfig(exact_up_to=0, cells=40, probes=8)
    pool = make_pool(store.vectors, tmp_path / "cells", many, 0, ENGINE)
    assert not pool.is_whole and len(pool.starts) == 41 and pool.starts[-1] == 2000
    rows = pool.rows(np.arange(2000))
    assert sorted(rows) == list(range(2000))
    np.testing.assert_array_equal(pool.vectors.read(0, 2000), as_held(store)[rows])
    shares = []
    for config in (few, many):
        folder = tmp_path / f"{config.probes}"
        search = Search(pool.vectors, pool, 8, 0.8, config.probes, 64, folder, own=True)
        got = found(search)
        assert set(got) <= set(brute_force(as_held(store), as_held(store), 2000, 0.8, own=True))
        share = len(set(got) & set(wanted)) / len(wanted)
        said, there = found_share(search, np.arange(2000))
        assert there == len(wanted) and said == len(set(got) & set(wanted))
        shares.append(share)
    assert shares[0] < shares[1] and shares[1] > 0.998


def test_cells_are_taken_up_after_a_kill(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", mixture(500))
    config = SearchConfig(exact_up_to=0, cells=10)
    whole = make_pool(store.vectors, tmp_path / "cells", config, 0, ENGINE)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*.npy")}
    (tmp_path / "cells" / "starts.npy").unlink()
    again = make_pool(store.vectors, tmp_path / "cells", config, 0, ENGINE)
    np.testing.assert_array_equal(again.starts, whole.starts)
    kept = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert {path.parent.name for path in kept} == {"cells", "sorted"} and len(kept) == len(before) - 1


def test_a_row_between_two_cells_does_not_put_the_sorted_copy_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine it may fall into the other one; parts that are there already were in the old order."""
    monkeypatch.setattr("slamfeat.curate.cells._PART", 100)
    store, config = fill(tmp_path / "store", mixture(500)), SearchConfig(exact_up_to=0, cells=10)
    make_pool(store.vectors, tmp_path / "cells", config, 0, ENGINE)
    for name in ("starts.npy", "sorted/000000000300.npy"):
        (tmp_path / "cells" / name).unlink()
    centroids = np.load(tmp_path / "cells" / "centroids.npy")
    save_array(tmp_path / "cells" / "centroids.npy", centroids[::-1].copy())
    again = make_pool(store.vectors, tmp_path / "cells", config, 0, ENGINE)
    rows = again.rows(np.arange(500))
    np.testing.assert_array_equal(again.vectors.read(0, 500), as_held(store)[rows])


def test_only_kept_rows_are_found_for_queries_of_another_set(tmp_path: Path) -> None:
    store, queries = fill(tmp_path / "a", mixture(400)), fill(tmp_path / "b", mixture(30, seed=1))
    kept = np.random.default_rng(0).random(400) < 0.3
    save_array(tmp_path / "kept.npy", kept)
    rows = np.flatnonzero(kept)
    wanted = [(query, int(rows[at])) for query, at in brute_force(as_held(queries), as_held(store)[kept], 4, -1, False)]
    for name, config in (("all", SearchConfig()), ("cells", SearchConfig(exact_up_to=0, cells=9))):
        pool = make_pool(store.vectors, tmp_path / "cells", config, 0, ENGINE)
        search = Search(queries.vectors, pool, 4, -1, 9, 50, tmp_path / name, kept=tmp_path / "kept.npy")
        assert found(search) == sorted(wanted)


def test_memory_stays_within_the_setting(tmp_path: Path) -> None:
    rows, dim = 60_000, 384
    embeddings = np.random.default_rng(0).standard_normal((rows, dim), np.float32)
    store = fill(tmp_path / "store", embeddings, shard=10_000)
    del embeddings
    pool = Pool(store.vectors)
    search = Search(pool.vectors, pool, 4, -1, 1, block_rows(48, 1, dim), tmp_path / "r", own=True)
    queries = pool.vectors.read(0, 256)
    search.find(queries, np.arange(256))  # once before, so that faiss has its own
    forget_peak()
    before = resident_mb("VmHWM")
    search.find(queries, np.arange(256))
    assert resident_mb("VmHWM") - before < 48 < rows * dim * 4 / 2**20 / 1.5
    with pytest.raises(ConfigError, match=r"memory_mb=8 is too little for 2 workers; give memory_mb=\d+"):
        block_rows(8, 2, dim)
