"""Photographs that made-up scenes are covered with, split so that no photograph serves on both sides."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slamfeat.errors import ConfigError, InputError
from slamfeat.image import read_image
from slamfeat.image_files import image_files
from slamfeat.train.pairs import Pixels
from slamfeat.train.readable import first_readable

SPLITS = ("train", "held_out", "all")
_TILE = re.compile(r"_s\d+_\d+_\d+$")


def photo_name(path: Path) -> str:
    """The photograph a file shows: its name without ending, and without the `_sSCALE_Y_X` of a tile of it."""
    return _TILE.sub("", path.stem)


def is_held_out(photo: str, share: float) -> bool:
    """Whether a photograph belongs to the held-out `share` (0..1); depends on its name alone."""
    digest = hashlib.sha256(photo.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class Textures:
    """Photographs of one or several folders, read when asked for; the last ones are kept.

    Attributes:
        files: for every folder its files of this split, sorted by name.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        split: str = "train",
        held_out: float = 0.1,
        photo_of: Callable[[Path], str] = photo_name,
        kept: int = 256,
    ) -> None:
        """List the files; none is read.

        Args:
            folders: searched with their sub-folders.
            split: "train", "held_out" or "all".
            held_out: share of the photographs that are held out, by a hash of their name.
            photo_of: names the photograph that a file shows, so that its tiles stay on one side.
            kept: images kept in memory.

        Raises:
            ConfigError: an unknown split or a share outside 0..1.
            InputError: a folder is missing or holds no images, or no photograph falls into the split.
        """
        if split not in SPLITS or not 0 <= held_out <= 1:
            raise ConfigError(
                f"textures: split is one of {', '.join(SPLITS)} and held_out 0..1, not {split}, {held_out}"
            )
        listed = [list(image_files(Path(folder)).values()) for folder in folders]
        chosen = [[f for f in files if _belongs(photo_of(f), split, held_out)] for files in listed]
        self.files = [files for files in chosen if files]
        if not self.files:
            where = ", ".join(str(folder) for folder in folders) or "no folder"
            raise InputError(f"textures: no {split} photographs in {where}; add images or change held_out={held_out}")
        self._kept, self._most = OrderedDict[Path, Pixels](), kept

    def __len__(self) -> int:
        """Files in this split."""
        return sum(len(files) for files in self.files)

    def draw(self, rng: np.random.Generator) -> Pixels:
        """A photograph at random, (H, W, 3) uint8 RGB; not to be written to.

        A folder of n files is drawn with weight sqrt(n), so that a large collection does not drown a small one.
        Another is drawn for one that cannot be read.

        Raises:
            ImageError: twenty in a row cannot be read.
        """
        return first_readable(lambda: self._draw(rng))

    def read(self, path: Path) -> Pixels:
        """One of the files as (H, W, 3) uint8 RGB; not to be written to.

        Raises:
            ImageError: it cannot be read.
        """
        image = self._kept.pop(path, None)
        if image is None:
            image = read_image(path)
            image.setflags(write=False)
        self._kept[path] = image
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return image

    def _draw(self, rng: np.random.Generator) -> Pixels:
        weights = np.sqrt([len(files) for files in self.files])
        files = self.files[int(rng.choice(len(self.files), p=weights / weights.sum()))]
        return self.read(files[int(rng.integers(len(files)))])


def _belongs(photo: str, split: str, held_out: float) -> bool:
    return split == "all" or is_held_out(photo, held_out) == (split == "held_out")
