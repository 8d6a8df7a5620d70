"""From a recipe's data to a source of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slamfeat.data import open_sequence
from slamfeat.errors import InputError
from slamfeat.sample import sample_path
from slamfeat.train.homographies import HomographyPairs
from slamfeat.train.mixed import MixedPairs
from slamfeat.train.pairs import PairSource
from slamfeat.train.photometric import Photometric, PhotometricConfig
from slamfeat.train.recipe import DataConfig
from slamfeat.train.room_pairs import RoomPairs
from slamfeat.train.sequences import PosedDepthPairs, StereoPairs
from slamfeat.train.textures import Textures

_HELD_OUT_SEED = 7919


def make_source(config: DataConfig, photometric: PhotometricConfig, split: str) -> PairSource:
    """Pairs of a split, "train" or "held_out": of other photographs, rooms, sequences and draws.

    Raises:
        ConfigError, InputError: settings or data that do not serve.
    """
    seed = config.seed + (_HELD_OUT_SEED if split == "held_out" else 0)
    change = Photometric(photometric)
    parts: list[tuple[PairSource, float]] = []
    if config.rooms or config.homographies:
        textures = Textures(photo_folders(config), split, config.held_out)
        if config.rooms:
            parts.append((RoomPairs(textures, replace(config.room, seed=seed), change), config.rooms))
        if config.homographies:
            files = [file for folder in textures.files for file in folder]
            parts.append((HomographyPairs.of_files(files, config.homography, change, seed), config.homographies))
    for path, share in _shares(config.sequences, config.posed, split, config.held_out):
        parts.append((PosedDepthPairs(open_sequence(path), config.sequence, change, seed), share))
    for path, share in _shares(config.stereo, config.stereo_share, split, config.held_out):
        parts.append((StereoPairs(open_sequence(path), config.sequence.depth, change, seed), share))
    return parts[0][0] if len(parts) == 1 else MixedPairs(parts, seed)


def photo_folders(config: DataConfig) -> list[Path]:
    """Folders of photographs; the shipped frames where none are named.

    Raises:
        InputError: one that is missing.
    """
    folders = [Path(folder).expanduser() for folder in config.photos]
    for folder in folders:
        if not folder.exists():
            raise InputError(f"data.photos: no such folder: {folder}; set data.photos=[FOLDER] to photographs of yours")
    return folders or [sample_path() / "rgb"]


def _shares(patterns: Sequence[str], total: float, split: str, held_out: float) -> list[tuple[Path, float]]:
    """Sequences of a split with equal shares of `total`.

    Every so many-th is held out; with fewer than two sequences there is nothing to hold out, and one serves both.
    """
    paths = sequence_paths(patterns)
    if len(paths) > 1:
        every = max(2, round(1 / held_out))
        last = {number for number in range(len(paths)) if number % every == every - 1} or {len(paths) - 1}
        paths = [path for number, path in enumerate(paths) if (number in last) == (split == "held_out")]
    return [(path, total / len(paths)) for path in paths]


def sequence_paths(patterns: Sequence[str]) -> list[Path]:
    """Sequences that patterns or paths mean.

    Raises:
        InputError: a pattern that fits none.
    """
    return [path for pattern in patterns for path in _found(pattern)]


def _found(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if not set(pattern) & set("*?["):
        return [path]
    root = Path(path.anchor or ".")
    found = sorted(one for one in root.glob(str(path.relative_to(path.anchor))) if one.is_dir())
    if not found:
        raise InputError(f"{pattern}: no folder matches; check the pattern")
    return found
