"""The folder of a curation:

OUT/
  config.yaml     all settings; its first line is the command that repeats the run, where it was given
  embed/          pool, and a folder a set of evaluation and query images: embeddings, see `store`
  dedup/          see `dedup`; cells/ where the pool was sorted into cells
  cluster/        see `hierarchy`
  retrieve/       see `retrieve`
  sample/         see `sample`
  manifest.jsonl  what became of every image, see `manifest`
  summary.json    figures
  page.html       examples to look at
  run.log         what happened when

Each stage's folder holds `stage.json`, the settings it was begun with: others are refused, unless the stage is made
anew with all that come after it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slamfeat.curate.config import CurateConfig
from slamfeat.errors import ConfigError, OutputError
from slamfeat.files import write_text

STAGES = ("dedup", "cluster", "retrieve", "sample")
"""In their order, after embedding."""
_OWN = ("config.yaml", "manifest.jsonl", "summary.json", "page.html", "run.log")
_MARK = "stage.json"
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")
"""What a kill in the middle of a write leaves, see `files.atomic_path`."""


@dataclass(frozen=True)
class CurateFolder:
    """Places in a curation's folder."""

    root: Path

    @property
    def config(self) -> Path:
        """All settings."""
        return self.root / "config.yaml"

    def check_place(self, redo: str | None) -> None:
        """Whether a curation can be here, and a stage be made anew.

        Raises:
            ConfigError: no such stage.
            OutputError: it holds something else.
        """
        if redo is not None and redo not in STAGES:
            raise ConfigError(f"unknown stage '{redo}'; use one of {', '.join(STAGES)}")
        if self.root.is_file():
            raise OutputError(f"{self.root} is a file; choose another --out")
        inside = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if "embed" not in inside and inside - {self.log.name}:  # others write a run.log too
            raise OutputError(f"{self.root} already holds something else; choose another --out")

    def prepare(self, overwrite: bool, redo: str | None) -> None:
        """Make it ready: to begin, to begin anew, or to make a stage and what follows it anew.

        Raises:
            OutputError: it cannot be written.
        """
        gone = STAGES[STAGES.index(redo) :] if redo is not None else ()
        try:
            for name in _OWN if overwrite else ():
                (self.root / name).unlink(missing_ok=True)
            for stage in (*STAGES, "embed") if overwrite else gone:  # last what says whose folder it is
                if (self.root / stage).is_dir():
                    shutil.rmtree(self.root / stage)
            for half in self.root.rglob(".*-*"):
                if _TEMPORARY.fullmatch(half.name) and half.is_file():
                    half.unlink()
            self.root.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise OutputError(f"cannot write to {self.root}: {error.strerror}; choose another --out") from error

    @property
    def log(self) -> Path:
        """What happened when."""
        return self.root / "run.log"

    def note(self, line: str) -> None:
        """Write a line to the log; a full disk shows when results are written, and the log may lose lines before."""
        # Names need not be UTF-8.
        with suppress(OSError), self.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def embeddings(self, kind: str, images: Path, digest: str) -> Path:
        """Folder of the store of a set, named by where its images are and what they are called."""
        return self.root / "embed" / f"{kind}-{hashlib.sha256(f'{images} {digest}'.encode()).hexdigest()[:8]}"

    def check(self, settings: Mapping[str, Mapping[str, Any]], redo: str | None) -> None:
        """Hold the settings of the stages before `redo`, or of all, against those that stages there were begun with.

        Raises:
            ConfigError: some differ; the message names them.
        """
        for name in STAGES[: None if redo is None else STAGES.index(redo)]:
            now = settings[name]
            mark = self.root / name / _MARK
            then = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None
            same = json.loads(json.dumps(now))
            if then is not None and then != same:
                differing = sorted(key for key in {**then, **same} if then.get(key) != same.get(key))
                named = ", ".join(f"{key} ({then.get(key)} there, {same.get(key)} now)" for key in differing)
                raise ConfigError(
                    f"{mark.parent} was begun with other settings: {named}; pass --from {name} to make it and what"
                    " follows anew, or choose another --out"
                )

    def stage(self, name: str, settings: Mapping[str, Any]) -> Path:
        """Folder of a stage, begun with some settings that `check` has passed."""
        if not (self.root / name / _MARK).is_file():
            write_text(self.root / name / _MARK, json.dumps(settings, indent=1, sort_keys=True) + "\n")
        return self.root / name


def stage_settings(config: CurateConfig, evaluation: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, Any]:
    """What each stage depends on beside the stages before it.

    Args:
        config: all settings; evaluation, queries: digest of the names of each set by its folder. Results name sets by
            their place, so that their order counts.
    """
    return {
        "dedup": {
            **_named("dedup", config.dedup), **_named("search", config.search), "seed": config.seed,
            "evaluation": list(evaluation.items()),
        },
        "cluster": {**_named("cluster", config.cluster), "seed": config.seed},
        "retrieve": {**_named("retrieve", config.retrieve), "seed": config.seed, "queries": list(queries.items())},
        "sample": {**_named("sample", config.sample), "seed": config.seed},
    }  # fmt: skip


def _named(group: str, config: Any) -> dict[str, Any]:
    return {f"{group}.{key}": value for key, value in asdict(config).items()}
