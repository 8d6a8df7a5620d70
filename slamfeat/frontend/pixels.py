"""An image as the frontend looks at it: grey at full size, and colour at the backbone's size.

On the CPU images are 8-bit arrays, as cameras and files give them, and go through OpenCV: its integer arithmetic is
several times faster than float tensors, and the difference is about a grey level. On other devices all stays in torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.errors import InputError
from slamfeat.image import (
    FitPolicy,
    ImageLike,
    check_image,
    check_planes,
    fit_to_patch,
    plan_fit,
    read_image,
    resize,
    to_batch,
    to_gray,
)
from slamfeat.types import PixelMap

Bytes = NDArray[np.uint8]


class Pixels(Protocol):
    """One batch of images."""

    @property
    def gray(self) -> Tensor:
        """(B, 1, H, W) uint8, the original image."""

    def colour(self) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], the original image."""

    def fitted(self) -> tuple[Tensor, PixelMap]:
        """Grey (B, 1, H', W') uint8 of whole cells, and the map from original to fitted pixels."""

    def small(self, size: tuple[int, int]) -> tuple[Tensor, PixelMap]:
        """RGB (B, 3, h, w) in [0, 1] of the fitted image at `size` (w, h), and the map from original pixels."""


def load_pixels(image: ImageLike, device: torch.device, cell: int, policy: str) -> Pixels:
    """An image in the form that is fastest on `device`.

    Args:
        image: path, array or tensor, as `slamfeat.image.to_batch` takes.
        device: where the frontend runs.
        cell: pixels a patch covers; the fitted image has whole cells.
        policy: how it is fitted, see `slamfeat.image.fit_to_patch`.

    Raises:
        ImageError: the image cannot be used.
    """
    fit = cast(FitPolicy, policy)
    if device.type == "cpu":
        return ArrayPixels(_as_arrays(image), cell, fit)
    return TensorPixels(to_batch(image).to(device), cell, fit)


def _as_arrays(image: ImageLike) -> list[Bytes]:
    if isinstance(image, str | Path):
        return [read_image(image)]
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return [check_image(cast(Bytes, image))]
    if isinstance(image, Tensor) and image.dtype == torch.uint8:
        planes = check_planes(image).expand(-1, 3, -1, -1)
    else:
        planes = (to_batch(image) * 255).round().to(torch.uint8)
    return list(planes.permute(0, 2, 3, 1).contiguous().cpu().numpy())


class ArrayPixels:
    """`Pixels` of (H, W, 3) uint8 RGB images of one size."""

    def __init__(self, images: list[Bytes], cell: int, policy: FitPolicy) -> None:
        import cv2

        height, width = images[0].shape[:2]
        self._images, self._policy = images, policy
        self._plan = plan_fit((width, height), cell, policy)
        grays = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in images]
        self._gray = _stack(grays)[:, None]
        self._fitted = _stack([self._fit(gray) for gray in grays])[:, None]

    @property
    def gray(self) -> Tensor:
        """See `Pixels`."""
        return self._gray

    def colour(self) -> Tensor:
        """See `Pixels`."""
        return _planes(_stack(self._images))

    def fitted(self) -> tuple[Tensor, PixelMap]:
        """See `Pixels`."""
        return self._fitted, self._plan[1]

    def small(self, size: tuple[int, int]) -> tuple[Tensor, PixelMap]:
        """See `Pixels`."""
        (width, height), to_fitted = self._plan
        shrunk = _stack([_resample(self._fit(image), size) for image in self._images])
        return _planes(shrunk), to_fitted.then(PixelMap(scale=(size[0] / width, size[1] / height)))

    def _fit(self, image: Bytes) -> Bytes:
        import cv2

        (width, height), to_fitted = self._plan
        if self._policy == "resize":
            return _resample(image, (width, height))
        if self._policy == "pad":
            right, below = width - image.shape[1], height - image.shape[0]
            if not (right or below):
                return image
            return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), dtype=np.uint8)
        left, top = (round(-shift) for shift in to_fitted.shift)
        return image[top : top + height, left : left + width]


class TensorPixels:
    """`Pixels` of a batch (B, 3, H, W) of floats in [0, 1], on any device."""

    def __init__(self, batch: Tensor, cell: int, policy: FitPolicy) -> None:
        self._colour = batch
        self._fitted, self._to_fitted = fit_to_patch(batch, cell, policy)
        self._gray, self._fitted_gray = (
            (to_gray(colours) * 255).round().to(torch.uint8) for colours in (batch, self._fitted)
        )

    @property
    def gray(self) -> Tensor:
        """See `Pixels`."""
        return self._gray

    def colour(self) -> Tensor:
        """See `Pixels`."""
        return self._colour

    def fitted(self) -> tuple[Tensor, PixelMap]:
        """See `Pixels`."""
        return self._fitted_gray, self._to_fitted

    def small(self, size: tuple[int, int]) -> tuple[Tensor, PixelMap]:
        """See `Pixels`."""
        image, to_backbone = resize(self._fitted, size)
        return image, self._to_fitted.then(to_backbone)


def _planes(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _stack(images: list[Bytes]) -> Tensor:
    return torch.from_numpy(np.stack(images))  # a copy first: torch warns of arrays that are read-only


def _resample(image: Bytes, size: tuple[int, int]) -> Bytes:
    """To `size` (W, H): area means when shrinking, so that nothing is skipped, else bilinear."""
    import cv2

    if (image.shape[1], image.shape[0]) == size:
        return image
    mode = interpolation((image.shape[1], image.shape[0]), size)
    return np.asarray(cv2.resize(image, size, interpolation=mode), np.uint8)


def interpolation(source: tuple[int, int], target: tuple[int, int]) -> int:
    """OpenCV's constant for resampling from one size (W, H) to another."""
    import cv2

    shrinks = target[0] <= source[0] and target[1] <= source[1]
    return cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR


def allowed_pixels(mask: NDArray[np.uint8] | None, pixels: Pixels, policy: str) -> Tensor | None:
    """(1, 1, H', W') bool: pixels of the fitted image that come from the image, and from inside the mask (H, W).

    None where that is all of them.
    """
    height, width = pixels.gray.shape[-2:]
    if mask is not None and mask.shape != (height, width):
        raise InputError(f"mask is {mask.shape[::-1]} (W, H) but the image is {(width, height)}")
    if mask is None and policy != "pad":
        return None
    fitted, to_fitted = pixels.fitted()
    device = fitted.device
    y, x = (torch.arange(side, device=device, dtype=torch.float32) for side in fitted.shape[-2:])
    source = to_fitted.inverse().apply(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)).round().long()
    inside = ((source >= 0) & (source < source.new_tensor([width, height]))).all(-1)
    if mask is not None:
        wanted = torch.from_numpy(np.asarray(mask) > 0).to(device)
        inside &= wanted[source[..., 1].clamp(0, height - 1), source[..., 0].clamp(0, width - 1)]
    return inside[None, None]
