"""The figures by which frontends are compared in words, each with its subject, unit and direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from slamfeat.bench.figures import data_figure, data_sets, degradations, mean_area
from slamfeat.bench.reading import TASKS, Result, Row, comparable, distinct, frontends, number, rows_of
from slamfeat.eval.report import heading


@dataclass(frozen=True)
class Headline:
    """One figure of every frontend that was measured.

    Attributes:
        subject: what was measured on; empty where the measure says it.
        measure: name of the figure.
        unit: printed after it.
        decimals: to print.
        sign: 1 where more is better, -1 where less is.
        values: by frontend; None for a frontend that has no figure to show for it.
        remarks: by frontend, printed in brackets.
        none: word for None.
    """

    subject: str
    measure: str
    unit: str
    decimals: int
    sign: int
    values: Mapping[str, float | None]
    remarks: Mapping[str, str] = field(default_factory=dict)
    none: str = "no result"

    def text(self, frontend: str) -> str:
        """A frontend's figure with its unit."""
        value, remark = self.values[frontend], self.remarks.get(frontend, "")
        figure = self.none if value is None else f"{value:.{self.decimals}f}{self.unit}"
        return f"{figure} ({remark})" if remark else figure

    def rank(self, frontend: str) -> float:
        """The printed figure as a number to compare, more is better; no figure comes last."""
        value = self.values[frontend]
        return float("-inf") if value is None else self.sign * round(value, self.decimals)


def headlines(results: Mapping[str, Result]) -> list[Headline]:
    """All figures of all tasks, in the order of `TASKS` and of their rows."""
    return [line for task in TASKS if results.get(task) for line in _MAKERS[task](results[task])]


def _matching(result: Result) -> Iterator[Headline]:
    for data in ["all", *data_sets(result, "pose")]:
        for key in ("auc_5", "auc_20"):
            yield _of_data(result, data, "pose", key, "all pose pairs" if data == "all" else data)
    for data in data_sets(result, "homography"):
        for key in ("mma_1", "mma_3"):
            yield _of_data(result, data, "homography", key, data)


def _of_data(result: Result, data: str, kind: str, key: str, subject: str) -> Headline:
    measured = {row.get("frontend") for row in rows_of(result, data=data, kind=kind)}
    names = [name for name in frontends(result) if name in measured]
    values = {name: data_figure(result, data, kind, name, key) for name in names}
    return Headline(subject, heading(key), "", 1, 1, values)


def _vo(result: Result) -> Iterator[Headline]:
    for sequence, mode, scale in distinct(rows_of(result), "sequence", "mode", "scale"):
        rows = rows_of(result, sequence=sequence, mode=mode, scale=scale)
        values = {str(row.get("frontend")): comparable("ate_rmse_m", row) for row in rows}
        remarks = {str(row.get("frontend")): _tracked(row) for row in rows}
        subject = ", ".join(text for text in (f"{sequence} {mode}", str(scale or "")) if text)
        yield Headline(subject, "ATE", " m", 3, -1, values, remarks, "lost")


def _tracked(row: Row) -> str:
    share = number(row.get("tracked_percent"))
    return "" if share is None or share >= 99.95 else f"{share:.0f} % tracked"


def _robustness(result: Result) -> Iterator[Headline]:
    for name in ["all", *degradations(result)]:
        measured = {row.get("frontend") for row in rows_of(result, degradation=name)}
        values = {own: mean_area(result, name, own) for own in frontends(result) if own in measured}
        subject = "all degradations" if name == "all" else f"degradation {name}"
        yield Headline(subject, "area", " %", 1, 1, values)


def _speed(result: Result) -> Iterator[Headline]:
    for size, threads in distinct(rows_of(result), "size", "threads"):
        rows = rows_of(result, size=size, threads=threads)
        values = {str(row.get("frontend")): number(row.get("total_ms")) for row in rows}
        subject = f"{size}, {threads} thread{'' if threads == 1 else 's'}"
        yield Headline(subject, "extraction and match", " ms", 1, -1, values)


_MAKERS: dict[str, Callable[[Result], Iterator[Headline]]] = {
    "matching": _matching,
    "vo": _vo,
    "robustness": _robustness,
    "speed": _speed,
}
