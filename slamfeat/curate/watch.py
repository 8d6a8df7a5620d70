"""An engine that says how far a stage is, and ends it when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from slamfeat.curate.engine import Engine
from slamfeat.run_log import duration

T = TypeVar("T")
R = TypeVar("R")
_EVERY = 10.0  # seconds between two lines


class WatchedEngine:
    """Another engine, watched; see `Engine`.

    Attributes:
        stage: what the lines begin with.
    """

    def __init__(self, engine: Engine, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Watch an engine.

        Args:
            engine: carries out the tasks.
            say: gets a line now and then.
            stop: asked after each task.
        """
        self.name, self.workers, self.together, self.stage = engine.name, engine.workers, engine.together, ""
        self._engine, self._say, self._stop = engine, say, stop
        self._told = time.perf_counter()

    def run(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Engine`.

        Raises:
            KeyboardInterrupt: it was asked to stop.
        """
        return self._watch(self._engine.run(work, tasks), tasks)

    def stream(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `run`."""
        return self._watch(self._engine.stream(work, tasks), tasks)

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()

    def _watch(self, results: Iterator[R], tasks: Iterable[T]) -> Iterator[R]:
        started, total = time.perf_counter(), len(tasks) if isinstance(tasks, Sized) else None
        for done, result in enumerate(results, 1):
            if self._stop():
                raise KeyboardInterrupt
            self._tell(done, total, time.perf_counter() - started)
            yield result

    def _tell(self, done: int, total: int | None, seconds: float) -> None:
        if total is None or time.perf_counter() - self._told < _EVERY:
            return
        self._told = time.perf_counter()
        left = duration(seconds / done * (total - done))
        self._say(f"{self.stage}: {done} of {total} parts, {left} left")
