"""Image pairs with known geometry: homography folders (Oxford, HPatches) and posed views (Strecha's cameras.json)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.data.images import list_images
from slamfeat.data.tables import check_rotations, read_numbers
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera


@dataclass(frozen=True)
class HomographyPair:
    """Two images of a plane; `H` (3, 3) maps pixels of `image0` to pixels of `image1`."""

    image0: Path
    image1: Path
    H: Array


@dataclass(frozen=True)
class PosedPair:
    """Two views of one camera; `T_1_0` (4, 4), metres, maps coordinates of the first view to the second's."""

    image0: Path
    image1: Path
    camera: Camera
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
        return PosedPair(self.images[first], self.images[second], self.camera, relative)

    def pairs(self, max_step: int | None = None) -> list[PosedPair]:
        """All pairs i < j, or only those with j - i <= max_step."""
        chosen = combinations(range(len(self.images)), 2)
        return [self.pair(i, j) for i, j in chosen if max_step is None or j - i <= max_step]


def read_homography_pairs(folder: str | Path) -> list[HomographyPair]:
    """Pairs of a folder in Oxford's layout (img1.ppm, H1to2p) or HPatches' (1.ppm, H_1_2), sorted by second image.

    Raises:
        InputError: no homography files, one that is not an invertible 3x3 matrix, or an image is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; check the path")
    pairs = {}
    for path in folder.iterdir():
        name = re.fullmatch(r"H_?(\d+)(?:to|_)(\d+)p?", path.name)
        if name:
            first, second = int(name[1]), int(name[2])
            images = _numbered_image(folder, first), _numbered_image(folder, second)
            pairs[first, second] = HomographyPair(images[0], images[1], _read_homography(path))
    if not pairs:
        raise InputError(f"{folder}: has no homographies; looked for H1to2p (Oxford) and H_1_2 (HPatches)")
    return [pairs[key] for key in sorted(pairs)]


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


def _numbered_image(folder: Path, number: int) -> Path:
    for image in list_images(folder):
        if re.fullmatch(rf"(?:img)?0*{number}", image.stem):
            return image
    raise InputError(f"{folder}: image {number} is missing; looked for img{number} and {number} as image files")


def _read_homography(path: Path) -> Array:
    H = read_numbers(path, 3)
    if H.shape != (3, 3) or abs(np.linalg.det(H)) < 1e-12:
        raise InputError(f"{path}: is not an invertible 3x3 matrix; copy it again")
    return H


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
