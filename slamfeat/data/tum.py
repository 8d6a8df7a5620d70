"""TUM RGB-D: rgb.txt, depth.txt and groundtruth.txt list files and poses by time."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from slamfeat.data.calibration import Calibration, find_calibration, read_calibration
from slamfeat.data.records import Record
from slamfeat.data.sequence import Sequence
from slamfeat.data.tables import check_quaternions, number, read_numbers, read_rows
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera, Trajectory

DEPTH_SCALE = 5000.0
MAX_GAP = 0.02
"""Seconds between a colour image and its depth map, as in the data set's own associate.py."""

# https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats: the ROS calibrations of the three colour cameras.
# The depth maps are registered to them and already scaled to 5000 units a metre.
CAMERAS = {
    "1": Camera(640, 480, 517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "2": Camera(640, 480, 520.9, 521.0, 325.1, 249.7, (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "3": Camera(640, 480, 535.4, 539.2, 320.1, 247.6),
}

log = logging.getLogger("slamfeat")


class Tum(Sequence):
    """A TUM RGB-D sequence, or anything converted to its layout. calibration.json beside it wins over known cameras.

    `groundtruth` is the colour camera's pose from motion capture. Colour images without depth within 0.02 s keep
    `depth=None`; `for_mode("rgbd")` leaves them out.
    """

    kind = "tum"
    looks_for = "rgb.txt (TUM RGB-D)"
    default_depth_scale = DEPTH_SCALE

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 30.0) -> None:
        """Raises InputError for lists, calibration or ground truth that cannot be used; `fps` is not needed."""
        records = _read_list(path, "rgb.txt")
        depth_list = path / "depth.txt"
        if depth_list.is_file():
            records = _with_depth(path, records, _read_list(path, "depth.txt"))
        truth = path / "groundtruth.txt"
        super().__init__(
            path, records, _with_scale(calibration, _calibration(path)), name=path.resolve().name,
            groundtruth=_groundtruth(truth) if truth.is_file() else None,
        )  # fmt: skip

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return (path / "rgb.txt").is_file()


def associate(first: Array, second: Array, max_gap: float = MAX_GAP) -> list[tuple[int, int]]:
    """Pair two sorted lists of times one to one, nearest pairs first, none further apart than `max_gap` seconds."""
    low = np.searchsorted(second, first - max_gap)
    high = np.searchsorted(second, first + max_gap, side="right")
    pairs = [(i, j) for i in range(len(first)) for j in range(low[i], high[i])]
    free_first, free_second, chosen = set(range(len(first))), set(range(len(second))), []
    for i, j in sorted(pairs, key=lambda pair: abs(first[pair[0]] - second[pair[1]])):
        if i in free_first and j in free_second:
            free_first.remove(i)
            free_second.remove(j)
            chosen.append((i, j))
    return sorted(chosen)


def _read_list(path: Path, name: str) -> list[Record]:
    records = []
    for line, (stamp, file) in read_rows(path / name, 2):
        timestamp = number(path / name, line, stamp)
        if timestamp > 1e17:
            raise InputError(f"{path / name}, line {line}: time {stamp} looks like nanoseconds; write seconds")
        records.append(Record(timestamp, path / file))
    if not records:
        raise InputError(f"{path / name}: lists no images; it should hold lines 'timestamp filename'")
    return sorted(records, key=lambda record: record.timestamp)


def _with_depth(path: Path, colour: list[Record], depth: list[Record]) -> list[Record]:
    colour_times = np.array([record.timestamp for record in colour])
    depth_times = np.array([record.timestamp for record in depth])
    pairs = dict(associate(colour_times, depth_times))
    if not pairs:
        gap = min(np.abs(depth_times - time).min() for time in colour_times)
        raise InputError(
            f"{path}: rgb.txt and depth.txt do not associate: the nearest times are {gap:.3f} s apart, the limit is "
            f"{MAX_GAP} s; correct the times in depth.txt, or remove it to use colour alone"
        )
    if len(pairs) < 0.5 * len(colour):
        log.warning("%s: only %d of %d colour images have depth within %g s", path, len(pairs), len(colour), MAX_GAP)
    return [
        Record(record.timestamp, record.image, depth[pairs[i]].image if i in pairs else None)
        for i, record in enumerate(colour)
    ]


def _groundtruth(path: Path) -> Trajectory:
    trajectory = Trajectory.load(path, "tum")
    check_quaternions(path, read_numbers(path, 8)[:, 4:])
    return trajectory


def _with_scale(given: Calibration | None, own: Calibration | None) -> Calibration | None:
    """The calibration to use; a camera that the user gives without a depth scale does not change the files' scale."""
    chosen = given or own
    if chosen is None or chosen.depth_scale is not None:
        return chosen
    return Calibration(chosen.camera, (own and own.depth_scale) or DEPTH_SCALE)


def _calibration(path: Path) -> Calibration | None:
    beside = find_calibration(path)
    if beside:
        calibration = read_calibration(beside)
        return Calibration(calibration.camera, calibration.depth_scale or DEPTH_SCALE)
    known = re.search(r"freiburg([123])", path.resolve().name)
    return Calibration(CAMERAS[known[1]], DEPTH_SCALE) if known else None
