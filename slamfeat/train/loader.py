"""Batches made in threads ahead of the steps that use them, in the same order as without."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from slamfeat.train.task import Batch

Make = Callable[[list[int]], Batch]


@dataclass(frozen=True)
class Loaded:
    """A batch, and what it cost.

    Attributes:
        indices: sample numbers.
        batch: on the CPU.
        waited: seconds the loop stood still for it.
    """

    indices: list[int]
    batch: Batch
    waited: float


@contextmanager
def load_batches(make: Make, numbers: Iterable[list[int]], workers: int, ahead: int) -> Iterator[Iterator[Loaded]]:
    """Yields an iterator over the batches of `numbers`, in order.

    An exception of `make` is raised where its batch would have come. Leaving the block lets the batches in the making
    be finished, makes no more, and ends the threads.

    Args:
        make: batch of some sample numbers.
        numbers: sample numbers of each batch.
        workers: threads; 0 makes each batch when it is asked for.
        ahead: batches made or in the making before they are asked for, at most.
    """
    if workers == 0:
        yield _one_by_one(make, numbers)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="slamfeat-batches")
    try:
        yield _in_order(make, iter(numbers), pool, ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(make: Make, numbers: Iterable[list[int]]) -> Iterator[Loaded]:
    for indices in numbers:
        started = time.perf_counter()
        batch = _make(make, indices)
        yield Loaded(indices, batch, time.perf_counter() - started)


def _in_order(make: Make, numbers: Iterator[list[int]], pool: ThreadPoolExecutor, ahead: int) -> Iterator[Loaded]:
    pending: deque[tuple[list[int], Future[Batch]]] = deque()

    def submit(count: int) -> None:
        pending.extend((indices, pool.submit(_make, make, indices)) for indices in islice(numbers, count))

    submit(ahead)
    while pending:
        started = time.perf_counter()
        indices, future = pending.popleft()
        batch = future.result()
        waited = time.perf_counter() - started
        submit(1)
        yield Loaded(indices, batch, waited)


def _make(make: Make, indices: list[int]) -> Batch:
    with torch.no_grad():  # gradients are switched by thread, and nothing is to be traced through the data
        return make(indices)
