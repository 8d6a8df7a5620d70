"""The trajectory picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.geometry.se3 import Array
from slamfeat.types import Trajectory
from slamfeat.viz.figure import BLUE, GREY, ORANGE, saved_figure

_AXES = "xyz"
_TRUTH = {"color": GREY, "lw": 3, "alpha": 0.55}


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
    with saved_figure(path, (11, 5.2)) as figure:
        grid = figure.add_gridspec(3, 2, width_ratios=(1.15, 1))
        _plan(figure.add_subplot(grid[:, 0]), estimate, shown)
        _over_time([figure.add_subplot(grid[axis, 1]) for axis in range(3)], estimate, shown)
        figure.suptitle(title(row), fontsize=11)


def title(row: dict[str, Any]) -> str:
    """Two lines: sequence, frontend and mode; then the error with its alignment, the scale and the tracked share."""
    second = [f"tracked {row['tracked_percent']:.0f} %", str(row["scale"])]
    if row["ate_rmse_m"] is not None:
        second.insert(0, f"ATE {_length(row['ate_rmse_m'])} ({row['align']})")
    return f"{row['sequence']} · {row['frontend']} · {row['mode']}\n{' · '.join(second)}"


def _length(metres: float) -> str:
    return f"{100 * metres:.2g} cm" if metres < 0.1 else f"{metres:.3g} m"


def _plan(axes: Any, estimate: Trajectory, reference: Trajectory | None) -> None:
    shown = reference.positions if reference is not None else estimate.positions
    first, second = sorted(np.argsort(np.ptp(shown, axis=0))[1:])
    if reference is not None:
        axes.plot(*_two(reference.positions, first, second), label="ground truth", **_TRUTH)
    axes.plot(*_two(estimate.positions, first, second), color=BLUE, lw=1.5, label="estimate")
    axes.plot(*_two(estimate.positions[:1], first, second), "o", color=ORANGE, ms=7, label="start")
    axes.plot(*_two(estimate.positions[-1:], first, second), "s", color=ORANGE, ms=6, label="end")
    axes.set(xlabel=f"{_AXES[first]} [m]", ylabel=f"{_AXES[second]} [m]")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="best", framealpha=0.9)


def _over_time(panels: list[Any], estimate: Trajectory, reference: Trajectory | None) -> None:
    """A panel an axis, one below the other on the same time and with the same span: their errors compare."""
    every = estimate.positions if reference is None else np.concatenate([estimate.positions, reference.positions])
    half = max(0.55 * float(np.ptp(every, axis=0).max()), 1e-3)
    middle, start = (every.max(0) + every.min(0)) / 2, estimate.timestamps[0]
    for axis, panel in enumerate(panels):
        if reference is not None:
            panel.plot(reference.timestamps - start, reference.positions[:, axis], **_TRUTH)
        panel.plot(estimate.timestamps - start, estimate.positions[:, axis], color=BLUE, lw=1.4)
        panel.set(ylabel=f"{_AXES[axis]} [m]", ylim=(middle[axis] - half, middle[axis] + half))
        panel.grid(alpha=0.3)
        panel.tick_params(labelbottom=axis == 2)
        panel.sharex(panels[0])
    panels[-1].set_xlabel("time [s]")
    panels[0].figure.align_ylabels(panels)


def _two(positions: Array, first: int, second: int) -> tuple[Array, Array]:
    return positions[:, first], positions[:, second]
