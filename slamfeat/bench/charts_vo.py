"""The chart of the vo task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slamfeat.bench.looks import dot_of, legend_below, log_ticks
from slamfeat.bench.reading import Result, Row, distinct, frontends, number, rows_of
from slamfeat.viz.figure import GREY, saved_figure

_STEP = 0.12


def ate_chart(result: Result, path: Path) -> bool:
    """ATE of every frontend on every sequence and set-up, with the share tracked below 100 %. False: no ATE at all."""
    setups = distinct(rows_of(result), "sequence", "mode", "scale")
    names = frontends(result)
    if all(number(row.get("ate_rmse_m")) is None for row in rows_of(result)):
        return False
    height = _STEP * len(names) + 0.24
    with saved_figure(path, (9, 1.6 + 1.15 * height * len(setups) + 0.3)) as figure:
        axes = figure.add_subplot()
        for place, (sequence, mode, scale) in enumerate(setups):
            rows = {row.get("frontend"): row for row in rows_of(result, sequence=sequence, mode=mode, scale=scale)}
            for at, name in enumerate(names):
                if name in rows:
                    _dot(axes, rows[name], name, place * height + at * _STEP)
            if place:
                axes.axhline(place * height - _STEP - 0.06, color=GREY, lw=0.6, alpha=0.4)
        middle = (len(names) - 1) / 2 * _STEP
        axes.set_yticks([place * height + middle for place in range(len(setups))], [_label(*setup) for setup in setups])
        axes.set_ylim(height * len(setups) - _STEP, -_STEP - 0.06)
        _dress(axes)
        legend_below(figure, names, dots=True, most=4)
    return True


def _label(sequence: object, mode: object, scale: object) -> str:
    return f"{sequence}\n{mode}" + (f"\n{scale}" if scale else "")


def _dress(axes: Any) -> None:
    log_ticks(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(alpha=0.25, axis="x", which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("ATE [m], less is better; bars: half the range over trials")
    axes.set_title("Odometry: absolute trajectory error (grey: share of the frames tracked)", fontsize=12, loc="left")


def _dot(axes: Any, row: Row, name: str, y: float) -> None:
    ate, tracked = number(row.get("ate_rmse_m")), number(row.get("tracked_percent"))
    if ate is None or ate <= 0:
        axes.annotate(
            f"{name}: lost" if ate is None else f"{name}: 0", (1, y), xycoords=("axes fraction", "data"), ha="right",
            va="center", fontsize=7.5, color=GREY,
        )  # fmt: skip
        return
    spread = number(row.get("ate_spread_m")) or 0.0
    if 0 < spread < ate:
        axes.plot([ate - spread, ate + spread], [y, y], color=dot_of(name)["color"], lw=1.2, zorder=2)
    axes.plot([ate], [y], **dot_of(name))
    if tracked is not None and tracked < 99.95:
        axes.annotate(
            f"{tracked:.0f} %", (ate + spread, y), xytext=(8, 0), textcoords="offset points", va="center", fontsize=7.5,
            color=GREY,
        )  # fmt: skip
