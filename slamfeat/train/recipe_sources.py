"""From a recipe's data to a source of pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slamfeat.data import open_sequence
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
    """Pairs of a split, "train" or "held_out": other photographs, rooms and draws.

    Raises:
        ConfigError, InputError: settings or data that do not serve.
    """
    seed = config.seed + (_HELD_OUT_SEED if split == "held_out" else 0)
    change = Photometric(photometric)
    parts: list[tuple[PairSource, float]] = []
    if config.rooms or config.homographies:
        textures = Textures(_folders(config), split, config.held_out)
        if config.rooms:
            parts.append((RoomPairs(textures, replace(config.room, seed=seed), change), config.rooms))
        if config.homographies:
            files = [file for folder in textures.files for file in folder]
            parts.append((HomographyPairs.of_files(files, config.homography, change, seed), config.homographies))
    for path in config.sequences:
        posed = PosedDepthPairs(open_sequence(path), config.sequence, change, seed)
        parts.append((posed, config.posed / len(config.sequences)))
    for path in config.stereo:
        pairs = StereoPairs(open_sequence(path), config.sequence.depth, change, seed)
        parts.append((pairs, config.stereo_share / len(config.stereo)))
    return parts[0][0] if len(parts) == 1 else MixedPairs(parts, seed)


def _folders(config: DataConfig) -> list[Path]:
    return [Path(folder).expanduser() for folder in config.photos] or [sample_path() / "rgb"]
