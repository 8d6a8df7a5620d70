"""The headline figures of a result: one value a frontend, over all that a table shows of it."""

from __future__ import annotations

from slamfeat.bench.reading import Result, distinct, rows_of, weighted_mean


def data_sets(result: Result | None, kind: str) -> list[str]:
    """Names of the data of a kind of matching rows, without "all"."""
    return [name for (name,) in distinct(rows_of(result, kind=kind), "data") if name != "all"]


def data_figure(result: Result | None, data: str, kind: str, frontend: str, key: str) -> float | None:
    """A frontend's figure over all groups of a data set: the mean weighted by pairs.

    None unless every group that others have has it.
    """
    rows = rows_of(result, data=data, kind=kind)
    return weighted_mean([r for r in rows if r.get("frontend") == frontend], key, len(distinct(rows, "group")))


def mean_area(result: Result | None, degradation: str, frontend: str) -> float | None:
    """A frontend's area under a degradation, in percent: the mean over sequences; "all" reads the summary row.

    None unless every sequence that others have has it.
    """
    rows = rows_of(result, degradation=degradation)
    own = [row for row in rows if row.get("frontend") == frontend]
    return weighted_mean(own, "area_percent", len(distinct(rows, "sequence", "mode")))


def degradations(result: Result | None) -> list[str]:
    """Names of the degradations, without "all"."""
    return [str(name) for (name,) in distinct(rows_of(result), "degradation") if name != "all"]
