"""What frozen networks made of many pairs, kept on disk, so that it is paid once: memory-mapped arrays of fixed shape.

One file a field, one row a pair, and a byte a pair that is set after its row is on disk: making a cache can be
interrupted anywhere, goes on where it stopped, and several processes may fill different rows at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.errors import ConfigError, InputError, OutputError
from slamfeat.files import write_text

Fields = Mapping[str, tuple[tuple[int, ...], str]]
_INDEX, _DONE = "cache.json", "done.u8"


class PairCache:
    """Rows of named arrays.

    Attributes:
        count: rows there are places for.
        fields: name -> shape and NumPy type of a row.
        made: what decides the content (settings, weights, source); a cache of another making is refused.
    """

    def __init__(self, folder: Path, count: int, fields: Fields, made: Mapping[str, Any]) -> None:
        """Map the files of an existing folder; use `open` or `create`."""
        self.folder, self.count, self.fields, self.made = folder, count, dict(fields), dict(made)
        self._arrays = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r+", shape=(count, *shape))
            for name, (shape, dtype) in self.fields.items()
        }
        self._done = np.memmap(folder / _DONE, np.uint8, "r+", shape=(count,))

    @classmethod
    def create(cls, folder: str | Path, count: int, fields: Fields, made: Mapping[str, Any]) -> Self:
        """A cache in `folder`: the one there goes on if it was made alike, else a new one is laid out.

        Raises:
            ConfigError: the folder holds a cache of another making.
            OutputError: no room, or the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / _INDEX).is_file():
            cache = cls.open(folder)
            differing = sorted(key for key in {**cache.made, **made} if cache.made.get(key) != made.get(key))
            if differing or cache.count != count or cache.fields != dict(fields):
                what = differing or ["count" if cache.count != count else "fields"]
                raise ConfigError(
                    f"{folder} was made with other settings ({', '.join(what)}); remove it, or choose another --out"
                )
            return cache
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, (shape, dtype) in {**fields, _DONE.partition(".")[0]: ((), "uint8")}.items():
                path = folder / (_DONE if name == "done" else f"{name}.bin")
                with path.open("wb") as file:  # sparse: takes room only as rows are written
                    file.truncate(count * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        except OSError as error:
            raise OutputError(f"cannot lay out a cache in {folder}: {error.strerror}; choose another place") from error
        index = {"count": count, "fields": {k: [list(s), d] for k, (s, d) in fields.items()}, "made": dict(made)}
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
            count, made = int(index["count"]), dict(index["made"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: no cache of prepared pairs ({_INDEX} missing or damaged): {error}") from error
        for name, (shape, dtype) in fields.items():
            wanted = count * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            path = folder / f"{name}.bin"
            if not path.is_file() or path.stat().st_size != wanted:
                raise InputError(f"{path}: truncated or missing; remove {folder} and prepare it again")
        return cls(folder, count, fields, made)

    def missing(self) -> list[int]:
        """Rows that are not written yet."""
        return [int(row) for row in np.flatnonzero(np.asarray(self._done) == 0)]

    def write(self, row: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write one row; it counts from the moment all of it is on disk.

        Raises:
            OutputError: the disk is full.
        """
        assert values.keys() == self.fields.keys(), f"fields {sorted(values)} are not {sorted(self.fields)}"
        try:
            for name, value in values.items():
                assert value.shape == self.fields[name][0], f"{name}: {value.shape} is not {self.fields[name][0]}"
                self._write(name, row, value)
            self._write_done(row)
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror}; free space and go on") from error

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

    def _write_done(self, row: int) -> None:
        with (self.folder / _DONE).open("r+b") as file:
            file.seek(row)
            file.write(b"\x01")
