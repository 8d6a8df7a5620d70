"""A sequence whose frames are degraded as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.degrade.base import Degradation, Image, Shot
from slamfeat.data import Sequence
from slamfeat.data.records import StereoRig
from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera, Frame


class DegradedSequence(Sequence):
    """A view of a sequence with degraded images; times, depth, calibration and ground truth are its own.

    Frame i is the same bytes whichever frames are asked for. Degradations look at the depth map wherever the data has
    one, so that a monocular run sees the pictures that an RGB-D run sees, but hand on only what the view reads.

    Attributes:
        degradation, amount, seed: what was asked for.
        dropped: frames of the view that are left out; `index` of a frame counts those that remain.
        skipped: frames that the latest iteration could not use, as in `Sequence`.
    """

    def __init__(self, sequence: Sequence, degradation: Degradation, amount: float, seed: int) -> None:
        """See `slamfeat.bench.degrade.degrade`."""
        source = sequence.subset()
        if degradation.keep:
            if len(source.records) != len(source):
                raise InputError(f"{source.path}: frames of a video cannot be dropped; save it as a folder of images")
            keep = degradation.keep(len(source), amount, seed)
            source.records = [record for record, stays in zip(source.records, keep, strict=True) if stays]
        super().__init__(source.path, source.records, None, groundtruth=source.groundtruth, name=source.name)
        self.degradation, self.amount, self.seed = degradation, amount, seed
        self.dropped = len(sequence.records) - len(source.records)
        self.load_depth, self.load_right = source.load_depth, source.load_right
        self.skipped = source.skipped
        self._source = source

    @property
    def has_camera(self) -> bool:
        """As `Sequence.has_camera`."""
        return self._source.has_camera

    @property
    def camera(self) -> Camera:
        """As `Sequence.camera`."""
        return self._source.camera

    @property
    def rig(self) -> StereoRig | None:
        """As `Sequence.rig`; the right camera and its place follow from it."""
        return self._source.rig

    @property
    def right_camera(self) -> Camera | None:
        """As `Sequence.right_camera`."""
        return self._source.right_camera

    @property
    def T_left_right(self) -> Array | None:
        """As `Sequence.T_left_right`."""
        return self._source.T_left_right

    @property
    def baseline(self) -> float | None:
        """As `Sequence.baseline`."""
        return self._source.baseline

    @property
    def timestamps(self) -> Array:
        """As `Sequence.timestamps`."""
        return self._source.timestamps

    @property
    def modes(self) -> tuple[str, ...]:
        """As `Sequence.modes`."""
        return self._source.modes

    @property
    def length(self) -> int | None:
        """As `Sequence.length`."""
        return self._source.length

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        """Degraded frames in order; those that cannot be used are treated as in `Sequence`."""
        for frame in self._source:
            yield self._degraded(frame)

    def for_mode(self, mode: str) -> Self:
        """Not here: raises InputError."""
        raise InputError(f"{self.path}: choose the mode before degrading: degrade(sequence.for_mode('{mode}'), ...)")

    def shot(self, index: int, eye: int = 0) -> Shot:
        """What the degradation is given for a frame; to measure its effect.

        Raises:
            ImageError: the frame cannot be used; IndexError: there is none; InputError: no right image for `eye` 1.
        """
        frame = self._source[index]
        if eye and frame.right is None:
            raise InputError(f"{self.path}: frame {index} has no right image; use sequence.for_mode('stereo')")
        return self._shot(frame, frame.image if frame.right is None or not eye else frame.right, eye)

    def _view(self, part: slice) -> Self:
        raise InputError(f"{self.path}: slice before degrading: degrade(sequence[start:stop], ...)")

    def _load(self, index: int) -> Frame:
        return self._degraded(self._source[index])

    def _degraded(self, frame: Frame) -> Frame:
        image = self._apply(frame, frame.image, 0)
        return replace(frame, image=image, right=None if frame.right is None else self._apply(frame, frame.right, 1))

    def _apply(self, frame: Frame, image: Image, eye: int) -> Image:
        changed = self.degradation.apply(self._shot(frame, image, eye))
        assert changed.shape == image.shape and changed.dtype == np.uint8, f"{self.degradation.name} broke the image"
        return changed

    def _shot(self, frame: Frame, image: Image, eye: int) -> Shot:
        left, right = self._source.camera if self.has_camera else None, self.T_left_right
        return Shot(
            image, frame.index, frame.timestamp, self.degradation.name, self.amount, self.seed, eye,
            depth=None if eye else self._depth(frame),
            camera=self.right_camera if eye else left,
            T_left_eye=np.eye(4) if not eye or right is None else right,
            groundtruth=self.groundtruth, interval=self._interval,
        )  # fmt: skip

    def _depth(self, frame: Frame) -> NDArray[np.float32] | None:
        if frame.depth is not None or not self.degradation.needs_depth:
            return frame.depth
        if not self.records[frame.index].depth:
            return None
        try:
            return self._with_depth[frame.index].depth
        except ImageError:
            return None

    @cached_property
    def _with_depth(self) -> Sequence:
        source = self._source.subset()
        source.load_depth, source.load_right = True, False
        return source

    @cached_property
    def _interval(self) -> float:
        """Median seconds between frames; only motion along the ground truth asks for it."""
        if self.groundtruth is None or len(self) < 2:
            return 0.0
        return float(np.median(np.diff(self.timestamps)))
