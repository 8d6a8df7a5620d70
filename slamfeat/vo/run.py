"""Run odometry over a sequence and evaluate it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from slamfeat.data import Sequence
from slamfeat.data.records import SkippedFrame
from slamfeat.errors import InputError
from slamfeat.eval import TrajectoryMetrics, evaluate
from slamfeat.eval.alignment import Align
from slamfeat.types import Trajectory
from slamfeat.vo.odometry import Odometry
from slamfeat.vo.pipelined import tracking
from slamfeat.vo.report import FrameReport
from slamfeat.vo.runfolder import plain

log = logging.getLogger("slamfeat")

Progress = Callable[[FrameReport], None]


@dataclass(frozen=True)
class RunResult:
    """What came out of a run.

    Attributes:
        trajectory: tracked frames; reports: all frames that were read; skipped: frames that could not be read.
        total: frames of the sequence.
        seconds: wall time from the first frame's reading to the last one's pose. The stages overlap where
            `vo.pipelined` is on, so that it may be less than the sum of their milliseconds.
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
        """Frames a second of wall time, reading included."""
        return len(self.reports) / self.seconds if self.seconds > 0 else 0.0

    @property
    def backbone_percent(self) -> float:
        """Extractions from left images, in percent of the frames read."""
        return 100.0 * sum(report.extractions for report in self.reports) / max(len(self.reports), 1)

    @property
    def ms(self) -> dict[str, float]:
        """Median milliseconds a stage, each from its own begin to its own end, also where stages overlap."""
        stages = {name for report in self.reports for name in report.ms}
        return {
            name: float(np.median([report.ms[name] for report in self.reports if name in report.ms]))
            for name in sorted(stages)
        }


def run_odometry(
    sequence: Sequence,
    odometry: Odometry,
    align: str = "auto",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Track every frame of `sequence` and evaluate the trajectory where there is ground truth.

    Ctrl-C ends the tracking; what was tracked until then is evaluated and returned.

    Args:
        sequence: frames; see `Sequence.for_mode`.
        odometry: fresh.
        align: "sim3", "se3", "none", or "auto": see `default_alignment`.
        progress: called after each frame.
        stop: asked after each frame; true ends the tracking as Ctrl-C does, but never in the middle of a frame.

    Raises:
        InputError: no frame could be tracked, or an unknown word for `align`.
        KeyboardInterrupt: interrupted before two frames were tracked.
    """
    check_align(align)
    seconds, interrupted = _track_all(sequence, odometry, progress, stop)
    passed = _passed(sequence.skipped, odometry.reports) if interrupted else sequence.skipped
    total = len(odometry.reports) + len(passed)
    if len(odometry.trajectory) < 2:
        if interrupted:
            raise KeyboardInterrupt
        raise InputError(f"{sequence.path}: {_why_not(odometry, total)}")
    metrics, note = _evaluate(odometry, sequence.groundtruth, align, total)
    skipped = [f"{item.path}: {item.reason}" for item in passed]
    return RunResult(odometry.trajectory, odometry.reports, skipped, total, seconds, metrics, note, interrupted)


def check_align(align: str) -> None:
    """Raise InputError unless `align` is a word that `run_odometry` knows."""
    known = (*get_args(Align), "auto")
    if align not in known:
        raise InputError(f"unknown alignment '{align}'; use --align {', '.join(known[:-1])} or auto")


def default_alignment(odometry: Odometry) -> str:
    """SE(3) where the scale is known (depth, stereo, or ground-truth scale a pair), Sim(3) otherwise."""
    return alignment_for(odometry.mode, odometry.scale_label)


def alignment_for(mode: str, scale_label: str) -> str:
    """See `default_alignment`."""
    return "sim3" if mode == "mono" and "ground-truth" not in scale_label else "se3"


def summary(result: RunResult, sequence: str, odometry: Odometry, out: Path | None) -> dict[str, Any]:
    """The closing table as a flat dict, None where there is no ground truth; units are in the names."""
    metrics = result.metrics
    row = {
        "sequence": sequence,
        "frontend": odometry.frontend.name,
        "mode": odometry.mode,
        "scale": odometry.scale_label,
        "frames": result.total,
        "tracked": result.tracked,
        "tracked_percent": 100.0 * result.tracked / result.total,
        "skipped": len(result.skipped),
        "keyframes": sum(report.keyframe for report in result.reports),
        "backbone_percent": result.backbone_percent,
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
        "interrupted": result.interrupted,
        "out": str(out) if out else None,
    }
    return cast(dict[str, Any], plain(row))


def _track_all(
    sequence: Sequence, odometry: Odometry, progress: Progress | None, stop: Callable[[], bool] | None
) -> tuple[float, bool]:
    """Seconds of wall time, and whether it was stopped before the end."""
    started, interrupted = time.perf_counter(), False
    try:
        with tracking(sequence, odometry) as reports:
            for report in reports:
                if progress:
                    progress(report)
                if stop and stop():
                    interrupted = True
                    break
            seconds = time.perf_counter() - started
    except KeyboardInterrupt:
        return time.perf_counter() - started, True
    return seconds, interrupted


def _passed(skipped: list[SkippedFrame], reports: list[FrameReport]) -> list[SkippedFrame]:
    """Unreadable frames before the last tracked one: reading may have been ahead when it was stopped."""
    return [item for item in skipped if reports and item.index < reports[-1].index]


def _why_not(odometry: Odometry, total: int) -> str:
    reasons = [report.reason for report in odometry.reports if report.reason]
    why = max(reasons, key=reasons.count) if reasons else "too few readable frames"
    advice = "check the images and their calibration" if total > 2 else "give at least three frames"
    return f"only {len(odometry.trajectory)} of {total} frames tracked ({why}); {advice}"


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
