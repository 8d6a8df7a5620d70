"""Training pairs from sequences with ground truth and depth, measured or matched, and from stereo rigs with depth."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slamfeat.data import Sequence
from slamfeat.data.records import Record
from slamfeat.errors import ConfigError, InputError
from slamfeat.geometry import poses_at
from slamfeat.geometry.se3 import Array, invert, transform_points
from slamfeat.train.pairs import Pixels, TrainingPair
from slamfeat.train.readable import first_readable
from slamfeat.train.sequence_labels import DepthConfig, DepthTransfer, View, rendered_depth
from slamfeat.train.stereo_depth import StereoDepthMaps
from slamfeat.types import Camera, Frame

__all__ = ["DepthConfig", "PosedDepthPairs", "SequenceConfig", "StereoPairs"]

Photometric = Callable[[Pixels, np.random.Generator], Pixels]
_GRID = 12


@dataclass
class SequenceConfig:
    """Which frames make a pair.

    Attributes:
        min_gap, max_gap: frames from one to the other.
        min_overlap, max_overlap: share of one frame's points that lie in the other's image; of the partners of a frame
            one in this range is drawn, the nearest to it where there is none.
        max_depth_offset_s: frames whose depth map was taken further away in time are left out, where file names are
            times (TUM): a turning camera sees 6 px of offset in 10 ms.
        max_truth_gap_s: frames are left out where the ground truth has a longer gap.
        depth: when depth maps are believed.

    Raises:
        ConfigError: a value that is out of range.
    """

    min_gap: int = 1
    max_gap: int = 30
    min_overlap: float = 0.3
    max_overlap: float = 1.0
    max_depth_offset_s: float = 0.005
    max_truth_gap_s: float = 0.15
    depth: DepthConfig = field(default_factory=DepthConfig)

    def __post_init__(self) -> None:
        if not 0 < self.min_gap <= self.max_gap:
            raise ConfigError(f"gaps need 0 < min_gap <= max_gap, got {self.min_gap} and {self.max_gap}")
        if not 0 <= self.min_overlap <= self.max_overlap <= 1:
            raise ConfigError("overlaps need 0 <= min_overlap <= max_overlap <= 1")
        if not 0 <= self.max_depth_offset_s < math.inf or not 0 < self.max_truth_gap_s < math.inf:
            raise ConfigError("max_depth_offset_s must be at least 0 and max_truth_gap_s above 0")


class PosedDepthPairs:
    """Pairs of frames of a sequence with depth and ground truth; number `i` is drawn from (seed, i).

    Where no depth was measured and there is a right camera (EuRoC, KITTI), depth is that of `StereoDepthMaps`.
    K0, K1 and T_1_0 are given where the camera has no distortion: pixels of a distorted one do not obey K. The transfer
    takes distortion into account.
    """

    def __init__(
        self,
        sequence: Sequence,
        config: SequenceConfig | None = None,
        photometric: Photometric | None = None,
        seed: int = 0,
    ) -> None:
        """Make pairs.

        Args:
            sequence: with calibration, ground truth, and depth or a right camera.
            config: of the pairs; the defaults if None.
            photometric: changes each image by itself; None leaves them as they are.
            seed: of all draws.

        Raises:
            InputError: calibration, depth or ground truth is missing, or no two frames make a pair.
        """
        self.config, self.photometric, self.seed = config or SequenceConfig(), photometric, seed
        self._maps = _depth_maps(sequence)
        self.sequence, self.camera = sequence.for_mode("stereo" if self._maps else "rgbd"), sequence.camera
        if sequence.groundtruth is None:
            raise InputError(f"{sequence.path}: has no ground truth, which pairs need; choose another sequence")
        poses, known = poses_at(sequence.groundtruth, self.sequence.timestamps, self.config.max_truth_gap_s)
        offsets = np.array([_depth_offset(record) for record in self.sequence.records])
        self._poses, usable = poses, np.flatnonzero(known & (offsets <= self.config.max_depth_offset_s))
        self._partners = {i: partners for i in usable.tolist() if len(partners := self._within_gap(i, usable))}
        self._firsts = np.array(sorted(self._partners))
        if not self._partners:
            raise InputError(
                f"{sequence.path}: no two of {len(usable)} frames with ground truth and depth of their times (within "
                f"{self.config.max_depth_offset_s} s) are {self.config.min_gap} to {self.config.max_gap} frames apart; "
                "raise data.sequence.max_depth_offset_s or widen min_gap and max_gap there"
            )

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index` >= 0.

        Raises:
            ImageError: twenty drawn pairs in a row cannot be read.
        """
        rng = np.random.default_rng([self.seed, index])
        return first_readable(lambda: self._pair(rng))

    def _pair(self, rng: np.random.Generator) -> TrainingPair:
        first = int(rng.choice(self._firsts))
        frame0 = self.sequence[first]
        view0 = _view(self.camera, frame0, self._maps)
        second = self._partner(first, view0, rng)
        frame1 = self.sequence[second]
        T_1_0 = self._motion(first, second)
        transfer = DepthTransfer(view0, _view(self.camera, frame1, self._maps), T_1_0, self.config.depth)
        images = _changed(self.photometric, (frame0.image, frame1.image), rng)
        name = f"{self.sequence.name} frames {first} and {second}"
        return _training_pair(images, transfer, name)

    def _within_gap(self, frame: int, usable: NDArray[np.intp]) -> NDArray[np.intp]:
        gap = np.abs(usable - frame)
        return usable[(gap >= self.config.min_gap) & (gap <= self.config.max_gap)]

    def _motion(self, first: int, second: int) -> Array:
        motion: Array = invert(self._poses[second]) @ self._poses[first]
        return motion

    def _partner(self, first: int, view: View, rng: np.random.Generator) -> int:
        """A frame with the wanted overlap; by the first frame's depth alone, so that no other has to be read."""
        xyz = _some_points(view)
        best, best_miss = first, math.inf
        for candidate in rng.permutation(self._partners[first]):
            _, seen = view.project(transform_points(self._motion(first, int(candidate)), xyz))
            overlap = float(seen.mean()) if len(seen) else 0.0
            miss = max(self.config.min_overlap - overlap, overlap - self.config.max_overlap, 0.0)
            if miss < best_miss:
                best, best_miss = int(candidate), miss
            if miss == 0:
                break
        return best


