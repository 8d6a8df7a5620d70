"""From the benchmark's results to the ablation's rows, and from those to its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ablation_rows import HEADS_WEIGHTS, Row
from benchmarks.pareto import short
from slamfeat.bench.cells import Cell, Table, plain_cell
from slamfeat.bench.figures import data_figure, data_sets
from slamfeat.bench.provenance import header_line
from slamfeat.bench.reading import Result, best_of, comparable, rows_of

_MATCHING = ("pairs", "auc_5", "auc_10", "auc_20", "rot_auc_5", "matches")
_ODOMETRY = ("scale", "trials", "frames", "tracked_percent", "ate_rmse_m", "ate_spread_m", "keyframes", "failed")
_SPEED = ("extract_ms", "match_ms", "total_ms", "peak_mb", "failed")
NOTES = (
    "AUC: area under the recall of pose errors up to 5 and 20 degrees, over all pairs and those of each data set. ATE: "
    "root mean square of fr1, median of the trials; mono with the scale from ground truth a pair, as DINO-VO. Times: "
    "an extraction and a match at 640x480 with one thread, all frontends in turn in one process. A row is its group's "
    "base with the words beside its name; best of each group in bold."
)


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, the row's part and the key in it, and whether the best is marked."""

    heading: str
    part: str
    key: str
    marked: bool = True


def figures(frontend: str, results: Mapping[str, Result]) -> dict[str, Any]:
    """A frontend's figures by part: "all" pairs and those of each data set, "rgbd", "mono", "mono propagated", "speed".

    A part without results is left out.
    """
    parts: dict[str, Any] = {}
    matching = results.get("matching")
    for data in ("all", *data_sets(matching, "pose")):
        parts[short(data)] = {key: data_figure(matching, data, "pose", frontend, key) for key in _MATCHING}
    for row in rows_of(results.get("vo"), frontend=frontend):
        free = row["mode"] == "mono" and "ground-truth" not in row["scale"]
        parts[f"{row['mode']} propagated" if free else row["mode"]] = {key: row.get(key) for key in _ODOMETRY}
    for row in rows_of(results.get("speed"), frontend=frontend):
        parts["speed"] = {key: row.get(key) for key in _SPEED}
    return parts


def rows_with_figures(recipes: Mapping[Row, str], results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One plain row a line of the table, with the words it is made of."""
    return [
        {
            "group": row.group.title, "base": _base(row), "label": row.label, "changes": row.changes, "recipe": recipe,
            **figures(recipe, results),
        }
        for row, recipe in recipes.items()
    ]  # fmt: skip


def _base(row: Row) -> str:
    """The words that the rows of a group share."""
    weights = "" if row.group.weights == HEADS_WEIGHTS else f"weights={row.group.weights}"
    return f"{row.group.base} {weights}".strip()


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The table's columns: with the areas of each data set where there are several."""
    known = ("all", "rgbd", "mono", "mono propagated", "speed")
    data = [part for part, value in rows[0].items() if isinstance(value, dict) and part not in known] if rows else []
    single = [Column(f"{name} AUC@5", name, "auc_5") for name in data] if len(data) > 1 else []
    return [
        Column("AUC@5", "all", "auc_5"), Column("AUC@20", "all", "auc_20"), *single,
        Column("RGB-D ATE [m]", "rgbd", "ate_rmse_m"), Column("tracked [%]", "rgbd", "tracked_percent", False),
        Column("mono ATE [m]", "mono", "ate_rmse_m"), Column("tracked [%]", "mono", "tracked_percent", False),
        Column("extract [ms]", "speed", "extract_ms"), Column("match [ms]", "speed", "match_ms"),
        Column("total [ms]", "speed", "total_ms"),
    ]  # fmt: skip


def table_of_group(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    """The table of one group, the best of each column marked."""
    lines = [[_label(row)] for row in rows]
    for column in columns:
        values = [comparable(column.key, row.get(column.part, {})) for row in rows]
        best = best_of(column.key, values) if column.marked else set()
        for place, row in enumerate(rows):
            value = row.get(column.part, {}).get(column.key)
            lines[place].append(plain_cell(column.key, value, best=place in best))
    headings = ("", *(column.heading for column in columns))
    base = f"Base: `{rows[0]['base']}`." if rows[0]["base"] else "Base: the default settings, untrained."
    return Table(str(rows[0]["group"]), headings, tuple(tuple(line) for line in lines), (base,))


def _label(row: Mapping[str, Any]) -> Cell:
    return Cell(f"{row['label']} `{row['changes']}`" if row["changes"] else f"{row['label']} (base)")


def markdown(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], problems: Mapping[str, str]) -> str:
    """The groups' tables, what is missing and why, and where the figures come from."""
    columns = columns_of(rows)
    parts = []
    for title in dict.fromkeys(row["group"] for row in rows):
        table = table_of_group([row for row in rows if row["group"] == title], columns)
        parts.append(f"### {table.title}\n\n{table.markdown()}")
    lines = [f"- {label}: {reason}\n" for label, reason in problems.items()]
    if lines:
        parts.append("Left out or failed:\n\n" + "".join(lines))
    return "\n".join([*parts, f"{NOTES}\n", f"{header_line(dict(facts))}\n"])
