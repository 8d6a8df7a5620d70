"""Images to pretrain on, by number: folders, lists of files, videos and WebDataset shards, and joined ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from threading import Lock, local
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ImageError, InputError
from slamfeat.image import check_image, read_image, rgb_of_bgr
from slamfeat.image_files import SUFFIXES as IMAGES
from slamfeat.image_files import files_below, image_files
from slamfeat.pretrain.shards import SHARD, Shards, in_shard
from slamfeat.train.textures import is_held_out, photo_name

Image = NDArray[np.uint8]
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
VIDEO_BLOCK = 300
"""Frames of a video that are held out together: ten seconds, in which a moving camera comes to see something else. Only
those at the ends of a block have a twin on the other side; and a video of minutes has frames on both."""
OPEN_VIDEOS = 4
"""Decoders that a thread keeps open: each holds a file, threads and frames."""


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
            raise InputError(f"{path}: cannot be read as a video of known length; convert it again, or to images")
        self._path, self._numbers = path, range(0, count, step)
        self.names: Sequence[str] = [f"{path}:{frame}" for frame in self._numbers]

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        import cv2

        capture = _captures.get(self._path)
        capture.set(cv2.CAP_PROP_POS_FRAMES, self._numbers[number])
        read, frame = capture.read()
        if not read:
            raise ImageError(f"{self.names[number]}: frame cannot be decoded; convert the video again")
        return check_image(rgb_of_bgr(frame))


class _Captures(local):
    """The decoders that a thread used last: of many videos, only a few are open at a time."""

    def __init__(self) -> None:
        self._open = OrderedDict[Path, Any]()

    def get(self, path: Path) -> Any:
        """A video's decoder.

        Raises:
            ImageError: it cannot be opened (now); the next call tries again.
        """
        import cv2

        capture = self._open.pop(path, None)
        if capture is None:
            capture = cv2.VideoCapture(str(path))
            if not capture.isOpened():
                raise ImageError(f"{path}: cannot be opened as a video; check the path")
        self._open[path] = capture
        while len(self._open) > OPEN_VIDEOS:
            self._open.popitem(last=False)[1].release()
        return capture


_captures = _Captures()


class Joined:
    """Several sources one after the other; damaged images are passed over.

    Attributes:
        skipped: names of the images that could not be read, with what was wrong.
    """

    def __init__(self, sources: Sequence[ImageSource], skipped: Mapping[str, str] | None = None) -> None:
        """Join them; `skipped` are those that could not even be opened."""
        self._sources = sources
        self._ends = list(accumulate(len(source.names) for source in sources))
        self.names: Sequence[str] = [name for source in sources for name in source.names]
        self.skipped = dict(skipped or {})
        self._lock = Lock()

    def read(self, number: int) -> Image:
        """See `ImageSource`."""
        place = bisect_right(self._ends, number)
        return self._sources[place].read(number - (self._ends[place - 1] if place else 0))

    def read_or_none(self, number: int) -> Image | None:
        """The image of this number; None where it is damaged, which `skipped` then says."""
        try:
            return self.read(number)
        except ImageError as error:
            with self._lock:
                self.skipped[self.names[number]] = str(error)
        return None

    def read_or_next(self, number: int, numbers: Sequence[int]) -> Image:
        """The image of this number, or the next one that is not damaged; the same for the same number.

        Args:
            number: of `numbers`.
            numbers: rising; the others are left alone, so that no held-out image stands in for one to learn from.

        Raises:
            ImageError: all are damaged.
        """
        first = bisect_left(numbers, number)
        for offset in range(len(numbers)):
            image = self.read_or_none(numbers[(first + offset) % len(numbers)])
            if image is not None:
                return image
        said = self.skipped[self.names[numbers[first % len(numbers)]]]
        raise ImageError(f"none of {len(numbers)} images can be read; the first: {said}")


def open_images(places: Sequence[str], frame_step: int = 10) -> Joined:
    """Images from folders, images, videos, .tar shards, and of .txt lists of all these (a line each).

    What is found in a folder with images, and is no readable video or shard of images, is passed over and in `skipped`.

    Args:
        places: of any kind; those in a list are relative to it, and no lists themselves.
        frame_step: of every so many frames of a video one is taken.

    Raises:
        InputError: one is missing, of no known kind, or holds no images.
    """
    if not places:
        raise InputError("no images given: name folders, .txt lists, videos or .tar shards in data.images")
    skipped: dict[str, str] = {}
    sources = [source for place in places for source in _open_any(Path(place).expanduser(), frame_step, skipped)]
    return Joined(sources, skipped)


def split_names(source: Joined, held_out: float) -> tuple[list[int], list[int]]:
    """Numbers of the images to learn from and of those held out, by a hash of the photograph each shows; rising."""
    sides: tuple[list[int], list[int]] = ([], [])
    for number, name in enumerate(source.names):
        sides[is_held_out(photo_of(name), held_out)].append(number)
    return sides


def photo_of(name: str) -> str:
    """The photograph behind an image's name; of a video's frames, the block of consecutive ones that it is in."""
    video, _, frame = name.rpartition(":")
    if Path(video).suffix.lower() in VIDEOS and frame.isdigit():
        return f"{photo_name(Path(video))}:{int(frame) // VIDEO_BLOCK}"
    return photo_name(Path(in_shard(name)))


def _open_any(path: Path, frame_step: int, skipped: dict[str, str]) -> Iterator[ImageSource]:
    """A place's images, or those of a list's places; the images in a list that follow one another together."""
    if not (path.is_file() and path.suffix.lower() == ".txt"):
        yield from _open_place(path, frame_step, skipped)
        return
    for are_images, places in groupby(_listed(path), lambda place: place.suffix.lower() in IMAGES):
        if are_images:  # not looked for: there may be millions
            yield Files(list(places))
        else:
            for place in places:
                yield from _open_place(place, frame_step, skipped)


def _open_place(path: Path, frame_step: int, skipped: dict[str, str]) -> list[ImageSource]:
    """What a folder holds, its image files together; or the one file.

    Not everything that lies in a folder was meant: what cannot be opened there ends nothing, unless there is no more.
    """
    if not path.is_dir():
        return [_open_one(path, frame_step)]
    files = list(files_below(path, (*IMAGES, SHARD, *VIDEOS)).values())
    images = [file for file in files if file.suffix.lower() in IMAGES]
    packed = [file for file in files if file.suffix.lower() not in IMAGES]
    found: list[ImageSource] = [Files(images)] if images else []
    for file in packed:
        try:
            found.append(_open_one(file, frame_step))
        except InputError as error:
            if not found and file is packed[-1]:
                raise
            skipped[str(file)] = str(error)
    return found


def _open_one(path: Path, frame_step: int) -> ImageSource:
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".txt":
        raise InputError(f"{path}: a list in a list; put its lines into the other one")
    if path.is_file() and suffix == SHARD:
        return Shards(path)
    if path.is_file() and suffix in VIDEOS:
        return VideoFrames(path, frame_step)
    return Files(list(image_files(path).values()))


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a list of images ({error})") from error
    places = [path.parent / Path(line).expanduser() for line in lines if line and not line.startswith("#")]
    if not places:
        raise InputError(f"{path}: lists nothing; put an image file, folder, video or .tar shard on each line")
    return places
