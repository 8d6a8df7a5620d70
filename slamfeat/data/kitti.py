"""KITTI odometry: rectified stereo, in the official tree or one sequence in a folder of its own.

    sequences/00/{calib.txt,times.txt,image_0,image_1,image_2,image_3}   poses/00.txt      (official)
    00/{calib.txt,times.txt,poses.txt,image_0[,image_1]}                                   (flat)

image_0/1 are the grey cameras, image_2/3 the colour ones.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from slamfeat.data.calibration import Calibration
from slamfeat.data.records import Record, StereoRig, first_size
from slamfeat.data.sequence import Sequence
from slamfeat.data.tables import check_rotations, number, read_numbers, read_rows
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array, invert, make_pose
from slamfeat.types import Camera, Trajectory

_FOLDER = re.compile(r"image_([0-3])")


class Kitti(Sequence):
    """A KITTI odometry sequence; colour (image_2) is chosen where present, or open `00/image_0` to get that camera.

    `groundtruth` is the chosen camera's pose in the published world (camera 0 at the first frame): poses.txt is of
    camera 0 and is moved by the offset in calib.txt. Official sequences 11-21 have none.
    """

    kind = "kitti"
    looks_for = "calib.txt with image_0 or image_2 (KITTI odometry)"

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 10.0) -> None:
        """Raises InputError for calibration, times or poses that cannot be used; `fps` is not needed."""
        chosen = _FOLDER.fullmatch(path.name)
        root = path.parent if chosen else path
        left = int(chosen[1]) if chosen else (2 if (root / "image_2").is_dir() else 0)
        projections = _read_projections(root / "calib.txt")
        if left not in projections:
            raise InputError(f"{root / 'calib.txt'}: has no P{left}, the camera of image_{left}; copy it again")
        times = read_numbers(root / "times.txt", 1)[:, 0]
        right = left + 1 if left in (0, 2) and left + 1 in projections else None
        records = _records(root, times, left, right)
        if calibration is None:
            # calib.txt does not hold it, and it differs between sequences.
            size = first_size(root / f"image_{left}", (record.image for record in records))
            calibration = Calibration(_camera(root, projections[left], size))
        super().__init__(
            path, records, calibration, name=root.resolve().name,
            groundtruth=_groundtruth(root, times, _from_camera0(projections[left])),
            stereo=None if right is None else _rig(root, projections[left], projections[right], calibration.camera),
        )  # fmt: skip

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        root = path.parent if _FOLDER.fullmatch(path.name) else path
        return (root / "calib.txt").is_file() and any((root / f"image_{i}").is_dir() for i in range(4))


def _read_projections(path: Path) -> dict[int, Array]:
    """Projection matrices (3, 4) of the rectified cameras by number."""
    projections = {}
    for line, (key, values) in read_rows(path, 2):
        match = re.fullmatch(r"P([0-3]):?", key)
        if match:
            numbers = [number(path, line, text) for text in values.split()]
            if len(numbers) != 12:
                raise InputError(f"{path}, line {line}: {key} needs 12 values, found {len(numbers)}")
            projections[int(match[1])] = np.array(numbers).reshape(3, 4)
    return projections


def _from_camera0(projection: Array) -> Array:
    """(4, 4): coordinates of grey camera 0 to those of this camera, both rectified: P = K [I | t]."""
    return make_pose(np.eye(3), np.linalg.solve(projection[:, :3], projection[:, 3]))


def _rig(root: Path, left: Array, right: Array, left_camera: Camera) -> StereoRig:
    camera = _camera(root, right, (left_camera.width, left_camera.height))
    return StereoRig(camera, _from_camera0(left) @ invert(_from_camera0(right)))


def _camera(root: Path, projection: Array, size: tuple[int, int]) -> Camera:
    try:
        fx, fy, cx, cy = (float(projection[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return Camera(*size, fx, fy, cx, cy)
    except InputError as error:
        raise InputError(f"{root / 'calib.txt'}: {error}") from error


def _records(root: Path, times: Array, left: int, right: int | None) -> list[Record]:
    """Image NNNNNN belongs to line N of times.txt, also where only a part of the images is present."""
    folder = root / f"image_{left}"
    images = sorted(image for image in folder.glob("*") if image.stem.isdigit())
    if not images:
        raise InputError(f"{folder}: holds no images 000000.png, 000001.png, ...; check that the download is complete")
    if int(images[-1].stem) >= len(times):
        raise InputError(f"{root / 'times.txt'}: has {len(times)} times but {images[-1]} exists; copy it again")
    records = []
    for image in images:
        beside = root / f"image_{right}" / image.name
        matched = beside if right is not None and beside.is_file() else None
        records.append(Record(float(times[int(image.stem)]), image, right=matched))
    return records


def _groundtruth(root: Path, times: Array, from_camera0: Array) -> Trajectory | None:
    official = root.resolve().parents[1] / "poses" / f"{root.resolve().name}.txt"
    path = next((file for file in (root / "poses.txt", official) if file.is_file()), None)
    if path is None:
        return None
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    values = read_numbers(path, 12)
    if len(values) != len(times):
        raise InputError(f"{path}: has {len(values)} poses but times.txt has {len(times)} times; copy both again")
    poses[:, :3] = values.reshape(-1, 3, 4)
    check_rotations(path, poses)
    return Trajectory(times, poses @ invert(from_camera0))
