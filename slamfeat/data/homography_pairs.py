"""Image pairs under a known homography: folders in Oxford's layout or in HPatches'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slamfeat.data.images import list_images, natural_key
from slamfeat.data.tables import read_numbers
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array

LOOKS_FOR = "H1to2p (Oxford) and H_1_2 (HPatches)"
_NAME = re.compile(r"H_?(\d+)(?:to|_)(\d+)p?")


@dataclass(frozen=True)
class HomographyPair:
    """Two images of a plane; `H` (3, 3) maps pixels of `image0` to pixels of `image1`."""

    image0: Path
    image1: Path
    H: Array


def hpatches_folders(root: str | Path) -> list[Path]:
    """The folders with homographies directly in `root`, in natural order; `root` itself when it has some; or none."""
    root = Path(root)
    if _homographies(root):
        return [root]
    folders = (child for child in root.iterdir() if _homographies(child)) if root.is_dir() else ()
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def read_homography_pairs(folder: str | Path) -> list[HomographyPair]:
    """Pairs of a folder in Oxford's layout (img1.ppm, H1to2p) or HPatches' (1.ppm, H_1_2), sorted by second image.

    Raises:
        InputError: no homography files, one that is not an invertible 3x3 matrix, or an image is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; check the path")
    found = _homographies(folder)
    if not found:
        raise InputError(f"{folder}: has no homographies; looked for {LOOKS_FOR}")
    return [
        HomographyPair(
            _numbered_image(folder, first), _numbered_image(folder, second), _read_homography(found[first, second])
        )
        for first, second in sorted(found)
    ]


def _homographies(folder: Path) -> dict[tuple[int, int], Path]:
    """Files of homographies by the numbers of their images."""
    if not folder.is_dir():
        return {}
    names = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return {(int(name[1]), int(name[2])): path for path, name in names if name}


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
