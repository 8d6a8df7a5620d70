"""Checksums of what rows of prepared pairs are made of, cheap enough for every start of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from slamfeat.image_files import image_files
from slamfeat.peer_weights import stored_metadata
from slamfeat.train.recipe import DataConfig
from slamfeat.train.recipe_sources import photo_folders, sequence_paths


def peer_checksum(name: str) -> str:
    """sha256 of stored published weights as their file says it; empty for no name, or where they are not stored.

    Raises:
        ConfigError: an unknown name.
    """
    return stored_metadata(name).get("sha256", "") if name else ""


def data_checksum(config: DataConfig) -> str:
    """sha256 over names and sizes of all files that pairs of a recipe come from, below their folders.

    Raises:
        InputError: a folder that is missing or empty.
    """
    digest = hashlib.sha256()
    for files in _listings(config):
        digest.update(b"folder\n")
        for name, path in files.items():
            digest.update(f"{name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _listings(config: DataConfig) -> Iterator[dict[str, Path]]:
    """Files of every folder by their names below it, sorted; of photographs the images alone."""
    if config.rooms or config.homographies:
        for folder in photo_folders(config):
            yield image_files(folder)
    for path in sequence_paths([*config.sequences, *config.stereo]):
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield {file.relative_to(path.parent).as_posix(): file for file in found if file.is_file()}
