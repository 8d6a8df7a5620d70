"""What a degradation is, and what it may look at when it changes one image."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera, Trajectory

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """One image of one frame, with all that a degradation may look at.

    Attributes:
        image: (H, W, 3) uint8 RGB, undegraded.
        index, timestamp: of its frame; seconds.
        name, amount, seed: which degradation, how strong, and which of its random draws.
        eye: 0 for the left or only camera, 1 for the right one.
        depth: (H, W) float32 metres registered to `image`, 0 where unknown; None where there is no map.
        camera: calibration of this eye; None where unknown.
        T_left_eye: (4, 4), metres, this eye's to the left camera's coordinates.
        groundtruth: `T_world_camera` of the left camera; None where not published.
        interval: median seconds from frame to frame.
    """

    image: Image
    index: int
    timestamp: float
    name: str
    amount: float
    seed: int
    eye: int = 0
    depth: NDArray[np.float32] | None = None
    camera: Camera | None = None
    T_left_eye: Array = field(default_factory=lambda: np.eye(4))
    groundtruth: Trajectory | None = None
    interval: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) pixels."""
        return self.image.shape[1], self.image.shape[0]

    def rng(self) -> np.random.Generator:
        """Random numbers that belong to this image alone."""
        return generator(self.seed, self.name, self.index, self.eye)


@dataclass(frozen=True)
class Degradation:
    """A way in which images get worse.

    Attributes:
        name: the word for `degrade`.
        amounts: three rising strengths, mild to hard, in `unit`.
        unit: of the amounts.
        about: one sentence: what is simulated and from which source.
        apply: the degraded image (H, W, 3) uint8 of a shot.
        limits: least and greatest amount that makes sense.
        keep: for degradations that lose frames: (number of frames, amount, seed) to (N,) bool; None where all stay.
        needs_depth: whether `apply` looks at the depth map.
    """

    name: str
    amounts: tuple[float, ...]
    unit: str
    about: str
    apply: Callable[[Shot], Image]
    limits: tuple[float, float] = (0.0, float("inf"))
    keep: Callable[[int, float, int], NDArray[np.bool_]] | None = None
    needs_depth: bool = False


def generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random numbers that depend on nothing but the arguments (all numbers at least 0)."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


def one_channel(image: Image) -> Image:
    """(H, W) where the three channels of (H, W, 3) are one, a monochrome camera's image; else the image itself."""
    grey = (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    return np.ascontiguousarray(image[..., 0]) if grey else image


def three_channels(image: Image) -> Image:
    """(H, W, 3) of (H, W) or (H, W, 3): undoes `one_channel`."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
