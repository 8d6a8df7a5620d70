"""EuRoC MAV (ASL layout): mav0/cam0, mav0/cam1 with sensor.yaml and data.csv, ground truth of the body frame."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from slamfeat.data.calibration import Calibration
from slamfeat.data.records import Record, StereoRig
from slamfeat.data.sequence import Sequence
from slamfeat.data.tables import check_quaternions, check_rotations, number, read_rows
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera, Trajectory


class Euroc(Sequence):
    """A EuRoC sequence, opened by its folder or by its mav0.

    The images are distorted and not rectified: `camera`, `right_camera` and `T_left_right` describe both as they are.
    `groundtruth` is the left camera's pose, T_world_body * T_body_camera, in the published world (z up).
    """

    kind = "euroc"
    looks_for = "mav0/cam0/data.csv (EuRoC)"

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 20.0) -> None:
        """Raises InputError for calibration, lists or ground truth that cannot be used; `fps` is not needed."""
        root = _root(path)
        left, body_left = read_sensor(root / "cam0" / "sensor.yaml")
        images = _read_list(root / "cam0")
        stereo, right_images = None, {}
        if (root / "cam1" / "data.csv").is_file():
            right, body_right = read_sensor(root / "cam1" / "sensor.yaml")
            stereo = StereoRig(right, invert(body_left) @ body_right)
            right_images = _read_list(root / "cam1")
        records = [
            Record(nanoseconds / 10**9, image, right=right_images.get(nanoseconds))
            for nanoseconds, image in sorted(images.items())
        ]
        folder = path if root != path else path.resolve().parent
        super().__init__(
            path, records, calibration or Calibration(left), stereo=stereo, name=folder.resolve().name,
            groundtruth=_groundtruth(root, body_left),
        )  # fmt: skip

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return (_root(path) / "cam0" / "data.csv").is_file()


def read_sensor(path: Path) -> tuple[Camera, Array]:
    """A camera's sensor.yaml as the camera and T_body_camera (4, 4), metres.

    Raises:
        InputError: an entry is missing, has the wrong number of values, or is another camera model.
    """
    try:
        # OpenCV's "%YAML:1.0" header and "!!opencv-matrix" tags are no standard YAML, and four lists are all we need.
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; EuRoC keeps each camera's calibration there") from error
    model = re.search(r"distortion_model:\s*([\w-]+)", text)
    if model and model[1] not in ("radial-tangential", "radtan", "none"):
        raise InputError(f"{path}: distortion model '{model[1]}' is not supported; undistort to a pinhole first")
    width, height = _values(path, text, "resolution", 2)
    fx, fy, cx, cy = _values(path, text, "intrinsics", 4)
    distortion = _values(path, text, "distortion_coefficients", 4)
    body = re.search(r"T_BS:(.*)", text, re.DOTALL)
    T_body_camera = np.array(_values(path, body[1] if body else "", "data", 16, "T_BS: data")).reshape(4, 4)
    check_rotations(path, T_body_camera[None])
    try:
        return Camera(int(width), int(height), fx, fy, cx, cy, tuple(distortion)), T_body_camera
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _root(path: Path) -> Path:
    return path / "mav0" if (path / "mav0").is_dir() else path


def _values(path: Path, text: str, key: str, count: int, shown: str | None = None) -> list[float]:
    """The numbers of `key: [a, b, ...]`, which may run over several lines."""
    found = re.search(rf"\b{key}:\s*\[([^\]]*)\]", text)
    if not found:
        raise InputError(f"{path}: '{shown or key}' is missing; it should read {key}: [{count} numbers]")
    texts = found[1].replace(",", " ").split()
    if len(texts) != count:
        raise InputError(f"{path}: '{shown or key}' needs {count} numbers, found {len(texts)}")
    return [number(path, text[: found.start()].count("\n") + 1, value) for value in texts]


def _read_list(folder: Path) -> dict[int, Path]:
    """Image files by time in nanoseconds, named as data.csv names them."""
    table = folder / "data.csv"
    images = {}
    for line, (stamp, name) in read_rows(table, 2, ","):
        if not stamp.isdigit() or int(stamp) < 10**12:
            raise InputError(f"{table}, line {line}: time {stamp!r} is not in nanoseconds; multiply by 1e9")
        images[int(stamp)] = folder / "data" / name
    return images


def _groundtruth(root: Path, T_body_camera: Array) -> Trajectory | None:
    path = root / "state_groundtruth_estimate0" / "data.csv"
    if not path.is_file():
        return None
    body = Trajectory.load(path, "euroc")
    quaternions = [
        [number(path, line, text) for text in (*fields[4:7], fields[7].split(",")[0])]
        for line, fields in read_rows(path, 8, ",")
    ]
    check_quaternions(path, np.array(quaternions))
    return Trajectory(body.timestamps, body.poses @ T_body_camera)
