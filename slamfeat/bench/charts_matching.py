"""Charts of the matching task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slamfeat.bench.figures import data_figure, data_sets
from slamfeat.bench.looks import color_of, legend_below, line_of, panels
from slamfeat.bench.reading import Result, distinct, frontends, number, rows_of
from slamfeat.viz.figure import saved_figure

_COLUMNS = 3
_PIXELS = (1, 3, 5, 10)


def pose_chart(result: Result, path: Path) -> bool:
    """AUC at 5 degrees against the gap, a panel a sequence; bars for data without gaps. False: nothing to draw."""
    data = [name for name in data_sets(result, "pose") if _has_figures(result, name)]
    if not data:
        return False
    gapped = [name for name in data if _gaps(result, name)]
    data = gapped + [name for name in data if name not in gapped]
    rows = -(-len(data) // _COLUMNS)
    with saved_figure(path, (3.6 * min(len(data), _COLUMNS), 2.9 * rows + 0.8)) as figure:
        for axes, name in zip(panels(figure, len(data), _COLUMNS), data, strict=True):
            (_gap_panel if name in gapped else _bar_panel)(axes, result, name)
            axes.set_title(name, fontsize=10)
        figure.suptitle("Relative pose: AUC@5° [%], more is better", fontsize=12)
        legend_below(figure, frontends(result), most=4)
    return True


def homography_chart(result: Result, path: Path) -> bool:
    """MMA against its threshold, a panel a data set. False: nothing to draw."""
    data = data_sets(result, "homography")
    curves = {name: _accuracy(result, name) for name in data}
    data = [name for name in data if curves[name]]
    if not data:
        return False
    rows = -(-len(data) // _COLUMNS)
    # A single panel is wide, so that its legend fits below it.
    width = 3.6 * min(len(data), _COLUMNS) if len(data) > 1 else 6.5
    with saved_figure(path, (width, 3.1 * rows + 0.8)) as figure:
        for axes, name in zip(panels(figure, len(data), _COLUMNS), data, strict=True):
            for frontend, values in curves[name].items():
                axes.plot(_PIXELS, values, **line_of(frontend))
            axes.set_title(name, fontsize=10)
            axes.set(xticks=_PIXELS, xlabel="threshold [px]")
        figure.suptitle("Homographies: share of right matches, MMA [%], more is better", fontsize=12)
        legend_below(figure, [name for name in frontends(result) if any(name in c for c in curves.values())], most=4)
    return True


def _accuracy(result: Result, data: str) -> dict[str, list[float]]:
    curves = {}
    for name in frontends(result):
        values = [data_figure(result, data, "homography", name, f"mma_{at}") for at in _PIXELS]
        if any(value is not None for value in values):
            curves[name] = [float("nan") if value is None else value for value in values]
    return curves


def _has_figures(result: Result, data: str) -> bool:
    return any(number(row.get("auc_5")) is not None for row in rows_of(result, data=data, kind="pose"))


def _gaps(result: Result, data: str) -> list[int]:
    groups = [str(group) for (group,) in distinct(rows_of(result, data=data, kind="pose"), "group")]
    return sorted(int(found[1]) for group in groups if (found := re.fullmatch(r"gap (\d+)", group)))


def _gap_panel(axes: Any, result: Result, data: str) -> None:
    gaps = _gaps(result, data)
    for name in frontends(result):
        rows = {row.get("group"): row for row in rows_of(result, data=data, kind="pose", frontend=name)}
        points = [(gap, number(rows.get(f"gap {gap}", {}).get("auc_5"))) for gap in gaps]
        known = [(gap, value) for gap, value in points if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), **line_of(name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(gaps, [str(gap) for gap in gaps])
    axes.minorticks_off()
    axes.set(xlabel="gap [frames]", ylim=(0, None))


def _bar_panel(axes: Any, result: Result, data: str) -> None:
    figures = {name: data_figure(result, data, "pose", name, "auc_5") for name in frontends(result)}
    known = {name: value for name, value in figures.items() if value is not None}
    bars = axes.barh(list(known), list(known.values()), color=[color_of(name) for name in known], height=0.7)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.margins(x=0.18)
    axes.grid(False, axis="y")
