"""Images that show a quantised backbone which values to expect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import InputError
from slamfeat.image import read_image, resize, to_batch
from slamfeat.image_files import image_files
from slamfeat.sample import sample_path

GRID = (17, 22)
"""Rows and columns of the images' patches; what is learnt from them holds for other sizes."""
_MOST = 20


def list_images(folder: Path | None) -> list[Path]:
    """Up to 20 images spread evenly over a folder; of the shipped ones without a folder.

    Raises:
        InputError: no images there.
    """
    try:
        found = list(image_files(folder or sample_path() / "rgb").values())
    except InputError as error:
        raise InputError(f"calibration: {error}; give a folder of images like yours") from error
    count = min(len(found), _MOST)
    return [found[i * len(found) // count] for i in range(count)]


def digest_images(paths: list[Path]) -> str:
    """A checksum of the files' contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_images(paths: list[Path], patch_size: int) -> Iterator[Tensor]:
    """Each image as (1, 3, H, W) in [0, 1] with `GRID` patches, as it is and altered."""
    rows, columns = GRID
    for index, path in enumerate(paths):
        image = resize(to_batch(read_image(path)), (columns * patch_size, rows * patch_size))[0]
        yield image
        yield alter(image, index)


def alter(image: Tensor, index: int) -> Tensor:
    """Inverted, recoloured and brightened, noisy, contrasty, or replaced by smooth noise, in turn.

    Images of one place alone leave the quantised ranges too narrow for others: with the demo's frames, tokens of
    Kodak's photographs had a cosine of 0.9978 to float32's, and 0.9986 with these beside them.
    """
    generator = torch.Generator().manual_seed(index)
    match index % 5:
        case 0:
            return 1 - image
        case 1:
            return image.flip(1).sqrt()
        case 2:
            return (image + 0.25 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
        case 3:
            return ((image - image.mean()) * 2.5 + 0.5).clamp(0, 1)
        case _:
            coarse = torch.rand(1, 3, 60, 80, generator=generator)
            return F.interpolate(coarse, image.shape[-2:], mode="bicubic").clamp(0, 1)