class StereoPairs:
    """Left and right images of a stereo sequence with depth maps of the left camera, such as TartanAir.

    What the right camera sees is rendered from the left depth map, so that what is hidden behind something is known as
    such, and what only the right one sees is UNKNOWN. Number `i` is frame `i % len` with either image first; a frame
    that cannot be read gives way to the next one.
    """

    def __init__(
        self,
        sequence: Sequence,
        depth: DepthConfig | None = None,
        photometric: Photometric | None = None,
        seed: int = 0,
    ) -> None:
        """Make pairs; `depth` says when depth maps are believed, the rest is as for `PosedDepthPairs`.

        Raises:
            InputError: no right camera, or no frame that has both a right image and a depth map.
        """
        if sequence.rig is None:
            raise InputError(f"{sequence.path}: has no right camera; choose a stereo sequence")
        self.rig, self.camera, self.seed = sequence.rig, sequence.camera, seed
        self.depth, self.photometric = depth or DepthConfig(), photometric
        self.sequence = sequence[:]
        self.sequence.records = [record for record in sequence.records if record.right and record.depth]
        self.sequence.load_depth = self.sequence.load_right = True
        if not self.sequence.records:
            raise InputError(
                f"{sequence.path}: no frame has both a right image and a depth map; download both, or give it "
                "in data.sequences, where depth is matched"
            )

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index` >= 0.

        Raises:
            ImageError: twenty frames in a row cannot be read.
        """
        rng, numbers = np.random.default_rng([self.seed, index]), itertools.count(index)
        frame = first_readable(lambda: self.sequence[next(numbers) % len(self.sequence)])
        assert frame.right is not None, "only frames with both images were kept"
        T_right_left, left = invert(self.rig.T_left_right), _view(self.camera, frame)
        right = View(self.rig.camera, rendered_depth(left, self.rig.camera, T_right_left))
        images, transfer = (frame.image, frame.right), DepthTransfer(left, right, T_right_left, self.depth)
        if rng.random() < 0.5:
            images, transfer = images[::-1], DepthTransfer(right, left, self.rig.T_left_right, self.depth)
        changed = _changed(self.photometric, images, rng)
        return _training_pair(changed, transfer, f"{self.sequence.name} stereo frame {frame.index}")


def _training_pair(images: tuple[Pixels, Pixels], transfer: DepthTransfer, name: str) -> TrainingPair:
    camera0, camera1 = transfer.view0.camera, transfer.view1.camera
    if camera0.dist or camera1.dist:
        return TrainingPair(*images, transfer, name=name)
    return TrainingPair(*images, transfer, camera0.K, camera1.K, transfer.T_1_0, name)


def _changed(
    photometric: Photometric | None, images: tuple[Pixels, Pixels], rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    return images if photometric is None else (photometric(images[0], rng), photometric(images[1], rng))


def _depth_maps(sequence: Sequence) -> StereoDepthMaps | None:
    """What matches depth, for a sequence that has a right camera and no depth of its own."""
    if "rgbd" in sequence.modes or "stereo" not in sequence.modes or sequence.rig is None:
        return None
    return StereoDepthMaps(sequence.camera, sequence.rig)


def _view(camera: Camera, frame: Frame, maps: StereoDepthMaps | None = None) -> View:
    depth = maps.depth(frame.image, frame.right) if maps and frame.right is not None else frame.depth
    assert depth is not None, "only frames with depth, or with both images, were kept"
    return View(camera, depth)


def _some_points(view: View) -> Array:
    """Points (N, 3) of a grid over the view where it has depth."""
    height, width = view.depth.shape
    x, y = np.meshgrid(np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID))
    points = np.round(np.stack([x, y], -1).reshape(-1, 2))
    depth = view.depth[points[:, 1].astype(int), points[:, 0].astype(int)].astype(np.float64)
    return view.backproject(points[depth > 0], depth[depth > 0])


def _depth_offset(record: Record) -> float:
    """Seconds between a frame's image and its depth map where both file names are times, else 0."""
    stems = [path.stem for path in (record.image, record.depth) if path]
    if len(stems) < 2 or not all(re.fullmatch(r"[0-9]+\.[0-9]+", stem) for stem in stems):
        return 0.0
    return abs(float(stems[0]) - float(stems[1]))
