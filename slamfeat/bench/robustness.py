"""The robustness task: odometry over the same frames, degraded by measured amounts.

A run's score is its tracked share times the part of the true motion it explains, 1 - ATE / ATE of a camera that stands
still (at least 0), in percent. Over the strengths, from none to the hardest, the scores make a curve; the area under
it is the single figure: 100 where a degradation does nothing to a perfect odometry, 0 where all is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.data import SequenceWord, parse_sequence
from slamfeat.bench.degrade import DEGRADATIONS, degrade
from slamfeat.bench.guard import GuardedFrontend, describe_failures
from slamfeat.bench.jobs import Job
from slamfeat.bench.registry import build_frontend, source_digest
from slamfeat.bench.store import Predictions
from slamfeat.bench.vo import frame_seconds, track
from slamfeat.bench.vo import made_by as vo_made_by
from slamfeat.data import Sequence
from slamfeat.errors import ConfigError, InputError
from slamfeat.eval import evaluate
from slamfeat.types import Trajectory
from slamfeat.vo.setup import build_odometry, choose_mode

CLEAN = "clean"


@dataclass(frozen=True)
class RobustnessJob:
    """One degradation of one sequence through one frontend, all strengths; or the sequence as it is."""

    out: Path
    frontend: str
    config: BenchConfig
    word: SequenceWord
    degradation: str
    made: dict[str, Any]


def made_by(frontend: str, config: BenchConfig) -> dict[str, Any]:
    """What decides the runs: all that decides odometry, the seed, and the degradations' code."""
    return {**vo_made_by(frontend, config), "seed": config.seed, "degradations": source_digest("bench/degrade")}


def chosen(config: BenchConfig) -> dict[str, list[tuple[int, float]]]:
    """Degradations to run, each with (level, amount).

    Raises:
        ConfigError: an unknown name or level.
    """
    names = config.robustness.degradations or list(DEGRADATIONS)
    unknown = [name for name in names if name not in DEGRADATIONS]
    if unknown:
        raise ConfigError(f"unknown degradation '{unknown[0]}'; known: {', '.join(DEGRADATIONS)}")
    out = {}
    for name in names:
        amounts = DEGRADATIONS[name].amounts
        levels = config.robustness.levels or range(len(amounts))
        if max(levels) >= len(amounts) or min(levels) < 0:
            raise ConfigError(f"robustness.levels: {name} has levels 0..{len(amounts) - 1}")
        out[name] = [(level, amounts[level]) for level in levels]
    return out


def robustness_jobs(config: BenchConfig, out: Path, cost: dict[str, tuple[float, float]], overwrite: bool) -> list[Job]:
    """Jobs for the runs that are missing; arguments as in `slamfeat.bench.matching.matching_jobs`."""
    jobs = []
    words = [(word, word.open()) for word in map(parse_sequence, config.robustness.data)]
    for frontend in config.frontends:
        made = made_by(frontend, config)
        kept = Predictions(out, "robustness", frontend, made, overwrite=overwrite)
        for word, sequence in words:
            _ = sequence.for_mode(mode_of(word, sequence)).camera  # refuses now what every job would refuse
            seconds = len(sequence) * (frame_seconds(sequence, cost.get(frontend, (1.0, 0.5))) + 0.05)
            for name, levels in {CLEAN: [(0, 0.0)], **chosen(config)}.items():
                if not all(kept.has(_item(word, name, level)) for level, _ in levels):
                    job = RobustnessJob(out, frontend, config, word, name, made)
                    label = f"robustness {frontend} {word.name} {name}"
                    jobs.append(Job(label, run_all, (job,), seconds * len(levels)))
    return jobs


def run_all(job: RobustnessJob) -> None:
    """Every missing strength."""
    kept = Predictions(job.out, "robustness", job.frontend, job.made)
    guard = GuardedFrontend(build_frontend(job.frontend, job.config.num_keypoints), job.config.num_keypoints)
    sequence = job.word.open()
    levels = [(0, 0.0)] if job.degradation == CLEAN else chosen(job.config)[job.degradation]
    for level, amount in levels:
        item = _item(job.word, job.degradation, level)
        if kept.has(item):
            continue
        guard.start_counting()
        view = sequence.for_mode(mode_of(job.word, sequence))
        worse = view if job.degradation == CLEAN else degrade(view, job.degradation, amount, job.config.seed)
        facts = _run(guard, worse, view, job)
        kept.save(item, {}, {"amount": amount, **facts, "failures": guard.failures.as_dict()})


