"""Duplicates: pairs, groups, the one that is kept, and evaluation sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_helpers import copies, fill, manifest, mixture, photographs, run_stores, settings
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slamfeat.curate.duplicates import choose_direct, choose_kept, components
from slamfeat.curate.rows import unit
from slamfeat.curate.thumbnails import correlations, thumbnail
from slamfeat.errors import ConfigError

ROWS = 30
PAIRS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)), max_size=40)


def batches(pairs: list[tuple[int, int]], size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return [(array[at : at + size, 0], array[at : at + size, 1]) for at in range(0, len(array), size)]


@given(PAIRS, st.integers(1, 9))
def test_groups_are_connected_components_whatever_the_batches(pairs: list[tuple[int, int]], size: int) -> None:
    groups = components(batches(pairs, size), ROWS)
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    _, wanted = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(ROWS, ROWS)), directed=False)
    np.testing.assert_array_equal(groups[:, None] == groups[None], wanted[:, None] == wanted[None])
    firsts = [np.flatnonzero(groups == group)[0] for group in groups]
    assert groups.tolist() == firsts


@given(PAIRS, st.lists(st.integers(1, 3), min_size=ROWS, max_size=ROWS))
def test_the_largest_image_is_kept_the_first_of_equal_ones(pairs: list[tuple[int, int]], pixels_: list[int]) -> None:
    pixels, groups = np.array(pixels_), components(batches(pairs, 100), ROWS)
    for row, keeper in enumerate(choose_kept(groups, pixels)):
        members = np.flatnonzero(groups == groups[row])
        assert keeper == members[np.argmax(pixels[members])]


@given(PAIRS, st.lists(st.integers(1, 3), min_size=ROWS, max_size=ROWS))
def test_without_chains_everything_dropped_shows_what_a_kept_one_shows(
    pairs: list[tuple[int, int]], pixels_: list[int]
) -> None:
    pixels, linked = np.array(pixels_), {frozenset(pair) for pair in pairs if pair[0] != pair[1]}
    keeper = choose_direct(batches(pairs, 7), pixels)
    kept = np.flatnonzero(keeper == np.arange(ROWS))
    for row in np.flatnonzero(keeper != np.arange(ROWS)):
        assert keeper[row] in kept and frozenset((int(row), int(keeper[row]))) in linked
        assert pixels[keeper[row]] >= pixels[row]
    for one in kept:  # and no two that are kept show the same
        assert not any(frozenset((int(one), int(other))) in linked for other in kept)


@pytest.mark.shared
def test_thumbnails_tell_copies_from_other_pictures(shared: Path) -> None:
    folder = shared / "data" / "unlabelled"
    photos = photographs(folder / "kodak24", 24) + photographs(folder / "imagenet_sample1000_256", 60)
    thumbs = np.stack([thumbnail(photo) for photo in photos])
    for name in copies(photos[0]):
        altered = np.stack([thumbnail(np.ascontiguousarray(copies(photo)[name])) for photo in photos])
        assert correlations(thumbs, altered, 0.87).min() > 0.9, name
    a, b = np.triu_indices(len(photos), 1)
    assert correlations(thumbs[a], thumbs[b], 0.87).max() < 0.85


def test_correlation_looks_both_ways_and_knows_flat_pictures(photo: np.ndarray) -> None:
    whole, part = thumbnail(photo), thumbnail(np.ascontiguousarray(photo[:432, :576]))
    black, grey = np.zeros((32, 32), np.uint8), np.full((32, 32), 128, np.uint8)
    a = np.stack([whole, part, black, black, whole, whole])
    b = np.stack([part, whole, grey, whole, black, 255 - whole])
    found = correlations(a, b, 0.87)
    assert found[0] == pytest.approx(found[1], abs=1e-5) and found[0] > 0.95
    assert found[2:5].tolist() == [1, 0, 0] and found[5] < 0.5
    np.testing.assert_allclose(correlations(np.repeat(a, 90, 0), np.repeat(b, 90, 0), 0.87)[::90], found, atol=1e-5)


def planted(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """100 unrelated embeddings, and 20 copies of the first 20 with a little noise."""
    rng = np.random.default_rng(0)
    originals = unit(rng.normal(size=(100, 64)))
    return originals, unit(originals[:20] + 0.02 * rng.normal(size=(20, 64)))


@pytest.mark.parametrize("cells", [0, 10])
def test_planted_copies_are_dropped_for_the_larger_image(tmp_path: Path, cells: int) -> None:
    originals, again = planted(tmp_path)
    sizes = np.full((120, 2), 64, np.int32)
    sizes[100:110] = 128  # the first ten copies are larger than their originals
    store = fill(tmp_path / "store", np.concatenate([originals, again]), sizes=sizes)
    config = settings(
        dedup_threshold=0.9, search_exact_up_to=0 if cells else 1000, search_cells=cells, sample_share=0.0
    )
    summary = run_stores(tmp_path / "out", store, config)
    assert (summary["kept"], summary["dropped_by_dedup"]) == (100, 20)
    assert summary["neighbours_found"] == (1.0 if cells else None)
    entries = manifest(tmp_path / "out")
    for at in range(20):
        lost, kept = (at, 100 + at) if at < 10 else (100 + at, at)
        entry = entries[f"{lost:06d}.png"]
        assert (entry["status"], entry["stage"], entry["by"]) == ("dropped", "dedup", f"{kept:06d}.png")
        assert entry["cosine"] == pytest.approx(float(originals[at] @ again[at]), abs=2e-3)
        assert entries[f"{kept:06d}.png"]["status"] == "kept"


@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("cells", [0, 5])
def test_more_copies_than_neighbours_are_looked_at_are_still_one(tmp_path: Path, chain: bool, cells: int) -> None:
    originals, _ = planted(tmp_path)
    rows = np.random.default_rng(1).permutation(np.concatenate([originals, originals[:1].repeat(400, 0)]))
    config = settings(
        dedup_neighbours=8, dedup_threshold=0.9, dedup_chain=chain, sample_share=0.0,
        search_exact_up_to=0 if cells else 1000, search_cells=cells,
    )  # fmt: skip
    assert run_stores(tmp_path / "out", fill(tmp_path / "store", rows), config)["kept"] == 100


def test_a_chain_is_one_image_or_only_what_is_directly_alike(tmp_path: Path) -> None:
    angles = np.linspace(0, 2, 21)
    store = fill(tmp_path / "store", np.stack([np.cos(angles), np.sin(angles)], 1))
    words = {"dedup_threshold": float(np.cos(0.11)), "sample_share": 0.0}
    assert run_stores(tmp_path / "a", store, settings(**words))["kept"] == 1
    assert run_stores(tmp_path / "b", store, settings(**words, dedup_chain=False))["kept"] == 11
    assert run_stores(tmp_path / "c", store, settings(**words, dedup_enabled=False))["kept"] == 21


def test_what_evaluation_sets_hold_goes_with_its_duplicates(tmp_path: Path) -> None:
    originals, again = planted(tmp_path)
    store = fill(tmp_path / "store", np.concatenate([originals, again]))
    rng = np.random.default_rng(5)
    first = fill(tmp_path / "first", unit(rng.normal(size=(9, 64))))
    near = unit(originals[[3, 50]] + 0.03 * rng.normal(size=(2, 64)))
    second = fill(tmp_path / "second", np.concatenate([unit(rng.normal(size=(5, 64))), near]))
    config = settings(dedup_threshold=0.98, dedup_evaluation=0.9, sample_share=0.0)
    summary = run_stores(tmp_path / "out", store, config, evaluation=(first, second))
    entries = manifest(tmp_path / "out")
    gone = {name: entry for name, entry in entries.items() if entry["stage"] == "evaluation"}
    assert gone.keys() == {"000003.png", "000050.png", "000103.png"} and summary["dropped_for_evaluation"] == 3
    assert gone["000050.png"]["by"] == "evaluation-1/000006.png" and "via" not in gone["000050.png"]
    assert {gone[name]["by"] for name in ("000003.png", "000103.png")} == {"evaluation-1/000005.png"}
    assert summary["dropped_by_dedup"] == 19 and summary["kept"] == 98


def test_a_duplicate_of_a_leak_goes_even_where_it_is_not_near_the_evaluation_image(tmp_path: Path) -> None:
    angles = np.array([0.0, 0.1, 0.2, 2.0])
    store = fill(tmp_path / "store", np.stack([np.cos(angles), np.sin(angles)], 1))
    held = fill(tmp_path / "held", np.array([[np.cos(-0.05), np.sin(-0.05)]]))
    config = settings(dedup_threshold=float(np.cos(0.11)), dedup_evaluation=float(np.cos(0.06)), sample_share=0.0)
    run_stores(tmp_path / "out", store, config, evaluation=(held,))
    entries = manifest(tmp_path / "out")
    assert [entries[f"{row:06d}.png"]["stage"] for row in range(4)] == ["evaluation"] * 3 + ["dedup"]
    assert entries["000002.png"]["via"] == "000000.png" and "via" not in entries["000000.png"]


def test_thumbnails_must_be_there_to_be_looked_at(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", mixture(20))
    with pytest.raises(ConfigError, match=r"holds no thumbnails; use dedup\.correlation=0"):
        run_stores(tmp_path / "out", store, settings(dedup_correlation=0.9))
