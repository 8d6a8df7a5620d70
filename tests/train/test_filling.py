"""Caches filled by several processes: complete, interrupted, failed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slamfeat.errors import ImageError, OutputError
from slamfeat.train import filling
from slamfeat.train.cache import PairCache
from slamfeat.train.filling import fill

COUNT = 12
FIELDS = {"row": ((), "int32"), "process": ((), "int64")}


@dataclass(frozen=True)
class Rows:
    """Rows that hold their number and who made them; one may fail, or take its process with it."""

    bad: int = -1
    deadly: int = -1

    def __call__(self) -> Callable[[int], dict[str, Any]]:
        return self._make

    def _make(self, row: int) -> dict[str, Any]:
        if row == self.bad:
            raise ImageError("photo.png: cannot be read")
        if row == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return {"row": np.asarray(row, np.int32), "process": np.asarray(os.getpid())}


def new(folder: Path) -> PairCache:
    return PairCache.create(folder / "cache", COUNT, FIELDS, {})


def silent(line: str) -> None:
    """Say nothing."""


@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_is_made_once_and_by_its_worker(tmp_path: Path, workers: int) -> None:
    cache = new(tmp_path)
    assert fill(cache, Rows(), workers, silent, lambda: False)
    values = cache.read(range(COUNT))
    assert values["row"].tolist() == list(range(COUNT))
    assert len(set(values["process"].tolist())) == workers


def test_stopping_keeps_what_there_is_and_the_rest_is_made_later(tmp_path: Path) -> None:
    cache = new(tmp_path)
    asked = iter([False, False, False, True])
    assert not fill(cache, Rows(), 1, silent, lambda: next(asked, True))
    assert 3 <= COUNT - len(cache.missing()) < COUNT
    kept = COUNT - len(cache.missing())
    before = cache.read(range(kept))["process"].clone()
    assert fill(cache, Rows(), 2, silent, lambda: False)
    assert cache.read(range(kept))["process"].equal(before)


def test_a_stop_reaches_the_workers(tmp_path: Path) -> None:
    cache = new(tmp_path)
    assert not fill(cache, Rows(), 2, silent, lambda: True)
    assert not list(cache.folder.glob("halt-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_row_comes_out_and_the_others_stay(tmp_path: Path, workers: int) -> None:
    cache = new(tmp_path)
    with pytest.raises(ImageError, match=r"photo\.png"):
        fill(cache, Rows(bad=7), workers, silent, lambda: False)
    assert 7 in cache.missing() and len(cache.missing()) < COUNT


def test_a_killed_worker_is_told_of(tmp_path: Path) -> None:
    cache = new(tmp_path)
    with pytest.raises(OutputError, match="memory"):
        fill(cache, Rows(deadly=5), 2, silent, lambda: False)
    assert fill(cache, Rows(), 2, silent, lambda: False)


def test_rows_are_brought_to_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[list[int]] = []
    mark = PairCache.mark

    def noted(self: PairCache, rows: list[int]) -> None:
        marked.append(list(rows))
        mark(self, rows)

    monkeypatch.setattr(PairCache, "mark", noted)
    monkeypatch.setattr(filling, "_MARK_S", 60.0)
    assert fill(new(tmp_path), Rows(), 1, silent, lambda: False)
    assert marked == [[0], list(range(1, COUNT))]
