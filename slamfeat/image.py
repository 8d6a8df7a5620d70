"""Reading images, turning anything image-like into a batch, and fitting it to whole patches.

`fit_to_patch` returns the exact map between the pixels of the original and of the fitted image, so that keypoints
come back in original pixels and `Camera.mapped` gives the exact intrinsics of the fitted image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError, ImageError
from slamfeat.image_header import header_size, is_cut
from slamfeat.types import PixelMap

ImageLike = str | Path | NDArray[np.uint8] | NDArray[np.float32] | Tensor
FitPolicy = Literal["pad", "crop", "resize"]

MIN_SIDE = 32
"""Smallest accepted image side in pixels: room for a keypoint's neighbourhood."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 RGB; grey is repeated, alpha dropped, EXIF rotation applied.

    Raises:
        ImageError: missing, truncated, not an image, smaller than 32x32 or larger than OpenCV decodes.
    """
    return decode_image(_read_bytes(Path(path)), str(path))


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """An image file's content as `read_image` gives it; errors as there, with `name` in the message."""
    import cv2

    try:
        decoded = cv2.imdecode(_checked(content, name), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(
            f"{name}: OpenCV does not decode it ({' '.join(str(error).split())}); make it smaller"
        ) from error
    if decoded is None:
        raise ImageError(f"{name}: cannot be decoded as an image; replace the file or convert it to PNG or JPEG")
    _check_side(decoded.shape[1], decoded.shape[0], name)
    return rgb_of_bgr(decoded)


def rgb_of_bgr(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """OpenCV's (H, W, 3) uint8 with channels the other way round; far quicker than a copy of a reversed view."""
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def image_size(path: str | Path) -> tuple[int, int]:
    """(W, H) in pixels of the array that `read_image` makes of a file, from its header where that is enough.

    PNG and JPEG are not decoded, unless EXIF may turn them; other formats are.

    Raises:
        ImageError: missing, not an image, or smaller than 32x32. A truncated file may pass.
    """
    try:
        size = header_size(Path(path))
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; check the path") from error
    if size is None:
        height, width = read_image(path).shape[:2]
        return width, height
    _check_side(*size, str(path))
    return size


def read_depth(path: str | Path, scale: float) -> NDArray[np.float32]:
    """Read a depth map as (H, W) float32 metres, 0 where unknown.

    Args:
        path: a 16-bit PNG, or a .npy of floats.
        scale: stored units a metre (5000 for TUM RGB-D, 1000 for millimetres, 1 for metres).

    Raises:
        ImageError: missing, truncated, or not a single-channel 16-bit image.
    """
    path = Path(path)
    if path.suffix == ".npy":
        depth = _load_npy(path)
    else:
        import cv2

        stored = cv2.imdecode(_checked(_read_bytes(path), str(path)), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 2 or stored.dtype != np.uint16:
            found = "nothing" if stored is None else f"{stored.dtype} with shape {stored.shape}"
            raise ImageError(f"{path}: depth must be a 16-bit single-channel PNG, found {found}")
        depth = stored.astype(np.float32)
    depth = depth / np.float32(scale)
    depth[~np.isfinite(depth) | (depth < 0)] = 0.0
    return depth


def to_batch(image: ImageLike) -> Tensor:
    """Turn a path, array or tensor into a batch (B, 3, H, W) of float32 RGB in [0, 1].

    Accepts a file path; arrays (H, W), (H, W, 1|3|4); tensors (1|3, H, W) or (B, 1|3, H, W); uint8 in 0..255 or floats
    in 0..1. Tensors stay on their device.

    Raises:
        ImageError: another shape, no image, values that are not finite or out of range, or a side under 32 pixels.
    """
    _check_kind(image)
    if isinstance(image, str | Path):
        return _scaled(torch.from_numpy(read_image(image)).permute(2, 0, 1)[None], str(image))
    if isinstance(image, np.ndarray):
        return _scaled(_array_to_planes(image), "image array")
    return _scaled(check_planes(image), "image tensor")


def check_planes(planes: Tensor) -> Tensor:
    """A tensor (1|3, H, W) or (B, 1|3, H, W) as (B, 1|3, H, W), values untouched.

    Raises:
        ImageError: another shape, no image, or a side under 32 pixels.
    """
    batch = planes[None] if planes.ndim == 3 else planes
    if batch.ndim != 4 or batch.shape[1] not in (1, 3):
        raise ImageError(f"image tensor must be (B, 3, H, W) or (3, H, W), got {tuple(planes.shape)}")
    if not len(batch):
        raise ImageError(f"image tensor: a batch of no images, {tuple(planes.shape)}; give at least one")
    _check_side(batch.shape[-1], batch.shape[-2], "image tensor")
    return batch


def check_image(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as contiguous (H, W, 3) RGB.

    Raises:
        ImageError: another shape, or a side under 32 pixels.
    """
    rgb = _three_channels(array)
    _check_side(rgb.shape[1], rgb.shape[0], "image array")
    return np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))


def to_gray(batch: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of RGB (B, 3, H, W), with ITU-R BT.601's weights as OpenCV uses them."""
    weights = batch.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (batch * weights).sum(1, keepdim=True)


def fit_to_patch(image: ImageLike, patch_size: int, policy: FitPolicy = "crop") -> tuple[Tensor, PixelMap]:
    """Make both sides a multiple of the patch size.

    Args:
        image: anything `to_batch` takes, (H, W) its size.
        patch_size: side of a cell in pixels.
        policy: "crop" keeps the centre (no resampling, loses up to patch_size - 1 pixels a side), "pad" repeats the
            border to the right and below (nothing lost), "resize" resamples to the nearest multiple.

    Returns:
        The fitted batch (B, 3, H', W') and the map from original to fitted pixels.

    Raises:
        ImageError: see `to_batch`.
    """
    batch = to_batch(image)
    height, width = batch.shape[-2:]
    (new_width, new_height), pixel_map = plan_fit((width, height), patch_size, policy)
    if policy == "pad":
        return F.pad(batch, (0, new_width - width, 0, new_height - height), mode="replicate"), pixel_map
    if policy == "resize":
        return resize(batch, (new_width, new_height))
    left, top = (round(-shift) for shift in pixel_map.shift)
    return batch[..., top : top + new_height, left : left + new_width], pixel_map


def plan_fit(size: tuple[int, int], patch_size: int, policy: FitPolicy) -> tuple[tuple[int, int], PixelMap]:
    """The size (W, H) that `fit_to_patch` gives an image of `size`, and the map to its pixels; errors as there."""
    if policy not in get_args(FitPolicy):
        raise ConfigError(f"unknown fit policy '{policy}'; use one of {', '.join(get_args(FitPolicy))}")
    width, height = size
    if policy == "pad":
        return (width + -width % patch_size, height + -height % patch_size), PixelMap()
    if policy == "resize":
        fitted = (max(1, round(width / patch_size)) * patch_size, max(1, round(height / patch_size)) * patch_size)
        return fitted, PixelMap(scale=(fitted[0] / width, fitted[1] / height))
    fitted = (width // patch_size * patch_size, height // patch_size * patch_size)
    if not all(fitted):
        raise ImageError(
            f"image of {width}x{height} is smaller than one cell of {patch_size}; "
            "use frontend.fit=pad or resize, or a smaller frontend.cell"
        )
    return fitted, PixelMap(shift=(-((width - fitted[0]) // 2), -((height - fitted[1]) // 2)))


def resize(batch: Tensor, size: tuple[int, int]) -> tuple[Tensor, PixelMap]:
    """Resample (B, C, H, W) to `size` (W, H), antialiased; returns it with the map between the pixel frames."""
    height, width = batch.shape[-2:]
    if (width, height) == size:
        return batch, PixelMap()
    shrunk = F.interpolate(batch, (size[1], size[0]), mode="bilinear", antialias=True, align_corners=False)
    return shrunk, PixelMap(scale=(size[0] / width, size[1] / height))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; check the path") from error


def _checked(data: bytes, name: str) -> NDArray[np.uint8]:
    """The bytes of a file, refused when the end of the picture is missing: OpenCV would fill the rest with grey."""
    if not data:
        raise ImageError(f"{name}: the file is empty; copy it again")
    if is_cut(data):
        raise ImageError(f"{name}: the image is truncated; copy it again")
    return np.frombuffer(data, dtype=np.uint8)


def _load_npy(path: Path) -> NDArray[np.float32]:
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: cannot be read as a .npy depth map ({error}); copy it again") from error
    if stored.ndim != 2:
        raise ImageError(f"{path}: depth must be (H, W), found shape {stored.shape}")
    return np.asarray(stored, dtype=np.float32)


def _array_to_planes(array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(_three_channels(array))).permute(2, 0, 1)[None]


def _three_channels(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 1 or 3) of anything that is an image."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(f"image array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {array.shape}")
    return array[..., :3]


def _scaled(planes: Tensor, name: str) -> Tensor:
    _check_side(planes.shape[-1], planes.shape[-2], name)
    if planes.dtype == torch.uint8:
        batch = planes.float() / 255.0
    elif planes.is_floating_point():
        batch = planes.float()
        if not bool(torch.isfinite(batch).all()):
            raise ImageError(f"{name}: holds values that are not finite (NaN or infinity); clean it first")
        low, high = float(batch.min()), float(batch.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise ImageError(
                f"{name}: floats must lie in 0..1, found {low:.4g}..{high:.4g}; divide by 255 or pass uint8"
            )
    else:
        raise ImageError(f"{name}: must be uint8 or float, got {planes.dtype}")
    return batch.expand(-1, 3, -1, -1)


def _check_kind(image: object) -> None:
    """OpenCV gives None for what it cannot read, and users pass it on."""
    if not isinstance(image, str | Path | np.ndarray | Tensor):
        kind = type(image).__name__
        raise ImageError(f"an image must be a path, a numpy array or a tensor, got {kind}; was it read at all?")


def _check_side(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: {width}x{height} is too small; the least is {MIN_SIDE}x{MIN_SIDE}")
