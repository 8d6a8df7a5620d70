"""Prepared pairs on disk."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from slamfeat.errors import ConfigError, InputError
from slamfeat.train.cache import PairCache

FIELDS = {"points": ((4, 2), "float32"), "tokens": ((3, 5), "float16")}
MADE = {"backbone": "vits14", "seed": 1}


def row(number: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(number)
    return {
        "points": generator.normal(size=(4, 2)).astype(np.float32),
        "tokens": generator.normal(size=(3, 5)).astype(np.float16),
    }


def fill(folder: Path, rows: list[int]) -> None:
    cache = PairCache.open(folder)
    for number in rows:
        cache.write(number, row(number))


def test_what_was_written_is_read_by_another_process_and_the_rest_is_missing(tmp_path: Path) -> None:
    PairCache.create(tmp_path / "c", 6, FIELDS, MADE)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path / "c", rows)) for rows in ([0, 3], [4])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cache = PairCache.create(tmp_path / "c", 6, FIELDS, MADE)
    assert cache.missing() == [1, 2, 5]
    read = cache.read([4, 0])
    np.testing.assert_array_equal(read["points"].numpy(), np.stack([row(4)["points"], row(0)["points"]]))
    np.testing.assert_array_equal(read["tokens"].numpy(), np.stack([row(4)["tokens"], row(0)["tokens"]]))
    with pytest.raises(InputError, match="pair 5 is not prepared"):
        cache.read([0, 5])


def test_a_cache_of_another_making_is_refused(tmp_path: Path) -> None:
    PairCache.create(tmp_path, 2, FIELDS, MADE)
    with pytest.raises(ConfigError, match="seed"):
        PairCache.create(tmp_path, 2, FIELDS, {**MADE, "seed": 2})
    with pytest.raises(ConfigError, match="count"):
        PairCache.create(tmp_path, 3, FIELDS, MADE)


def test_a_damaged_cache_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cache\.json"):
        PairCache.open(tmp_path)
    PairCache.create(tmp_path, 2, FIELDS, MADE)
    (tmp_path / "points.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"points\.bin: truncated"):
        PairCache.open(tmp_path)
