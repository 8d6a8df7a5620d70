"""What carries out the tasks of a stage: threads of this process, or Ray.

A task is a picklable value, its work a picklable callable that writes a file of its own, or returns little. Tasks are
cut alike whoever carries them out, and each runs in one thread, so that the result does not depend on the engine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """Carries out tasks.

    Attributes:
        name: "local" or "ray".
        workers: tasks at once.
        together: of these, on one machine at most: they share its memory.
    """

    name: str
    workers: int
    together: int

    def run(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """What the work returned of each task, in their order; an error of a task is raised in its place."""
        ...

    def stream(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The same for work that holds something large, such as a network, and in any order."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class LocalEngine:
    """Threads of this process; NumPy, faiss and torch leave Python's lock while they compute."""

    name = "local"

    def __init__(self, workers: int = 0) -> None:
        self.workers = self.together = workers or os.cpu_count() or 1

    def run(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Engine`; a few tasks are taken in advance."""
        with single_threads(), ThreadPoolExecutor(self.workers, "slamfeat-curate") as pool:
            pending: deque[Future[R]] = deque()
            try:
                for task in tasks:
                    pending.append(pool.submit(work, task))
                    if len(pending) > 2 * self.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def stream(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Engine`."""
        return self.run(work, tasks)

    def close(self) -> None:
        """See `Engine`; holds nothing."""


@contextmanager
def single_threads() -> Iterator[None]:
    """One thread for torch and OpenCV in every task, as on every other engine."""
    import cv2
    import torch

    before: tuple[Any, Any] = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
