"""What may happen to the light of a crop: colour jitter, grey, blur, solarisation, as DINOv2's augmentation.

Amounts are drawn where the crops are cut, from each image's own generator; kornia applies them to a whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.errors import ConfigError

COLUMNS = ("brightness", "contrast", "saturation", "hue", "grey", "sigma", "solarise", "order")
_NONE = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
Change = Callable[[Tensor, Tensor], Tensor]
_STEPS = 4  # the jitter's four changes, in an order that is drawn too


@dataclass
class LightConfig:
    """How often and how much. Defaults are DINOv2's.

    Attributes:
        jitter: share of the crops whose colours change.
        brightness, contrast, saturation: factors between 1 less this and 1 more.
        hue: most that hues turn, in turns, either way.
        grey: share of the crops that lose their colour.
        blur: share of the first global, second global and local crops that are blurred.
        sigma: [least, most] of the blur, pixels of the crop; the kernel is 9 wide.
        solarise: share of the second global crops whose bright half is turned into its negative.
    """

    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.5])
    sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    solarise: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.jitter, self.grey, self.solarise, *self.blur)
        if len(self.blur) != 3 or not all(0 <= share <= 1 for share in shares):
            raise ConfigError("light: jitter, grey, solarise and the three of blur are shares between 0 and 1")
        if not all(0 <= amount <= 1 for amount in (self.brightness, self.contrast, self.saturation)):
            raise ConfigError("light: brightness, contrast and saturation lie between 0 and 1")
        if not 0 <= self.hue <= 0.5 or len(self.sigma) != 2 or not 0 < self.sigma[0] <= self.sigma[1]:
            raise ConfigError("light: hue lies between 0 and 0.5, sigma is [least, most] above 0")


def draw_light(config: LightConfig, kind: str, place: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(8,) amounts for one crop, in the order of `COLUMNS`.

    Args:
        config: see the class.
        kind: "global" or "local".
        place: which of the image's crops of that kind.
        rng: drawn from.
    """
    values = dict(zip(COLUMNS, _NONE, strict=True))
    if rng.random() < config.jitter:
        for name in ("brightness", "contrast", "saturation"):
            amount = getattr(config, name)
            values[name] = rng.uniform(1 - amount, 1 + amount)
        values["hue"] = rng.uniform(-config.hue, config.hue)
        values["order"] = float(rng.integers(math.factorial(_STEPS)))
    values["grey"] = float(rng.random() < config.grey)
    if rng.random() < config.blur[min(place, 1) if kind == "global" else 2]:
        values["sigma"] = rng.uniform(config.sigma[0], config.sigma[1])
    if kind == "global" and place == 1:
        values["solarise"] = float(rng.random() < config.solarise)
    return np.array([values[name] for name in COLUMNS], np.float32)


@torch.no_grad()
def apply_light(crops: Tensor, light: Tensor) -> Tensor:
    """Crops (B, 3, s, s) uint8 to floats in [0, 1], with the light that was drawn for them, (B, 8)."""
    images = crops.float() / 255
    amounts = dict(zip(COLUMNS, light.float().unbind(1), strict=True))
    images = _jitter(images, amounts)
    images = _where(amounts["grey"] > 0, images, lambda some, _: _grey(some))
    images = _where(amounts["sigma"] > 0, images, lambda some, rows: _blur(some, amounts["sigma"][rows]))
    return _where(amounts["solarise"] > 0, images, lambda some, _: torch.where(some >= 0.5, 1 - some, some))


def _jitter(images: Tensor, amounts: dict[str, Tensor]) -> Tensor:
    """The four changes one after the other; every crop has its own order."""
    changes: tuple[tuple[str, Change], ...] = (
        ("brightness", _brightness), ("contrast", _contrast), ("saturation", _saturation), ("hue", _hue),
    )  # fmt: skip
    orders = _ORDERS[amounts["order"].long().cpu()].to(images.device)
    for step in range(_STEPS):
        for number, (name, change) in enumerate(changes):
            amount = amounts[name]
            rows = (orders[:, step] == number) & (amount != _NONE[COLUMNS.index(name)])
            images = _where(rows, images, partial(_by_amount, change, amount))
    return images


def _by_amount(change: Change, amount: Tensor, some: Tensor, rows: Tensor) -> Tensor:
    return change(some, amount[rows])


def _permutations() -> Tensor:
    from itertools import permutations

    return torch.tensor(list(permutations(range(_STEPS))))


_ORDERS = _permutations()


def _where(rows: Tensor, images: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change some of the images, in place; the others are neither computed nor copied."""
    places = rows.nonzero().flatten()
    if len(places):
        images.index_copy_(0, places, change(images[places], places))
    return images


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    from kornia.enhance import adjust_brightness_accumulative

    out: Tensor = adjust_brightness_accumulative(images, factor)
    return out


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    from kornia.enhance import adjust_contrast_with_mean_subtraction

    out: Tensor = adjust_contrast_with_mean_subtraction(images, factor)
    return out


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    from kornia.enhance import adjust_saturation_with_gray_subtraction

    out: Tensor = adjust_saturation_with_gray_subtraction(images, factor)
    return out


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    from kornia.enhance import adjust_hue

    out: Tensor = adjust_hue(images, turns * (2 * math.pi)).clamp(0, 1)
    return out


def _grey(images: Tensor) -> Tensor:
    from kornia.color import rgb_to_grayscale

    grey: Tensor = rgb_to_grayscale(images)
    return grey.expand_as(images)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    from kornia.filters import gaussian_blur2d

    out: Tensor = gaussian_blur2d(images, (9, 9), sigma[:, None].expand(-1, 2))
    return out
