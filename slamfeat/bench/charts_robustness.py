"""Charts of the robustness task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slamfeat.bench.figures import degradations, mean_area
from slamfeat.bench.looks import color_of, legend_below, line_of, panels
from slamfeat.bench.reading import Result, Row, frontends, number, rows_of
from slamfeat.bench.tables import amount_text
from slamfeat.viz.figure import saved_figure

_COLUMNS = 3


def levels_chart(result: Result, sequence: str, mode: str, path: Path) -> bool:
    """Scores of a sequence against how strongly it is degraded, a panel a degradation. False: nothing to draw."""
    rows = [row for row in rows_of(result, sequence=sequence, mode=mode) if row.get("levels")]
    names = list(dict.fromkeys(str(row.get("degradation")) for row in rows))
    if not names:
        return False
    lines = -(-len(names) // _COLUMNS)
    with saved_figure(path, (3.4 * min(len(names), _COLUMNS), 2.5 * lines + 1.0)) as figure:
        for axes, name in zip(panels(figure, len(names), _COLUMNS, sharey=True), names, strict=True):
            _levels_panel(axes, [row for row in rows if row.get("degradation") == name])
            axes.set_title(name.replace("_", " "), fontsize=10)
        figure.suptitle(f"{sequence} {mode}: score [%], more is better", fontsize=12)
        legend_below(figure, [n for n in frontends(result) if any(row.get("frontend") == n for row in rows)], most=4)
    return True


def area_chart(result: Result, path: Path) -> bool:
    """Area under the scores, a panel a degradation and one for all, bars a frontend. False: nothing to draw."""
    names = frontends(result)
    figures = {d: [mean_area(result, d, name) for name in names] for d in ["all", *degradations(result)]}
    shown = {d: values for d, values in figures.items() if any(value is not None for value in values)}
    if not shown:
        return False
    lines = -(-len(shown) // _COLUMNS)
    size = (3.4 * min(len(shown), _COLUMNS), (0.24 * len(names) + 0.5) * lines + 0.6)
    with saved_figure(path, size) as figure:
        grid = panels(figure, len(shown), _COLUMNS, sharey=True)
        for axes, (degradation, values) in zip(grid, shown.items(), strict=True):
            _area_panel(axes, names, values)
            axes.set_title(degradation.replace("_", " "), fontsize=10, weight="bold" if degradation == "all" else None)
        grid[0].invert_yaxis()  # the panels share it
        figure.suptitle("Robustness: area under the score [%], more is better", fontsize=12)
    return True


def _levels_panel(axes: Any, rows: list[Row]) -> None:
    longest = max((row["levels"] for row in rows), key=len)
    for row in rows:
        scores = [number(level.get("score_percent")) for level in row["levels"]]
        axes.plot([float("nan") if s is None else s for s in scores], **line_of(str(row.get("frontend"))))
    axes.set_xticks(range(len(longest)), [amount_text(level) for level in longest])
    axes.set_xlim(-0.25, len(longest) - 0.75)
    axes.set_ylim(-4, 104)
    axes.set_xlabel(str(rows[0].get("unit") or ""), fontsize=9)


def _area_panel(axes: Any, names: list[str], values: list[float | None]) -> None:
    bars = axes.barh(names, [value or 0.0 for value in values], color=[color_of(n) for n in names], height=0.7)
    texts = ["no result" if value is None else f"{value:.1f}" for value in values]
    axes.bar_label(bars, texts, padding=3, fontsize=8)
    axes.set_xlim(0, 115)
    axes.set_xticks([0, 50, 100])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False, axis="y")
