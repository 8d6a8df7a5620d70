"""What a sequence is made of: the files of each frame, the second camera, and the checks they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array
from slamfeat.image import read_image
from slamfeat.types import Camera


@dataclass(frozen=True)
class Record:
    """The files of one frame and its time in seconds; None where the sensor has nothing for that moment."""

    timestamp: float
    image: Path
    depth: Path | None = None
    right: Path | None = None


@dataclass(frozen=True)
class StereoRig:
    """The right camera, and `T_left_right` (4, 4), metres: right-camera to left-camera coordinates."""

    camera: Camera
    T_left_right: Array


@dataclass(frozen=True)
class SkippedFrame:
    """A frame that iteration left out: its index, its file and why it could not be used."""

    index: int
    path: Path | None
    reason: str


class SizeMismatchError(ImageError):
    """An image and the calibration (or its depth map) disagree about the size."""


def check_size(image: NDArray[np.uint8], camera: Camera, path: Path) -> None:
    """Raise SizeMismatchError when `image` (H, W, 3) is not of the camera's size."""
    if (image.shape[1], image.shape[0]) != (camera.width, camera.height):
        raise SizeMismatchError(
            f"{path}: image is {size_text(image)} but the calibration is for {camera.width}x{camera.height}; "
            "pass the calibration of these images with --camera FILE"
        )


def check_times(path: Path, records: list[Record]) -> None:
    """Raise InputError when the times of `records` do not increase."""
    times = np.array([record.timestamp for record in records])
    wrong = np.flatnonzero(~(np.diff(times) > 0))
    if len(wrong):
        first, second = times[wrong[0]], times[wrong[0] + 1]
        raise InputError(
            f"{path}: timestamps must increase, but {second:.6f} follows {first:.6f}; remove repeated lines"
        )


def first_size(folder: Path, images: Iterable[Path]) -> tuple[int, int]:
    """(W, H) of the first readable image, where no file holds it. Raises InputError, naming `folder`, without any."""
    for image in images:
        try:
            height, width = read_image(image).shape[:2]
        except ImageError:
            continue
        return width, height
    raise InputError(f"{folder}: none of its images can be read; copy the folder again")


def size_text(image: NDArray[np.uint8] | NDArray[np.float32]) -> str:
    """Width and height for messages, such as 640x480."""
    return f"{image.shape[1]}x{image.shape[0]}"
