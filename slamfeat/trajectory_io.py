"""Trajectory files: TUM, KITTI and EuRoC text formats, at full precision, written atomically.

The three layouts, a pose a line, all read by `evo_ape` and `evo_traj` as they are:

    tum     `timestamp tx ty tz qx qy qz qw`, seconds, separated by spaces.
    kitti   the 12 numbers of the upper 3x4 of the pose, row by row. No times: they are read from a `times.txt` beside
            the file where there is one, else they are 0, 1, 2, ...
    euroc   `timestamp [ns],px,py,pz,qw,qx,qy,qz[,...]`; columns after the eighth are ignored. EuRoC's own ground truth
            holds poses of the *body*; what is saved here are camera poses in EuRoC's columns, and what is loaded here
            is the poses as they stand. `slamfeat.data.euroc` applies T_BS.

Positions are written so that they read back bit by bit. Times are whole nanoseconds (TUM: 9 decimals), which loses
nothing from clocks that count nanoseconds or microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.errors import InputError
from slamfeat.files import write_text
from slamfeat.geometry.se3 import Array, pose_from_quaternion, quaternion_from_pose
from slamfeat.types import Trajectory

Format = Literal["tum", "kitti", "euroc"]
_SUFFIXES: dict[str, Format] = {".tum": "tum", ".txt": "tum", ".kitti": "kitti", ".csv": "euroc"}
_COLUMNS: dict[Format, int] = {"tum": 8, "kitti": 12, "euroc": 8}
_LAYOUTS: dict[Format, str] = {
    "tum": "8 numbers: timestamp tx ty tz qx qy qz qw",
    "kitti": "12 numbers: a 3x4 pose row by row",
    "euroc": "at least 8 numbers: ns, px, py, pz, qw, qx, qy, qz",
}
_EUROC_HEADER = "#timestamp [ns],p_x [m],p_y [m],p_z [m],q_w [],q_x [],q_y [],q_z []"
# Unix time reaches 1e11 s in the year 5138; in milliseconds it passed 1e11 in 1973.
_LARGEST_SECONDS = 1e11


class _Table(NamedTuple):
    """The numbers of a file and, for messages, the line of the file that each row stands on."""

    path: Path
    values: Array
    first_column: list[str]
    lines: list[int]

    def fail(self, rows: ArrayLike, message: str) -> None:
        """Raise an InputError at the first row where `rows` is True, if any."""
        if np.any(rows):
            raise InputError(f"{self.path}, line {self.lines[int(np.argmax(rows))]}: {message}")


def save_trajectory(trajectory: Trajectory, path: str | Path, format: str | None = None) -> Path:
    """Write a trajectory; returns the path.

    Args:
        trajectory: poses `T_world_camera`; written as such in every format.
        path: file to write, atomically.
        format: "tum", "kitti" or "euroc". None: .tum and .txt mean TUM, .kitti KITTI, .csv EuRoC.

    Raises:
        InputError: the format is unknown, or two timestamps lie within one nanosecond.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    chosen = _checked(format) if format is not None else _SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise InputError(f"{path}: cannot tell the format from the suffix; pass format='tum', 'kitti' or 'euroc'")
    if chosen != "kitti" and len(set(_nanoseconds(trajectory))) < len(trajectory):
        raise InputError(f"{path}: two timestamps lie within one nanosecond; are they in seconds?")
    lines = {"tum": _tum_lines, "kitti": _kitti_lines, "euroc": _euroc_lines}[chosen](trajectory)
    return write_text(path, "".join(f"{line}\n" for line in lines))


def load_trajectory(path: str | Path, format: str | None = None) -> Trajectory:
    """Read a trajectory.

    Args:
        path: file to read.
        format: "tum", "kitti" or "euroc". None: by the suffix, and for .txt and unknown suffixes by the number of
            columns (8 is TUM, 12 is KITTI; separated by commas it is EuRoC).

    Raises:
        InputError: the file is missing, empty or not in the format; the message names file, line and fix.
    """
    path = Path(path)
    text = _read_text(path)
    chosen = _checked(format) if format is not None else _guess(path, text)
    table = _parse(path, text, chosen)
    if chosen == "kitti":
        return _from_kitti(table)
    return _from_tum(table) if chosen == "tum" else _from_euroc(table)


def _checked(format: str) -> Format:
    for known in get_args(Format):
        if format == known:
            return format  # type: ignore[return-value]
    raise InputError(f"trajectory format {format!r} is unknown; use one of {', '.join(get_args(Format))}")


def _seconds(trajectory: Trajectory) -> list[Decimal]:
    """Timestamps as the shortest decimals that mean the same floats: 1305031102.175304, not ...303936."""
    return [Decimal(repr(float(t))) for t in trajectory.timestamps]


def _nanoseconds(trajectory: Trajectory) -> list[int]:
    """Whole nanoseconds, in exact arithmetic: `t * 1e9` in floats is off by up to 128 ns."""
    return [int((t * 10**9).to_integral_value()) for t in _seconds(trajectory)]


def _row(numbers: Array, separator: str = " ") -> str:
    return separator.join(repr(float(number)) for number in numbers)


