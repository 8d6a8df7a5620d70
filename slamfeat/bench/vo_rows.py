"""Rows of the vo table from kept runs, and one picture of overlaid trajectories a sequence and set-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.guard import describe_failures
from slamfeat.bench.store import file_name
from slamfeat.bench.vo import kept_runs
from slamfeat.data import Sequence
from slamfeat.errors import InputError
from slamfeat.eval import TrajectoryMetrics, evaluate
from slamfeat.eval.alignment import Align
from slamfeat.types import Trajectory

_METRICS = (
    "ate_rmse_m", "rpe_trans_m", "rpe_rot_deg", "kitti_trans_percent", "kitti_rot_deg_per_100m",
)  # fmt: skip


def rows_of(config: BenchConfig, out: Path) -> Iterator[dict[str, Any]]:
    """A row a sequence, set-up and frontend: the median over trials, with half the range of the ATE beside it."""
    for word, sequence, setup, frontend, runs in kept_runs(config, out):
        trials = [_trial(arrays, facts, sequence) for arrays, facts in runs]
        facts = runs[0][1]
        times = {key: facts[key] for key in ("ms_extract", "ms_match", "ms_pose")}
        yield {
            "sequence": word.name, "mode": setup.mode, "scale": facts["scale"], "frontend": frontend,
            "trials": len(trials), **_medians(trials), **times,
            "failed": describe_failures([facts["failures"]]),
            "note": next((trial["note"] for trial in trials if trial["note"]), ""), "items": trials,
        }  # fmt: skip


def draw_trajectories(config: BenchConfig, out: Path, folder: Path) -> dict[str, str]:
    """Pictures of the first trial's trajectories, aligned; title -> file name in `folder`'s trajectories/."""
    from slamfeat.bench.overlay import draw_overlay
    from slamfeat.eval.alignment import associate_and_align

    drawn: dict[str, dict[str, Trajectory]] = {}
    truths: dict[str, Trajectory] = {}
    for word, sequence, setup, frontend, runs in kept_runs(config, out):
        arrays, facts = runs[0]
        if sequence.groundtruth is None or len(arrays["timestamps"]) < 3:
            continue
        title = f"{word.name} {setup.mode} {setup.scale}"
        trajectory = Trajectory(arrays["timestamps"], arrays["poses"])
        try:
            pair = associate_and_align(trajectory, sequence.groundtruth, _alignment(facts))
        except InputError:
            continue
        drawn.setdefault(title, {})[frontend] = Trajectory(pair.timestamps, pair.estimate)
        if title not in truths or len(pair.timestamps) > len(truths[title]):
            truths[title] = Trajectory(pair.timestamps, pair.reference)
    pictures = {}
    for title, trajectories in drawn.items():
        name = f"trajectories/{file_name(title)}.png"
        draw_overlay(trajectories, truths[title], title, folder / name)
        pictures[title] = name
    return pictures


def _alignment(facts: dict[str, Any]) -> Align:
    return "se3" if facts["metric"] else "sim3"


def _trial(arrays: dict[str, Any], facts: dict[str, Any], sequence: Sequence) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tracked_percent": 100.0 * facts["tracked"] / max(facts["frames"], 1), "frames": facts["frames"],
        "keyframes": facts["keyframes"], "align": _alignment(facts), "note": "", **dict.fromkeys(_METRICS),
    }  # fmt: skip
    if sequence.groundtruth is None:
        return row | {"note": "no ground truth"}
    if facts["tracked"] < 2:
        return row | {"note": "lost"}
    trajectory = Trajectory(arrays["timestamps"], arrays["poses"])
    try:
        metrics: TrajectoryMetrics = evaluate(
            trajectory, sequence.groundtruth, _alignment(facts), total_frames=facts["frames"]
        )  # fmt: skip
    except InputError as error:
        return row | {"note": str(error)}
    values = metrics.as_dict()
    return row | {key: values[key] for key in _METRICS} | {"note": metrics.note}


def _medians(trials: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {"align": trials[0]["align"], "frames": trials[0]["frames"]}
    for key in ("tracked_percent", "keyframes", *_METRICS):
        values = [trial[key] for trial in trials if trial[key] is not None]
        out[key] = float(np.median(values)) if values else None
    ates = [trial["ate_rmse_m"] for trial in trials if trial["ate_rmse_m"] is not None]
    out["ate_spread_m"] = float(np.ptp(ates)) / 2 if len(trials) > 1 and ates else None
    out["keyframes"] = int(out["keyframes"]) if out["keyframes"] is not None else None
    return out
