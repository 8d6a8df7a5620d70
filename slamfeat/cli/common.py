"""Options, tables and progress that several verbs share. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from slamfeat.vo.pipeline import PipelineConfig

console = Console()
messages = Console(stderr=True)
"""Progress and remarks go to standard error, so that --json leaves standard output to the JSON."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", "-w", help="default (shipped), a backbone's name, or a weights file.", show_default=False
    ),
]
Recipe = Annotated[
    Path | None, typer.Option("--recipe", help="YAML with differences from the defaults.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as frontend.num_keypoints=512.", show_default=False),
]

_WORDS = ("sequence", "frontend")


def pipeline_config(recipe: Path | None, overrides: list[str] | None, weights: str | None) -> PipelineConfig:
    """The configuration of a verb: defaults, then recipe, then words, then --weights."""
    from slamfeat.config import load_config
    from slamfeat.vo.pipeline import PipelineConfig

    config = load_config(PipelineConfig, recipe, overrides or ())
    if weights is not None:
        config.weights = weights
    return config


def show(rows: list[dict[str, Any]], columns: dict[str, str], as_json: bool, title: str | None = None) -> None:
    """Print rows as a table of `columns` (key -> heading), or as JSON: one object for one row, else a list."""
    if as_json:
        print(json.dumps(rows[0] if len(rows) == 1 else rows, indent=2))
        return
    if len(rows) == 1:
        # A single result has more figures than a terminal has columns.
        table = Table(title=title, title_justify="left", show_header=False)
        for key, heading in columns.items():
            table.add_row(heading, text(rows[0].get(key)))
    else:
        table = Table(title=title, title_justify="left")
        for heading in columns.values():
            words = heading in _WORDS
            table.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for row in rows:
            table.add_row(*(text(row.get(key)) for key in columns))
    console.print(table)


def text(value: Any) -> str:
    """A cell: four significant digits for numbers, a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def progress_bar(description: str, total: int | None, quiet: bool) -> Iterator[Any]:
    """Yields `advance(note)`, called once an item; shows count, bar, note and time left on a terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=messages, transient=True, disable=quiet or not messages.is_terminal) as progress:
        task = progress.add_task(description, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)
