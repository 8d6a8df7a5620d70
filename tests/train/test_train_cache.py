"""Prepared pairs on disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from slamfeat.errors import ConfigError, InputError, OutputError
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


@pytest.mark.parametrize("content", [None, b"\x01"])
def test_marks_that_are_missing_or_short_are_named(tmp_path: Path, content: bytes | None) -> None:
    PairCache.create(tmp_path, 2, FIELDS, MADE)
    (tmp_path / "done.u8").unlink()
    if content is not None:
        (tmp_path / "done.u8").write_bytes(content)
    with pytest.raises(InputError, match=r"done\.u8: truncated or missing; remove .* and prepare it again"):
        PairCache.open(tmp_path)


def test_rows_count_only_after_all_of_them_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the power may go at any moment: what is brought to disk, in what order, and which rows count by then."""
    cache = PairCache.create(tmp_path, 4, FIELDS, MADE)
    order: list[tuple[str, list[int]]] = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").resolve().name
        order.append((name, list((tmp_path / "done.u8").read_bytes())))

    monkeypatch.setattr(os, "fsync", fsync)
    cache.put(1, row(1))
    cache.put(3, row(3))
    assert order == [] and cache.missing() == [0, 1, 2, 3]
    cache.mark([1, 3])
    fields = [(name, count) for name, count in order if name != "done.u8"]
    assert fields == [("points.bin", [0, 0, 0, 0]), ("tokens.bin", [0, 0, 0, 0])]
    assert order[-1] == ("done.u8", [0, 1, 0, 1])
    assert cache.missing() == [0, 2]


def test_rows_that_cannot_be_brought_to_disk_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PairCache.create(tmp_path, 2, FIELDS, MADE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        cache.write(0, row(0))
    assert cache.missing() == [0, 1]


def test_rows_of_other_sources_are_not_mixed(tmp_path: Path) -> None:
    asked: list[bool] = []

    def sources(missing: bool, photos: str = "a") -> dict[str, str]:
        asked.append(missing)
        return {"weights": "w", **({"photographs": photos} if missing else {})}

    cache = PairCache.create(tmp_path, 2, FIELDS, MADE, sources)
    cache.write(0, row(0))
    assert PairCache.create(tmp_path, 2, FIELDS, MADE, sources).missing() == [1]
    with pytest.raises(ConfigError, match="other photographs than are there now"):
        PairCache.create(tmp_path, 2, FIELDS, MADE, lambda missing: sources(missing, "b"))
    cache.write(1, row(1))
    PairCache.create(tmp_path, 2, FIELDS, MADE, lambda missing: sources(missing, "b"))  # complete: they are not used
    assert asked == [True, True, True, False]
    with pytest.raises(ConfigError, match="other weights than are there now"):
        PairCache.create(tmp_path, 2, FIELDS, MADE, lambda missing: {"weights": "v"})
    index = json.loads((tmp_path / "cache.json").read_text())
    del index["sources"]  # as caches were before
    (tmp_path / "cache.json").write_text(json.dumps(index))
    assert PairCache.create(tmp_path, 2, FIELDS, MADE, sources).missing() == []
