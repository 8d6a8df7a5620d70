"""A plain folder of images."""

from __future__ import annotations

import re
from pathlib import Path

from slamfeat.data.calibration import Calibration, find_calibration, read_calibration
from slamfeat.data.records import Record
from slamfeat.data.sequence import Sequence
from slamfeat.image_files import SUFFIXES

_SUBFOLDERS = ("images", "rgb")


class Images(Sequence):
    """Images of a folder (or its `images` or `rgb` sub-folder) in natural order: frame2 before frame10.

    Times come from file names that are times (a decimal number of seconds, or a whole number of 13, 16 or 19 digits:
    milli-, micro- or nanoseconds), else they are position / fps. The calibration is calibration.json or camera.json
    in the folder; without one the sequence opens, and asking for `.camera` is an error that says what to write.
    """

    kind = "images"
    looks_for = "image files"

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 30.0) -> None:
        """Raises InputError when there are no images, or their times repeat."""
        folder = _image_folder(path)
        images = list_images(folder)
        times = [_time_of(image.stem) for image in images]
        if any(time is None for time in times):
            times = [index / fps for index in range(len(images))]
        stamped = [(time, image) for time, image in zip(times, images, strict=True) if time is not None]
        records = [Record(time, image) for time, image in sorted(stamped, key=lambda pair: pair[0])]
        beside = find_calibration(path, folder)
        if calibration is None and beside:
            calibration = read_calibration(beside)
        super().__init__(path, records, calibration, name=path.resolve().name)

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return path.is_dir() and bool(list_images(_image_folder(path)))


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder in natural order; hidden files are left out."""
    if not folder.is_dir():
        return []
    images = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted(images, key=lambda file: natural_key(file.name))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key that compares runs of digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _image_folder(path: Path) -> Path:
    if list_images(path):
        return path
    return next((path / name for name in _SUBFOLDERS if list_images(path / name)), path)


def _time_of(stem: str) -> float | None:
    """Seconds, when a file name is a time; None for a plain index."""
    if re.fullmatch(r"[0-9]+\.[0-9]+", stem):
        return float(stem)
    units = {13: 10**3, 16: 10**6, 19: 10**9}
    return int(stem) / units[len(stem)] if stem.isdigit() and len(stem) in units else None
