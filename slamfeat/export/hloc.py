"""Features in an HDF5 file as hloc reads and writes them, resumable.

A group an image, named by its path below the folder: `keypoints` (N, 2) pixels, `scores` (N,), `descriptors` (D, N),
`image_size` (2,) as (W, H). Features gather in OUT.part (see `journal`), which goes into OUT at the end; an interrupted
run is taken up where it was, and more images can be added to a finished OUT.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from slamfeat.config import to_dict
from slamfeat.errors import InputError, OutputError
from slamfeat.export.journal import Journal
from slamfeat.files import atomic_path
from slamfeat.types import Features

_PARTS = ("keypoints", "scores", "descriptors", "image_size")


class FeatureStore:
    """Context manager that gathers features and writes them to `out` when it is left without an error."""

    def __init__(self, out: Path, config: Any, overwrite: bool = False) -> None:
        """Go on with `out` and `out`.part where there are any, or begin.

        Raises:
            InputError: an existing file is damaged or was made with other settings.
            OutputError: the folder cannot be written.
        """
        if out.is_dir():
            raise OutputError(f"{out} is a folder; give --out the name of a file, such as {out / 'feats.h5'}")
        part = out.with_name(out.name + ".part")
        self.out, self._settings = out, _settings(config)
        if overwrite and part.is_file():
            part.unlink()
        self._held = set() if overwrite else _held_names(out, self._settings)
        self._journal = Journal(part, self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._journal.names:
                self._publish()
                self._journal.discard()
        finally:
            if self._journal.names and self._journal.path.exists():
                self._journal.close()
            else:
                self._journal.discard()

    def __contains__(self, name: str) -> bool:
        return name in self._held or name in self._journal.names

    def write(self, name: str, features: Features, slot: int = 0) -> int:
        """Store image `slot` of the batch `features`; returns its number of keypoints.

        Raises:
            OutputError: the disk is full.
        """
        keep = features.mask[slot]
        values = {
            "keypoints": features.keypoints[slot][keep],
            "scores": features.scores[slot][keep],
            "descriptors": features.descriptors[slot][keep].t(),
            "image_size": features.image_size[slot],
        }
        self._journal.append(name, {key: np.asarray(value.detach().cpu()) for key, value in values.items()})
        return int(keep.sum())

    def _publish(self) -> None:
        """A new HDF5 file of what `out` held and what was gathered, put in its place at once."""
        import h5py

        with atomic_path(self.out) as temporary:
            try:
                with h5py.File(temporary, "w") as file:
                    file.attrs["settings"] = self._settings
                    self._copy_held(file)
                    for name in self._journal.names:
                        group = file.create_group(name)
                        for key, value in self._journal.read(name).items():
                            group.create_dataset(key, data=value)
            except RuntimeError as error:  # how h5py reports a failed write when it closes the file
                raise OutputError(f"cannot write {self.out}: {error}; free space and run again to go on") from error

    def _copy_held(self, file: Any) -> None:
        import h5py

        if not self._held:
            return
        with h5py.File(self.out, "r") as old:
            for name in sorted(self._held - set(self._journal.names)):
                old.copy(old[name], file.require_group(str(Path(name).parent)), Path(name).name)


def is_complete(out: Path, names: Collection[str], config: Any) -> bool:
    """Whether a finished `out` holds all these images, made with the settings `config`: nothing is left to do."""
    try:
        return set(names) <= _held_names(out, _settings(config))
    except InputError:  # `FeatureStore` says what is wrong
        return False


def _settings(config: Any) -> str:
    """What the features depend on, to be compared when a file is taken up."""
    backbone = {key: getattr(config, key) for key in ("weights", "engine", "precision", "calibration")}
    return json.dumps({**backbone, **to_dict(config.frontend)}, sort_keys=True)


def _held_names(out: Path, settings: str) -> set[str]:
    """Complete images in an existing HDF5 file."""
    import h5py

    if not out.exists():
        return set()
    names: set[str] = set()

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and all(part in item for part in _PARTS):
            names.add(name)

    try:
        with h5py.File(out, "r") as file:
            held = file.attrs.get("settings")
            file.visititems(look)
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{out} is damaged; delete it, or pass --overwrite to begin anew") from error
    if held != settings:
        raise InputError(f"{out} was made with other settings; choose another --out, or pass --overwrite")
    return names
