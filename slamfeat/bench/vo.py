"""The vo task: every frontend through the same odometry on the same frames.

What is kept a run is the trajectory and what was counted on the way; metrics are computed from it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.data import SequenceWord, parse_sequence
from slamfeat.bench.guard import GuardedFrontend
from slamfeat.bench.jobs import Job
from slamfeat.bench.recorder import Recorder
from slamfeat.bench.registry import build_frontend, fingerprint, source_digest
from slamfeat.bench.store import Predictions
from slamfeat.config import to_dict
from slamfeat.data import Sequence
from slamfeat.errors import InputError
from slamfeat.frontend import FeatureFrontend
from slamfeat.vo.config import Mode
from slamfeat.vo.odometry import Odometry
from slamfeat.vo.run import run_odometry
from slamfeat.vo.setup import build_odometry, choose_mode


@dataclass(frozen=True)
class Setup:
    """One way to run a sequence: the sensors used, and where the scale comes from."""

    mode: str
    scale: str

    def item(self, word: SequenceWord, seed: int) -> str:
        """Name of the kept run."""
        return f"{word.name} {self.mode} {self.scale} seed {seed}"


@dataclass(frozen=True)
class VoJob:
    """All set-ups and trials of one sequence through one frontend."""

    out: Path
    frontend: str
    config: BenchConfig
    word: SequenceWord
    made: dict[str, Any]


def made_by(frontend: str, config: BenchConfig) -> dict[str, Any]:
    """What decides the runs: frontend, budget, and the odometry with its code."""
    return {
        "frontend": frontend, "fingerprint": fingerprint(frontend), "num_keypoints": config.num_keypoints,
        "odometry": {key: value for key, value in to_dict(config.odometry).items() if key not in ("seed", "pipelined")},
        "code": source_digest("vo", "geometry"),
    }  # fmt: skip


def setups_of(word: SequenceWord, sequence: Sequence) -> list[Setup]:
    """The ways to run a sequence: monocular with both scales, RGB-D, stereo; those named, else those possible.

    Raises:
        InputError: a mode is named that the sequence has no data for, or there is no calibration.
    """
    modes = word.modes or sequence.modes
    for mode in modes:
        _ = sequence.for_mode(mode).camera
    scales = {"mono": ("groundtruth", "propagated") if sequence.groundtruth is not None else ("propagated",)}
    return [Setup(mode, scale) for mode in modes for scale in scales.get(mode, ("metric",))]


def vo_jobs(config: BenchConfig, out: Path, cost: dict[str, tuple[float, float]], overwrite: bool) -> list[Job]:
    """Jobs for the runs that are missing; arguments as in `slamfeat.bench.matching.matching_jobs`."""
    jobs = []
    words = [(word, word.open()) for word in map(parse_sequence, config.vo.data)]
    for frontend in config.frontends:
        made = made_by(frontend, config)
        kept = Predictions(out, "vo", frontend, made, overwrite=overwrite)
        for word, sequence in words:
            items = [setup.item(word, seed) for setup in setups_of(word, sequence) for seed in seeds(config)]
            if not all(kept.has(item) for item in items):
                seconds = frame_seconds(sequence, cost.get(frontend, (1.0, 0.5)), stereo="stereo" in word.modes)
                job = VoJob(out, frontend, config, word, made)
                jobs.append(Job(f"vo {frontend} {word.name}", run_all, (job,), len(sequence) * seconds))
    return jobs


def seeds(config: BenchConfig) -> list[int]:
    """A seed a trial."""
    return [config.seed + trial for trial in range(config.vo.trials)]


def frame_seconds(sequence: Sequence, cost: tuple[float, float], stereo: bool = False) -> float:
    """Expected seconds a frame, the robust estimation included."""
    megapixels = sequence.camera.width * sequence.camera.height / 1e6
    return (megapixels * cost[0] + cost[1]) * (2 if stereo else 1) + 0.05


def run_all(job: VoJob) -> None:
    """Every missing run of the sequence; what was extracted and matched serves them all."""
    kept = Predictions(job.out, "vo", job.frontend, job.made)
    guard = GuardedFrontend(build_frontend(job.frontend, job.config.num_keypoints), job.config.num_keypoints)
    recorder = Recorder(guard)
    sequence = job.word.open()
    for setup in setups_of(job.word, sequence):
        for seed in seeds(job.config):
            item = setup.item(job.word, seed)
            if not kept.has(item):
                arrays, facts = run_once(recorder, sequence, setup, job.config, seed)
                times = {"ms_extract": _median(recorder.extract_ms), "ms_match": _median(recorder.match_ms)}
                kept.save(item, arrays, {**facts, **times, "failures": guard.failures.as_dict()})


def run_once(
    frontend: FeatureFrontend, sequence: Sequence, setup: Setup, config: BenchConfig, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run: arrays (timestamps, poses) and facts for `Predictions.save`."""
    view = sequence.for_mode(setup.mode)
    scale = "auto" if setup.scale == "metric" else setup.scale
    mode: Mode = choose_mode(setup.mode, view)
    odometry = build_odometry(frontend, view, mode, scale, replace(config.odometry, seed=seed, pipelined=False))
    total = track(view, odometry)
    trajectory, reports = odometry.trajectory, odometry.reports
    pose_ms = [report.ms["pose"] for report in reports if "pose" in report.ms]
    facts = {
        "mode": mode, "scale": odometry.scale_label, "frames": total, "tracked": len(trajectory),
        "keyframes": sum(report.keyframe for report in reports), "ms_pose": _median(pose_ms),
        "inliers": float(np.mean([report.inliers for report in reports])) if reports else 0.0,
        "metric": "ground-truth" in odometry.scale_label or "metric" in odometry.scale_label,
    }  # fmt: skip
    return {"timestamps": trajectory.timestamps, "poses": trajectory.poses}, facts


def track(view: Any, odometry: Odometry) -> int:
    """Track all frames; returns how many there were, lost and unreadable ones among them."""
    try:
        return run_odometry(view, odometry, "none").total
    except InputError:
        # With fewer than two tracked frames `run_odometry` has nothing to evaluate; here that is a result as well.
        if not odometry.reports:
            raise
        return len(odometry.reports) + len(view.skipped)


def kept_runs(
    config: BenchConfig, out: Path
) -> Iterator[tuple[SequenceWord, Sequence, Setup, str, list[tuple[dict[str, Any], dict[str, Any]]]]]:
    """Every sequence and set-up with each frontend's kept trials."""
    for word in map(parse_sequence, config.vo.data):
        sequence = word.open()
        for setup in setups_of(word, sequence):
            for frontend in config.frontends:
                kept = Predictions(out, "vo", frontend, made_by(frontend, config))
                items = [setup.item(word, seed) for seed in seeds(config)]
                runs = [kept.load(item) for item in items if kept.has(item)]
                if runs:
                    yield word, sequence, setup, frontend, runs


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
