"""Running the speed task: alone on the machine, a fresh process a number of threads and a frontend."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.cost import Cost
from slamfeat.bench.jobs import Job, run_jobs
from slamfeat.bench.registry import fingerprint
from slamfeat.bench.speed import SpeedJob, images_of, measure_memory, measure_times, with_ratios
from slamfeat.bench.store import file_name, load_npz


def frontends_of(config: BenchConfig) -> list[str]:
    """The frontends to time: the run's, and those that only this task measures."""
    return list(dict.fromkeys([*config.frontends, *config.speed.also]))


def run_speed(config: BenchConfig, out: Path, say: Any) -> dict[str, str]:
    """Measure what is missing; returns what failed."""
    problems: dict[str, str] = {}
    names = tuple(frontends_of(config))
    for threads in config.speed.threads:
        target = times_file(config, out, threads)
        if not target.exists():
            say(f"speed: {len(names)} frontends in turn, {threads} threads, {config.speed.rounds} rounds …")
            job = Job(f"speed {threads} threads", measure_times, (SpeedJob(target, config, names, threads),))
            problems |= run_jobs([job], 1)
    for name in names:
        target = memory_file(config, out, name)
        if not target.exists():
            say(f"memory: {name} …")
            job = Job(f"speed memory {name}", measure_memory, (SpeedJob(target, config, (name,), 1),))
            problems |= run_jobs([job], 1)
    return problems


def expected_seconds(config: BenchConfig, cost: Cost, out: Path) -> float:
    """Seconds that the missing measurements take."""
    worst = max(cost.values(), default=(1.0, 0.5))
    names = frontends_of(config)
    seconds = 0.0
    for size in images_of(config):
        width, height = map(int, size.split("x"))
        round_s = sum(2 * width * height / 1e6 * cost.get(n, worst)[0] + cost.get(n, worst)[1] for n in names)
        missing = sum(not times_file(config, out, threads).exists() for threads in config.speed.threads)
        seconds += round_s * ((config.speed.rounds + 1) * missing + 2)
    return seconds + 5 * len(names)


def speed_result(config: BenchConfig, out: Path) -> dict[str, Any]:
    """Rows, stages and peak, from what was measured."""
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"stages": {}, "peak": {}}
    for threads in config.speed.threads:
        target = times_file(config, out, threads)
        if target.exists():
            facts = load_npz(target)[1]
            rows += facts["rows"]
            result["stages"] |= facts.get("stages", {})
            result["peak"] |= facts.get("peak", {})
    files = {name: memory_file(config, out, name) for name in frontends_of(config)}
    peaks = {name: load_npz(file)[1]["peak_mb"] for name, file in files.items() if file.exists()}
    return {**result, "rows": with_ratios(rows, peaks)}


def times_file(config: BenchConfig, out: Path, threads: int) -> Path:
    """Where the times of one number of threads go; other frontends, data or rounds are another file."""
    words = [config.num_keypoints, config.speed.data, config.speed.rounds, threads, _prints(config)]
    return out / "predictions" / "speed" / f"times-{_digest(words)}.npz"


def memory_file(config: BenchConfig, out: Path, name: str) -> Path:
    """Where the peak memory of a frontend goes."""
    words = [config.num_keypoints, config.speed.data, fingerprint(name)]
    return out / "predictions" / "speed" / f"memory-{file_name(name)}-{_digest(words)}.npz"


def _prints(config: BenchConfig) -> list[str]:
    return [f"{name} {fingerprint(name)}" for name in frontends_of(config)]


def _digest(words: list[Any]) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]
