"""The folder a run writes. Exactly this tree (a test holds it):

OUT/
  config.yaml       everything the run was made with; its first line is the command that repeats it
  trajectory.tum    tracked frames: timestamp tx ty tz qx qy qz qw, T_world_camera
  trajectory.kitti  every frame, 3x4 row by row; a lost or unreadable frame repeats the last pose
  metrics.json      the closing table
  frames.jsonl      a line a frame: tracked, keyframe, carried, keypoints, matches, inliers, extractions,
                    displacement, why lost, milliseconds a stage
  run.log           what happened when: skipped and lost frames, warnings
  trajectory.png    from above and over time, with ground truth where there is some
  report.html       all of it on one page

While a run is under way its files are in OUT/.writing-PID; they move up together at the end. A run that fails leaves
OUT as it was. `latest` in the nearest folder named `runs` points at the newest run.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slamfeat.errors import OutputError
from slamfeat.files import write_text
from slamfeat.types import Trajectory

if TYPE_CHECKING:
    from slamfeat.vo.run import RunResult

FILES = (
    "config.yaml", "frames.jsonl", "metrics.json", "report.html", "run.log", "trajectory.kitti", "trajectory.png",
    "trajectory.tum",
)  # fmt: skip
_STAGING = ".writing-"


def check_free(out: Path, overwrite: bool) -> None:
    """Raise OutputError when `out` is a file, or holds something already and `overwrite` is off."""
    if out.is_file():
        raise OutputError(f"{out} is a file; choose another --out")
    held = out.is_dir() and any(not child.name.startswith(_STAGING) for child in out.iterdir())
    if held and not overwrite:
        raise OutputError(f"{out} already holds a run; choose another --out, or pass --overwrite")


@contextmanager
def run_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a folder to write a run's files into; they appear in `out` when the block ends without an error.

    Raises:
        OutputError: `out` holds something already and `overwrite` is off, it is a file, or it cannot be written.
    """
    check_free(out, overwrite)
    existed, staging = out.exists(), out / f"{_STAGING}{os.getpid()}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write the folder {out}: {error.strerror}; choose another --out") from error
    try:
        yield staging
        for name in FILES:
            (staging / name).replace(out / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and not any(out.iterdir()):
            out.rmdir()


def write_run(
    folder: Path, config_yaml: str, result: RunResult, row: dict[str, Any], groundtruth: Trajectory | None
) -> None:
    """Write the files of a run, but for run.log, which grows during the run (see `slamfeat.run_log`)."""
    from slamfeat.viz.plots import plot_trajectory
    from slamfeat.viz.report import run_report

    write_text(folder / "config.yaml", config_yaml)
    result.trajectory.save(folder / "trajectory.tum")
    _every_frame(result).save(folder / "trajectory.kitti")
    write_text(folder / "frames.jsonl", "".join(json.dumps(plain(asdict(r))) + "\n" for r in result.reports))
    plot_trajectory(result.trajectory, groundtruth, row, folder / "trajectory.png")
    write_text(folder / "report.html", run_report(row, result.reports, folder / "trajectory.png", config_yaml))
    write_text(folder / "metrics.json", json.dumps(row, indent=2) + "\n")


def point_latest(out: Path) -> None:
    """Let `latest` in the nearest folder named `runs` above `out` point at it, where the file system has links."""
    out = out.absolute()
    runs = next((parent for parent in out.parents if parent.name == "runs"), None)
    if runs is None or ((runs / "latest").exists() and not (runs / "latest").is_symlink()):
        return
    temporary = runs / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(out.relative_to(runs))
        temporary.replace(runs / "latest")
    except OSError:
        temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _every_frame(result: RunResult) -> Trajectory:
    """A pose for every frame, unreadable ones among them: a line of KITTI's format belongs to a frame by its place."""
    known = dict(zip(result.trajectory.timestamps.tolist(), result.trajectory.poses, strict=True))
    by_index = {report.index: known[report.timestamp] for report in result.reports if report.timestamp in known}
    pose, poses = np.eye(4), []
    for index in range(result.total):
        pose = by_index.get(index, pose)
        poses.append(pose)
    return Trajectory(np.arange(len(poses), dtype=np.float64), np.array(poses))
