"""TartanAir, synthetic stereo with exact depth and poses: V1 (image_left) and V2 (image_lcam_front) trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.calibration import Calibration
from slamfeat.data.records import Record, StereoRig
from slamfeat.data.sequence import Sequence
from slamfeat.data.tables import check_quaternions, read_numbers
from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array, make_pose, pose_from_quaternion
from slamfeat.image import read_depth
from slamfeat.types import Camera, Trajectory

BASELINE = 0.25
"""Metres between the two cameras."""

NED_TO_CAMERA = make_pose([[0, 1, 0], [0, 0, 1], [1, 0, 0]], [0, 0, 0])
"""(4, 4): TartanAir's axes (x forward, y right, z down) to ours (x right, y down, z forward)."""


@dataclass(frozen=True)
class _Layout:
    left: str
    right: str
    depth: str
    depth_suffix: str
    poses: str
    camera: Camera


# As published (V1: data_type.md of castacks/tartanair_tools, V2: tartanair.org/modalities.html). Whether it counts
# from a pixel's centre or corner is not said; the half pixel in doubt is under a tenth of a degree here.
_V1 = _Layout("image_left", "image_right", "depth_left", ".npy", "pose_left.txt", Camera(640, 480, 320, 320, 320, 240))
_V2 = _Layout(
    "image_lcam_front", "image_rcam_front", "depth_lcam_front", ".png", "pose_lcam_front.txt",
    Camera(640, 640, 320, 320, 320, 320),
)  # fmt: skip


class TartanAir(Sequence):
    """One trajectory, such as abandonedfactory/Easy/P000.

    `groundtruth` is the left camera, turned from TartanAir's NED axes into ours on both sides: T * pose * T^-1. The
    data has no times: they are index / fps. Depth is metres along z; the sky is far (above 1000 m), not unknown.
    """

    kind = "tartanair"
    looks_for = "image_left with pose_left.txt, or image_lcam_front (TartanAir)"

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 30.0) -> None:
        """Raises InputError when images and poses do not belong together."""
        layout = _layout(path)
        if layout is None:
            raise InputError(f"{path}: has neither {_V1.left} nor {_V2.left}; give a trajectory folder such as P000")
        images = sorted((path / layout.left).glob("*.png"))
        depths = _by_number(path / layout.depth, layout.depth_suffix)
        rights = _by_number(path / layout.right, ".png")
        records = [
            Record(index / fps, image, depths.get(image.name[:6]), rights.get(image.name[:6]))
            for index, image in enumerate(images)
        ]
        calibration = calibration or Calibration(layout.camera)
        rig = StereoRig(calibration.camera, make_pose(np.eye(3), [BASELINE, 0, 0])) if rights else None
        truth = path / layout.poses
        super().__init__(
            path, records, calibration, stereo=rig, name="_".join(path.resolve().parts[-3:]),
            groundtruth=_groundtruth(truth, len(images), fps) if truth.is_file() else None,
        )  # fmt: skip

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return _layout(path) is not None

    def _read_depth(self, path: Path) -> NDArray[np.float32]:
        return read_depth(path, 1.0) if path.suffix == ".npy" else read_float_png(path)


def ned_to_camera(poses: Array) -> Array:
    """Poses (N, 4, 4) of a camera in NED axes, as TartanAir stores them, to `T_world_camera` in our axes."""
    return NED_TO_CAMERA @ poses @ NED_TO_CAMERA.T


def read_float_png(path: Path) -> NDArray[np.float32]:
    """TartanAir V2 depth: a float32 (H, W), metres, stored byte by byte in the four channels of a PNG.

    Raises:
        ImageError: missing, truncated, or another kind of image.
    """
    import cv2

    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 3 or stored.shape[2] != 4:
        raise ImageError(f"{path}: is not a TartanAir V2 depth map (8-bit PNG of 4 channels); download it again")
    depth = np.ascontiguousarray(stored).view("<f4")[..., 0].astype(np.float32)
    depth[~np.isfinite(depth) | (depth < 0)] = 0.0
    return depth


def _layout(path: Path) -> _Layout | None:
    return next((layout for layout in (_V1, _V2) if (path / layout.left).is_dir()), None)


def _by_number(folder: Path, suffix: str) -> dict[str, Path]:
    return {file.name[:6]: file for file in folder.glob(f"*{suffix}")}


def _groundtruth(path: Path, count: int, fps: float) -> Trajectory:
    values = read_numbers(path, 7)
    if len(values) != count:
        raise InputError(f"{path}: has {len(values)} poses for {count} images; check that the download is complete")
    check_quaternions(path, values[:, 3:])
    poses = pose_from_quaternion(values[:, :3], values[:, 3:])
    return Trajectory(np.arange(count) / fps, ned_to_camera(poses))
