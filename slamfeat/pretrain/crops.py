"""Multi-crop: a few large and several small windows of every image (Caron et al., SwAV, NeurIPS 2020).

Windows are cut and resized here, on the processor and image by image; what changes their light is drawn here and done
by `slamfeat.pretrain.light` on the whole batch, wherever the model is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.pretrain.light import LightConfig, draw_light

Image = NDArray[np.uint8]
GLOBAL = 2
"""Large crops an image: the first is seen by the teacher for the second, and the second for the first."""
_ATTEMPTS = 10  # to draw a window that fits, before the whole image is taken


@dataclass
class CropConfig:
    """Which windows are cut. Defaults are DINOv2's (arXiv 2304.07193; ssl_default_config at patch 14).

    Attributes:
        global_size, local_size: sides of the crops in pixels, multiples of the patch.
        local_count: small crops an image.
        global_scale, local_scale: [least, most] share of the image's area that a window covers.
        aspect: most that a window's sides differ, as a ratio.
        flip: share of the crops that are mirrored.
        light: see the class.
    """

    global_size: int = 224
    local_size: int = 98
    local_count: int = 8
    global_scale: list[float] = field(default_factory=lambda: [0.32, 1.0])
    local_scale: list[float] = field(default_factory=lambda: [0.05, 0.32])
    aspect: float = 4 / 3
    flip: float = 0.5
    light: LightConfig = field(default_factory=LightConfig)

    def __post_init__(self) -> None:
        for name in ("global_scale", "local_scale"):
            scale = getattr(self, name)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise ConfigError(f"crops: {name} is [least, most] with 0 < least <= most <= 1, got {scale}")
        if min(self.global_size, self.local_size) < 1 or self.local_count < 0:
            raise ConfigError("crops: global_size and local_size of at least 1 and local_count >= 0 are needed")
        if self.aspect < 1 or not 0 <= self.flip <= 1:
            raise ConfigError("crops: aspect >= 1 and 0 <= flip <= 1 are needed")

    def check_patch(self, patch: int) -> None:
        """Raise ConfigError unless the sizes are multiples of the backbone's patch."""
        for name in ("global_size", *(("local_size",) if self.local_count else ())):
            size = getattr(self, name)
            if size % patch:
                near = max(1, round(size / patch)) * patch
                raise ConfigError(f"crops: {name}={size} is no multiple of the patch, {patch}; use {near}")


def make_crops(
    images: Sequence[Image], config: CropConfig, generators: Sequence[np.random.Generator], larger: int = 0
) -> dict[str, Tensor]:
    """Windows of a batch of B images.

    Args:
        images: (H, W, 3) uint8 RGB each.
        config: see the class.
        generators: one an image, from which all is drawn that concerns it.
        larger: global windows are also given at so many times their size; 0 for not at all.

    Returns:
        "global": (2B, 3, S, S) uint8, the first view of every image and then the second; "local": (L*B, 3, s, s), in
        the same order; "global_light", "local_light": (2B, D) and (L*B, D), see `light.draw_light`; "large": the global
        windows once more.
    """
    batch: dict[str, Tensor] = {}
    for kind, count in (("global", GLOBAL), ("local", config.local_count)):
        windows: list[list[_Window]] = [[] for _ in range(count)]
        lights: list[NDArray[np.float32]] = []
        for view in range(count):
            for image, rng in zip(images, generators, strict=True):
                windows[view].append(_draw(image, config, kind, rng))
                lights.append(draw_light(config.light, kind, view, rng))
        for name, size in ((kind, getattr(config, f"{kind}_size")), ("large", larger * config.global_size)):
            if count and size and (name == kind or kind == "global"):
                cut = [_cut(i, w, size) for of_view in windows for i, w in zip(images, of_view, strict=True)]
                batch[name] = torch.stack(cut)
        if count:
            batch[f"{kind}_light"] = torch.from_numpy(np.stack(lights))
    return batch


def draw_window(
    size: tuple[int, int], scale: Sequence[float], aspect: float, rng: np.random.Generator
) -> tuple[int, ...]:
    """A window (x, y, width, height) inside an image of `size` (W, H), its area and sides drawn by their logarithm.

    The area evenly, the aspect by its logarithm, as in Inception's crops (Szegedy et al., CVPR 2015). Where none fits,
    the largest window in the middle that the aspect allows.
    """
    width, height = size
    for _ in range(_ATTEMPTS):
        area = width * height * rng.uniform(scale[0], scale[1])
        ratio = math.exp(rng.uniform(-math.log(aspect), math.log(aspect)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    w, h = min(width, round(height * aspect)), min(height, round(width * aspect))
    return (width - w) // 2, (height - h) // 2, w, h


@dataclass(frozen=True)
class _Window:
    """Where a crop is, and whether it is mirrored."""

    box: tuple[int, ...]
    flipped: bool


def _draw(image: Image, config: CropConfig, kind: str, rng: np.random.Generator) -> _Window:
    size = (image.shape[1], image.shape[0])
    box = draw_window(size, getattr(config, f"{kind}_scale"), config.aspect, rng)
    return _Window(box, bool(rng.random() < config.flip))


def _cut(image: Image, window: _Window, size: int) -> Tensor:
    """(3, size, size) uint8."""
    x, y, w, h = window.box
    part = torch.from_numpy(np.ascontiguousarray(image[y : y + h, x : x + w])).permute(2, 0, 1)[None]
    crop = F.interpolate(part, (size, size), mode="bicubic", antialias=True, align_corners=False)[0]
    return crop.flip(-1) if window.flipped else crop
