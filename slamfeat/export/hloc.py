"""Features in an HDF5 file as hloc reads and writes them, resumable.

A group an image, named by its path below the folder: `keypoints` (N, 2) pixels, `scores` (N,), `descriptors` (D, N),
`image_size` (2,) as (W, H). Work goes on in OUT.part, which becomes OUT at the end; an interrupted run is taken up.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from slamfeat.config import to_dict
from slamfeat.errors import InputError, OutputError
from slamfeat.types import Features

SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")
_PARTS = ("keypoints", "scores", "descriptors", "image_size")


def image_files(path: Path) -> dict[str, Path]:
    """Images below a folder (or the one image) by their name relative to it.

    Raises:
        InputError: nothing there, or no images in it.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise InputError(f"no such file or folder: {path}; check the path")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{path}: holds no images ({', '.join(SUFFIXES)}); check the path")
    return {file.relative_to(path).as_posix(): file for file in files}


class FeatureStore:
    """Context manager over the HDF5 file; on leaving, also after an error, finished images are safe."""

    def __init__(self, out: Path, config: Any, overwrite: bool = False) -> None:
        """Go on with `out` or `out`.part where there is one, or begin.

        Raises:
            InputError: an existing file is damaged or was made with other settings.
            OutputError: the folder cannot be written.
        """
        self.out, self.part = out, out.with_name(out.name + ".part")
        self._settings = json.dumps({"weights": config.weights, **to_dict(config.frontend)}, sort_keys=True)
        self._begin(overwrite)
        self._file = self._open()
        held = self._file.attrs.get("settings")
        if held is None:
            self._file.attrs["settings"] = held = self._settings
        if held != self._settings:
            self._file.close()
            raise InputError(f"{out} was made with other settings; choose another --out, or pass --overwrite")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self.part.replace(self.out)

    def __contains__(self, name: str) -> bool:
        return name in self._file and all(part in self._file[name] for part in _PARTS)

    def write(self, name: str, features: Features) -> int:
        """Store the first image of `features`; returns its number of keypoints.

        Raises:
            OutputError: the disk is full.
        """
        keep = features.mask[0]
        values = {
            "keypoints": features.keypoints[0][keep],
            "scores": features.scores[0][keep],
            "descriptors": features.descriptors[0][keep].t(),
            "image_size": features.image_size[0],
        }
        try:
            if name in self._file:
                del self._file[name]
            group = self._file.create_group(name)
            for key, value in values.items():
                group.create_dataset(key, data=np.asarray(value.detach().cpu()))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.part}: {error}; free space and run again to go on") from error
        return int(keep.sum())

    def _begin(self, overwrite: bool) -> None:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self.part.unlink(missing_ok=True)
                self.out.unlink(missing_ok=True)
            elif self.out.exists() and not self.part.exists():
                self.out.replace(self.part)
        except OSError as error:
            raise OutputError(f"cannot write {self.out}: {error.strerror}; choose another --out") from error

    def _open(self) -> Any:
        import h5py

        existed = self.part.exists()
        try:
            return h5py.File(self.part, "a")
        except OSError as error:
            if existed:
                raise InputError(f"{self.part} is damaged; delete it, or pass --overwrite to begin anew") from error
            raise OutputError(f"cannot write {self.part}: permission denied; choose another --out") from error
