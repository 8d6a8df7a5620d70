"""Closing tables, which must be read on 80 columns: a figure is never cut."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from slamfeat.cli.common import console

_WORDS = ("sequence", "frontend", "mode", "align")


def show(rows: list[dict[str, Any]], columns: dict[str, str], as_json: bool, title: str | None = None) -> None:
    """Print rows as a table of `columns` (key -> heading), or as JSON: one object for one row, else a list.

    A single row, and rows too wide for the terminal, stand upright: a line a figure.
    """
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 else rows, indent=2))
        return
    flat = _flat(rows, columns, title)
    wanted = Measurement.get(console, console.options.update(width=10_000), flat).maximum
    if len(rows) > 1 and wanted <= console.width:
        console.print(flat)
    else:
        for row in rows:
            console.print(_upright(row, columns, title))


def text(value: Any) -> str:
    """A cell: four significant digits for numbers, a dash for what is not known."""
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(rows: list[dict[str, Any]], columns: dict[str, str], title: str | None) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in columns.values():
        table.add_column(escape(heading), justify="left" if heading in _WORDS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(text(row.get(key))) for key in columns))
    return table


def _upright(row: dict[str, Any], columns: dict[str, str], title: str | None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, heading in columns.items():
        table.add_row(escape(heading), escape(text(row.get(key))))
    return table
