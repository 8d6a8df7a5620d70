"""The folder a training writes:

OUT/
  config.yaml   all settings; its first line is the command that repeats the run, where it was given
  log.jsonl     a line every `log_every` steps, and a line an evaluation
  run.log       what happened when
  checkpoints/  see slamfeat/train/checkpoint.py
  nonfinite/    batches whose loss or gradient was not finite
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slamfeat.config import load_config, to_yaml
from slamfeat.errors import ConfigError, InputError, OutputError, WeightsError
from slamfeat.files import write_text
from slamfeat.train import checkpoint as files
from slamfeat.train.checkpoint import Checkpoint
from slamfeat.train.config import NEUTRAL, LoopConfig
from slamfeat.train.weights import Weights

RESUME = ("", "last", "auto")
_HALF = re.compile(r"\.config-[a-z0-9_]{8}\.yaml")
"""Settings that a kill left half written, see `files.atomic_path`."""


@dataclass(frozen=True)
class RunFolder:
    """Places in a run's folder."""

    root: Path

    @property
    def config(self) -> Path:
        """All settings."""
        return self.root / "config.yaml"

    @property
    def log(self) -> Path:
        """Figures of the steps."""
        return self.root / "log.jsonl"

    @property
    def events(self) -> Path:
        """What happened when."""
        return self.root / "run.log"

    @property
    def checkpoints(self) -> Path:
        """Their folder."""
        return self.root / "checkpoints"

    @property
    def nonfinite(self) -> Path:
        """The folder of batches that could not be learnt from."""
        return self.root / "nonfinite"


def find_start(
    folder: RunFolder, settings: Any, resume: str, overwrite: bool, rank: int = 0
) -> tuple[Checkpoint | None, list[str]]:
    """Where the run in a folder goes on (None: at its beginning), and remarks about damaged checkpoints.

    Only reads, so that all processes of a run can ask.

    Args:
        folder: of the run.
        settings: dataclass with all settings.
        resume: "" for a new run in a free folder, "last" to go on with the newest checkpoint, "auto" to go on with the
            newest undamaged one, or to begin where there is none.
        overwrite: a new run takes the place of the one there.
        rank: of the process that asks; its part of a sharded checkpoint must be undamaged too.

    Raises:
        ConfigError: an unknown word, resume together with overwrite, or the run there has other settings.
        OutputError: a new run's folder is not free.
        InputError: no run to resume.
        WeightsError: no usable checkpoint.
    """
    if resume not in RESUME:
        raise ConfigError(f"unknown resume '{resume}'; use last or auto, or leave it out for a new run")
    if resume and overwrite:
        raise ConfigError("resume goes on with the run that overwrite would delete; choose one of them")
    if not resume or (resume == "auto" and not folder.config.is_file()):
        _check_free(folder.root, overwrite)
        return None, []
    if not folder.config.is_file():
        raise InputError(f"{folder.root} holds no run to resume (no config.yaml); check the path, or begin a new run")
    check_settings(folder.config, settings)
    checkpoint, remarks = files.load_latest(folder.checkpoints, fall_back=resume == "auto", rank=rank)
    if checkpoint is None and resume == "last":
        raise WeightsError(f"{folder.checkpoints} holds no checkpoint yet; choose another --out, or remove it")
    return checkpoint, remarks


def lay_out(folder: RunFolder, settings: Any, command: str, step: int | None) -> None:
    """Make the folder ready for a new run (None) or for going on after a step: what came later is removed.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if step is None:
            _clear(folder)
            # Last, and never absent where one was: a folder without it is nobody's run, and not free either.
            write_text(folder.config, (f"# {command}\n" if command else "") + to_yaml(settings))
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        later = [other for other in files.checkpoint_steps(folder.checkpoints) if other > (step or 0)]
        files.remove_checkpoints(folder.checkpoints, later)  # damaged, or they would have been resumed from
        files.sweep(folder.checkpoints)
        if step is not None:
            write_text(folder.log, "".join(_lines_until(folder.log, step)))
    except OSError as error:
        raise OutputError(f"cannot write to {folder.root}: {error.strerror}; choose another --out") from error


def check_settings(path: Path, settings: Any) -> None:
    """Hold settings against those a run was begun with; those that change nothing of the result may differ.

    Raises:
        ConfigError: others differ; the message names them.
    """
    before = load_config(type(settings), path)
    then, now = dict(_flat(before)), dict(_flat(settings))
    differing = [key for key in now if then.get(key) != now[key]]
    if differing:
        named = ", ".join(f"{key} ({then.get(key)} there, {now[key]} now)" for key in differing)
        raise ConfigError(
            f"{path}: the run was begun with other settings: {named};"
            " go on with those, or choose another --out (or remove this folder to begin it anew)"
        )


def best_step(folder: Path) -> int:
    """Step of a run's best checkpoint, or of its newest where nothing was evaluated.

    Raises:
        InputError: no run there, or it has no checkpoint.
        WeightsError: the newest checkpoint's figures are damaged.
    """
    checkpoints = RunFolder(folder).checkpoints
    steps = files.checkpoint_steps(checkpoints)
    if not steps:
        raise InputError(f"{folder} holds no checkpoints of a training; check the path")
    return files.load_facts(checkpoints, steps[-1]).best_step or steps[-1]


def run_weights(folder: Path) -> Weights:
    """A run's weights for use: of its best checkpoint, averaged where the run averages.

    Raises:
        InputError: no run there, or it has no checkpoint.
        WeightsError: the checkpoint is damaged.
    """
    return files.load_weights(RunFolder(folder).checkpoints, best_step(folder))


def _check_free(root: Path, overwrite: bool) -> None:
    if root.is_file():
        raise OutputError(f"{root} is a file; choose another --out")
    inside = [path for path in root.iterdir() if not _HALF.fullmatch(path.name)] if root.is_dir() else []
    if inside and not overwrite:
        raise OutputError(f"{root} already holds something; choose another --out, or remove it")


def _clear(folder: RunFolder) -> None:
    """Delete a run's own files but its settings, and nothing else that may be there."""
    for path in (folder.checkpoints, folder.nonfinite):
        if path.is_dir():
            shutil.rmtree(path)
    halves = [path for path in folder.root.glob(".config-*") if _HALF.fullmatch(path.name)]
    for path in (folder.log, folder.events, *halves):
        path.unlink(missing_ok=True)


def _lines_until(log: Path, step: int) -> Iterator[str]:
    """Lines of steps up to `step`; a line that a kill cut off is dropped."""
    if not log.is_file():
        return
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                yield line


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that count, by dotted name."""
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{key}.")
        elif not (isinstance(settings, LoopConfig) and field.name in NEUTRAL) and not field.metadata.get("neutral"):
            yield key, value
