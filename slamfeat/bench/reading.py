"""Finished results as they are read from results.json: whose rows, in which order, and which of two is better.

A result is a dict with `task` (one of `TASKS`), `header`, `frontends` in the order they are shown, and `rows`. Any key
may be missing and any figure null. Rates (AUC, MMA, precision, area) are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slamfeat.eval.report import format_value

Result = Mapping[str, Any]
Row = Mapping[str, Any]

TASKS = ("matching", "vo", "robustness", "speed")
TITLES = {
    "matching": "Matching", "vo": "Visual odometry", "robustness": "Robustness", "speed": "Speed",
}  # fmt: skip
# An error over less of a sequence than this says little about the rest: it is shown, but never the best.
LEAST_TRACKED_PERCENT = 50.0

_LOWER = ("median_deg", "ate_rmse_m", "rpe_trans_m", "rpe_rot_deg", "kitti_trans_percent", "kitti_rot_deg_per_100m")
_LOWER_TOO = ("ms_extract", "ms_match", "ms_pose", "extract_ms", "match_ms", "total_ms", "peak_mb")
_HIGHER = ("precision", "tracked_percent", "area_percent", "score_percent")
_HIGHER_PARTS = ("auc_", "mma_")
_GROUP = ("data", "group", "kind", "sequence", "mode", "scale", "degradation", "size", "threads")


def number(value: Any) -> float | None:
    """The figure as a float; None for null, text, NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def rows_of(result: Result | None, **wanted: Any) -> list[Row]:
    """The rows whose values are those `wanted`, frontend by frontend in the result's order within each group."""
    if not result:
        return []
    rows = [row for row in result.get("rows") or () if all(row.get(key) == value for key, value in wanted.items())]
    rank = {name: place for place, name in enumerate(frontends(result))}
    places = {group: place for place, group in enumerate(dict.fromkeys(map(_group, rows)))}
    return sorted(rows, key=lambda row: (places[_group(row)], rank[str(row.get("frontend", ""))]))


def frontends(result: Result | None) -> list[str]:
    """Names of the frontends: as the result lists them, then those that only rows have."""
    if not result:
        return []
    named = [str(row.get("frontend", "")) for row in result.get("rows") or ()]
    return list(dict.fromkeys([*(result.get("frontends") or {}), *named]))


def all_frontends(results: Mapping[str, Result]) -> list[str]:
    """Names of the frontends of every result, each once."""
    return list(dict.fromkeys(name for task in TASKS for name in frontends(results.get(task))))


def distinct(rows: Iterable[Row], *keys: str) -> list[tuple[Any, ...]]:
    """The values of `keys` that occur, in order of appearance."""
    return list(dict.fromkeys(tuple(row.get(key) for key in keys) for row in rows))


def direction(key: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither."""
    if key in _LOWER or key in _LOWER_TOO:
        return -1
    return 1 if key in _HIGHER or any(part in key for part in _HIGHER_PARTS) else 0


def best_of(key: str, values: Sequence[float | None]) -> set[int]:
    """Places of the best of `values`, with all that print the same; none where there is nothing to compare."""
    known = [value for value in values if value is not None]
    if len(values) < 2 or not known or not direction(key):
        return set()
    best = format_value(key, max(known, key=lambda value: direction(key) * value))
    return {place for place, value in enumerate(values) if value is not None and format_value(key, value) == best}


def comparable(key: str, row: Row) -> float | None:
    """The row's figure, or None where it was measured over too little of the sequence to be called the best."""
    tracked = number(row.get("tracked_percent"))
    if key != "tracked_percent" and tracked is not None and tracked < LEAST_TRACKED_PERCENT:
        return None
    return number(row.get(key))


def weighted_mean(rows: Sequence[Row], key: str, parts: int) -> float | None:
    """Mean of a figure, weighted by the rows' pairs.

    None unless there are `parts` rows and all of them have the figure: a mean over the parts that went well would
    flatter.
    """
    values = [number(row.get(key)) for row in rows]
    if not rows or len(rows) < parts or any(value is None for value in values):
        return None
    weights = [number(row.get("pairs")) or 1.0 for row in rows]
    return sum(w * v for w, v in zip(weights, values, strict=True) if v is not None) / sum(weights)


def _group(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in _GROUP)