def _tum_lines(trajectory: Trajectory) -> Iterator[str]:
    yield "# timestamp tx ty tz qx qy qz qw"
    poses = np.hstack([trajectory.positions, quaternion_from_pose(trajectory.poses)])
    for t, pose in zip(_seconds(trajectory), poses, strict=True):
        yield f"{t:.9f} {_row(pose)}"


def _kitti_lines(trajectory: Trajectory) -> Iterator[str]:
    for pose in trajectory.poses:
        yield _row(pose[:3].reshape(-1))


def _euroc_lines(trajectory: Trajectory) -> Iterator[str]:
    yield _EUROC_HEADER
    poses = np.hstack([trajectory.positions, quaternion_from_pose(trajectory.poses)[:, [3, 0, 1, 2]]])
    for ns, pose in zip(_nanoseconds(trajectory), poses, strict=True):
        yield f"{ns},{_row(pose, ',')}"


def _read_text(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such trajectory file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; trajectories are TUM, KITTI or EuRoC text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read the trajectory: {error.strerror}") from error


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of every line that is neither empty nor a comment."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].replace(",", " ").split()
        if words:
            yield number, words


def _guess(path: Path, text: str) -> Format:
    by_suffix = _SUFFIXES.get(path.suffix.lower())
    if by_suffix is not None and path.suffix.lower() != ".txt":
        return by_suffix
    first = next(_records(text), None)
    if first is None:
        raise InputError(f"{path}: the trajectory is empty; was anything tracked?")
    number, words = first
    if len(words) == 12:
        return "kitti"
    if len(words) >= 8 and "," in text.splitlines()[number - 1]:
        return "euroc"
    if len(words) == 8:
        return "tum"
    raise InputError(f"{path}, line {number}: {len(words)} columns are neither TUM (8) nor KITTI (12); mend the file")


def _parse(path: Path, text: str, format: Format) -> _Table:
    lines, first_column, rows = [], [], []
    for number, words in _records(text):
        used = words[:8] if format == "euroc" else words
        if len(used) != _COLUMNS[format]:
            raise InputError(
                f"{path}, line {number}: {len(words)} columns, but {format} needs {_LAYOUTS[format]}; "
                "mend the line or pass another format"
            )
        rows.append([_number(path, number, word) for word in used])
        lines.append(number)
        first_column.append(used[0])
    if not rows:
        raise InputError(f"{path}: the trajectory is empty; was anything tracked?")
    table = _Table(path, np.array(rows), first_column, lines)
    table.fail(~np.isfinite(table.values).all(axis=1), "a value is NaN or infinite; remove the line")
    return table


def _number(path: Path, line: int, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{path}, line {line}: {word!r} is not a number; mend or remove the line") from None


def _from_tum(table: _Table) -> Trajectory:
    times = table.values[:, 0]
    table.fail(
        np.abs(times) > _LARGEST_SECONDS,
        f"timestamp {table.values[:, 0].max():.0f} looks like nanoseconds; TUM wants seconds: divide by 1e9",
    )
    return _from_quaternions(table, times, table.values[:, 4:8])


def _from_euroc(table: _Table) -> Trajectory:
    exact = [Decimal(word) for word in table.first_column]
    fractional = np.array([value != value.to_integral_value() for value in exact])
    table.fail(fractional, "the timestamp is not whole nanoseconds; if it is in seconds, multiply it by 1e9")
    times = np.array([int(value) / 10**9 for value in exact])
    return _from_quaternions(table, times, table.values[:, [5, 6, 7, 4]])


def _from_quaternions(table: _Table, times: Array, quaternions: Array) -> Trajectory:
    zero = np.linalg.norm(quaternions, axis=1) < 1e-6
    table.fail(zero, "the quaternion has length zero; remove the line (a lost frame has no pose)")
    return _trajectory(table, times, pose_from_quaternion(table.values[:, 1:4], quaternions))


def _from_kitti(table: _Table) -> Trajectory:
    poses = np.tile(np.eye(4), (len(table.lines), 1, 1))
    poses[:, :3] = table.values.reshape(-1, 3, 4)
    rotations = poses[:, :3, :3]
    skew = np.abs(rotations @ np.swapaxes(rotations, 1, 2) - np.eye(3)).max(axis=(1, 2))
    # KITTI's own files are off by up to 1e-5; a tenth means that the 12 numbers are something else.
    table.fail(
        (skew > 0.1) | (np.linalg.det(rotations) < 0),
        "the 3x3 part is not a rotation; KITTI wants the 3x4 pose row by row",
    )
    return _trajectory(table, _kitti_times(table), poses)


def _kitti_times(table: _Table) -> Array:
    """Seconds from `times.txt` beside the file, else the pose's number."""
    beside = table.path.with_name("times.txt")
    if beside == table.path or not beside.is_file():
        return np.arange(len(table.lines), dtype=np.float64)
    times = [_number(beside, number, words[0]) for number, words in _records(_read_text(beside))]
    if len(times) != len(table.lines):
        raise InputError(
            f"{table.path}: {len(table.lines)} poses, but {beside} has {len(times)} times; they must belong together"
        )
    return np.array(times)


def _trajectory(table: _Table, times: Array, poses: Array) -> Trajectory:
    back = np.concatenate([[False], np.diff(times) <= 0])
    table.fail(back, "the timestamp does not increase; sort the file and remove repeated lines")
    try:
        return Trajectory(times, poses)
    except InputError as error:
        raise InputError(f"{table.path}: {error}") from error
