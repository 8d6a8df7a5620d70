"""From the benchmark's results to the students' rows, and from those to its tables."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import geometric_mean, median
from typing import Any

from slamfeat.bench.figures import data_figure, data_sets
from slamfeat.bench.provenance import header_line
from slamfeat.bench.reading import Result, distinct, number, rows_of
from slamfeat.eval.report import markdown_grid

TEACHER, WHOLE, UNTRAINED = "teacher", "whole teacher", "untrained student"
MOST = 0.35
"""Share of the teacher's time that a student may take."""
NOTES = "Of teacher: the share of its time up to the block that the frontend looks at; of whole: of all its blocks."
POSES = (
    "AUC: area under the recall of pose errors up to 5 and 20 degrees, over all pairs and those of each data set. ATE: "
    "root mean square after the alignment of the mode, in brackets the tracked share where it is below 100 %; no ratio "
    "where the shares differ. Median of the trials, with half of their range."
)
ATE = "ATE [m]"


def rows_of_results(results: Mapping[str, Result], recipes: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a figure: areas of pairs, all and by data set, then errors of every sequence, mode and scale."""
    matching, vo = results.get("matching"), results.get("vo")
    rows = []
    alls = [rows_of(matching, kind="pose", data="all", frontend=recipe) for recipe in recipes.values()]
    # Where a rival lacks a group, its mean over all would be of other pairs.
    whole = ("all",) if any(alls) and len({tuple(row.get("pairs") for row in of) for of in alls}) == 1 else ()
    for data in (*whole, *data_sets(matching, "pose")):
        for key in ("auc_5", "auc_20"):
            values = {label: data_figure(matching, data, "pose", recipe, key) for label, recipe in recipes.items()}
            rows.append({"figure": f"{data}: AUC@{key.removeprefix('auc_')} [%]", "better": 1, **values})
    for sequence, mode, scale in distinct(rows_of(vo), "sequence", "mode", "scale"):
        row: dict[str, Any] = {"figure": f"{sequence}, {mode}, {scale}: {ATE}", "better": -1}
        for label, recipe in recipes.items():
            of = next(iter(rows_of(vo, frontend=recipe, sequence=sequence, mode=mode, scale=scale)), {})
            row[label], row[f"{label} tracked"] = number(of.get("ate_rmse_m")), number(of.get("tracked_percent"))
            row[f"{label} spread"] = number(of.get("ate_spread_m"))
        rows.append(row)
    return rows


def markdown(stored: Mapping[str, Any]) -> str:
    """A line a backbone with what it costs and is worth, which students are quick enough, then figure by figure.

    Args:
        stored: `header`; `backbones`, their `blocks` and `width` by label; `students`, labels; `times` and `tokens`,
            rows of `benchmarks.student_tokens`; `poses`, rows of `rows_of_results`; `problems`.
    """
    failed = "".join(f"\n- failed: {label}: {text}" for label, text in stored["problems"].items())
    parts = [header_line(dict(stored["header"])), _lines(stored), _quick_enough(stored)]
    parts += [f"{_figures(stored)}\n{POSES}{_over_all(stored)}"] if stored["poses"] else []
    return "# Students in their teacher's place\n\n" + "\n\n".join([*parts, NOTES]) + f"\n{failed}"


def _lines(stored: Mapping[str, Any]) -> str:
    """A line a backbone."""
    brief = [*stored["tokens"], *(row for row in stored["poses"] if row["figure"].startswith("all: "))]
    headings = ["", "blocks", "width"]
    for row in stored["times"]:
        headings += [row["figure"], "of teacher", "of whole"]
    headings += [row["figure"] for row in brief]
    lines = []
    for label, shape in stored["backbones"].items():
        line = [label, str(shape["blocks"]), str(shape["width"])]
        for row in stored["times"]:
            line += [_cell(row, label), _ratio(row, label, TEACHER), _ratio(row, label, WHOLE)]
        lines.append([*line, *(_cell(row, label) for row in brief)])
    return markdown_grid(headings, lines, right=[False] + [True] * (len(headings) - 1)).rstrip()


def _quick_enough(stored: Mapping[str, Any]) -> str:
    """Which students take at most `MOST` of the teacher's time at every size, by what the time is held against."""
    said = []
    for words, teacher in (("the blocks that the frontend looks at", TEACHER), ("all its blocks", WHOLE)):
        quick = [s for s in stored["students"] if all(row[s] <= MOST * row[teacher] for row in stored["times"])]
        said.append(f"of {words}: {', '.join(quick) or 'none'}")
    return f"At every size at most {MOST:g} of the teacher's backbone time, {'; '.join(said)}."


def _figures(stored: Mapping[str, Any]) -> str:
    """A line a figure of poses, with every student's ratio to the teacher."""
    students = list(stored["students"])
    labels = [TEACHER, *students, UNTRAINED]
    headings = ["", *labels, *(f"{student} / {TEACHER}" for student in students)]
    cells = [
        [row["figure"], *(_cell(row, label) for label in labels), *(_ratio(row, own, TEACHER) for own in students)]
        for row in stored["poses"]
    ]
    return markdown_grid(headings, cells, right=[False] + [True] * (len(headings) - 1))


def _over_all(stored: Mapping[str, Any]) -> str:
    """Each student's error held against the teacher's over all runs that both end, since single ones turn on a pair."""
    said = []
    for student in stored["students"]:
        runs = [row for row in stored["poses"] if row["figure"].endswith(ATE) and _both_end(row, student)]
        if runs:
            ratios = [row[student] / row[TEACHER] for row in runs]
            said.append(f"{student} {geometric_mean(ratios):.2f} (median {median(ratios):.2f}, {len(runs)} runs)")
    return f" Geometric mean of the ratios of ATE: {', '.join(said)}." if said else ""


def _both_end(row: Mapping[str, Any], student: str) -> bool:
    """Whether neither lost its way, and there is an error to compare."""
    whole = all(row.get(f"{label} tracked") in (None, 100) for label in (student, TEACHER))
    return whole and bool(_ratio(row, student, TEACHER)) and row[student] > 0


def _cell(row: Mapping[str, Any], label: str) -> str:
    value, tracked, spread = row.get(label), row.get(f"{label} tracked"), row.get(f"{label} spread")
    lost = "" if tracked is None or tracked >= 100 else f" ({tracked:.0f} %)"
    if value is None:
        return f"lost{lost}" if lost else ""
    digits = 1 if "[%]" in row["figure"] or "[ms]" in row["figure"] else 3
    return f"{value:.{digits}f}" + (f" ±{spread:.{digits}f}" if spread else "") + lost


def _ratio(row: Mapping[str, Any], student: str, teacher: str) -> str:
    own, other = row.get(student), row.get(teacher)
    if row.get(f"{student} tracked") != row.get(f"{teacher} tracked"):
        return ""  # errors over different parts of a sequence
    return f"{own / other:.2f}" if own is not None and other else ""
