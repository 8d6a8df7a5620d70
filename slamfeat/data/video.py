"""A video file, or a live camera by its index."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from slamfeat.data.calibration import EXAMPLE, Calibration, find_calibration, read_calibration
from slamfeat.data.records import Record, check_size
from slamfeat.data.sequence import Sequence
from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array
from slamfeat.image import MIN_SIDE, rgb_of_bgr
from slamfeat.types import Frame

if TYPE_CHECKING:
    import cv2

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mjpg", ".mjpeg"})

log = logging.getLogger("slamfeat")


class Video(Sequence):
    """Frames of a video file, with the container's times, or of a live camera ("0"), with the clock's.

    A live camera, and a container that does not say, have `length` None and no len(). The calibration is
    calibration.json beside the file.
    """

    kind = "video"
    looks_for = "a video file or a camera index such as 0"

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 30.0) -> None:
        """Raises InputError when no picture can be read; `fps` is used where the container has no times."""
        self.live = self.is_camera(path)
        beside = None if self.live else find_calibration(path.parent)
        if calibration is None and beside:
            calibration = read_calibration(beside)
        super().__init__(path, [Record(0.0, path)], calibration)
        self._fps, count = _probe(self._open(), path, fps)
        self._known_length = None if self.live or count < 1 else count
        # Frame numbers of this view; a live camera has them without end.
        self._numbers = range(self._known_length or sys.maxsize)

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return cls.is_camera(path) or (path.is_file() and path.suffix.lower() in SUFFIXES)

    @staticmethod
    def is_camera(path: Path) -> bool:
        """Whether `path` is a camera index rather than a file or folder of that name."""
        return str(path).isdigit() and not path.exists()

    @property
    def length(self) -> int | None:
        """Number of frames; None for a live camera, or a container that does not say."""
        return len(self._numbers) if self._known_length or self._numbers.stop < sys.maxsize else None

    @property
    def timestamps(self) -> Array:
        """(N,) seconds; reads through the file once. Raises InputError for a live camera."""
        if self.live:
            raise InputError(f"camera {self.path}: a live camera has no times before its frames are read")
        return np.array([timestamp for _, timestamp, _ in self._grab()])

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"{self.path}: the number of frames is not known; iterate, or slice it first")
        return self.length

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; one that cannot be decoded is logged, listed in `skipped` and left out."""
        self.skipped.clear()
        read = 0
        for index, timestamp, capture in self._grab():
            read += 1
            try:
                frame = self._decode(index, timestamp, capture)
            except ImageError as error:
                if self._is_calibrations_fault(error, index):
                    raise
                self._skip(index, self.path, error)
            else:
                yield frame
        if not self.live and self.length is not None and read < self.length:
            log.warning("%s: the video ends after %d of %d frames", self.path, read, self.length)

    def _grab(self) -> Iterator[tuple[int, float, cv2.VideoCapture]]:
        """Advance through the wanted frames: index in this view, seconds, the capture that holds the frame."""
        capture, position, last = self._open(), 0, -np.inf
        try:
            for index, number in enumerate(self._numbers):
                while position <= number:
                    if not capture.grab():
                        return
                    position += 1
                last = self._time(capture, number, last)
                yield index, last, capture
        finally:
            capture.release()

    def _time(self, capture: cv2.VideoCapture, number: int, last: float) -> float:
        import cv2

        seconds = time.time() if self.live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Some containers report 0 for every frame, and a clock may be set back.
        if np.isfinite(seconds) and seconds > last:
            return float(seconds)
        return max(number / self._fps, last + 1 / self._fps)

    def _decode(self, index: int, timestamp: float, capture: cv2.VideoCapture) -> Frame:
        ok, picture = capture.retrieve()
        if not ok or picture is None:
            raise ImageError(f"{self.path}: frame {index} cannot be decoded; convert the video again")
        image = rgb_of_bgr(picture)
        if self._calibration:
            check_size(image, self._calibration.camera, self.path)
        return Frame(index, timestamp, image, path=None if self.live else self.path)

    def _position(self, index: int) -> int:
        if self.live:
            raise InputError(f"camera {self.path}: a live camera has no frame {index} to go back to; iterate over it")
        return index if self.length is None and index >= 0 else super()._position(index)

    def _load(self, index: int) -> Frame:
        for _, timestamp, capture in self._view(slice(index, index + 1))._grab():
            return self._decode(index, timestamp, capture)
        raise ImageError(f"{self.path}: the video ends before frame {index}; copy it again")

    def _view(self, part: slice) -> Self:
        view = super()._view(slice(None))
        if self.length is None and min(part.start or 0, part.stop or 0) < 0:
            raise InputError(f"{self.path}: the number of frames is not known; count from the start")
        view._numbers = self._numbers[part]
        return view

    def _open(self) -> cv2.VideoCapture:
        # The error is ours to report, in one line: ffmpeg and OpenCV would write theirs to the terminal as well.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        level = cv2.utils.logging.getLogLevel()
        with contextlib.ExitStack() as stack:
            stack.callback(cv2.utils.logging.setLogLevel, level)
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            return cv2.VideoCapture(int(str(self.path)) if self.live else str(self.path))

    def _no_camera(self) -> str:
        if self.live:
            return f"camera {self.path}: no calibration; pass --camera FILE with a file such as {EXAMPLE}"
        return super()._no_camera()


def _probe(capture: cv2.VideoCapture, path: Path, fps: float) -> tuple[float, int]:
    """Frames a second and the announced number of frames (below 1 where unknown), after a first picture was read."""
    import cv2

    try:
        ok, picture = capture.read() if capture.isOpened() else (False, None)
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    if not ok or picture is None:
        raise InputError(f"{path}: no picture can be read; check the video (or camera index) or convert it to MP4")
    height, width = picture.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{path}: {width}x{height} is too small; the least is {MIN_SIDE}x{MIN_SIDE}")
    return (rate if np.isfinite(rate) and rate > 0 else fps), int(count) if np.isfinite(count) else 0
