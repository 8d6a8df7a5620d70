"""Reading ahead: an iterator that works in a thread of its own while its items are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

T = TypeVar("T")
_END = object()


@contextmanager
def prefetch(source: Iterable[T], ahead: int = 2) -> Iterator[Iterator[T]]:
    """Yields an iterator over `source` that is up to `ahead` items in front of whoever asks; order is kept.

    An exception of `source` is raised where its item would have come, after the items before it. Leaving the block, by
    whatever exception, lets the item in the making be finished, makes no more, and ends the thread.

    Args:
        source: iterated over in one thread, never two at once. A generator is closed when the block is left.
        ahead: items made in advance, the one in the making among them; at least 1.
    """
    assert ahead >= 1
    made = iter(source)
    pool = ThreadPoolExecutor(1, thread_name_prefix="slamfeat-prefetch")
    try:
        yield _in_order(made, pool, ahead)
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(made, Generator):
            made.close()


def _in_order(made: Iterator[T], pool: ThreadPoolExecutor, ahead: int) -> Iterator[T]:
    pending: deque[Future[T | object]] = deque(pool.submit(next, made, _END) for _ in range(ahead))
    while (item := pending.popleft().result()) is not _END:
        pending.append(pool.submit(next, made, _END))
        yield cast(T, item)
