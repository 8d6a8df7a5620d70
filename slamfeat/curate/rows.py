"""Arrays of many rows over several .npy files, read a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import InputError
from slamfeat.files import atomic_path

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Vectors(Protocol):
    """Embeddings of unit length that are read a part at a time."""

    @property
    def rows(self) -> int:
        """How many."""
        ...

    @property
    def dim(self) -> int:
        """Numbers of one."""
        ...

    def read(self, start: int, stop: int) -> Floats:
        """(stop - start, dim) of unit length."""
        ...

    def gather(self, rows: Ints) -> Floats:
        """(len(rows), dim) of unit length, in the order asked."""
        ...


@dataclass(frozen=True)
class RowFiles:
    """One array whose rows lie in several files, in their order.

    Opened anew for every reading: a map that stays open counts as the process's memory, page by page.
    """

    paths: Sequence[Path]
    counts: Sequence[int]

    @cached_property
    def starts(self) -> Ints:
        """Row that each file begins with, and the number of rows."""
        return np.concatenate([[0], np.cumsum(np.asarray(self.counts, np.int64))]).astype(np.int64)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """A copy of the rows start..stop-1."""
        first, last = self._file_of(start), self._file_of(max(start, stop - 1))
        parts = [
            np.array(self._map(file)[max(0, start - self.starts[file]) : stop - self.starts[file]])
            for file in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def gather(self, rows: Ints) -> NDArray[Any]:
        """A copy of rows in any order; at least one."""
        order = np.argsort(rows, kind="stable")
        files = np.searchsorted(self.starts, rows[order], side="right") - 1
        found: NDArray[Any] | None = None
        for file in np.unique(files):
            mine = order[files == file]
            part = self._map(int(file))[rows[mine] - self.starts[file]]
            if found is None:
                found = np.empty((len(rows), *part.shape[1:]), part.dtype)
            found[mine] = part
        assert found is not None, "no rows"
        return found

    def _file_of(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def _map(self, file: int) -> NDArray[Any]:
        array = load_array(self.paths[file])
        if len(array) != self.counts[file]:
            raise InputError(f"{self.paths[file]} is damaged: {len(array)} rows, not {self.counts[file]}; delete it")
        return array


@dataclass(frozen=True)
class FileVectors:
    """Embeddings in files, in any floating type and of any length; see `Vectors`. `as_is` leaves them their length."""

    files: RowFiles
    dim: int
    as_is: bool = False

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.files.starts[-1])

    def read(self, start: int, stop: int) -> Floats:
        """See `Vectors`."""
        return self._ready(self.files.read(start, stop))

    def gather(self, rows: Ints) -> Floats:
        """See `Vectors`."""
        return self._ready(self.files.gather(rows))

    def _ready(self, rows: NDArray[Any]) -> Floats:
        return np.asarray(rows, np.float32) if self.as_is else unit(rows)


@dataclass(frozen=True)
class ArrayVectors:
    """Embeddings in memory, of unit length already."""

    array: Floats

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Numbers of one."""
        return int(self.array.shape[1])

    def read(self, start: int, stop: int) -> Floats:
        """See `Vectors`; not a copy."""
        return self.array[start:stop]

    def gather(self, rows: Ints) -> Floats:
        """See `Vectors`."""
        return self.array[rows]


def unit(vectors: NDArray[Any]) -> Floats:
    """Rows (N, D) as float32 of unit length; zeros stay zeros."""
    single = np.array(vectors, np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", single, single))
    single /= np.maximum(length, 1e-12)[:, None]
    return single


def exact_cosines(a: Floats, b: Floats) -> Floats:
    """(N,) cosines of rows of unit length, summed in float64 in one order: the same whoever computes them."""
    return np.asarray(np.einsum("ij,ij->i", a, b, dtype=np.float64), np.float32)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy at once or not at all.

    Raises:
        OutputError: the disk is full.
    """
    with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as file:
        np.lib.format.write_array(_Whole(file), np.ascontiguousarray(array), allow_pickle=False)


class _Whole:
    """A file that writes all it is given, or fails; `np.save` into a real file says nothing when the disk is full."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an .npz at once or not at all; errors as `save_array`."""
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def load_array(path: Path) -> NDArray[Any]:
    """A .npy, mapped.

    Raises:
        InputError: missing or damaged.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is missing or damaged ({error}); delete it and run again") from error


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """An .npz, in memory; errors as `load_array`."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return dict(held)
    except Exception as error:  # zipfile's, zlib's and NumPy's own for a damaged file
        raise InputError(f"{path} is missing or damaged ({error}); delete it and run again") from error
