"""The chart of benchmarks.engines: milliseconds of every engine, a panel a size and number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slamfeat.bench.looks import panels
from slamfeat.bench.reading import distinct
from slamfeat.viz.figure import saved_figure

_COLORS = {"torch": "#c0605a", "openvino": "#2563eb", "onnx": "#5fa08a"}
_FADED = {"fp32": 0.45, "bf16": 0.72, "int8": 1.0}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars of the first weights' rows, the share of the peak in the engine's own precision beside each."""
    timed = [row for row in rows if row.get("median_ms") is not None]
    timed = [row for row in timed if row["weights"] == timed[0]["weights"]]
    places = distinct(timed, "threads", "size")
    if not places:
        return
    columns = len(distinct(timed, "size"))
    with saved_figure(path, (4.6 * columns, 2.6 * -(-len(places) // columns))) as figure:
        for axes, (threads, size) in zip(panels(figure, len(places), columns), places, strict=True):
            own = [row for row in timed if (row["threads"], row["size"]) == (threads, size)]
            _bars(axes, sorted(own, key=lambda row: row["median_ms"]))
            axes.set_title(
                f"{size}, {own[0]['tokens']} tokens, {threads} thread{'s' if threads > 1 else ''}", fontsize=10
            )
        figure.supxlabel("milliseconds of the backbone (in brackets: of the peak in its precision)", fontsize=10)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [f"{row['engine']} {row['arithmetic']}" for row in rows]
    for name, row in zip(names, rows, strict=True):
        bar = axes.barh([name], [row["median_ms"]], color=_COLORS[row["engine"]], alpha=_FADED[row["arithmetic"]])
        share = row["of_own_peak_percent"]
        text = f"{row['median_ms']:.1f}" + ("" if share is None else f" ({share:.0f} %)")
        axes.bar_label(bar, [text], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False, axis="y")
