"""Run odometry over a sequence, evaluate it, and write the run folder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from slamfeat.data import Sequence
from slamfeat.errors import InputError
from slamfeat.eval import TrajectoryMetrics, evaluate
from slamfeat.eval.trajectory import Align
from slamfeat.files import write_text
from slamfeat.types import Frame, Trajectory
from slamfeat.vo.odometry import FrameReport, Odometry

Progress = Callable[[FrameReport], None]


@dataclass(frozen=True)
class RunResult:
    """What came out of a run.

    Attributes:
        trajectory: tracked frames; reports: all frames that were read; skipped: frames that could not be read.
        total: frames of the sequence.
        seconds: wall time of tracking, reading of images excluded.
        metrics: against ground truth, None without any; note: why there are none, or what to know about them.
        interrupted: stopped by Ctrl-C before the end.
    """

    trajectory: Trajectory
    reports: list[FrameReport]
    skipped: list[str]
    total: int
    seconds: float
    metrics: TrajectoryMetrics | None
    note: str = ""
    interrupted: bool = False

    @property
    def tracked(self) -> int:
        """Frames with a pose."""
        return len(self.trajectory)

    @property
    def fps(self) -> float:
        """Frames a second through the odometry."""
        return len(self.reports) / self.seconds if self.seconds > 0 else 0.0

    @property
    def ms(self) -> dict[str, float]:
        """Median milliseconds a stage."""
        stages = {name for report in self.reports for name in report.ms}
        return {
            name: float(np.median([report.ms[name] for report in self.reports if name in report.ms]))
            for name in sorted(stages)
        }


def run_odometry(
    sequence: Sequence, odometry: Odometry, align: str = "auto", progress: Progress | None = None
) -> RunResult:
    """Track every frame of `sequence` and evaluate the trajectory where there is ground truth.

    Ctrl-C ends the tracking; what was tracked until then is evaluated and returned.

    Args:
        sequence: frames; see `Sequence.for_mode`.
        odometry: fresh.
        align: "sim3", "se3", "none", or "auto": see `default_alignment`.
        progress: called after each frame.

    Raises:
        InputError: no frame could be tracked.
    """
    seconds, interrupted = 0.0, False
    try:
        for frame in sequence:
            seconds += _timed_track(odometry, frame)
            if progress:
                progress(odometry.reports[-1])
    except KeyboardInterrupt:
        interrupted = True
    total = len(odometry.reports) + len(sequence.skipped)
    if len(odometry.trajectory) < 2:
        reason = next((r.reason for r in odometry.reports if r.reason), "too few readable frames")
        raise InputError(f"{sequence.path}: {len(odometry.trajectory)} of {total} frames tracked ({reason})")
    metrics, note = _evaluate(odometry, sequence.groundtruth, align, total)
    skipped = [f"{item.path}: {item.reason}" for item in sequence.skipped]
    return RunResult(odometry.trajectory, odometry.reports, skipped, total, seconds, metrics, note, interrupted)


def default_alignment(odometry: Odometry) -> str:
    """SE(3) where the scale is known (depth, or ground-truth scale a pair), Sim(3) otherwise."""
    return "sim3" if odometry.mode == "mono" and "ground-truth" not in odometry.scale_label else "se3"


def summary(result: RunResult, sequence: str, odometry: Odometry, out: Path | None) -> dict[str, Any]:
    """The closing table as a flat dict, None where there is no ground truth; units are in the names."""
    metrics = result.metrics
    return {
        "sequence": sequence,
        "frontend": odometry.frontend.name,
        "mode": odometry.mode,
        "scale": odometry.scale_label,
        "frames": result.total,
        "tracked": result.tracked,
        "tracked_percent": 100.0 * result.tracked / result.total,
        "skipped": len(result.skipped),
        "keyframes": sum(report.keyframe for report in result.reports),
        "align": metrics.align if metrics else None,
        "ate_rmse_m": metrics.ate_rmse_m if metrics else None,
        "rpe_trans_m": metrics.rpe_trans_m if metrics else None,
        "rpe_rot_deg": metrics.rpe_rot_deg if metrics else None,
        "kitti_trans_percent": metrics.kitti_trans_percent if metrics else None,
        "kitti_rot_deg_per_100m": metrics.kitti_rot_deg_per_100m if metrics else None,
        "path_length_m": metrics.path_length_m if metrics else None,
        "fps": result.fps,
        "ms": result.ms,
        "note": result.note,
        "out": str(out) if out else None,
    }


def write_run(
    out: Path, config_yaml: str, result: RunResult, row: dict[str, Any], groundtruth: Trajectory | None
) -> None:
    """Write the files of `slamfeat.vo.runfolder`, but for run.log, which grows during the run."""
    from slamfeat.viz.plots import plot_trajectory
    from slamfeat.viz.report import run_report

    write_text(out / "config.yaml", config_yaml)
    result.trajectory.save(out / "trajectory.tum")
    _every_frame(result).save(out / "trajectory.kitti")
    write_text(out / "frames.jsonl", "".join(json.dumps(_plain(asdict(r))) + "\n" for r in result.reports))
    plot_trajectory(result.trajectory, groundtruth, row, out / "trajectory.png")
    write_text(out / "report.html", run_report(row, result.reports, out / "trajectory.png"))
    write_text(out / "metrics.json", json.dumps(_plain(row), indent=2) + "\n")


def _timed_track(odometry: Odometry, frame: Frame) -> float:
    started = time.perf_counter()
    odometry.track(frame)
    return time.perf_counter() - started


def _evaluate(
    odometry: Odometry, groundtruth: Trajectory | None, align: str, total: int
) -> tuple[TrajectoryMetrics | None, str]:
    if groundtruth is None:
        return None, "no ground truth"
    chosen = cast(Align, default_alignment(odometry) if align == "auto" else align)
    try:
        metrics = evaluate(odometry.trajectory, groundtruth, chosen, total_frames=total)
    except InputError as error:
        return None, f"not evaluated: {error}"
    return metrics, metrics.note


def _every_frame(result: RunResult) -> Trajectory:
    """All frames that were read; lost ones repeat the last pose, since KITTI's format has no times."""
    known = dict(zip(result.trajectory.timestamps.tolist(), result.trajectory.poses, strict=True))
    pose, times, poses = np.eye(4), [], []
    for report in result.reports:
        pose = known.get(report.timestamp, pose)
        times.append(report.timestamp)
        poses.append(pose)
    return Trajectory(np.array(times), np.array(poses))


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