def mode_of(word: SequenceWord, sequence: Sequence) -> str:
    """The one mode that is run: the one named, else the best the sequence can serve."""
    if len(word.modes) > 1:
        raise ConfigError(f"'{word.word}': robustness runs one mode of a sequence; name one")
    return word.modes[0] if word.modes else choose_mode("auto", sequence)


def _run(guard: GuardedFrontend, worse: Any, view: Sequence, job: RobustnessJob) -> dict[str, Any]:
    truth = view.groundtruth
    if truth is None:
        raise InputError(f"{job.word.word}: robustness needs ground truth")
    mode = choose_mode(mode_of(job.word, view), view)
    odometry = build_odometry(guard, worse, mode, "auto", replace(job.config.odometry, pipelined=False))
    total, tracked, error = track(worse, odometry), odometry.trajectory, None
    still = standing_still(truth, view)
    if len(tracked) >= 2:
        error = evaluate(tracked, truth, "se3", total_frames=total).ate_rmse_m
    share = len(tracked) / max(total, 1)
    score = 0.0 if error is None or not np.isfinite(error) else 100 * share * max(0.0, 1 - error / still)
    return {
        "frames": total, "tracked_percent": 100 * share, "ate_rmse_m": error, "still_m": still, "score_percent": score,
        "mode": mode, "scale": odometry.scale_label,
    }  # fmt: skip


def standing_still(truth: Trajectory, view: Sequence) -> float:
    """ATE of a camera that does not move over these frames: the spread of the true positions."""
    from slamfeat.geometry import poses_at

    poses, known = poses_at(truth, view.timestamps)
    places = poses[known][:, :3, 3]
    if len(places) < 2:
        raise InputError(f"{view.path}: the ground truth does not cover the frames")
    return float(np.sqrt(((places - places.mean(0)) ** 2).sum(1).mean()))


def rows_of(config: BenchConfig, out: Path) -> Iterator[dict[str, Any]]:
    """A row a sequence, degradation and frontend, then one a frontend over all."""
    areas: dict[str, list[float]] = {frontend: [] for frontend in config.frontends}
    for word in map(parse_sequence, config.robustness.data):
        for name, levels in chosen(config).items():
            for frontend in config.frontends:
                kept = Predictions(out, "robustness", frontend, made_by(frontend, config))
                items = [_item(word, CLEAN, 0), *(_item(word, name, level) for level, _ in levels)]
                if not all(kept.has(item) for item in items):
                    continue
                runs = [kept.load(item)[1] for item in items]
                area = area_under_scores([run["score_percent"] for run in runs])
                areas[frontend].append(area)
                yield {
                    "sequence": word.name, "mode": runs[0]["mode"], "scale": runs[0]["scale"], "degradation": name,
                    "unit": DEGRADATIONS[name].unit, "frontend": frontend, "area_percent": area,
                    "levels": [_level(run, index) for index, run in enumerate(runs)],
                    "failed": describe_failures([run["failures"] for run in runs]),
                }  # fmt: skip
    for frontend, values in areas.items():
        if values:
            mean = float(np.mean(values))
            yield {"sequence": "all", "degradation": "all", "frontend": frontend, "area_percent": mean, "failed": ""}


def area_under_scores(scores: list[float]) -> float:
    """Mean height of the curve through scores at evenly spaced strengths (trapezoids)."""
    values = np.asarray(scores, dtype=np.float64)
    return float(((values[1:] + values[:-1]) / 2).mean())


def _level(run: dict[str, Any], index: int) -> dict[str, Any]:
    amount = None if index == 0 else run["amount"]
    return {"amount": amount, **{key: run[key] for key in ("ate_rmse_m", "tracked_percent", "score_percent", "frames")}}


def _item(word: SequenceWord, degradation: str, level: int) -> str:
    return f"{word.name} {'+'.join(word.modes)} {degradation} {level}"
