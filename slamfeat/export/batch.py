"""Features of many images: read ahead in a thread, extracted one by one or in batches of equal size."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.data.prefetch import prefetch
from slamfeat.errors import ImageError
from slamfeat.frontend import FeatureFrontend
from slamfeat.image import read_image
from slamfeat.types import Features


@dataclass(frozen=True)
class Extraction:
    """What became of an image.

    Attributes:
        name: its name.
        size: (W, H) pixels; None where it could not be read.
        features, slot: image `slot` of the batch `features`; None where there is an error.
        error: why there are none.
    """

    name: str
    size: tuple[int, int] | None
    features: Features | None = None
    slot: int = 0
    error: ImageError | None = None


def extract_images(
    files: Mapping[str, Path], frontend: FeatureFrontend, batch: int = 1
) -> Generator[list[Extraction], None, None]:
    """Extract images in their order, a batch a step; the next ones are read meanwhile. Close it to stop early.

    An image that cannot be used, or shows no keypoints, is an `Extraction` with an error and costs no other image.

    Args:
        files: file by name.
        frontend: extracts.
        batch: images at once; a batch ends early where the next image has another size.
    """
    with prefetch((_read(name, file) for name, file in files.items()), ahead=batch + 1) as images:
        for _, alike in groupby(images, lambda image: image.size):
            while group := list(islice(alike, batch)):
                yield _extract(group, frontend)


@dataclass(frozen=True)
class _Image:
    """A file that was read, or why it was not."""

    name: str
    file: Path
    pixels: NDArray[np.uint8] | None = None
    error: ImageError | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(W, H) pixels; None where it was not read."""
        return None if self.pixels is None else (self.pixels.shape[1], self.pixels.shape[0])


def _read(name: str, file: Path) -> _Image:
    try:
        return _Image(name, file, read_image(file))
    except ImageError as error:
        return _Image(name, file, error=error)


def _extract(group: list[_Image], frontend: FeatureFrontend) -> list[Extraction]:
    """All images of the group, which are of one size or all unreadable."""
    pixels = [image.pixels for image in group if image.pixels is not None]
    if len(pixels) < 2:
        return [_extract_one(image, frontend) for image in group]
    try:
        features = frontend.extract(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    except ImageError:  # one of them is at fault: find out which
        return [_extract_one(image, frontend) for image in group]
    return [_outcome(image, features, slot) for slot, image in enumerate(group)]


def _extract_one(image: _Image, frontend: FeatureFrontend) -> Extraction:
    if image.pixels is None:
        return Extraction(image.name, None, error=image.error)
    try:
        return _outcome(image, frontend.extract(image.pixels), 0)
    except ImageError as error:
        return Extraction(image.name, image.size, error=ImageError(f"{image.file}: {error}"))


def _outcome(image: _Image, features: Features, slot: int) -> Extraction:
    if not bool(features.mask[slot].any()):
        error = ImageError(f"{image.file}: no keypoints, the image has no texture; leave it out")
        return Extraction(image.name, image.size, error=error)
    return Extraction(image.name, image.size, features, slot)
