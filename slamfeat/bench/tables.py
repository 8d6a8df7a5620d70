"""Markdown of finished results: all rows for benchmarks/results, a compact table for the README."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slamfeat.bench.cells import Cell, Table, plain_cell, table_of_rows
from slamfeat.bench.provenance import header_line
from slamfeat.bench.reading import Result, best_of, distinct, frontends, rows_of, weighted_mean
from slamfeat.bench.summaries import ate_cell, summary
from slamfeat.eval.report import heading

_COUNTS = ("matches", "inliers", "failed")
_POSE = (
    "data", "group", "frontend", "pairs", "auc_1", "auc_2", "auc_5", "auc_10", "auc_20", "rot_auc_5", "median_deg",
    "matches", "inliers", "precision", "ms_extract", "ms_match", "failed",
)  # fmt: skip
_HOMOGRAPHY = (
    "data", "group", "frontend", "pairs", "h_auc_1", "h_auc_3", "h_auc_5", "h_auc_10", "mma_1", "mma_3", "mma_5",
    "mma_10", *_COUNTS,
)  # fmt: skip
_VO = (
    "sequence", "mode", "scale", "frontend", "trials", "tracked_percent", "align", "ate_rmse_m", "ate_spread_m",
    "rpe_trans_m", "rpe_rot_deg", "kitti_trans_percent", "kitti_rot_deg_per_100m", "keyframes", "ms_extract",
    "ms_match", "ms_pose", "failed", "note",
)  # fmt: skip
_AREA = ("sequence", "mode", "degradation", "frontend", "area_percent", "failed")
_PEAK = (
    "threads", "fp32_gflops", "bf16_gflops", "int8_gflops", "tokens", "backbone_ms", "backbone_gflops",
    "backbone_engine", "backbone_precision", "share_percent",
)  # fmt: skip


def markdown(result: Result) -> str:
    """The line that says where the figures come from, and tables with all of them; the best of each group in bold."""
    tables = full_tables(result)
    titled = [(f"### {table.title}\n\n" if len(tables) > 1 else "") + table.markdown() for table in tables]
    return "\n".join(part for part in (_head(result), *titled) if part)


def summary_markdown(result: Result) -> str:
    """One compact table without the line; empty where there is nothing to show."""
    table = summary(result)
    return table.markdown() if table.rows else ""


def header_text(result: Result) -> str:
    """Date, processor, threads, torch, commit and command on a line of markdown; empty without a header."""
    header = result.get("header") or {}
    return header_line({"command": "", **header}).removesuffix("; ``") if header else ""


def full_tables(result: Result) -> list[Table]:
    """Tables that hold every figure of a result, without those that have no lines."""
    made = _MAKERS.get(str(result.get("task", "")))
    return [table for table in made(result) if table.rows] if made else []


def _head(result: Result) -> str:
    estimator = result.get("estimator")
    budget = result.get("num_keypoints")
    extra = [f"estimator {estimator}"] if estimator else []
    extra += [f"{budget} keypoints"] if budget else []
    lines = [text for text in (header_text(result), ", ".join(extra)) if text]
    return "  \n".join(lines) + "\n" if lines else ""


def _matching(result: Result) -> list[Table]:
    group = ("data", "group")
    return [
        by_gap(result),
        table_of_rows("Relative pose", rows_of(result, kind="pose"), _POSE, group),
        table_of_rows("Homographies", rows_of(result, kind="homography"), _HOMOGRAPHY, group),
    ]


def by_gap(result: Result, keys: Sequence[str] = ("auc_5", "auc_20")) -> Table:
    """Rates of relative poses at every gap, all sequences together, a column a frontend."""
    names, rows = frontends(result), rows_of(result, kind="pose")
    gaps = [group for (group,) in distinct(rows, "group") if str(group).startswith("gap ")]
    lines = []
    for key in keys:
        for gap in gaps:
            here = rows_of(result, kind="pose", group=gap)
            parts = len(distinct(here, "data"))
            values = [weighted_mean([row for row in here if row.get("frontend") == name], key, parts) for name in names]
            best = best_of(key, values)
            cells = [plain_cell(key, value, best=place in best) for place, value in enumerate(values)]
            lines.append((Cell(heading(key)), Cell(str(gap)), *cells))
    note = "All sequences together, weighted by pairs; a gap is the number of frames between the images."
    return Table("By gap", ("rate", "gap", *names), tuple(lines), (note,))


def _vo(result: Result) -> list[Table]:
    return [table_of_rows("All runs", rows_of(result), _VO, ("sequence", "mode", "scale"))]


def _robustness(result: Result) -> list[Table]:
    areas = table_of_rows("Area under the score", rows_of(result), _AREA, ("sequence", "mode", "degradation"))
    places = distinct([row for row in rows_of(result) if row.get("levels")], "sequence", "mode")
    return [areas, *(_levels(result, *place) for place in places)]


def _levels(result: Result, sequence: str, mode: str) -> Table:
    """ATE of every frontend at every level of every degradation of a sequence."""
    names, rows = frontends(result), rows_of(result, sequence=sequence, mode=mode)
    lines = []
    for degradation, unit in distinct(rows, "degradation", "unit"):
        own = {row.get("frontend"): row.get("levels") or [] for row in rows if row.get("degradation") == degradation}
        longest = max(own.values(), key=len)
        for at, level in enumerate(longest):
            cells = [ate_cell(own[name][at]) if at < len(own.get(name, ())) else Cell("") for name in names]
            lines.append((Cell(str(degradation)), Cell(amount_text(level, str(unit or ""))), *cells))
    headings = ("degradation", "amount", *names)
    return Table(f"ATE [m] at every level: {sequence} {mode}", headings, tuple(lines), ("In brackets: tracked.",))


def amount_text(level: Result, unit: str = "") -> str:
    """How strong a level of a degradation is; the undegraded one has no amount."""
    amount = level.get("amount")
    if amount is None:
        return "none"
    text = f"{amount:g}" if isinstance(amount, int | float) else str(amount)
    return f"{text} {unit}".strip()


def _speed(result: Result) -> list[Table]:
    places = result.get("stages") or {}
    stages = [{"measured": place, **times, "whole": sum(times.values())} for place, times in places.items()]
    columns = dict.fromkeys(key for row in stages for key in row if key != "whole")
    peaks = [{"threads": threads, **figures} for threads, figures in (result.get("peak") or {}).items()]
    return [
        summary(result),
        table_of_rows("Where slamfeat's time goes [ms]", stages, (*columns, "whole"), ()),
        table_of_rows("What the machine can do", peaks, _PEAK, ("threads",)),
    ]


_MAKERS: dict[str, Callable[[Result], list[Table]]] = {
    "matching": _matching,
    "vo": _vo,
    "robustness": _robustness,
    "speed": _speed,
}
