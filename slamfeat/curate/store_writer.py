"""Making a store of embeddings: shards in any order, from any process, then what is found out of them all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.curate.listing import Listing, compute_digest, write_listing
from slamfeat.curate.rows import load_array, save_array
from slamfeat.curate.store import INDEX, UNREADABLE, EmbeddingStore, Shard, is_written, shard_path, write_shard
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import atomic_path, write_text

_BEGUN = "begun.json"


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
        self.folder, self.shard = folder, shard
        self.listing = check_begun(folder, names, shard, made) or write_listing(names, folder)
        self.made = _made(self.listing, shard, made)
        if not (folder / _BEGUN).is_file():
            write_text(folder / _BEGUN, json.dumps(self.made, indent=1, sort_keys=True) + "\n")

    @property
    def shards(self) -> int:
        """How many there are to be."""
        return -(-self.listing.count // self.shard)

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was done."""
        return (self.folder / INDEX).is_file()

    def missing(self) -> Iterator[int]:
        """Shards that are not written yet."""
        return (number for number in range(self.shards) if not is_written(self.folder, number))

    def finish(self) -> EmbeddingStore:
        """Put together what the shards say, and open the store.

        Raises:
            OutputError: the disk is full.
        """
        counts, dims, thumbs = [], set(), []
        with atomic_path(self.folder / UNREADABLE) as path, path.open("w", encoding="utf-8") as lines:
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
        write_text(self.folder / INDEX, json.dumps(index) + "\n")
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


def check_begun(folder: Path, names: Iterable[str], shard: int, made: Mapping[str, Any]) -> Listing | None:
    """The names of a store that was begun, None where none was; arguments and errors as of `StoreWriter`."""
    begun = folder / _BEGUN
    if not begun.is_file():
        return None
    listing = Listing(folder, *compute_digest(names))
    _check_made(folder, json.loads(begun.read_text(encoding="utf-8")), _made(listing, shard, made))
    return listing


def _made(listing: Listing, shard: int, made: Mapping[str, Any]) -> dict[str, Any]:
    return {**made, "shard": shard, "digest": listing.digest, "names": listing.count}


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
