"""From the benchmark's results to the student's rows, and from those to its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slamfeat.bench.figures import data_figure, data_sets
from slamfeat.bench.provenance import header_line
from slamfeat.bench.reading import Result, distinct, number, rows_of
from slamfeat.eval.report import markdown_grid

NOTES = (
    "Student / teacher: the ratio of their figures. AUC: area under the recall of pose errors up to 5 and 20 degrees, "
    "over all pairs and those of each data set. ATE: root mean square after the alignment of the mode, in brackets the "
    "tracked share where it is below 100 %; no ratio where the shares differ. Median of three trials."
)


def rows_of_results(results: Mapping[str, Result], recipes: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a figure: areas of pairs, all and by data set, then errors of every sequence, mode and scale."""
    matching, vo = results.get("matching"), results.get("vo")
    rows = []
    alls = [rows_of(matching, kind="pose", data="all", frontend=recipe) for recipe in recipes.values()]
    # Where a rival lacks a group, its mean over all would be of other pairs.
    whole = ("all",) if len({tuple(row.get("pairs") for row in of) for of in alls}) == 1 else ()
    for data in (*whole, *data_sets(matching, "pose")):
        for key in ("auc_5", "auc_20"):
            values = {label: data_figure(matching, data, "pose", recipe, key) for label, recipe in recipes.items()}
            rows.append({"figure": f"{data}: AUC@{key.removeprefix('auc_')} [%]", "better": 1, **values})
    for sequence, mode, scale in distinct(rows_of(vo), "sequence", "mode", "scale"):
        row: dict[str, Any] = {"figure": f"{sequence}, {mode}, {scale}: ATE [m]", "better": -1}
        for label, recipe in recipes.items():
            of = next(iter(rows_of(vo, frontend=recipe, sequence=sequence, mode=mode, scale=scale)), {})
            row[label], row[f"{label} tracked"] = number(of.get("ate_rmse_m")), number(of.get("tracked_percent"))
        rows.append(row)
    return rows


def markdown(
    facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], labels: Sequence[str], problems: Mapping[str, str]
) -> str:
    """The table, and what failed; `labels` has the teacher first and the student second."""
    teacher, student = labels[:2]
    cells = [[row["figure"], *(_cell(row, label) for label in labels), _ratio(row, student, teacher)] for row in rows]
    headings = ["", *labels, f"{student} / {teacher}"]
    table = markdown_grid(headings, cells, right=[False] + [True] * (len(labels) + 1))
    failed = "".join(f"\n- failed: {label}: {text}" for label, text in problems.items())
    return f"# A student in its teacher's place\n\n{header_line(dict(facts))}\n\n{table}\n{NOTES}\n{failed}"


def _cell(row: Mapping[str, Any], label: str) -> str:
    value, tracked = row.get(label), row.get(f"{label} tracked")
    lost = "" if tracked is None or tracked >= 100 else f" ({tracked:.0f} %)"
    if value is None:
        return f"lost{lost}" if lost else ""
    return (f"{value:.1f}" if "[%]" in row["figure"] or "[ms]" in row["figure"] else f"{value:.3f}") + lost


def _ratio(row: Mapping[str, Any], student: str, teacher: str) -> str:
    own, other = row.get(student), row.get(teacher)
    if row.get(f"{student} tracked") != row.get(f"{teacher} tracked"):
        return ""  # errors over different parts of a sequence
    return f"{own / other:.2f}" if own is not None and other else ""
