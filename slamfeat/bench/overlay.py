"""One picture of many trajectories over the same ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from slamfeat.types import Trajectory
from slamfeat.viz.figure import GREY, saved_figure

_AXES = "xyz"


def draw_overlay(estimates: Mapping[str, Trajectory], truth: Trajectory, title: str, path: Path) -> None:
    """Draw the two axes of largest extent.

    Args:
        estimates: aligned trajectories by frontend.
        truth: ground truth at the frames.
        title: printed above.
        path: picture to write.
    """
    from slamfeat.bench.looks import color_of, shown_name, width_of

    first, second = sorted(np.argsort(np.ptp(truth.positions, axis=0))[1:])
    with saved_figure(path, (8.5, 6)) as figure:
        axes = figure.add_subplot()
        axes.plot(*truth.positions[:, [first, second]].T, color=GREY, lw=5, alpha=0.4, label="ground truth")
        for name, trajectory in estimates.items():
            axes.plot(
                *trajectory.positions[:, [first, second]].T, color=color_of(name), lw=width_of(name),
                label=shown_name(name),
            )  # fmt: skip
        low, high = truth.positions.min(0)[[first, second]], truth.positions.max(0)[[first, second]]
        margin = 0.25 * float((high - low).max())
        # A trajectory that has gone astray must not shrink the others to a dot.
        axes.set_xlim(low[0] - margin, high[0] + margin)
        axes.set_ylim(low[1] - margin, high[1] + margin)
        axes.set_aspect("equal")
        axes.set(xlabel=f"{_AXES[first]} [m]", ylabel=f"{_AXES[second]} [m]", title=title)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
