"""Image files of a folder, by the endings of their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from slamfeat.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")


def image_files(path: Path) -> dict[str, Path]:
    """Images below a folder (or the one image) by their name relative to it, sorted; hidden ones are left out.

    Raises:
        InputError: nothing there, or no images in it.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise InputError(f"no such file or folder: {path}; check the path")
    return files_below(path, SUFFIXES)


def files_below(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Files that end so (lower case, with the dot), as `image_files` gives images.

    Raises:
        InputError: there are none.
    """
    found = {file.relative_to(folder): file for file in folder.rglob("*") if file.suffix.lower() in suffixes}
    files = {
        name.as_posix(): file
        for name, file in sorted(found.items())
        if file.is_file() and not any(part.startswith(".") for part in name.parts)
    }
    if not files:
        raise InputError(f"{folder}: holds no images ({', '.join(suffixes)}); check the path")
    return files
