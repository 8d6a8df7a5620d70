"""A sequence of frames: what every loader returns and every runner reads.

A loader fills in `Record`s (which file at which time), the calibration and the ground truth; reading files, skipping
unreadable ones, slicing and choosing a sensor mode happen here, once.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.calibration import EXAMPLE, Calibration
from slamfeat.data.records import Record, SizeMismatchError, SkippedFrame, StereoRig, check_size, check_times, size_text
from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array
from slamfeat.image import read_depth, read_image
from slamfeat.types import Camera, Frame, Trajectory

log = logging.getLogger("slamfeat")


class Sequence:
    """Frames in order of time, with calibration and, where published, ground truth.

    Attributes:
        kind: the loader's name, such as "tum".
        path: the folder or file it was opened from; name: its last part.
        groundtruth: `T_world_camera` of the left/colour camera, metres and seconds; None where not published.
        timestamps: (N,) seconds, strictly increasing.
        records: files and times of the frames, to list them without reading them.
        modes: the sensor set-ups it can serve, of "mono", "rgbd", "stereo".
        rig, right_camera, T_left_right, baseline: None where the calibration has no right camera; rig holds the next
            two, T_left_right (4, 4) maps right to left camera coordinates in metres, baseline is the distance between
            the two centres.
        load_depth, load_right: set to False where the depth map or right image is not needed; saves the reading.
        skipped: frames that the latest iteration could not use.
        live: whether frames come from a camera as time passes; then an old frame is worth less than a new one.
    """

    live: bool = False
    kind: ClassVar[str] = ""
    looks_for: ClassVar[str] = ""
    default_depth_scale: ClassVar[float] = 1.0

    def __init__(
        self,
        path: Path,
        records: list[Record],
        calibration: Calibration | None,
        *,
        groundtruth: Trajectory | None = None,
        stereo: StereoRig | None = None,
        name: str | None = None,
    ) -> None:
        """Raises InputError when there are no records or their times do not increase."""
        if not records:
            raise InputError(f"{path}: holds no images; check that the download is complete")
        self.path = path
        self.name = name or path.resolve().stem
        self.groundtruth = groundtruth
        self.load_depth = self.load_right = True
        self.skipped: list[SkippedFrame] = []
        self.records = records
        self._calibration = calibration
        self._stereo = stereo
        check_times(path, records)

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this loader's layout."""
        raise NotImplementedError

    @property
    def has_camera(self) -> bool:
        """Whether a calibration is known."""
        return self._calibration is not None

    @property
    def camera(self) -> Camera:
        """The calibration of the left/colour camera.

        Raises:
            InputError: none is known; the message says which file to write.
        """
        if self._calibration is None:
            raise InputError(self._no_camera())
        return self._calibration.camera

    @property
    def rig(self) -> StereoRig | None:
        """The right camera and its place, where the calibration has one."""
        return self._stereo

    @property
    def right_camera(self) -> Camera | None:
        """The right camera, where the calibration has one."""
        return self._stereo.camera if self._stereo else None

    @property
    def T_left_right(self) -> Array | None:
        """(4, 4), metres: right-camera to left-camera coordinates."""
        return self._stereo.T_left_right if self._stereo else None

    @property
    def baseline(self) -> float | None:
        """Metres between the centres of the two cameras."""
        return float(np.linalg.norm(self._stereo.T_left_right[:3, 3])) if self._stereo else None

    @property
    def timestamps(self) -> Array:
        """(N,) seconds."""
        return np.array([record.timestamp for record in self.records])

    @property
    def modes(self) -> tuple[str, ...]:
        """The sensor set-ups this sequence can serve, "mono" always among them."""
        rgbd = ("rgbd",) if any(record.depth for record in self.records) else ()
        stereo = ("stereo",) if self._stereo and any(record.right for record in self.records) else ()
        return ("mono", *rgbd, *stereo)

    @property
    def length(self) -> int | None:
        """Number of frames; None where it cannot be known, as for a live camera."""
        return len(self)

    def for_mode(self, mode: str) -> Self:
        """A view for one sensor set-up: only frames that have its data, and only that data is read.

        Raises:
            InputError: the sequence does not have that data.
        """
        if mode not in self.modes:
            raise InputError(f"{self.path}: has no {mode} data; choose --mode {' or '.join(self.modes)}")
        view = self._view(slice(None))
        view.load_depth, view.load_right = mode == "rgbd", mode == "stereo"
        wanted = {"mono": "image", "rgbd": "depth", "stereo": "right"}[mode]
        view.records = [record for record in self.records if getattr(record, wanted) is not None]
        return view

    def subset(self, start: int = 0, stop: int | None = None, stride: int = 1) -> Self:
        """A view of frames start, start + stride, ... below stop; the same as `sequence[start:stop:stride]`."""
        return self[start:stop:stride]

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Frame | Self:
        """One frame (ImageError when it cannot be used, IndexError), or a view for a slice."""
        if isinstance(index, slice):
            return self._view(index)
        return self._load(self._position(index))

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; those that cannot be used are logged, listed in `skipped` and left out.

        Raises:
            InputError: no frame at all can be used, or the first one contradicts the calibration.
        """
        self.skipped.clear()
        for index in range(len(self)):
            try:
                frame = self._load(index)
            except ImageError as error:
                if self._is_calibrations_fault(error, index):
                    raise
                self._skip(index, self.records[index].image, error)
            else:
                yield frame
        if self.skipped and len(self.skipped) == len(self):
            raise InputError(f"{self.path}: none of {len(self)} frames can be used; first: {self.skipped[0].reason}")

    def _view(self, part: slice) -> Self:
        if part.step is not None and part.step < 1:
            raise InputError(f"stride must be at least 1, got {part.step}: frames stay in order of time")
        view = copy.copy(self)
        view.records, view.skipped = self.records[part], []
        return view

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)}")
        return index % len(self)

    def _is_calibrations_fault(self, error: ImageError, index: int) -> bool:
        """Whether a wrong size came before any frame was read: then it would repeat for every frame."""
        return isinstance(error, SizeMismatchError) and len(self.skipped) == index

    def _no_camera(self) -> str:
        folder = self.path if self.path.is_dir() else self.path.parent
        wanted = folder / "calibration.json"
        return f"{self.path}: no calibration; write {wanted} such as {EXAMPLE} (or pass --camera FILE)"

    def _skip(self, index: int, path: Path | None, error: ImageError) -> None:
        log.warning("skipped frame %d: %s", index, error)
        self.skipped.append(SkippedFrame(index, path, str(error)))

    def _load(self, index: int) -> Frame:
        record = self.records[index]
        image = read_image(record.image)
        if self._calibration:
            check_size(image, self._calibration.camera, record.image)
        depth = right = None
        if self.load_depth and record.depth:
            depth = self._read_depth(record.depth)
            if depth.shape != image.shape[:2]:
                raise SizeMismatchError(
                    f"{record.depth}: depth is {size_text(depth)} but {record.image.name} is {size_text(image)}; "
                    "register depth to colour first"
                )
        if self.load_right and self._stereo and record.right:
            right = read_image(record.right)
            check_size(right, self._stereo.camera, record.right)
        return Frame(index, record.timestamp, image, depth, right, record.image)

    def _read_depth(self, path: Path) -> NDArray[np.float32]:
        scale = self._calibration.depth_scale if self._calibration else None
        return read_depth(path, scale or self.default_depth_scale)
