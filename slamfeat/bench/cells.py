"""Tables of results with the best of each group marked; the markdown and the HTML page print the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slamfeat.bench.reading import Row, best_of, comparable, number
from slamfeat.eval.report import format_value, heading, markdown_grid


@dataclass(frozen=True)
class Cell:
    """What stands in a place of a table.

    Attributes:
        text: as printed.
        value: to sort by; None where there is no figure.
        best: the best of its group.
    """

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of finished cells.

    Attributes:
        title: plain text.
        headings: one a column.
        rows: a cell a column.
        notes: sentences to stand below it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def right(self) -> list[bool]:
        """Columns of figures, which stand at the right."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.headings)
        return [any(cell.value is not None for cell in column) for column in columns]

    def markdown(self) -> str:
        """The table with the best in bold, and its notes, ending in a line break."""
        texts = [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in self.rows]
        grid = markdown_grid(self.headings, texts, right=self.right())
        return grid + "".join(f"\n{note}\n" for note in self.notes)


def table_of_rows(title: str, rows: Sequence[Row], columns: Sequence[str], group: Sequence[str]) -> Table:
    """A table with a line a row.

    Args:
        title: of the table.
        rows: in the order shown.
        columns: keys; those that no row has are left out.
        group: keys that rows compared with one another have in common.
    """
    shown = [key for key in columns if any(row.get(key) not in (None, "") for row in rows)]
    best = {(place, key) for key in shown for place in _best_places(rows, key, group)}
    lines = [
        tuple(plain_cell(key, row.get(key), best=(at, key) in best) for key in shown) for at, row in enumerate(rows)
    ]
    return Table(title, tuple(heading(key) for key in shown), tuple(lines))


def plain_cell(key: str, value: Any, *, best: bool = False) -> Cell:
    """A cell in the key's format."""
    text = format_value(key, value)
    return Cell(text, number(value), best)


def _best_places(rows: Sequence[Row], key: str, group: Sequence[str]) -> set[int]:
    members: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        members.setdefault(tuple(row.get(name) for name in group), []).append(place)
    found: set[int] = set()
    for places in members.values():
        found |= {places[at] for at in best_of(key, [comparable(key, rows[place]) for place in places])}
    return found
