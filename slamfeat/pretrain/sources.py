"""Images to pretrain on, by number: folders, lists of files, videos and WebDataset shards, and joined ones."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from threading import Lock, local
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ImageError, InputError
from slamfeat.image import check_image, read_image
from slamfeat.image_files import SUFFIXES as IMAGES
from slamfeat.image_files import image_files
from slamfeat.train.textures import is_held_out, photo_name

Image = NDArray[np.uint8]
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


class ImageSource(Protocol):
    """Images that can be had in any order, by several threads at once."""

    names: Sequence[str]

    def read(self, number: int) -> Image:
        """(H, W, 3) uint8 RGB.

        Raises:
            ImageError: damaged; the message names it.
        """


class Files:
    """Image files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """None is read yet."""
        self.names: Sequence[str] = [str(path) for path in paths]

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        return read_image(self.names[number])


class Shards:
    """Images in a .tar file, as WebDataset keeps them; found by one pass over its headers."""

    def __init__(self, path: Path) -> None:
        """List the images.

        Raises:
            InputError: no readable .tar file, or without images.
        """
        self._path = path
        try:
            with tarfile.open(path, "r:") as archive:
                found = [m for m in archive if m.isfile() and Path(m.name).suffix.lower() in IMAGES]
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{path}: cannot be read as an uncompressed .tar of images ({error})") from error
        if not found:
            raise InputError(f"{path}: holds no images ({', '.join(IMAGES)}); check the shards")
        self.names: Sequence[str] = [f"{path}:{member.name}" for member in found]
        self._places = [(member.offset_data, member.size) for member in found]

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        first, size = self._places[number]
        with self._path.open("rb") as file:
            file.seek(first)
            content = file.read(size)
        return _decode(content, self.names[number])


class VideoFrames:
    """Every `step`-th frame of a video file."""

    def __init__(self, path: Path, step: int) -> None:
        """Count the frames.

        Raises:
            InputError: not a readable video, or one that does not say how long it is.
        """
        import cv2

        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if count < 1:
            raise InputError(f"{path}: cannot be read as a video of known length; convert it to .mp4 or to images")
        self._path, self._numbers = path, range(0, count, step)
        self.names: Sequence[str] = [f"{path}:{frame}" for frame in self._numbers]
        self._open = local()  # a decoder a thread

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        import cv2

        if not hasattr(self._open, "capture"):
            self._open.capture = cv2.VideoCapture(str(self._path))
        self._open.capture.set(cv2.CAP_PROP_POS_FRAMES, self._numbers[number])
        read, frame = self._open.capture.read()
        if not read:
            raise ImageError(f"{self.names[number]}: frame cannot be decoded; convert the video again")
        return check_image(np.ascontiguousarray(frame[..., ::-1]))


class Joined:
    """Several sources one after the other; damaged images are passed over.

    Attributes:
        skipped: names of the images that could not be read, with what was wrong.
    """

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        """Join them."""
        self._sources = sources
        self._ends = list(accumulate(len(source.names) for source in sources))
        self.names: Sequence[str] = [name for source in sources for name in source.names]
        self.skipped: dict[str, str] = {}
        self._lock = Lock()

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        place = bisect_right(self._ends, number)
        return self._sources[place].read(number - (self._ends[place - 1] if place else 0))

    def read_or_next(self, number: int) -> Image:
        """The image of this number, or the next one that is not damaged; the same for the same number.

        Raises:
            ImageError: all are.
        """
        for offset in range(len(self.names)):
            at = (number + offset) % len(self.names)
            try:
                return self.read(at)
            except ImageError as error:
                with self._lock:
                    self.skipped[self.names[at]] = str(error)
        raise ImageError(
            f"none of {len(self.names)} images can be read; the first: {next(iter(self.skipped.values()))}"
        )


def open_images(places: Sequence[str], frame_step: int = 10) -> Joined:
    """Images from folders, image and video files, .tar shards, and .txt lists of image files (a line each).

    Args:
        places: of any kind; those in a list are relative to it.
        frame_step: of every so many frames of a video one is taken.

    Raises:
        InputError: one is missing, of no known kind, or holds no images.
    """
    if not places:
        raise InputError("no images given: name folders, .txt lists, videos or .tar shards in data.images")
    return Joined([_open_one(Path(place).expanduser(), frame_step) for place in places])


def split_names(source: Joined, held_out: float) -> tuple[list[int], list[int]]:
    """Numbers of the images to learn from and of those held out, by a hash of the photograph each shows."""
    sides: tuple[list[int], list[int]] = ([], [])
    for number, name in enumerate(source.names):
        sides[is_held_out(photo_name(Path(name)), held_out)].append(number)
    return sides


def _open_one(path: Path, frame_step: int) -> ImageSource:
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".tar":
        return Shards(path)
    if path.is_file() and suffix == ".txt":
        return Files(_listed(path))
    if path.is_file() and suffix in VIDEOS:
        return VideoFrames(path, frame_step)
    return Files(list(image_files(path).values()))


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a list of image files ({error})") from error
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not files:
        raise InputError(f"{path}: lists no files; put one image file on each line")
    return files


def _decode(content: bytes, name: str) -> Image:
    import cv2

    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if decoded is None:
        raise ImageError(f"{name}: cannot be decoded as an image; replace it")
    return check_image(np.ascontiguousarray(decoded[..., ::-1]))
