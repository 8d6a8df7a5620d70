"""Filling a `PairCache` by several processes, which can be interrupted anywhere."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import OutputError
from slamfeat.train.cache import PairCache
from slamfeat.train.distributed import rank_and_world

Row = dict[str, NDArray[Any]]
MakeRow = Callable[[int], Row]
_POLL_S, _REPORT_S, _MARK_S = 1.0, 30.0, 2.0


class MakeRows(Protocol):
    """Builds, in the process that will use it, what makes a row of its number; sent to other processes by pickling."""

    def __call__(self) -> MakeRow:
        """A function from a row's number to its values."""


def fill(cache: PairCache, make: MakeRows, workers: int, say: Callable[[str], None], stop: Callable[[], bool]) -> bool:
    """Make the rows that a cache lacks; under torchrun every process makes its share and waits for the others'.

    Args:
        cache: filled in place.
        make: see `MakeRows`; rows must be equal whoever makes them.
        workers: processes; one makes the rows here.
        say: told how far it is, every half minute.
        stop: asked between rows; true ends it early, and nothing is lost.

    Returns:
        Whether the cache is complete.

    Raises:
        SlamfeatError: what a row's making raised.
        OutputError: a process was killed, for instance by the system when memory ran out.
    """
    rank, world = rank_and_world()
    missing = cache.missing()
    rows = [row for row in missing if row % world == rank]
    if rows:
        progress = _Progress(cache, len(missing), say)
        made = _here(cache.folder, make, rows) if workers == 1 else _elsewhere(cache.folder, make, rows, workers)
        for _ in made:
            progress.tell()
            if stop():
                break
        made.close()
    while cache.missing() and not stop() and world > 1:
        time.sleep(_POLL_S)
    return not cache.missing()


class _Progress:
    """Says every half minute how many rows there are, from all processes, and how long the rest takes."""

    def __init__(self, cache: PairCache, missing: int, say: Callable[[str], None]) -> None:
        self._cache, self._missing, self._say = cache, missing, say
        self._started = self._told = time.perf_counter()

    def tell(self) -> None:
        """To be called often."""
        now = time.perf_counter()
        if now - self._told < _REPORT_S:
            return
        self._told, left = now, len(self._cache.missing())
        rate = max(self._missing - left, 1) / (now - self._started)
        self._say(
            f"{self._cache.folder.name}: {self._cache.count - left} of {self._cache.count} pairs prepared, "
            f"{rate:.2f} a second, {left / rate / 60:.0f} min left"
        )


def _here(folder: Path, make: MakeRows, rows: list[int]) -> Generator[None]:
    cache, row_of = PairCache.open(folder), make()
    with _written(cache) as write:
        for row in rows:
            write(row, row_of(row))
            yield


@contextmanager
def _written(cache: PairCache) -> Iterator[Callable[[int, Row], None]]:
    """Yields what writes a row; they are marked every two seconds, since bringing files to disk takes its time."""
    put: list[int] = []
    marked = -math.inf

    def write(row: int, values: Row) -> None:
        nonlocal marked
        cache.put(row, values)
        put.append(row)
        if time.perf_counter() - marked > _MARK_S:
            mark()
            marked = time.perf_counter()

    def mark() -> None:
        cache.mark(put)
        put.clear()

    try:
        yield write
    finally:
        mark()


def _elsewhere(folder: Path, make: MakeRows, rows: list[int], workers: int) -> Generator[None]:
    """Yields once a second while others work; closed early, they finish their row and end."""
    halt = folder / f"halt-{os.getpid()}"
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    shares = [rows[number::workers] for number in range(workers)]
    with ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(_work, folder, make, share, os.getpid(), halt) for share in shares if share]
        try:
            yield from _until_done(folder, futures)
        finally:
            if not all(future.done() for future in futures):
                halt.touch()
                wait(futures)
            halt.unlink(missing_ok=True)


def _until_done(folder: Path, futures: list[Future[None]]) -> Generator[None]:
    from concurrent.futures.process import BrokenProcessPool

    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                future.result()
            except BrokenProcessPool as error:
                raise OutputError(
                    f"{folder}: a process that prepares pairs was killed, perhaps because memory ran out; "
                    "what is prepared is kept: run again, with fewer workers"
                ) from error
        yield


def _work(folder: Path, make: MakeRows, rows: list[int], parent: int, halt: Path) -> None:
    import cv2
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent decides
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cache, row_of = PairCache.open(folder), make()
    with _written(cache) as write:
        for row in rows:
            if os.getppid() != parent or halt.exists():  # nobody waits for it any more
                return
            write(row, {name: np.asarray(value) for name, value in row_of(row).items()})
