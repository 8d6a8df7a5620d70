"""Running many independent jobs on the machine's cores, so that none can lose another's result.

Each worker is a fresh process with its share of the threads. A job writes its own results; what comes back is only
whether it was done. A worker that dies (out of memory, a crash in a library) is named and the other jobs go on.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("slamfeat")


@dataclass(frozen=True)
class Job:
    """A function of the package and its arguments, both picklable.

    Attributes:
        label: for progress and for the report of failures.
        seconds: expected; longer jobs start first.
    """

    label: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float = 0.0


Progress = Callable[[Job, str], None]


def run_jobs(jobs: Sequence[Job], workers: int, progress: Progress | None = None) -> dict[str, str]:
    """Run all jobs; returns the failed ones' labels with what happened.

    Args:
        jobs: in any order.
        workers: processes; 0 runs them in this process, one after the other.
        progress: called after each job with what went wrong, or "".
    """
    ordered = sorted(jobs, key=lambda job: -job.seconds)
    failed: dict[str, str] = {}

    def done(job: Job, problem: str) -> None:
        if problem:
            failed[job.label] = problem
            log.warning("%s: %s", job.label, problem)
        if progress:
            progress(job, problem)

    if workers == 0:
        for job in ordered:
            done(job, _attempt(job))
        return failed
    for job in _pooled(ordered, workers, done):
        # A worker died while these were under way or waiting: alone, the one at fault shows itself.
        if _pooled([job], 1, done):
            done(job, "the process died; out of memory? try --jobs 1")
    return failed


def threads_per_worker(workers: int) -> int:
    """Threads each worker gets of this machine's cores."""
    return max(1, (os.cpu_count() or 1) // max(workers, 1))


def set_threads(count: int) -> None:
    """Let torch and OpenCV use `count` threads in this process."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _pooled(jobs: Sequence[Job], workers: int, done: Callable[[Job, str], None]) -> list[Job]:
    """Run jobs in fresh processes; returns those that were lost when a process died."""
    context = multiprocessing.get_context("spawn")
    lost: list[Job] = []
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(threads_per_worker(workers),))
    try:
        waiting: dict[Future[str], Job] = {pool.submit(_attempt, job): job for job in jobs}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                job = waiting.pop(future)
                try:
                    done(job, future.result())
                except BrokenProcessPool:
                    lost.append(job)
    except BrokenProcessPool:  # it broke while jobs were handed in: all that are not done are lost
        lost = list(jobs)
    except KeyboardInterrupt:
        _stop(pool)
        raise
    pool.shutdown(wait=False, cancel_futures=True)
    return lost


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())  # there is no public way to end what is under way
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _begin(threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(threads)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and orphans would hold the memory of a model each."""
    from multiprocessing.connection import wait as wait_for

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _attempt(job: Job) -> str:
    """What went wrong, or ""."""
    started = time.perf_counter()
    try:
        job.call(*job.arguments)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    log.debug("%s took %.1f s", job.label, time.perf_counter() - started)
    return ""
