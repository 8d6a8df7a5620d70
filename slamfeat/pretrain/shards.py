"""Images in .tar files, as WebDataset keeps them: found by one pass over the headers, which is remembered."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from slamfeat.backbones.store import weights_folder
from slamfeat.errors import ImageError, InputError, OutputError
from slamfeat.files import atomic_path
from slamfeat.image import decode_image
from slamfeat.image_files import SUFFIXES

Image = NDArray[np.uint8]
Places = NDArray[np.int64]
SHARD = ".tar"
LEAST_KEPT = 1000
"""Images in a shard from which on its index is worth a file."""


class Shards:
    """Images in one .tar file."""

    def __init__(self, path: Path) -> None:
        """List the images.

        Raises:
            InputError: no readable .tar file, or without images.
        """
        self._path = path
        inside, self._places = _index(path)
        if not inside:
            raise InputError(f"{path}: holds no images ({', '.join(SUFFIXES)}); check the shards")
        self.names: Sequence[str] = [f"{path}:{name}" for name in inside]

    def read(self, number: int) -> Image:
        """(H, W, 3) uint8 RGB.

        Raises:
            ImageError: damaged, or the shard is gone.
        """
        first, size = map(int, self._places[number])
        try:
            with self._path.open("rb") as file:
                file.seek(first)
                content = file.read(size)
        except OSError as error:
            raise ImageError(f"{self.names[number]}: cannot be read ({error.strerror}); check the shard") from error
        return decode_image(content, self.names[number])


def in_shard(name: str) -> str:
    """What an image in a shard is called there; any other image's name as it is."""
    found = re.search(rf"{re.escape(SHARD)}:", name, re.IGNORECASE)
    return name[found.end() :] if found else name


def _index(path: Path) -> tuple[list[str], Places]:
    """Names and (N, 2) places and lengths of the images: the remembered ones, if the shard is as it was."""
    kept = weights_folder().parent / "shards" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.npz"
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an uncompressed .tar of images ({error})") from error
    stamp = [found.st_size, found.st_mtime_ns]
    with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile), np.load(kept) as index:
        if index["stamp"].tolist() == stamp:
            return _split(index["names"].tobytes()), index["places"]
    names, places = _scan(path)
    if len(names) >= LEAST_KEPT:
        with suppress(OSError, OutputError), atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.savez(file, stamp=stamp, names=np.frombuffer(_joined(names), np.uint8), places=places)
    return names, places


def _scan(path: Path) -> tuple[list[str], Places]:
    try:
        with tarfile.open(path, "r:") as archive:
            found = [m for m in archive if m.isfile() and Path(m.name).suffix.lower() in SUFFIXES]
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{path}: cannot be read as an uncompressed .tar of images ({error})") from error
    places = np.array([(member.offset_data, member.size) for member in found], np.int64).reshape(-1, 2)
    return [member.name for member in found], places


def _joined(names: Sequence[str]) -> bytes:
    return "\0".join(names).encode(errors="surrogateescape")


def _split(joined: bytes) -> list[str]:
    return joined.decode(errors="surrogateescape").split("\0")
