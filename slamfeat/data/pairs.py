"""Image pairs with a known relative pose: posed views (Strecha's cameras.json); `pair_list` reads lists of pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.data.tables import check_rotations
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera


@dataclass(frozen=True)
class PosedPair:
    """Two views of a static scene.

    Attributes:
        image0, image1: their files.
        camera0, camera1: their cameras; the same one where one camera moved.
        T_1_0: (4, 4) maps coordinates of camera 0 to those of camera 1; metres where the data's poses are metric.
    """

    image0: Path
    image1: Path
    camera0: Camera
    camera1: Camera
    T_1_0: Array


@dataclass(frozen=True)
class PosedImages:
    """Views of a static scene by one camera.

    Attributes:
        images: N files.
        camera: without distortion.
        poses: (N, 4, 4) `T_world_camera`, metres.
    """

    images: tuple[Path, ...]
    camera: Camera
    poses: Array

    def pair(self, first: int, second: int) -> PosedPair:
        """The pair of two views by index."""
        relative = invert(self.poses[second]) @ self.poses[first]
        return PosedPair(self.images[first], self.images[second], self.camera, self.camera, relative)

    def pairs(self, max_step: int | None = None) -> list[PosedPair]:
        """All pairs i < j, or only those with j - i <= max_step."""
        chosen = combinations(range(len(self.images)), 2)
        return [self.pair(i, j) for i, j in chosen if max_step is None or j - i <= max_step]


def read_posed_images(folder: str | Path) -> PosedImages:
    """Views of a folder with cameras.json (K, width, height, poses_c2w by file name) and the images in images/.

    Raises:
        InputError: cameras.json is missing or lacks a key, a pose is not rigid, or an image is missing.
    """
    path = Path(folder) / "cameras.json"
    values = _read_cameras(path)
    K = np.asarray(values["K"], dtype=np.float64)
    names = sorted(values["poses_c2w"])
    poses = np.asarray([values["poses_c2w"][name] for name in names], dtype=np.float64)
    if K.shape != (3, 3) or poses.shape != (len(names), 4, 4) or not names:
        raise InputError(f"{path}: K must be 3x3 and every pose 4x4, found {K.shape} and {poses.shape}")
    check_rotations(path, poses)
    images = tuple(path.parent / "images" / name for name in names)
    missing = next((image for image in images if not image.is_file()), None)
    if missing:
        raise InputError(f"{missing}: named in {path} but missing; copy the folder again")
    fx, fy, cx, cy = (float(K[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return PosedImages(images, Camera(values["width"], values["height"], fx, fy, cx, cy), poses)


def _read_cameras(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; it holds the cameras of the views") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}); copy it again") from error
    absent = [key for key in ("K", "width", "height", "poses_c2w") if key not in values]
    if absent:
        raise InputError(f"{path}: '{absent[0]}' is missing; it needs K, width, height and poses_c2w")
    return dict(values)
