"""The compact tables: what fits into a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slamfeat.bench.cells import Cell, Table, plain_cell, table_of_rows
from slamfeat.bench.figures import data_figure, data_sets, degradations, mean_area
from slamfeat.bench.reading import (
    LEAST_TRACKED_PERCENT,
    Result,
    Row,
    best_of,
    comparable,
    distinct,
    frontends,
    number,
    rows_of,
)

_ATE, _TOTAL, _PEAK = "ate_rmse_m", "total_ms", "peak_mb"
_SPEED = (
    "size", "threads", "frontend", "extract_ms", "match_ms", "total_ms", "vs_xfeat", "vs_sift", "peak_mb", "failed",
)  # fmt: skip


def summary(result: Result) -> Table:
    """The compact table of a result; of an unknown task or without rows, one without lines."""
    made = _MAKERS.get(str(result.get("task", "")))
    return made(result) if made else Table("", (), ())


def _matching(result: Result) -> Table:
    names, flat = frontends(result), data_sets(result, "homography")
    wanted = [("AUC@5 all", "all", "pose", "auc_5")]
    wanted += [(data, data, "pose", "auc_5") for data in data_sets(result, "pose")]
    wanted += [("MMA@3" if len(flat) == 1 else f"{data} MMA@3", data, "homography", "mma_3") for data in flat]
    columns = [
        (heading, [data_figure(result, data, kind, name, key) for name in names], key)
        for heading, data, kind, key in wanted
    ]
    note = "AUC@5 [%] over all pose pairs and over those of each data set (the mean of its gaps, weighted by pairs)."
    return _by_frontend("Matching", result, columns, note)


def _by_frontend(
    title: str, result: Result, columns: Sequence[tuple[str, list[float | None], str]], note: str
) -> Table:
    """A line a frontend, a column each (heading, a figure a frontend, key) that has figures, and what failed."""
    names = frontends(result)
    columns = [column for column in columns if any(value is not None for value in column[1])]
    lines: list[list[Cell]] = [[Cell(name)] for name in names]
    for _, values, key in columns:
        best = best_of(key, values)
        for place, value in enumerate(values):
            lines[place].append(plain_cell(key, value, best=place in best))
    headings = ("frontend", *(heading for heading, _, _ in columns))
    table = Table(title, headings, tuple(tuple(line) for line in lines), (note,))
    return _with_failures(table, [_failures(result, name) for name in names])


def _with_failures(table: Table, failures: Sequence[str]) -> Table:
    if not any(failures):
        return table
    lines = tuple((*row, Cell(failed or "-")) for row, failed in zip(table.rows, failures, strict=True))
    return Table(table.title, (*table.headings, "failed"), lines, table.notes)


def _failures(result: Result, frontend: str) -> str:
    """What a frontend failed at, each text once with the data where it happened."""
    where: dict[str, dict[str, None]] = {}
    for row in rows_of(result, frontend=frontend):
        if row.get("failed"):
            where.setdefault(str(row["failed"]), {})[str(row.get("data") or row.get("size"))] = None
    return "; ".join(f"{text} ({', '.join(data)})" for text, data in where.items())


def _vo(result: Result) -> Table:
    rows, names = rows_of(result), frontends(result)
    lines = []
    for sequence, mode, scale in distinct(rows, "sequence", "mode", "scale"):
        found = {row.get("frontend"): row for row in rows_of(result, sequence=sequence, mode=mode, scale=scale)}
        best = best_of(_ATE, [comparable(_ATE, found.get(name, {})) for name in names])
        cells = [ate_cell(found.get(name), place in best) for place, name in enumerate(names)]
        lines.append((Cell(str(sequence)), Cell(str(mode)), Cell(str(scale or "-")), *cells))
    notes = ["ATE [m]; in brackets the tracked share where it is below 100 %."]
    if any(row.get("tracked_percent") is not None and comparable("ate_rmse_m", row) is None for row in rows):
        notes.append(f"Under {LEAST_TRACKED_PERCENT:.0f} % tracked counts as lost and is never the best.")
    notes += [f"Failed: {_place(row)}, {row.get('frontend')}: {row['failed']}." for row in rows if row.get("failed")]
    return Table("Visual odometry", ("sequence", "mode", "scale", *names), tuple(lines), (" ".join(notes),))


def _place(row: Row) -> str:
    return f"{row.get('sequence')} {row.get('mode')}"


def ate_cell(row: Row | None, best: bool = False) -> Cell:
    """ATE in metres with the tracked share in brackets where it is below 100 %; "lost" where there is none."""
    if row is None:
        return Cell("")
    ate, tracked = number(row.get(_ATE)), number(row.get("tracked_percent"))
    share = "" if tracked is None or tracked >= 99.95 else f" ({tracked:.0f} %)"
    return Cell(("lost" if ate is None else f"{ate:.3f}") + share, ate, best)


def _robustness(result: Result) -> Table:
    names = frontends(result)
    lines = []
    for degradation in [*degradations(result), "all"]:
        values = [mean_area(result, degradation, name) for name in names]
        if degradation == "all" and all(value is None for value in values):
            continue
        best = best_of("area_percent", values)
        cells = [plain_cell("area_percent", value, best=place in best) for place, value in enumerate(values)]
        lines.append((Cell(degradation), *cells))
    return Table("Robustness", ("area [%]", *names), tuple(lines))


def speed_totals(result: Result) -> Table:
    """One extraction and one match, a line a frontend: a column a size and number of threads, and the highest peak."""
    columns = [
        (f"{size}, {threads} thread{'' if threads == 1 else 's'}", _largest(result, _TOTAL, size=size, threads=threads))
        for size, threads in distinct(rows_of(result), "size", "threads")
    ]
    peaks = ("peak [MB]", _largest(result, _PEAK), _PEAK)
    note = "One extraction and one match [ms]; peak: the highest of all sizes."
    return _by_frontend("Speed", result, [*((title, times, _TOTAL) for title, times in columns), peaks], note)


def _largest(result: Result, key: str, **wanted: Any) -> list[float | None]:
    """A frontend's largest figure of the rows wanted, for every frontend; None where no row has it."""
    found = ([number(row.get(key)) for row in rows_of(result, frontend=name, **wanted)] for name in frontends(result))
    return [max((value for value in values if value is not None), default=None) for values in found]


def _speed(result: Result) -> Table:
    return table_of_rows("Speed", rows_of(result), _SPEED, ("size", "threads"))


_MAKERS: dict[str, Callable[[Result], Table]] = {
    "matching": _matching,
    "vo": _vo,
    "robustness": _robustness,
    "speed": _speed,
}
