"""The images of a folder, in a file: as many as there are, none of them in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import InputError
from slamfeat.files import atomic_path
from slamfeat.image_files import SUFFIXES

_NAMES, _PLACES = "files.txt", "files.npy"


def walk_images(folder: Path) -> Iterator[str]:
    """Names of the images below a folder, relative to it, in the order of `image_files`; a folder at a time is held.

    Raises:
        InputError: no such folder, or one of its folders cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give a folder of images")
    yield from _walk(folder, "")


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; allow reading it, or move it elsewhere") from error
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():  # noqa: PTH122  (a million times)
            yield prefix + entry.name


@dataclass(frozen=True)
class Listing:
    """Names in a file, found by their positions.

    Attributes:
        folder: that holds the list; count: of names; digest: of all names, which tells two lists apart.
    """

    folder: Path
    count: int
    digest: str

    def names(self, start: int, stop: int) -> list[str]:
        """The names at positions start..stop-1."""
        places = np.load(self.folder / _PLACES, mmap_mode="r")[start : stop + 1]
        with (self.folder / _NAMES).open("rb") as file:
            file.seek(int(places[0]))
            lines = file.read(int(places[-1] - places[0])).splitlines()
        return [json.loads(line) for line in lines]


class NameReader:
    """Names one by one, in any order."""

    def __init__(self, folder: Path, positions: NDArray[np.int64]) -> None:
        """Open a list.

        Args:
            folder: that holds it; positions: (rows,) of the names that are asked for by row.
        """
        self._positions, self._places = positions, np.load(folder / _PLACES, mmap_mode="r")
        self._file = (folder / _NAMES).open("rb")

    def __getitem__(self, row: int) -> str:
        self._file.seek(int(self._places[self._positions[row]]))
        return str(json.loads(self._file.readline()))

    def __del__(self) -> None:
        self._file.close()


def compute_digest(names: Iterable[str]) -> tuple[int, str]:
    """Count and digest of the list that `write_listing` would write."""
    digest, count = hashlib.sha256(), 0
    for name in names:
        digest.update(_line(name))
        count += 1
    return count, digest.hexdigest()


def write_listing(names: Iterable[str], folder: Path) -> Listing:
    """Write a list into a folder.

    Raises:
        OutputError: the disk is full.
    """
    digest, place, count = hashlib.sha256(), 0, 0
    with atomic_path(folder / _NAMES) as lines, atomic_path(folder / _PLACES) as places:
        raw = places.with_suffix(".raw")
        try:
            with lines.open("wb") as text, raw.open("wb") as offsets:
                for name in names:
                    line = _line(name)
                    digest.update(line)
                    text.write(line)
                    offsets.write(np.int64(place).tobytes())
                    place, count = place + len(line), count + 1
                offsets.write(np.int64(place).tobytes())
            with raw.open("rb") as offsets, places.open("wb") as array:
                header = {"descr": "<i8", "fortran_order": False, "shape": (count + 1,)}
                np.lib.format.write_array_header_1_0(array, header)
                while block := offsets.read(1 << 20):
                    array.write(block)
        finally:
            raw.unlink(missing_ok=True)
    return Listing(folder, count, digest.hexdigest())


def _line(name: str) -> bytes:
    return json.dumps(name).encode() + b"\n"  # escapes what is not ASCII, line ends and undecodable bytes among it
