"""Arrays by name in a file that only grows: whatever was written whole survives a kill at any moment.

HDF5 gives no such promise, so features are gathered here first. A header line with the settings, then for each name
a record: lengths and checksum, the name, and the arrays as numpy's .npz.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import InputError, OutputError

Arrays = dict[str, NDArray[np.generic]]

_MAGIC = b"slamfeat journal 1 "
_RECORD = struct.Struct("<IQI")  # length of the name, length of the arrays, checksum of both


class Journal:
    """Open or begin a journal. `names` are those that can be read back."""

    def __init__(self, path: Path, settings: str) -> None:
        """Take up the journal at `path`, dropping a record that was cut off, or begin one.

        Raises:
            InputError: the file is something else, or was begun with other settings.
            OutputError: it cannot be written.
        """
        self.path = path
        self._places: dict[str, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a failed write is reported by the write and not by the closing.
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
        try:
            self._end = self._begin(_MAGIC + settings.encode() + b"\n")
        except BaseException:
            self._file.close()
            raise

    @property
    def names(self) -> list[str]:
        """In the order of writing."""
        return list(self._places)

    def append(self, name: str, arrays: Arrays) -> None:
        """Write a record.

        Raises:
            OutputError: the disk is full; the journal is then as it was before.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        body = name.encode() + buffer.getvalue()
        head = _RECORD.pack(len(name.encode()), buffer.tell(), zlib.crc32(body))
        place = self._end
        self._write(head + body)
        self._places[name] = place

    def read(self, name: str) -> Arrays:
        """The arrays of a name.

        Raises:
            InputError: the record was damaged after it had been written.
        """
        self._file.seek(self._places[name])
        length, size, checksum = _RECORD.unpack(self._file.read(_RECORD.size))
        body = self._file.read(length + size)
        if zlib.crc32(body) != checksum:
            raise self._damaged()
        try:
            with np.load(io.BytesIO(body[length:]), allow_pickle=False) as stored:
                return dict(stored)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise self._damaged() from error

    def close(self) -> None:
        """Close the file and keep it."""
        self._file.close()

    def discard(self) -> None:
        """Close the file and delete it."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _begin(self, header: bytes) -> int:
        """Check or write the header, find the records; returns where the next one goes."""
        held = self._file.read(len(header))
        if header.startswith(held) and held != header:  # new, or killed before the header was whole
            self._end = 0
            self._write(header)
            return len(header)
        if held == header:
            return self._scan(len(header))
        if held.startswith(_MAGIC):
            raise InputError(
                f"{self.path} was begun with other settings; delete it, choose another --out, or pass --overwrite"
            )
        raise self._damaged()

    def _scan(self, place: int) -> int:
        size = self._file.seek(0, io.SEEK_END)
        while place + _RECORD.size <= size:
            self._file.seek(place)
            length, arrays, _ = _RECORD.unpack(self._file.read(_RECORD.size))
            following = place + _RECORD.size + length + arrays
            if following > size:
                break
            self._places[self._file.read(length).decode(errors="replace")] = place
            place = following
        self._file.truncate(place)
        return place

    def _write(self, data: bytes) -> None:
        self._file.seek(self._end)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._end)
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}; free space and run again to go on"
            ) from error
        self._end += len(data)

    def _damaged(self) -> InputError:
        return InputError(f"{self.path} is damaged; delete it, or pass --overwrite to begin anew")
