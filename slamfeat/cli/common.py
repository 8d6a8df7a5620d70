"""Options, progress and interruption that several verbs share. Imports nothing heavy."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from slamfeat.vo.pipeline import PipelineConfig

console = Console()
messages = Console(stderr=True)
"""Progress and remarks go to standard error, so that --json leaves standard output to the JSON."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", "-w", metavar="NAME|FILE", show_default=False,
        help="A backbone's name (see: slamfeat weights list) or a weights file. Left out: the shipped default.",
    ),
]  # fmt: skip
Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="YAML with differences from the defaults.", show_default=False),
]


def settings_argument(example: str) -> Any:
    """The KEY=VALUE words of a verb, with one of its own settings for an example."""
    return typer.Argument(metavar="KEY=VALUE", help=f"Settings, such as {example}.", show_default=False)


Overrides = Annotated[list[str] | None, settings_argument("frontend.num_keypoints=512")]
RecipeOverrides = Annotated[list[str] | None, settings_argument("loop.steps=500")]


class Verb(TyperCommand):
    """A command whose help does not claim that switches such as --json take a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, switches without a type."""
        return _plain_switches(super().get_params(ctx))


class Verbs(TyperGroup):
    """A group of verbs, with the same help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, switches without a type."""
        return _plain_switches(super().get_params(ctx))


def _plain_switches(params: Any) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return list(params)


def pipeline_config(recipe: Path | None, overrides: list[str] | None, weights: str | None) -> PipelineConfig:
    """The configuration of a verb: preset, then recipe, then words, then --weights."""
    from slamfeat.vo.pipeline import load_pipeline

    return load_pipeline(recipe, overrides or (), weights)


def say(line: str, style: str | None = None) -> None:
    """One remark on standard error, as it is: neither wrapped nor searched for markup."""
    messages.print(line, style=style, highlight=False, soft_wrap=True, markup=False)


def tell(line: str) -> None:
    """One remark beside a table on standard output, as it is."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[str], None]]:
    """Yields `advance(note)`, called once an item; shows count, bar, note and time left where a person looks on."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task(description, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)


def end_unfinished(command: str, *, first: bool, asked: bool) -> None:
    """Say how to go on with a training whose session is over; it ends with 130 where Ctrl-C was pressed.

    A session whose `max_minutes` are over ended as it should: torchrun would start it again for any other code than 0.

    Args:
        command: to go on.
        first: whether this is the first process, which has the word.
        asked: whether it was interrupted.
    """
    if first:
        say(f"{'interrupted' if asked else 'its minutes are over'}; the same command goes on: {command}", "yellow")
    if asked:
        raise typer.Exit(130)


@contextmanager
def finishing_first() -> Iterator[Callable[[], bool]]:
    """Yields `asked()`: true once Ctrl-C was pressed in the block, which lets the work in hand be finished.

    A second Ctrl-C interrupts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
