"""What a training says: lines of figures for programs, events with their time, and a line for who looks on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from slamfeat.errors import OutputError
from slamfeat.run_log import duration, logging_to

log = logging.getLogger("slamfeat.train")
_UNSAID = ("step", "lr", "elapsed_s", "eta_s")
"""Figures that a person sees in other words, or not at all."""


class TrainingLog:
    """Writes log.jsonl and the console; in a terminal the newest figures stand behind a progress bar."""

    def __init__(self, path: Path, console: Console, progress: Progress, task: TaskID) -> None:
        """Use `training_log`."""
        self._path, self._console, self._progress, self._task = path, console, progress, task

    def step(self, line: Mapping[str, Any]) -> None:
        """A logged step: `step`, `eta_s`, and figures."""
        self._write(line)
        words = [f"{name} {_short(value)}" for name, value in line.items() if name not in _UNSAID]
        note = ", ".join([*words, f"{duration(line['eta_s'])} left"])
        self._progress.update(self._task, completed=line["step"], note=note)
        if not self._console.is_terminal:
            self._say(f"step {line['step']}: {note}")

    def evaluation(self, step: int, figures: Mapping[str, float], seconds: float, better: bool) -> None:
        """The figures on held-out data after a step."""
        self._write({"step": step, "evaluation": dict(figures), "seconds": seconds, "best": better})
        words = ", ".join(f"{name} {_short(value)}" for name, value in figures.items())
        self.event(f"step {step}: {words}{', the best so far' if better else ''}")

    def event(self, text: str) -> None:
        """Something that happened: on the console and in run.log."""
        self._say(text)
        log.info(text)

    def _say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps({name: _plain(value) for name, value in line.items()})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}; free space and resume the run") from error


@contextmanager
def training_log(path: Path, events: Path, console: Console, steps: int, done: int) -> Iterator[TrainingLog]:
    """Yields the log of a session.

    Args:
        path: log.jsonl, appended to.
        events: run.log, appended to.
        console: for a person.
        steps: of the run; done: already made.

    Raises:
        OutputError: a file cannot be written.
    """
    columns = (
        BarColumn(bar_width=20), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=False)),
    )  # fmt: skip
    with (
        logging_to(events, append=True),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        yield TrainingLog(path, console, progress, progress.add_task("", total=steps, completed=done, note=""))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
