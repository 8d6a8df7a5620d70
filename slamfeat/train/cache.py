"""What frozen networks made of many pairs, kept on disk, so that it is paid once: memory-mapped arrays of fixed shape.

One file a field, one row a pair, and a byte a pair that is set after its row is on disk: making a cache can be
interrupted anywhere, even by a power cut, goes on where it stopped, and several processes may fill different rows at
once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.errors import ConfigError, InputError, OutputError
from slamfeat.files import write_text

Fields = Mapping[str, tuple[tuple[int, ...], str]]
Sources = Callable[[bool], Mapping[str, str]]
"""Checksums by name of what rows are made of, given whether any are still to be made."""
_INDEX, _DONE = "cache.json", "done.u8"


class PairCache:
    """Rows of named arrays.

    Attributes:
        count: rows there are places for.
        fields: name -> shape and NumPy type of a row.
        made: what decides the content (settings, names of weights and folders); a cache of another making is refused.
        sources: checksums of what its rows were made of when it was laid out; likewise. Older caches have none.
    """

    def __init__(
        self, folder: Path, count: int, fields: Fields, made: Mapping[str, Any], sources: Mapping[str, str]
    ) -> None:
        """Map the files of an existing folder; use `open` or `create`."""
        self.folder, self.count, self.fields = folder, count, dict(fields)
        self.made, self.sources = dict(made), dict(sources)
        self._arrays = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r+", shape=(count, *shape))
            for name, (shape, dtype) in self.fields.items()
        }
        self._done = np.memmap(folder / _DONE, np.uint8, "r+", shape=(count,))

    @classmethod
    def create(
        cls,
        folder: str | Path,
        count: int,
        fields: Fields,
        made: Mapping[str, Any],
        sources: Sources = lambda missing: {},
    ) -> Self:
        """A cache in `folder`: the one there goes on if it was made alike, else a new one is laid out.

        Raises:
            ConfigError: the folder holds a cache of another making, or of other sources.
            InputError: it holds a damaged one.
            OutputError: no room, or the folder cannot be written.
        """
        folder = Path(folder)
        if cls.is_in(folder):
            cache = cls.open(folder)
            cache.check(count, made, sources)
            if cache.fields != dict(fields):
                raise _made_otherwise(folder, ["fields"])
            return cache
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, size in _files(folder, count, fields).items():
                with path.open("wb") as file:  # sparse: takes room only as rows are written
                    file.truncate(size)
        except OSError as error:
            raise OutputError(f"cannot lay out a cache in {folder}: {error.strerror}; choose another place") from error
        index = {
            "count": count, "fields": {k: [list(s), d] for k, (s, d) in fields.items()}, "made": dict(made),
            "sources": dict(sources(True)),
        }  # fmt: skip
        write_text(folder / _INDEX, json.dumps(index, indent=1, sort_keys=True) + "\n")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """An existing cache.

        Raises:
            InputError: none there, or its files are not as long as its index says.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            fields = {name: (tuple(shape), str(dtype)) for name, (shape, dtype) in index["fields"].items()}
            count, made, sources = int(index["count"]), dict(index["made"]), dict(index.get("sources", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: no cache of prepared pairs ({_INDEX} missing or damaged): {error}") from error
        for path, size in _files(folder, count, fields).items():
            if not path.is_file() or path.stat().st_size != size:
                raise InputError(f"{path}: truncated or missing; remove {folder} and prepare it again")
        return cls(folder, count, fields, made, sources)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds a cache, whole or damaged; one that was not laid out to its end is none."""
        return (folder / _INDEX).is_file()

    def check(self, count: int, made: Mapping[str, Any], sources: Sources) -> None:
        """Hold against this cache what one is wanted with.

        Raises:
            ConfigError: it was made otherwise, or of other sources; names what differs.
        """
        differing = sorted(key for key in {**self.made, **made} if self.made.get(key) != made.get(key))
        if differing or self.count != count:
            raise _made_otherwise(self.folder, differing or ["count"])
        now = sources(bool(self.missing()))
        changed = sorted(name for name in now if self.sources.get(name, now[name]) != now[name])
        if changed:
            raise ConfigError(
                f"{self.folder}: its pairs are of other {' and '.join(changed)} than are there now; "
                "put them back, remove it, or choose another --out"
            )

    def missing(self) -> list[int]:
        """Rows that are not written yet."""
        return [int(row) for row in np.flatnonzero(np.asarray(self._done) == 0)]

    def write(self, row: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write one row that counts at once; for many, `put` them and `mark` some together.

        Raises:
            OutputError: the disk is full.
        """
        self.put(row, values)
        self.mark([row])

    def put(self, row: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write one row that does not count yet.

        Raises:
            OutputError: the disk is full.
        """
        assert values.keys() == self.fields.keys(), f"fields {sorted(values)} are not {sorted(self.fields)}"
        try:
            for name, value in values.items():
                assert value.shape == self.fields[name][0], f"{name}: {value.shape} is not {self.fields[name][0]}"
                self._write(name, row, value)
        except OSError as error:
            raise self._not_written(error) from error

    def mark(self, rows: Sequence[int]) -> None:
        """Let rows that were put count, once all of them is on disk.

        Raises:
            OutputError: the disk is full.
        """
        if not rows:
            return
        try:
            for name in self.fields:
                with (self.folder / f"{name}.bin").open("r+b") as file:
                    os.fsync(file.fileno())
            with (self.folder / _DONE).open("r+b", buffering=0) as file:  # no byte but these: others set theirs
                for row in rows:
                    file.seek(row)
                    file.write(b"\x01")
                os.fsync(file.fileno())
        except OSError as error:
            raise self._not_written(error) from error

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Rows as tensors (len(rows), ...), in the types they are kept in.

        Raises:
            InputError: one that is not written yet.
        """
        absent = [row for row in rows if not self._done[row]]
        if absent:
            raise InputError(f"{self.folder}: pair {absent[0]} is not prepared yet; finish preparing it")
        picked = np.asarray(rows)
        return {name: torch.from_numpy(np.array(array[picked])) for name, array in self._arrays.items()}

    def column(self, name: str) -> NDArray[Any]:
        """One field of all rows (count, ...), zeros where a row is not written yet; not to be written to."""
        return np.asarray(self._arrays[name])

    def _write(self, name: str, row: int, value: NDArray[Any]) -> None:
        # Not through the map: on a full disk a map kills the process instead of raising.
        data = np.ascontiguousarray(value, dtype=self.fields[name][1]).tobytes()
        with (self.folder / f"{name}.bin").open("r+b") as file:
            file.seek(row * len(data))
            file.write(data)

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write to {self.folder}: {error.strerror}; free space and go on")


def _files(folder: Path, count: int, fields: Fields) -> dict[Path, int]:
    """All files but the index, with their bytes."""
    sizes = {
        folder / f"{name}.bin": count * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for name, (shape, dtype) in fields.items()
    }
    return {**sizes, folder / _DONE: count}


def _made_otherwise(folder: Path, what: Sequence[str]) -> ConfigError:
    return ConfigError(f"{folder} was made with other settings ({', '.join(what)}); remove it, or choose another --out")
