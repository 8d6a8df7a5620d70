"""The speed task: frontends in turn in one process, the median of many rounds, peak memory in a process each.

Absolute times belong to the machine and the hour; the ratios to a peer measured in the same run are what lasts.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.data import parse_sequence
from slamfeat.bench.guard import GuardedFrontend, describe_failures
from slamfeat.bench.jobs import set_threads
from slamfeat.bench.registry import OURS, build_frontend
from slamfeat.bench.store import save_npz
from slamfeat.frontend import Frontend

_STEP = 4  # frames between the two that are matched
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SpeedJob:
    """All frontends with one number of threads, or the memory of one frontend."""

    target: Path
    config: BenchConfig
    frontends: tuple[str, ...]
    threads: int


def images_of(config: BenchConfig) -> dict[str, tuple[Image, Image]]:
    """Two frames a sequence, by size: "640x480"."""
    pairs = {}
    for word in map(parse_sequence, config.speed.data):
        sequence = word.open()
        first, second = sequence[0].image, sequence[min(_STEP, len(sequence) - 1)].image
        pairs[f"{first.shape[1]}x{first.shape[0]}"] = (first, second)
    return pairs


def measure_times(job: SpeedJob) -> None:
    """Time every frontend at every size, in turn; written to the target."""
    set_threads(job.threads)
    names = job.frontends
    frontends = {name: GuardedFrontend(build_frontend(name, job.config.num_keypoints), 1) for name in names}
    rows = []
    for size, images in images_of(job.config).items():
        spent = _rounds(frontends, images, job.config.speed.rounds)
        for name, (extract, match) in spent.items():
            rows.append({
                "size": size, "threads": job.threads, "frontend": name, "extract_ms": extract, "match_ms": match,
                "total_ms": extract + match, "failed": describe_failures([frontends[name].failures.as_dict()]),
            })  # fmt: skip
    ours = {name: frontends[name].frontend for name in names if isinstance(frontends[name].frontend, Frontend)}
    save_npz(job.target, {}, {"rows": rows, **_look_inside(ours, job)})


def _look_inside(ours: dict[str, Any], job: SpeedJob) -> dict[str, Any]:
    """Stages of every frontend of slamfeat's, and the first one's share of the machine's peak."""
    if not ours:
        return {}
    from slamfeat.bench.peak import backbone_peak
    from slamfeat.bench.stages import stage_times

    stages, pairs = {}, images_of(job.config)
    for name, frontend in ours.items():
        for size, images in pairs.items():
            place = f"{size}, {job.threads} thread{'s' if job.threads > 1 else ''}"
            stages[place if name == OURS else f"{name}, {place}"] = stage_times(frontend, images)
    first = next(iter(pairs.values()))[0]
    return {"stages": stages, "peak": {str(job.threads): backbone_peak(next(iter(ours.values())), first)}}


def _rounds(
    frontends: dict[str, GuardedFrontend], images: tuple[Image, Image], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of an extraction and of a match; the first round only warms up."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in frontends}
    for number in range(rounds + 1):
        for name, frontend in frontends.items():
            gc.collect()
            before, first = _timed(frontend.extract, images[0])
            after, second = _timed(frontend.extract, images[1])
            match, _ = _timed(frontend.match, first, second)
            if number:
                spent[name].append(((before + after) / 2, match))
    return {name: tuple(np.median(times, axis=0).tolist()) for name, times in spent.items()}


def _timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call(*arguments)
    return 1e3 * (time.perf_counter() - started), result


def measure_memory(job: SpeedJob) -> None:
    """Peak resident memory of one frontend over a few frames, above Python with torch and OpenCV.

    The peak of a process never falls, so this needs a fresh one.
    """
    import cv2  # noqa: F401  # part of the baseline
    import torch  # noqa: F401  # part of the baseline

    set_threads(job.threads)
    pairs = images_of(job.config)
    baseline = _peak_mb()
    (name,) = job.frontends
    frontend = GuardedFrontend(build_frontend(name, job.config.num_keypoints), 1)
    peaks = {}
    for size, images in sorted(pairs.items(), key=lambda item: item[1][0].size):  # the peak never falls
        for _ in range(2):
            frontend.match(frontend.extract(images[0]), frontend.extract(images[1]))
        peaks[size] = _peak_mb() - baseline
    save_npz(job.target, {}, {"frontend": name, "peak_mb": peaks})


def _peak_mb() -> float:
    """Highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def with_ratios(rows: list[dict[str, Any]], peaks: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Rows with the ratios of the total time to XFeat's and SIFT's of the same size and threads, and the memory."""
    out = []
    for row in rows:
        same = {
            r["frontend"]: r["total_ms"] for r in rows if (r["size"], r["threads"]) == (row["size"], row["threads"])
        }
        ratios = {f"vs_{peer}": row["total_ms"] / same[peer] if peer in same else None for peer in ("xfeat", "sift")}
        out.append(
            {
                **row,
                "failed": row.get("failed") or "",
                **ratios,
                "peak_mb": peaks.get(row["frontend"], {}).get(row["size"]),
            }
        )
    return out
