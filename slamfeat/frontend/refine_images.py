"""Images made ready for Lucas-Kanade: shrunk, of one size, of even contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_SHRINK, _CONTRAST_WINDOW = 4, (7, 7)  # the window is of shrunk pixels
_NOISE_LEVEL = 4.0  # grey levels: keeps the noise of flat regions from being blown up to texture


def shrunk_shape(gray: Tensor, factor: int) -> tuple[int, ...]:
    """(H, W) of an image that `shrunk` makes."""
    return tuple(side // factor for side in gray.shape)


def shrunk(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The image with every `factor` x `factor` pixels averaged; what is left over at the right and below is cut off."""
    import cv2

    if factor == 1:
        return image
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    size = (width // factor, height // factor)
    return np.asarray(cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def of_one_size(*images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """The images, of different sizes continued to the right and below: Lucas-Kanade takes two of one size."""
    import cv2

    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    return tuple(
        image
        if image.shape == (height, width)
        else np.asarray(
            cv2.copyMakeBorder(
                image, 0, height - image.shape[0], 0, width - image.shape[1], borderType=cv2.BORDER_REPLICATE
            ),
            dtype=np.uint8,
        )
        for image in images
    )


def even_contrast(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey image (H, W) with local mean 128 and local standard deviation 40, over windows of about 30 pixels.

    Mean and deviation are smooth, so they are computed at a quarter of the size.
    """
    import cv2

    height, width = image.shape
    wide = image.astype(np.float32)
    size = (max(1, width // _SHRINK), max(1, height // _SHRINK))
    mean, square = (
        cv2.blur(cv2.resize(values, size, interpolation=cv2.INTER_AREA), _CONTRAST_WINDOW)
        for values in (wide, cv2.multiply(wide, wide))
    )
    gain = 40.0 / np.sqrt(np.maximum(square - mean * mean, 0.0) + _NOISE_LEVEL**2)
    gains, offsets = (
        cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR) for values in (gain, 128.0 - mean * gain)
    )
    return np.asarray(cv2.add(cv2.multiply(wide, gains), offsets, dtype=cv2.CV_8U), dtype=np.uint8)
