"""Listings and stores of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from curate_helpers import as_held, fill, mixture

from slamfeat.curate.listing import compute_digest, walk_images, write_listing
from slamfeat.curate.rows import RowFiles, exact_cosines, save_array, unit
from slamfeat.curate.store import EmbeddingStore, Shard, write_shard
from slamfeat.curate.store_writer import StoreWriter
from slamfeat.errors import ConfigError, InputError, OutputError
from slamfeat.image_files import image_files

NAMES = ["b.png", "a/z.jpg", "a/b/c.webp", "a b.png", "a-b.png", "ä\n.png", ".hidden/x.png", ".x.png", "a/no.txt"]


def make_files(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "empty.png").mkdir()
    return folder


def test_images_are_walked_in_the_order_of_image_files(tmp_path: Path) -> None:
    folder = make_files(tmp_path / "images")
    found = list(walk_images(folder))
    assert found == list(image_files(folder)) and len(found) == 6
    with pytest.raises(InputError, match="no such folder"):
        list(walk_images(tmp_path / "nowhere"))


def test_a_listing_gives_any_names_back(tmp_path: Path) -> None:
    names = [*NAMES, "undecodable\udce4.png", "last.png"]
    listing = write_listing(iter(names), tmp_path)
    assert listing.count == len(names) and listing.names(0, len(names)) == names
    assert listing.names(3, 5) == names[3:5] and listing.names(4, 4) == []
    assert (listing.count, listing.digest) == compute_digest(names)
    assert compute_digest(names[::-1])[1] != listing.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.npy", "files.txt"]


def test_rows_over_files_are_those_of_one_array(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    cuts = [0, 5, 6, 17, 23]
    paths = [tmp_path / f"{start}.npy" for start in cuts[:-1]]
    for path, start, stop in zip(paths, cuts, cuts[1:], strict=False):
        save_array(path, whole[start:stop])
    files = RowFiles(paths, np.diff(cuts).tolist())
    for start in range(23):
        for stop in range(start, 24):
            np.testing.assert_array_equal(files.read(start, stop), whole[start:stop])
    rows = np.array([22, 0, 5, 5, 16, 17, 4])
    np.testing.assert_array_equal(files.gather(rows), whole[rows])
    save_array(paths[1], whole[:2])
    with pytest.raises(InputError, match=r"5\.npy is damaged: 2 rows, not 1"):
        files.read(0, 23)
    paths[1].write_bytes(b"short")
    with pytest.raises(InputError, match=r"5\.npy is missing or damaged"):
        files.read(5, 6)


def test_cosines_are_exact_and_the_same_both_ways() -> None:
    a, b = (unit(np.random.default_rng(seed).normal(size=(50, 64))) for seed in (1, 2))
    wanted = (a.astype(np.float64) * b.astype(np.float64)).sum(1)
    np.testing.assert_allclose(exact_cosines(a, b), wanted, atol=1e-7)
    np.testing.assert_array_equal(exact_cosines(a, b), exact_cosines(b, a))
    np.testing.assert_array_equal(exact_cosines(a, b)[7:9], exact_cosines(a[7:9], b[7:9]))
    assert not unit(np.zeros((1, 4))).any()


def test_a_store_keeps_what_was_written(tmp_path: Path) -> None:
    embeddings = mixture(130)
    store = fill(tmp_path, embeddings)
    assert (store.rows, store.vectors.dim, store.unreadable, store.has_thumbs) == (130, 16, 0, False)
    np.testing.assert_allclose(as_held(store), embeddings, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(as_held(store), axis=1), 1, atol=1e-6)
    assert store.names()[77] == "000077.png" and list(store.failures()) == []


def test_images_that_failed_take_no_row(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, [f"{at}.png" for at in range(7)], 3, {})
    sizes, thumbs = np.array([[40, 50], [60, 70]], np.int32), np.arange(2048, dtype=np.uint8).reshape(2, 32, 32)
    assert list(writer.missing()) == [0, 1, 2] and not writer.is_finished
    write_shard(tmp_path, 1, Shard(np.zeros((0, 0)), np.zeros((0, 2), np.int32), None, {0: "a", 1: "b", 2: "c"}))
    write_shard(tmp_path, 2, Shard(np.ones((1, 4)), sizes[1:], thumbs[1:]))
    assert list(writer.missing()) == [0]
    write_shard(tmp_path, 0, Shard(np.eye(2, 4), sizes, thumbs, {1: "broken"}))
    store = writer.finish()
    assert store.positions().tolist() == [0, 2, 6] and store.sizes()[2].tolist() == [60, 70]
    assert [store.names()[row] for row in range(3)] == ["0.png", "2.png", "6.png"]
    assert list(store.failures()) == [(1, "broken"), (3, "a"), (4, "b"), (5, "c")]
    np.testing.assert_array_equal(store.thumbs(np.array([2, 0])), thumbs[[1, 0]])
    np.testing.assert_allclose(as_held(store), [[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0.5, 0.5]], atol=1e-3)


def test_a_store_of_other_images_or_another_making_is_refused(tmp_path: Path) -> None:
    StoreWriter(tmp_path, ["a.png"], 4, {"size": 224})
    with pytest.raises(ConfigError, match=r"size \(224 there, 112 now\)"):
        StoreWriter(tmp_path, ["a.png"], 4, {"size": 112})
    with pytest.raises(ConfigError, match=r"images have changed since \(then 1, now 2 names\)"):
        StoreWriter(tmp_path, ["a.png", "b.png"], 4, {"size": 224})
    with pytest.raises(ConfigError, match="images have changed"):
        StoreWriter(tmp_path, ["b.png"], 4, {"size": 224})
    assert (tmp_path / "files.txt").read_text() == '"a.png"\n'
    with pytest.raises(InputError, match="no finished embeddings"):
        EmbeddingStore(tmp_path)


def test_a_damaged_store_says_which_file(tmp_path: Path) -> None:
    store = fill(tmp_path, mixture(60))
    (tmp_path / "shards" / "00001.npy").write_bytes(b"short")
    with pytest.raises(InputError, match=r"00001\.npy is missing or damaged"):
        as_held(store)
    (tmp_path / "store.json").write_text(json.dumps({"counts": [1]}))
    with pytest.raises(InputError, match="no finished embeddings"):
        EmbeddingStore(tmp_path)


def test_a_full_disk_leaves_no_half_shard(
    tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    writer = StoreWriter(tmp_path, [f"{at}.png" for at in range(100)], 100, {})
    shard = Shard(mixture(100, dim=64), np.full((100, 2), 64, np.int32))
    with small_disk(4000), pytest.raises(OutputError, match="cannot write"):
        write_shard(tmp_path, 0, shard)
    assert list(writer.missing()) == [0] and not list(tmp_path.rglob(".*"))
    write_shard(tmp_path, 0, shard)
    assert writer.finish().rows == 100
