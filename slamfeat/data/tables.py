"""Reading the small text tables of data sets, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array

Row = tuple[int, list[str]]


def read_rows(path: Path, columns: int, separator: str | None = None) -> list[Row]:
    """Lines of a text table as (line number, fields); blank lines and lines starting with # or % are left out.

    Args:
        path: the table.
        columns: least number of fields of a line; the last of them keeps what follows.
        separator: None for white space, or a character such as ",".

    Raises:
        InputError: the file cannot be read as text, or a line has fewer fields.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check that the download is complete") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file; check that the download is complete") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip()[0] in "#%":
            continue
        fields = [field.strip() for field in line.strip().split(separator, columns - 1)]
        if len(fields) < columns:
            raise InputError(f"{path}, line {number}: expected {columns} values, found {len(fields)}: {line.strip()!r}")
        rows.append((number, fields))
    return rows


def read_numbers(path: Path, columns: int, separator: str | None = None, finite: bool = True) -> Array:
    """A table of exactly `columns` numbers a line, (N, columns); infinity and nan count only if not `finite`.

    Raises:
        InputError: as `read_rows`, or a field is not such a number.
    """
    rows = read_rows(path, columns, separator)
    values = [[number(path, line, field, finite) for field in fields] for line, fields in rows]
    return np.array(values, dtype=np.float64).reshape(-1, columns)


def number(path: Path, line: int, text: str, finite: bool = True) -> float:
    """`text` as a number, a finite one if `finite`. Raises InputError naming file and line."""
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {text!r} is not a number") from error
    if finite and not np.isfinite(value):
        raise InputError(f"{path}, line {line}: {text!r} is not finite")
    return value


def check_quaternions(path: Path, quaternions: Array) -> None:
    """Raise InputError when a quaternion (N, 4) is not of unit length: a shifted column, or another format."""
    norms = np.linalg.norm(quaternions, axis=1)
    wrong = np.flatnonzero(np.abs(norms - 1) > 0.01)
    if len(wrong):
        raise InputError(
            f"{path}: quaternion of pose {wrong[0]} has length {norms[wrong[0]]:.3f}, not 1; check the column order"
        )


def check_rotations(path: Path, poses: Array, lines: list[int] | None = None) -> None:
    """Raise InputError when a pose (N, 4, 4) has no proper rotation, naming its line where `lines` are given."""
    rotations = poses[:, :3, :3]
    error = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((error > 1e-3) | (np.linalg.det(rotations) < 0))
    if len(wrong):
        where = f", line {lines[wrong[0]]}: the rotation" if lines else f": the rotation of pose {wrong[0]}"
        raise InputError(f"{path}{where} is not orthonormal; check the file's format")
