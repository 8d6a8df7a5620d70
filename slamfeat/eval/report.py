"""Tables of results for the terminal and for markdown, from plain rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]

_RATES = {"auc": "AUC", "rot_auc": "rotation AUC", "h_auc": "H AUC", "mma": "MMA"}
_HEADINGS = {
    "ate_rmse_m": "ATE [m]",
    "ate_mean_m": "ATE mean [m]",
    "ate_median_m": "ATE median [m]",
    "ate_max_m": "ATE max [m]",
    "rpe_trans_m": "RPE [m]",
    "rpe_rot_deg": "RPE [deg]",
    "kitti_trans_percent": "t_rel [%]",
    "kitti_rot_deg_per_100m": "r_rel [deg/100 m]",
    "tracked_percent": "tracked [%]",
    "backbone_percent": "backbone frames [%]",
    "path_length_m": "path [m]",
    "fps": "FPS",
    "ms": "ms/frame",
    **{f"{kind}_{at}": f"{text}@{at}" for kind, text in _RATES.items() for at in (1, 2, 3, 5, 10, 20)},
    "median_deg": "median [deg]",
    "precision": "precision [%]",
    "ate_spread_m": "± [m]",
    "area_percent": "area [%]",
    "score_percent": "score [%]",
    "ms_extract": "extract [ms]",
    "ms_match": "match [ms]",
    "ms_pose": "pose [ms]",
    "extract_ms": "extract [ms]",
    "match_ms": "match [ms]",
    "total_ms": "total [ms]",
    "vs_xfeat": "× xfeat",
    "vs_sift": "× sift",
    "peak_mb": "peak [MB]",
    "fp32_gflops": "float32 [GFLOP/s]",
    "bf16_gflops": "bfloat16 [GFLOP/s]",
    "backbone_gflops": "backbone [GFLOP/s]",
    "share_percent": "of the peak [%]",
}
# Decimals by the end of the key; the first that fits.
_DECIMALS = (
    *((f"{kind}_{at}", 1) for kind in ("auc", "mma") for at in (1, 2, 3, 5, 10, 20)),
    *((key, 1) for key in ("precision", "area_percent", "score_percent", "share_percent", "gflops")),
    *((key, 0) for key in ("matches", "inliers", "peak_mb")),
    *(("percent", 2), ("path_length_m", 1), ("_m", 4), ("_deg", 3), ("_100m", 3), ("fps", 1), ("ms", 1)),
    *(("ms_extract", 1), ("ms_match", 1), ("ms_pose", 1), ("vs_xfeat", 2), ("vs_sift", 2)),
)


def metrics_table(rows: Rows, *, columns: Sequence[str] | None = None, title: str | None = None) -> Table:
    """A table for the terminal.

    Args:
        rows: a mapping a row, such as `TrajectoryMetrics.as_dict()` with a name added.
        columns: keys to show, in order. None: every key that any row has, in order of appearance, except empty ones.
        title: printed above.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title)
    shown = _columns(rows, columns)
    for key in shown:
        # Rich would take the unit in "[m]" for a style.
        table.add_column(escape(heading(key)), justify="right" if _is_numeric(rows, key) else "left")
    for row in rows:
        table.add_row(*(escape(format_value(key, row.get(key))) for key in shown))
    return table


def markdown_table(rows: Rows, *, columns: Sequence[str] | None = None) -> str:
    """The same table as markdown, ending in a line break; arguments as in `metrics_table`."""
    shown = _columns(rows, columns)
    texts = [[format_value(key, row.get(key)) for key in shown] for row in rows]
    return markdown_grid([heading(key) for key in shown], texts, right=[_is_numeric(rows, key) for key in shown])


def markdown_grid(headings: Sequence[str], texts: Sequence[Sequence[str]], *, right: Sequence[bool]) -> str:
    """A markdown table of finished texts, ending in a line break.

    Args:
        headings: one a column.
        texts: a sequence a row, a text a column.
        right: columns whose texts stand at the right.
    """
    lines = [list(headings), ["---:" if at_right else "---" for at_right in right], *texts]
    return "".join(f"| {' | '.join(_markdown_cell(text) for text in line)} |\n" for line in lines)


def heading(key: str) -> str:
    """A column's heading with its unit."""
    return _HEADINGS.get(key, key.replace("_", " "))


def format_value(key: str, value: Any) -> str:
    """A cell's text: decimals by the key's unit, "-" for what is missing or undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    decimals = next((digits for end, digits in _DECIMALS if key.endswith(end)), 4)
    return f"{value:.{decimals}f}"


def _markdown_cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")


def _columns(rows: Rows, columns: Sequence[str] | None) -> list[str]:
    if columns is not None:
        return list(columns)
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]


def _is_numeric(rows: Rows, key: str) -> bool:
    values = [row.get(key) for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
