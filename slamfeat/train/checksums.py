"""Checksums of what rows of prepared pairs are made of, cheap enough for every start of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from slamfeat.backbones import store
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.errors import WeightsError
from slamfeat.frontend.pretrained import DEFAULT_WEIGHTS
from slamfeat.image_files import image_files
from slamfeat.peer_weights import stored_metadata
from slamfeat.train.recipe import DataConfig
from slamfeat.train.recipe_sources import photo_folders, sequence_paths


def backbone_checksum(name_or_path: str) -> str:
    """sha256 of a backbone's weights as the file says it, or of the file where it says none.

    Args:
        name_or_path: as `slamfeat.frontend.pretrained.load_pretrained` takes it.

    Raises:
        ConfigError: an unknown name.
        WeightsError: no such file.
    """
    path = _weights_file(name_or_path)
    if said := read_metadata(path).get("sha256"):  # held against the weights whenever they are loaded
        return said
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read as weights ({error.strerror}); check the path") from error


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


def _weights_file(name_or_path: str) -> Path:
    if name_or_path == "default":
        return DEFAULT_WEIGHTS
    path = Path(name_or_path).expanduser()
    if not path.suffix and not path.exists():
        return store.stored_path(name_or_path)
    return path / "model.safetensors" if path.is_dir() else path


def _listings(config: DataConfig) -> Iterator[dict[str, Path]]:
    """Files of every folder by their names below it, sorted; of photographs the images alone."""
    if config.rooms or config.homographies:
        for folder in photo_folders(config):
            yield image_files(folder)
    for path in sequence_paths([*config.sequences, *config.stereo]):
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield {file.relative_to(path.parent).as_posix(): file for file in found if file.is_file()}
