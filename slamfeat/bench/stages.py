"""Where slamfeat's own time goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from slamfeat.frontend import Frontend

PREFIX = "slamfeat."


def stage_times(frontend: Frontend, images: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> dict[str, float]:
    """Milliseconds a stage of extracting one image and matching it with another, by torch's profiler.

    Stages are the `record_function` blocks of `slamfeat.frontend`; a stage's time includes all it calls, and "other"
    is what lies in none.
    """
    from torch.profiler import ProfilerActivity, profile

    first = frontend.extract(images[0])
    frontend.match(first, frontend.extract(images[1]))
    rounds = 3
    with _quiet(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        for _ in range(rounds):
            frontend.match(first, frontend.extract(images[1]))
        whole = 1e3 * (time.perf_counter() - started) / rounds
    stages = {
        event.key.removeprefix(PREFIX): event.cpu_time_total / 1e3 / rounds
        for event in profiler.key_averages()
        if event.key.startswith(PREFIX)
    }
    return {**stages, "other": max(0.0, whole - sum(stages.values()))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Some builds of torch's profiler report on themselves, past Python's own standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
