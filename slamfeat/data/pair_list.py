"""Lists of image pairs with cameras and relative poses, in SuperGlue's format (ScanNet-1500, YFCC, MegaDepth-1500)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slamfeat.data.pairs import PosedPair
from slamfeat.data.tables import check_rotations, number, read_rows
from slamfeat.errors import ImageError, InputError
from slamfeat.geometry.se3 import Array
from slamfeat.image import image_size
from slamfeat.types import Camera

COLUMNS = 38
LAYOUT = "name0 name1 rot0 rot1, 9 numbers of K0, 9 of K1 and 16 of T_0to1"


def read_pair_list(path: str | Path, images: Path | None = None) -> list[PosedPair]:
    """Pairs of a list such as SuperGlue's `scannet_test_pairs_with_gt.txt`, in the list's order.

    A line has 38 values, `name0 name1 rot0 rot1 K0(9) K1(9) T_0to1(16)`, matrices row by row; T_0to1 maps coordinates
    of camera 0 to camera 1. Intrinsics are taken as they stand, as in SuperGlue's evaluation. Blank lines and those
    that start with # or % are left out.

    rot0 and rot1 are quarter turns that would bring a picture upright; SuperGlue's evaluation turns picture, intrinsics
    and pose by them. That is not done here, and a list that asks for it is refused rather than measured otherwise.

    Args:
        path: the list.
        images: the folder that the names are relative to. None: the list's own.

    Raises:
        InputError: the list cannot be read or is empty, a line (named by its number) has another number of values, a
            value that is not a number, a turn, intrinsics with skew, or no rigid pose; or an image is missing.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    lines, names, values = [], [], []
    for line, (text,) in read_rows(path, 1):
        fields = text.split()
        _check_line(path, line, fields)
        lines.append(line)
        names.append((folder / fields[0], folder / fields[1]))
        values.append([number(path, line, field) for field in fields[4:]])
    if not lines:
        raise InputError(f"{path}: holds no pairs; a line should read {LAYOUT}")
    numbers = np.array(values)
    poses = numbers[:, 18:].reshape(-1, 4, 4)
    check_rotations(path, poses, lines)
    cameras = _Cameras(path)
    pairs = []
    for line, (image0, image1), row, pose in zip(lines, names, numbers, poses, strict=True):
        if np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-6:
            raise InputError(f"{path}, line {line}: T_0to1 must end in 0 0 0 1; a line should read {LAYOUT}")
        both = cameras.get(line, image0, row[:9]), cameras.get(line, image1, row[9:18])
        pairs.append(PosedPair(image0, image1, *both, pose))
    return pairs


def _check_line(path: Path, line: int, fields: list[str]) -> None:
    if len(fields) != COLUMNS:
        raise InputError(
            f"{path}, line {line}: expected {COLUMNS} values ({LAYOUT}), found {len(fields)}; "
            "use the list with ground truth, and names without spaces"
        )
    if any(number(path, line, turn) % 4 for turn in fields[2:4]):
        raise InputError(
            f"{path}, line {line}: asks to turn an image (rot0 rot1 = {fields[2]} {fields[3]}): not supported; "
            "leave the pair out, or write 0 0 to use both images as they are stored"
        )


class _Cameras:
    """The cameras of a list's images; a header is read once an image."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[Path, tuple[int, int]] = {}

    def get(self, line: int, image: Path, values: Array) -> Camera:
        """The camera with the intrinsics `values` (9,) and the size of `image`."""
        if image not in self._sizes:
            self._sizes[image] = self._size(line, image)
        K = values.reshape(3, 3)
        fx, fy, cx, cy = (float(K[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        try:
            camera = Camera(*self._sizes[image], fx, fy, cx, cy)
        except InputError as error:
            raise InputError(f"{self._path}, line {line}: {error}") from error
        if np.abs(camera.K - K).max() > 1e-6 * camera.fx:
            raise InputError(
                f"{self._path}, line {line}: intrinsics must read fx 0 cx 0 fy cy 0 0 1, found "
                f"{' '.join(f'{value:g}' for value in values)}"
            )
        return camera

    def _size(self, line: int, image: Path) -> tuple[int, int]:
        if not image.is_file():
            raise InputError(
                f"{image}: named in {self._path}, line {line}, but missing; give the folder that the names start from"
            )
        try:
            return image_size(image)
        except ImageError as error:
            raise InputError(f"{error} (named in {self._path}, line {line})") from error
