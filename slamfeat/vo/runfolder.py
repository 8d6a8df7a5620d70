"""The folder a run writes. Exactly this tree (a test holds it):

OUT/
  config.yaml       everything the run was made with; `slamfeat run PATH --recipe config.yaml` repeats it
  trajectory.tum    tracked frames: timestamp tx ty tz qx qy qz qw, T_world_camera
  trajectory.kitti  every frame of the sequence, 3x4 row by row; a lost frame repeats the last pose
  metrics.json      the closing table
  frames.jsonl      a line a frame: tracked, keyframe, matches, inliers, why lost, milliseconds a stage
  run.log           warnings, such as skipped frames
  trajectory.png    from above and the side, with ground truth where there is some
  report.html       all of it on one page
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slamfeat.errors import OutputError

FILES = (
    "config.yaml", "frames.jsonl", "metrics.json", "report.html", "run.log", "trajectory.kitti", "trajectory.png",
    "trajectory.tum",
)  # fmt: skip


def prepare_folder(out: Path, overwrite: bool) -> Path:
    """Make the folder of a new run.

    Raises:
        OutputError: it holds a run already and `overwrite` is off, it is a file, or it cannot be written.
    """
    if out.is_file():
        raise OutputError(f"{out} is a file; choose another --out")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(f"{out} already holds a run; choose another --out, or pass --overwrite")
        for name in FILES:
            (out / name).unlink(missing_ok=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from error
    if not os.access(out, os.W_OK):
        raise OutputError(f"cannot write into {out}: permission denied; choose another --out")
    return out


def point_latest(out: Path) -> None:
    """Let `latest` beside the run point at it, where the file system has links."""
    link, temporary = out.parent / "latest", out.parent / f".latest-{os.getpid()}"
    if link.exists() and not link.is_symlink():
        return
    try:
        temporary.symlink_to(out.name)
        temporary.replace(link)
    except OSError:
        temporary.unlink(missing_ok=True)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write slamfeat's warnings to `path` as well, while the block runs."""
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("slamfeat")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
