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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.listing import Listing, NameReader, compute_digest, write_listing
from slamfeat.curate.rows import FileVectors, Ints, RowFiles, load_array, save_array
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import atomic_path, write_text

_INDEX = "store.json"


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
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
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
        with (self.folder / "unreadable.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                position, reason = json.loads(line)
                yield position, reason

    @cached_property
    def _thumbs(self) -> RowFiles:
        return self._files(".thumbs.npy")

    def _files(self, suffix: str) -> RowFiles:
        kept = [(place, count) for place, count in enumerate(self.counts) if count]
        return RowFiles([shard_path(self.folder, place, suffix) for place, _ in kept], [count for _, count in kept])


class StoreWriter:
    """A store in the making: shards in any order, from any process, each once; then `finish`."""

    def __init__(self, folder: Path, names: Iterable[str], shard: int, made: Mapping[str, Any]) -> None:
        """Write down the names, or go on with those there.

        Args:
            folder: of the store; names: of all images; shard: names a shard stands for.
            made: what decides the embeddings.

        Raises:
            ConfigError: the folder was begun with other names or made otherwise.
            OutputError: it cannot be written.
        """
        self.folder, self.shard, begun = folder, shard, folder / "begun.json"
        is_begun = begun.is_file()
        if is_begun:
            self.listing = Listing(folder, *compute_digest(names))
        else:
            self.listing = write_listing(names, folder)
        self.made = {**made, "shard": shard, "digest": self.listing.digest, "names": self.listing.count}
        if is_begun:
            _check_made(folder, json.loads(begun.read_text(encoding="utf-8")), self.made)
        else:
            write_text(begun, json.dumps(self.made, indent=1, sort_keys=True) + "\n")

    @property
    def shards(self) -> int:
        """How many there are to be."""
        return -(-self.listing.count // self.shard)

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was done."""
        return (self.folder / _INDEX).is_file()

    def missing(self) -> Iterator[int]:
        """Shards that are not written yet."""
        return (number for number in range(self.shards) if not is_written(self.folder, number))

    def finish(self) -> EmbeddingStore:
        """Put together what the shards say, and open the store.

        Raises:
            OutputError: the disk is full.
        """
        counts, dims, thumbs = [], set(), []
        with atomic_path(self.folder / "unreadable.jsonl") as path, path.open("w", encoding="utf-8") as lines:
            for number in range(self.shards):
                said = _shard_report(self.folder, number)
                counts.append(int(said["rows"]))
                if said["rows"]:
                    dims.add(int(said["dim"]))
                    thumbs.append(bool(said["thumbs"]))
                for place, reason in said["failed"]:
                    lines.write(json.dumps([number * self.shard + place, reason]) + "\n")
        self._write_positions(counts)
        index = {
            "counts": counts, "dim": max(dims, default=0), "thumbs": all(thumbs), "shard": self.shard,
            "names": self.listing.count, "digest": self.listing.digest, "made": self.made,
        }  # fmt: skip
        write_text(self.folder / _INDEX, json.dumps(index) + "\n")
        return EmbeddingStore(self.folder)

    def _write_positions(self, counts: Sequence[int]) -> None:
        positions, sizes = np.empty(sum(counts), np.int64), np.empty((sum(counts), 2), np.int32)
        row = 0
        for number, count in enumerate(counts):
            first = number * self.shard
            failed = {place for place, _ in _shard_report(self.folder, number)["failed"]}
            length = min(self.shard, self.listing.count - first)
            positions[row : row + count] = [first + place for place in range(length) if place not in failed]
            if count:
                sizes[row : row + count] = load_array(shard_path(self.folder, number, ".sizes.npy"))
            row += count
        save_array(self.folder / "positions.npy", positions)
        save_array(self.folder / "sizes.npy", sizes)

    @classmethod
    def filled(
        cls, folder: Path, names: Iterable[str], shard: int, shards: Iterable[Shard], made: Mapping[str, Any]
    ) -> EmbeddingStore:
        """A store of embeddings made elsewhere."""
        writer = cls(folder, names, shard, made)
        for number, one in enumerate(shards):
            write_shard(folder, number, one)
        return writer.finish()


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


def _shard_report(folder: Path, number: int) -> dict[str, Any]:
    path = shard_path(folder, number, ".json")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and run again") from error


def _check_made(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = sorted(key for key in {**then, **now} if then.get(key) != now.get(key))
    if differing in (["digest"], ["digest", "names"]):
        raise ConfigError(
            f"{folder}: the images have changed since (then {then['names']}, now {now['names']} names);"
            " begin anew with --overwrite, or in another --out"
        )
    if differing:
        named = ", ".join(f"{key} ({then.get(key)} there, {now.get(key)} now)" for key in differing)
        raise ConfigError(f"{folder} was made with other settings: {named}; begin anew with --overwrite, or elsewhere")
