"""The chart of time against accuracy, with the front that nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slamfeat.bench.labels import label_points
from slamfeat.bench.looks import color_of, dot_of, log_ticks, panels
from slamfeat.viz.figure import BLUE, GREY, saved_figure

Row = Mapping[str, Any]


def pareto_front(rows: Sequence[Row], key: str) -> list[str]:
    """Names of the rows that no other is both faster and at least as accurate than, fastest first."""
    known = [row for row in rows if row["total_ms"] is not None and row[key] is not None]
    front: list[str] = []
    best = float("-inf")
    for row in sorted(known, key=lambda row: (row["total_ms"], -row[key])):
        if row[key] > best:
            front.append(row["frontend"])
            best = row[key]
    return front


def draw(rows: Sequence[Row], figures: Mapping[str, str], label: str, path: Path) -> None:
    """One panel a figure: milliseconds (log) against accuracy, front as a line, presets strong, variants small.

    Args:
        rows: with "frontend", "total_ms", "ours", "preset" and the figures; a row that lacks one is left out.
        figures: axis labels by the rows' key.
        label: how the time was measured.
        path: the picture.
    """
    with saved_figure(path, (7.5 * len(figures), 5.2)) as figure:
        for axes, (key, title) in zip(panels(figure, len(figures), len(figures)), figures.items(), strict=True):
            _panel(figure, axes, [r for r in rows if r["total_ms"] is not None and r[key] is not None], key)
            axes.set(xlabel=f"milliseconds of an extraction and a match ({label})", ylabel=title)


def _panel(figure: Any, axes: Any, rows: Sequence[Row], key: str) -> None:
    points = {row["frontend"]: (row["total_ms"], row[key]) for row in rows}
    kinds = {row["frontend"]: row for row in rows}
    front = [points[name] for name in pareto_front(rows, key)]
    if front:
        axes.step(*zip(*front, strict=True), where="post", color=GREY, lw=1, ls=":", zorder=2)
    for name, (ms, value) in points.items():
        axes.plot([ms], [value], **_mark(name, kinds[name]))
    if points:
        log_ticks(axes)
        axes.margins(y=0.15)
        colors = {name: _mark(name, kinds[name])["color"] for name in points}
        label_points(figure, axes, points, colors.__getitem__, lambda name: kinds[name]["preset"], above=True)


def _mark(name: str, row: Row) -> dict[str, Any]:
    if not row["ours"]:
        return dot_of(name) | {"color": color_of(name), "ms": 8}
    looks = {"ls": "none", "marker": "o", "mec": "white", "mew": 0.6, "label": name}
    return looks | ({"color": BLUE, "ms": 12, "zorder": 5} if row["preset"] else {"color": "#7aa2f0", "ms": 6})
