"""Retrieval of what is like query images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_helpers import as_held, fill, manifest, mixture, run_stores, settings

from slamfeat.curate.rows import unit
from slamfeat.errors import ConfigError


@pytest.mark.parametrize("cells", [0, 12])
def test_the_nearest_of_each_query_are_kept_and_say_for_which(tmp_path: Path, cells: int) -> None:
    store, queries = fill(tmp_path / "pool", mixture(300)), fill(tmp_path / "queries", mixture(10, seed=1))
    config = settings(
        dedup_enabled=False, sample_share=0.0, retrieve_neighbours=3, search_exact_up_to=0 if cells else 1000,
        search_cells=cells, search_probes=12,
    )  # fmt: skip
    summary = run_stores(tmp_path / "out", store, config, queries=(queries,))
    cosines = as_held(store) @ as_held(queries).T
    wanted = {int(row) for query in cosines.T for row in np.argsort(-query)[:3]}
    entries = manifest(tmp_path / "out")
    kept = {entry["row"]: entry for entry in entries.values() if entry["status"] == "kept"}
    assert kept.keys() == wanted and summary["retrieved"] == summary["kept"] == len(wanted)
    for row, entry in kept.items():
        bringing = [query for query in range(10) if row in np.argsort(-cosines[:, query])[:3]]
        best = max(bringing, key=lambda query: cosines[row, query])
        assert entry["stage"] == "retrieve" and entry["by"] == f"queries-0/{best:06d}.png"
        assert entry["cosine"] == pytest.approx(float(cosines[row, best]), abs=1e-4)
    assert all(e["stage"] == "retrieve" for e in entries.values() if e["status"] == "dropped")


def test_a_cap_keeps_the_nearest_and_sets_are_counted_one_by_one(tmp_path: Path) -> None:
    store = fill(tmp_path / "pool", mixture(200))
    sets = tuple(fill(tmp_path / f"q{seed}", mixture(20, seed=seed)) for seed in (1, 2))
    config = settings(dedup_enabled=False, sample_share=0.0, retrieve_neighbours=2, retrieve_cap=5)
    run_stores(tmp_path / "out", store, config, queries=sets)
    kept = [entry for entry in manifest(tmp_path / "out").values() if entry["status"] == "kept"]
    best = [np.sort((as_held(store) @ as_held(one).T).max(1))[::-1] for one in sets]
    for number in (0, 1):
        mine = [entry["cosine"] for entry in kept if entry["by"].startswith(f"queries-{number}/")]
        assert 0 < len(mine) <= 5 and min(mine) >= best[number][4] - 1e-4


def test_clusters_with_enough_queries_give_so_many(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(32, 32)))[0][:6]

    def around(kinds: list[int]) -> np.ndarray:
        return unit(centres[kinds] + 0.05 * rng.normal(size=(len(kinds), 32)))

    truth = np.repeat(np.arange(6), 40)
    store = fill(tmp_path / "pool", around(truth.tolist()))
    queries = fill(tmp_path / "queries", around([0] * 6 + [1] * 4 + [2] * 3 + [3]))
    config = settings(
        dedup_enabled=False, sample_share=0.0, cluster_levels=[6], retrieve_method="cluster", retrieve_min_queries=3,
        retrieve_per_cluster=25,
    )  # fmt: skip
    run_stores(tmp_path / "out", store, config, queries=(queries,))
    kept = [entry["row"] for entry in manifest(tmp_path / "out").values() if entry["status"] == "kept"]
    assert np.bincount(truth[kept], minlength=6).tolist() == [25, 25, 0, 0, 0, 0]
    capped = settings(
        dedup_enabled=False, sample_share=0.0, cluster_levels=[6], retrieve_method="cluster", retrieve_cap=30
    )
    run_stores(tmp_path / "capped", store, capped, queries=(queries,))
    kept = [entry["row"] for entry in manifest(tmp_path / "capped").values() if entry["status"] == "kept"]
    assert np.bincount(truth[kept], minlength=6).tolist() == [15, 15, 0, 0, 0, 0]


def test_retrieved_and_sampled_are_both_kept_and_duplicates_are_not_retrieved(tmp_path: Path) -> None:
    pool = mixture(200, dim=64, kinds=200, spread=0.4)
    store = fill(tmp_path / "pool", np.concatenate([pool, pool[:50]]))
    queries = fill(tmp_path / "queries", pool[:10])
    config = settings(dedup_threshold=0.99, sample_target=30, retrieve_neighbours=1)
    summary = run_stores(tmp_path / "out", store, config, queries=(queries,))
    entries = manifest(tmp_path / "out")
    for row in range(10):
        assert entries[f"{row:06d}.png"]["stage"] == "retrieve" and entries[f"{200 + row:06d}.png"]["stage"] == "dedup"
    assert summary["retrieved"] == 10 and 30 <= summary["kept"] <= 40
    assert sum(entry["stage"] == "sample" and entry["status"] == "kept" for entry in entries.values()) >= 20


@pytest.mark.parametrize("method", ["sample", "cluster"])
def test_a_pool_that_evaluation_sets_hold_whole_leaves_nothing(tmp_path: Path, method: str) -> None:
    store = fill(tmp_path / "pool", mixture(30))
    summary = run_stores(
        tmp_path / "out", store, settings(retrieve_method=method), evaluation=(store,), queries=(store,)
    )
    assert summary["dropped_for_evaluation"] == 30 and summary["kept"] == 0 and summary["clusters"] == []


def test_a_pool_of_one_image_is_kept(tmp_path: Path) -> None:
    assert run_stores(tmp_path / "out", fill(tmp_path / "pool", mixture(1)), settings())["kept"] == 1


def test_queries_of_another_backbone_are_refused(tmp_path: Path) -> None:
    store, queries = fill(tmp_path / "pool", mixture(20)), fill(tmp_path / "queries", mixture(5, dim=8))
    with pytest.raises(ConfigError, match="embeddings of another backbone"):
        run_stores(tmp_path / "out", store, settings(), queries=(queries,))
