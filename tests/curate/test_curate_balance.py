"""Balanced sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_helpers import fill, manifest, run_stores, settings
from hypothesis import given
from hypothesis import strategies as st

from slamfeat.curate.balance import allocate, gini, pick, sample_tree

SIZES = st.lists(st.integers(0, 200), min_size=1, max_size=30).map(lambda sizes: np.array(sizes, np.int64))


@given(SIZES, st.integers(0, 4000))
def test_quotas_are_capped_sizes_that_add_up(sizes: np.ndarray, total: int) -> None:
    quotas = allocate(sizes, total)
    assert quotas.sum() == min(total, sizes.sum())
    assert (quotas >= 0).all() and (quotas <= sizes).all()
    cut = quotas[quotas < sizes]
    if len(cut):  # those not taken whole give equally many, but for one, and none gives more than they do
        assert cut.max() - cut.min() <= 1 and quotas.max() <= cut.min() + 1


@given(st.data())
def test_a_tree_gives_each_branch_its_share(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    middle, top = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))

    def parents(below: int, above: int) -> np.ndarray:
        drawn = data.draw(st.lists(st.integers(0, above - 1), min_size=below, max_size=below))
        return np.unique(drawn, return_inverse=True)[1].astype(np.int64)

    first = parents(len(sizes), middle)
    second = parents(int(first.max()) + 1, top)
    total = data.draw(st.integers(0, int(sizes.sum()) + 10))
    quotas = sample_tree(sizes, [first, second], total)
    assert quotas.sum() == min(total, sizes.sum()) and (quotas <= sizes).all() and (quotas >= 0).all()
    above = np.bincount(second[first], sizes).astype(np.int64)
    np.testing.assert_array_equal(np.bincount(second[first], quotas), allocate(above, total))


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=60), st.integers(0, 10))
def test_the_least_ranks_of_each_cluster_are_picked(labels_: list[int], quota: int) -> None:
    labels, ranks = np.array(labels_), np.random.default_rng(0).random(len(labels_))
    rows = pick(labels, np.full(6, quota), ranks)
    assert (labels[rows] >= 0).all() and (np.diff(rows) > 0).all()
    for cluster in range(6):
        members = np.flatnonzero(labels == cluster)
        wanted = sorted(members[np.argsort(ranks[members])][:quota])
        assert rows[labels[rows] == cluster].tolist() == wanted


@given(SIZES)
def test_gini_is_that_of_its_definition(sizes: np.ndarray) -> None:
    differences = np.abs(sizes[:, None] - sizes[None]).sum()
    wanted = differences / (2 * len(sizes) * sizes.sum()) if sizes.sum() else 0.0
    assert gini(sizes) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("how", ["random", "closest"])
def test_sampling_evens_out_what_there_is_most_of(tmp_path: Path, how: str) -> None:
    """Against the true kinds, which the curation does not know."""
    rng = np.random.default_rng(0)
    counts = np.array([600, 150, 60, 30, 20, 20, 15, 15, 10, 10])
    centres = np.linalg.qr(rng.normal(size=(32, 32)))[0][:10]
    truth = rng.permutation(np.repeat(np.arange(10), counts))
    store = fill(tmp_path / "store", centres[truth] + 0.12 * rng.normal(size=(len(truth), 32)))
    config = settings(dedup_enabled=False, cluster_levels=[60, 10], sample_target=200, sample_pick=how)
    summary = run_stores(tmp_path / "out", store, config)
    assert summary["kept"] == 200 and summary["dropped_by_sampling"] == 730
    kept = [entry["row"] for entry in manifest(tmp_path / "out").values() if entry["status"] == "kept"]
    after = np.bincount(truth[kept], minlength=10)
    assert gini(counts) > 0.6 and gini(after) < 0.35 and (after[3:] >= 9).all()
    coarsest = summary["evenness"][-1]
    assert coarsest["clusters"] == 10 and coarsest["gini_after"] < coarsest["gini_before"]
    assert coarsest["largest_tenth_after"] < coarsest["largest_tenth_before"]
