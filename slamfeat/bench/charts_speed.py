"""Charts of the speed task, and the one of accuracy for time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slamfeat.bench.figures import data_figure
from slamfeat.bench.labels import label_points
from slamfeat.bench.looks import color_of, dot_of, log_ticks, panels, shown_name
from slamfeat.bench.reading import Result, Row, frontends, number, rows_of
from slamfeat.bench.registry import OURS
from slamfeat.viz.figure import saved_figure

_SIZE = "640x480"


def speed_chart(result: Result, threads: object, path: Path) -> bool:
    """Stacked bars of extraction and match at 640x480, or the first size there is. False: nothing to draw."""
    size, rows = timed_rows(result, threads)
    if not rows:
        return False
    rows = sorted(rows, key=_total)
    with saved_figure(path, (8, 0.36 * len(rows) + 1.3)) as figure:
        (axes,) = panels(figure, 1, 1)
        _bars(axes, rows)
        axes.set_xlabel("milliseconds a frame: extraction (full) and match (pale), less is better")
        axes.set_title(f"Speed at {size}, {threads} thread{'' if threads == 1 else 's'}", fontsize=12, loc="left")
    return True


def overview_chart(results: Mapping[str, Result], path: Path) -> bool:
    """Accuracy for time: AUC@5 over all pose pairs against milliseconds a frame. False: nothing to draw."""
    matching = results.get("matching") or {}
    times, label = frame_times(results)
    points = {
        name: (times[name], auc)
        for name in frontends(matching)
        if times.get(name) and (auc := data_figure(matching, "all", "pose", name, "auc_5")) is not None
    }
    if not points:
        return False
    with saved_figure(path, (8, 4.8)) as figure:
        (axes,) = panels(figure, 1, 1)
        for name, (ms, auc) in points.items():
            axes.plot([ms], [auc], **dot_of(name) | {"ms": 13 if name == OURS else 9})
        _dress(axes, label)
        label_points(figure, axes, points)
    return True


def frame_times(results: Mapping[str, Result]) -> tuple[dict[str, float], str]:
    """Milliseconds of an extraction and a match by frontend, and how they were measured.

    The speed task's with the fewest threads; without that task, the matching task's own.
    """
    speed = results.get("speed") or {}
    counts = [count for row in rows_of(speed) if (count := number(row.get("threads"))) is not None]
    if counts:
        size, rows = timed_rows(speed, min(counts))
        known = {str(row.get("frontend")): _total(row) for row in rows}
        return known, f"{size}, {min(counts):.0f} thread{'' if min(counts) == 1 else 's'}"
    rows = rows_of(results.get("matching"), kind="pose")
    known = {}
    for row in rows:
        parts = number(row.get("ms_extract")), number(row.get("ms_match"))
        if parts[0] is not None and parts[1] is not None:
            known.setdefault(str(row.get("frontend")), parts[0] + parts[1])
    return known, f"as in the matching task, {rows[0].get('data')}" if rows else ""


def timed_rows(result: Result, threads: object) -> tuple[str, list[Row]]:
    """The size that is shown, 640x480 where there is one, and its rows that have a time."""
    rows = [row for row in rows_of(result, threads=threads) if number(row.get("total_ms")) is not None]
    sizes = [str(row.get("size")) for row in rows]
    size = _SIZE if _SIZE in sizes else next(iter(sizes), "")
    return size, [row for row in rows if row.get("size") == size]


def _total(row: Row) -> float:
    return number(row.get("total_ms")) or 0.0


def _bars(axes: Any, rows: list[Row]) -> None:
    names = [str(row.get("frontend")) for row in rows]
    extract, match = ([number(row.get(key)) or 0.0 for row in rows] for key in ("extract_ms", "match_ms"))
    colors = [color_of(name) for name in names]
    axes.barh(range(len(names)), extract, color=colors, height=0.7)
    bars = axes.barh(range(len(names)), match, left=extract, color=colors, height=0.7, alpha=0.45)
    axes.bar_label(bars, [f"{_total(row):.1f}" for row in rows], padding=4, fontsize=9)
    axes.set_yticks(range(len(names)), [shown_name(name) for name in names])
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == OURS else "normal")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _dress(axes: Any, label: str) -> None:
    log_ticks(axes)
    axes.margins(y=0.15)
    axes.set(xlabel=f"milliseconds of an extraction and a match ({label})", ylabel="AUC@5° over all pose pairs [%]")
    axes.set_title("Accuracy for time: up and to the left is better", fontsize=12, loc="left")
