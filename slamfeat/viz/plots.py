"""The trajectory picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.geometry.se3 import Array
from slamfeat.types import Trajectory
from slamfeat.viz.figure import BLUE, GREY, ORANGE, saved_figure

_AXES = "xyz"


def plot_trajectory(estimate: Trajectory, reference: Trajectory | None, row: dict[str, Any], path: str | Path) -> None:
    """Draw the two axes of largest extent, and every axis over time.

    Args:
        estimate: tracked frames.
        reference: ground truth; the estimate is drawn aligned to it as `row["align"]` says.
        row: the closing table, for the title.
        path: picture to write.
    """
    from slamfeat.eval import associate_and_align

    shown = None
    if reference is not None and row["align"] is not None:
        pair = associate_and_align(estimate, reference, row["align"])
        estimate, shown = Trajectory(pair.timestamps, pair.estimate), Trajectory(pair.timestamps, pair.reference)
    with saved_figure(path, (11, 4.6)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        _plan(left, estimate, shown)
        _over_time(right, estimate, shown)
        figure.suptitle(title(row), fontsize=11)


def title(row: dict[str, Any]) -> str:
    """One line: sequence, frontend, error with its alignment, tracked share."""
    parts = [str(row["sequence"]), str(row["frontend"]), f"{row['mode']}, {row['scale']}"]
    if row["ate_rmse_m"] is not None:
        parts.append(f"ATE {row['ate_rmse_m']:.3f} m ({row['align']})")
    return " · ".join([*parts, f"tracked {row['tracked_percent']:.0f} %"])


def _plan(axes: Any, estimate: Trajectory, reference: Trajectory | None) -> None:
    shown = reference.positions if reference is not None else estimate.positions
    first, second = sorted(np.argsort(np.ptp(shown, axis=0))[1:])
    if reference is not None:
        axes.plot(*_two(reference.positions, first, second), color=GREY, lw=2.5, alpha=0.6, label="ground truth")
    axes.plot(*_two(estimate.positions, first, second), color=BLUE, lw=1.6, label="estimate")
    axes.plot(*_two(estimate.positions[:1], first, second), "o", color=ORANGE, label="start")
    axes.set(xlabel=f"{_AXES[first]} [m]", ylabel=f"{_AXES[second]} [m]")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _over_time(axes: Any, estimate: Trajectory, reference: Trajectory | None) -> None:
    start = estimate.timestamps[0]
    for axis, color in enumerate((BLUE, ORANGE, "#16a34a")):
        axes.plot(estimate.timestamps - start, estimate.positions[:, axis], color=color, lw=1.4, label=_AXES[axis])
        if reference is not None:
            axes.plot(reference.timestamps - start, reference.positions[:, axis], color=color, lw=3, alpha=0.3)
    axes.set(xlabel="time [s]", ylabel="position [m], pale: ground truth" if reference is not None else "position [m]")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=3)


def _two(positions: Array, first: int, second: int) -> tuple[Array, Array]:
    return positions[:, first], positions[:, second]
