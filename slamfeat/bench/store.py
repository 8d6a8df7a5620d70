"""Predictions on disk, with the configuration that made them; another configuration is refused.

OUT/predictions/TASK/FRONTEND/
  made.json    what made them
  *.npz        one file an item, written atomically: an interrupted run goes on with the items that are missing
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError, InputError
from slamfeat.files import atomic_path, write_text

Arrays = dict[str, NDArray[Any]]


class Predictions:
    """The predictions of one frontend for one task."""

    def __init__(self, out: Path, task: str, frontend: str, made: dict[str, Any], *, overwrite: bool = False) -> None:
        """Open the folder, or make it.

        Args:
            out: the benchmark's folder.
            task: "matching", "vo" or "robustness".
            frontend: its name.
            made: JSON-ready facts that decide what the predictions are.
            overwrite: throw away what another configuration made.

        Raises:
            ConfigError: the folder holds predictions that another configuration made.
            OutputError: it cannot be written.
        """
        self.folder = out / "predictions" / task / file_name(frontend)
        note = self.folder / "made.json"
        wanted = json.loads(json.dumps(made))
        if note.exists():
            before = _read_json(note)
            if before == wanted:
                return
            if not overwrite:
                raise ConfigError(f"{self.folder}: {_difference(before, wanted)}; choose another --out, or --overwrite")
            shutil.rmtree(self.folder)
        write_text(note, json.dumps(wanted, indent=1) + "\n")

    def has(self, item: str) -> bool:
        """Whether an item's prediction is there."""
        return self.path(item).exists()

    def path(self, item: str) -> Path:
        """The file of an item."""
        return self.folder / f"{file_name(item)}.npz"

    def save(self, item: str, arrays: Arrays, facts: dict[str, Any]) -> None:
        """Write an item: arrays, and facts that JSON can hold."""
        save_npz(self.path(item), arrays, facts)

    def load(self, item: str) -> tuple[Arrays, dict[str, Any]]:
        """Read an item; a damaged file is removed, so that the next run makes it again.

        Raises:
            InputError: absent or damaged.
        """
        return load_npz(self.path(item))


def save_npz(path: Path, arrays: Arrays, facts: dict[str, Any]) -> None:
    """Write arrays and facts atomically."""
    packed = {**arrays, "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **packed)


def load_npz(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save_npz` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        facts = json.loads(arrays.pop("facts").tobytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the same command again to make it") from error
    except Exception as error:  # zipfile, numpy and json each have their own words for a damaged file
        path.unlink(missing_ok=True)
        raise InputError(f"{path}: damaged ({error}) and removed; run the same command again to make it") from error
    return arrays, facts


def file_name(name: str) -> str:
    """A name as a file name."""
    return re.sub(r"[^A-Za-z0-9.+@_-]+", "_", name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"made.json": "unreadable"}


def _difference(before: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in {**before, **wanted} if before.get(key) != wanted.get(key)]
    words = ", ".join(f"{key}={_short(before.get(key))} (now {_short(wanted.get(key))})" for key in keys)
    return f"the predictions there were made with {words}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
