"""Embeddings of many images on disk: shards of fixed size in fp16, with names, sizes and thumbnails.

FOLDER/
  files.txt files.npy        every name, and where it begins (see `listing`)
  shards/00000.npy           (n, D) float16 of the images of the first `shard` names that could be used
  shards/00000.thumbs.npy    (n, 32, 32) uint8 grey
  shards/00000.sizes.npy     (n, 2) int32 (W, H)
  shards/00000.json          names that could not be used, and why; written last, so that a shard is whole or not there
  positions.npy sizes.npy    of every row: the position of its name, and (W, H)
  unreadable.jsonl           every name that could not be used
  store.json                 written last: rows of each shard, and what the embeddings were made with
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.listing import Listing, NameReader
from slamfeat.curate.rows import FileVectors, Ints, RowFiles, load_array, save_array
from slamfeat.errors import InputError
from slamfeat.files import write_text

INDEX = "store.json"
"""Written last."""
UNREADABLE = "unreadable.jsonl"


@dataclass(frozen=True)
class Shard:
    """What became of some consecutive names.

    Attributes:
        embeddings: (n, D); thumbs: (n, 32, 32) uint8, or None; sizes: (n, 2) as (W, H).
        failed: why a name could not be used, by its place in the shard.
    """

    embeddings: NDArray[Any]
    sizes: NDArray[np.int32]
    thumbs: NDArray[np.uint8] | None = None
    failed: Mapping[int, str] = field(default_factory=dict)


class EmbeddingStore:
    """A finished store.

    Attributes:
        folder: of the store; made: what it was made with; counts: rows of each shard; listing: all names;
        unreadable: number of names without a row; vectors: the embeddings; has_thumbs: whether there are thumbnails.
    """

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            InputError: it is not finished, or damaged.
        """
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self.counts: list[int] = [int(count) for count in index["counts"]]
            dim, self.made = int(index["dim"]), dict(index["made"])
            self.listing = Listing(folder, int(index["names"]), str(index["digest"]))
            self.has_thumbs = bool(index["thumbs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: no finished embeddings ({error}); run again to finish them") from error
        self.folder = folder
        self.vectors = FileVectors(self._files(".npy"), dim)
        self.unreadable = self.listing.count - self.rows

    @property
    def rows(self) -> int:
        """Images that could be used."""
        return sum(self.counts)

    def thumbs(self, rows: Ints) -> NDArray[np.uint8]:
        """(len(rows), 32, 32) grey thumbnails."""
        return self._thumbs.gather(rows)

    def sizes(self) -> NDArray[np.int32]:
        """(rows, 2) as (W, H), mapped."""
        return load_array(self.folder / "sizes.npy")

    def positions(self) -> Ints:
        """(rows,) positions of the names, rising, mapped."""
        return load_array(self.folder / "positions.npy")

    def names(self) -> NameReader:
        """Names by row."""
        return NameReader(self.folder, self.positions())

    def failures(self) -> Iterator[tuple[int, str]]:
        """Position and reason of every name that could not be used."""
        with (self.folder / UNREADABLE).open(encoding="utf-8") as lines:
            for line in lines:
                position, reason = json.loads(line)
                yield position, reason

    @cached_property
    def _thumbs(self) -> RowFiles:
        return self._files(".thumbs.npy")

    def _files(self, suffix: str) -> RowFiles:
        kept = [(place, count) for place, count in enumerate(self.counts) if count]
        return RowFiles([shard_path(self.folder, place, suffix) for place, _ in kept], [count for _, count in kept])


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Write a shard; it counts from the moment all of it is on disk.

    Raises:
        OutputError: the disk is full.
    """
    if len(shard.embeddings):
        save_array(shard_path(folder, number, ".npy"), shard.embeddings.astype(np.float16))
        save_array(shard_path(folder, number, ".sizes.npy"), shard.sizes.astype(np.int32))
        if shard.thumbs is not None:
            save_array(shard_path(folder, number, ".thumbs.npy"), shard.thumbs)
    said = {
        "rows": len(shard.embeddings), "dim": int(shard.embeddings.shape[1]) if len(shard.embeddings) else 0,
        "thumbs": shard.thumbs is not None, "failed": sorted(shard.failed.items()),
    }  # fmt: skip
    write_text(shard_path(folder, number, ".json"), json.dumps(said) + "\n")


def is_written(folder: Path, number: int) -> bool:
    """Whether a shard is there, and whole."""
    return shard_path(folder, number, ".json").is_file()


def shard_path(folder: Path, number: int, suffix: str) -> Path:
    """A file of a shard."""
    return folder / "shards" / f"{number:05d}{suffix}"
