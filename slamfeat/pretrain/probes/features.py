"""Images as a network, or nothing at all, describes them: what all probes look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.backbones.base import Backbone

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Described:
    """A batch of images.

    Attributes:
        whole: (B, C) a vector an image.
        patches: (B, D, h, w) a vector a patch.
    """

    whole: Tensor
    patches: Tensor


Describe = Callable[[Tensor], Described]
"""Takes (B, 3, H, W) RGB in [0, 1] with sides that are multiples of the patch."""


def by_backbone(backbone: Backbone) -> Describe:
    """Class and patch tokens of the last block."""

    @torch.no_grad()
    def describe(images: Tensor) -> Described:
        tokens = backbone(backbone.normalize(images.to(backbone.device, backbone.dtype)))
        return Described(tokens.cls.float(), tokens.patch.float())

    return describe


def by_pixels(patch: int, side: int = 8) -> Describe:
    """No network: the image at `side` x `side` pixels, and the pixels of each patch, both with their mean taken off."""

    @torch.no_grad()
    def describe(images: Tensor) -> Described:
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True).flatten(1)
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        patches = F.unfold(images, patch, stride=patch).view(len(images), -1, rows, columns)
        return Described(small - small.mean(1, keepdim=True), patches - patches.mean(1, keepdim=True))

    return describe


def squares(images: Sequence[Image], size: int, batch: int) -> Iterator[Tensor]:
    """The middle square of each image at size x size, in batches (B, 3, size, size) of floats in [0, 1]."""
    for first in range(0, len(images), batch):
        yield torch.stack([_square(image, size) for image in images[first : first + batch]])


def _square(image: Image, size: int) -> Tensor:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side]))
    planes = middle.permute(2, 0, 1)[None].float() / 255
    return F.interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
