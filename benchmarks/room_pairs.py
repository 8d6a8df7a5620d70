"""Pairs of made-up rooms with exact poses, as a pair list that `slamfeat bench matching` takes: for choosing settings.

    python -m benchmarks.room_pairs ../shared/data --out runs/room_pairs --count 150
    slamfeat bench matching runs/room_pairs/pairs.txt -f slamfeat:accurate -f aliked+lightglue

The poses of the train-split sequences are a few pixels off, which hides what sub-pixel accuracy is worth; those of
rooms are exact. Textures are photographs that no heads were trained on (the held-out share of
configs/train/cpu_full.yaml).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from slamfeat.config import load_config
from slamfeat.files import write_text
from slamfeat.train.pairs import Pixels, TrainingPair
from slamfeat.train.photometric import Photometric, PhotometricConfig
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.recipe_files import find_recipe
from slamfeat.train.room_pairs import RoomPairs
from slamfeat.train.textures import Textures

SEED = 104729  # of no training


def line(pair: TrainingPair, number: int) -> str:
    """One pair in SuperGlue's format."""
    assert pair.K0 is not None and pair.K1 is not None and pair.T_1_0 is not None, "rooms have cameras"
    values = np.concatenate([pair.K0.ravel(), pair.K1.ravel(), pair.T_1_0.ravel()])
    return f"{number:04d}_0.png {number:04d}_1.png 0 0 " + " ".join(repr(float(value)) for value in values)


def write_image(path: Path, image: Pixels) -> None:
    """Lossless."""
    cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--strength", type=float, default=0.5, help="of the photometric changes")
    given = parser.parse_args(arguments)
    recipe = load_config(HeadsRecipe, find_recipe("cpu_full"))
    photos = [given.data / Path(folder).relative_to("../shared/data") for folder in recipe.data.photos]
    textures = Textures(photos, "held_out", recipe.data.held_out)
    config = recipe.data.room
    config.seed = SEED
    source = RoomPairs(textures, config, Photometric(PhotometricConfig(strength=given.strength)))
    given.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(given.count):
        pair = source.pair(number)
        write_image(given.out / f"{number:04d}_0.png", pair.image0)
        write_image(given.out / f"{number:04d}_1.png", pair.image1)
        lines.append(line(pair, number))
    write_text(given.out / "pairs.txt", "\n".join(lines) + "\n")
    print(f"{given.count} pairs in {given.out}")


if __name__ == "__main__":
    main()
