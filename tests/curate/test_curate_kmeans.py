"""k-means against a plain implementation, and the hierarchy built of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_helpers import as_held, fill, mixture

from slamfeat.curate import kmeans
from slamfeat.curate.cells import make_pool
from slamfeat.curate.config import ClusterConfig, SearchConfig
from slamfeat.curate.engine import LocalEngine
from slamfeat.curate.hierarchy import choose_levels, closest_members, cluster, cluster_centroids
from slamfeat.curate.kmeans import Clustering, assign, drop_empty, fit_kmeans
from slamfeat.curate.leaves import apportion
from slamfeat.curate.rows import ArrayVectors, save_array, unit


def plain_step(points: np.ndarray, centroids: np.ndarray, spherical: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the centroids that follow from them."""
    distances = ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(-1)
    labels = distances.argmin(1)
    means = np.stack([points[labels == at].mean(0, dtype=np.float64) for at in range(len(centroids))])
    return labels, unit(means) if spherical else means


@pytest.mark.parametrize("spherical", [True, False])
def test_the_result_is_a_fixed_point_of_lloyds_steps(spherical: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "BLOCK", 37)
    points = mixture(600, kinds=8)
    found = fit_kmeans(ArrayVectors(points), 8, iterations=100, seed=0, spherical=spherical)
    labels, means = plain_step(points, found.centroids, spherical)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.centroids, means, atol=1e-5)
    if spherical:
        np.testing.assert_allclose(found.closeness, (points * found.centroids[labels]).sum(1), atol=1e-5)
    else:
        np.testing.assert_allclose(found.closeness, -((points - found.centroids[labels]) ** 2).sum(1), atol=1e-5)


def test_clusters_that_lie_apart_are_found_whoever_computes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "BLOCK", 64)
    centres = unit(np.random.default_rng(3).normal(size=(6, 16)))
    truth = np.arange(1000) % 6
    points = unit(centres[truth] + 0.03 * np.random.default_rng(4).normal(size=(1000, 16)))
    alone = fit_kmeans(ArrayVectors(points), 6, iterations=30, seed=1)
    shared = fit_kmeans(ArrayVectors(points), 6, iterations=30, seed=1, run=LocalEngine(3).run)
    np.testing.assert_array_equal(alone.centroids, shared.centroids)
    np.testing.assert_array_equal(alone.labels, shared.labels)
    assert len({*zip(truth.tolist(), alone.labels.tolist(), strict=True)}) == 6


def test_equal_rows_leave_clusters_empty_and_more_clusters_than_rows_are_not_made() -> None:
    points = np.repeat(unit(np.random.default_rng(0).normal(size=(3, 8))), 50, 0)
    found = drop_empty(fit_kmeans(ArrayVectors(points), 10, iterations=20, seed=0))
    assert len(found.centroids) == 3 and np.bincount(found.labels).tolist() == [50, 50, 50]
    assert len(fit_kmeans(ArrayVectors(points[:5]), 10, iterations=5, seed=0).centroids) == 5


def test_clusters_that_lose_their_rows_get_others() -> None:
    points = mixture(400, kinds=30, spread=0.1)
    start = np.concatenate([points[:1].repeat(9, 0), -points[:1]])  # nine alike: eight of them get nothing
    found = assign(ArrayVectors(points), start)
    counts = np.bincount(found.labels, minlength=10)
    assert (counts == 0).sum() >= 8
    centroids = start.copy()
    kmeans._fill_empty(ArrayVectors(points), centroids, counts, found.labels, found.closeness)
    after = assign(ArrayVectors(points), centroids)
    assert (np.bincount(after.labels, minlength=10) == 0).sum() < (counts == 0).sum()


def test_closest_members_are_those_of_each_cluster() -> None:
    closeness = np.array([0.1, 0.9, 0.5, 0.7, 0.2], np.float32)
    found = Clustering(np.zeros((3, 2), np.float32), np.array([0, 0, 1, 0, 2], np.int32), closeness)
    assert closest_members(found, 2).tolist() == [1, 2, 3, 4] and closest_members(found, 1).tolist() == [1, 2, 4]


def test_resampling_spreads_centroids_over_the_range_instead_of_the_density() -> None:
    """The paper's claim, on a density that falls by a hundred over a line (an arc, as embeddings have unit length)."""
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(0, 0.5, 10_000), rng.uniform(0.5, 1.5, 200)])
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    def in_sparse_part(resample: int) -> float:
        found = cluster_centroids(ArrayVectors(points), 30, ClusterConfig(resample=resample, iterations=50), seed=0)
        return float((np.arctan2(found.centroids[:, 1], found.centroids[:, 0]) > 0.5).mean())

    assert in_sparse_part(0) < 0.35 < 0.45 < in_sparse_part(10)  # of the range it is 2/3


def test_levels_follow_from_the_number_of_images_unless_asked_for() -> None:
    assert choose_levels(1_000_000, []) == [33_333, 3_333, 333, 33]
    assert choose_levels(1000, []) == [33] and choose_levels(5, []) == [1] and choose_levels(2500, []) == [83, 8]
    assert choose_levels(50, [100, 10]) == [50, 10]


def test_shares_are_in_proportion_and_none_is_left_out() -> None:
    assert apportion(np.array([100, 50, 0, 850]), 20).tolist() == [2, 1, 0, 17]
    assert apportion(np.array([1, 1, 998]), 10).tolist() == [1, 1, 10]
    assert apportion(np.array([3, 3]), 100).tolist() == [3, 3]


@pytest.mark.parametrize("cells", [0, 6])
def test_a_hierarchy_covers_what_is_kept_and_goes_on_after_a_kill(tmp_path: Path, cells: int) -> None:
    engine, config = LocalEngine(2), ClusterConfig(levels=[40, 10, 3], resample=3)
    store = fill(tmp_path / "store", mixture(600))
    pool = make_pool(store.vectors, tmp_path / "cells", SearchConfig(exact_up_to=0 if cells else 1000, cells=cells), 0,
                     engine)  # fmt: skip
    kept = np.random.default_rng(0).random(600) < 0.7
    save_array(tmp_path / "kept.npy", kept)
    made = cluster(pool, tmp_path / "kept.npy", config, 0, engine, tmp_path / "a")
    np.testing.assert_array_equal(made.labels >= 0, kept)
    assert len(made.levels) == 3 and made.levels[0] == len(made.centroids) == made.labels.max() + 1
    assert [parent.max() + 1 for parent in made.parents] == made.levels[1:]
    assert made.path(5) == [5, made.parents[0][5], made.parents[1][made.parents[0][5]]]
    np.testing.assert_allclose(
        made.closeness[kept], (as_held(store)[kept] * made.centroids[made.labels[kept]]).sum(1), atol=1e-5
    )
    again = cluster(pool, tmp_path / "kept.npy", config, 0, LocalEngine(1), tmp_path / "b")
    for name in ("labels.npy", "centroids.npy", "centroids-2.npy", "parents-3.npy", "centroids-3.npy", "levels.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (tmp_path / "b" / "levels.json").unlink()
    (tmp_path / "b" / "centroids-3.npy").unlink()
    assert cluster(pool, tmp_path / "kept.npy", config, 0, engine, tmp_path / "b").levels == again.levels
    assert (tmp_path / "a" / "centroids-3.npy").read_bytes() == (tmp_path / "b" / "centroids-3.npy").read_bytes()
