"""Changes of light, lens, sensor and storage that an image may have undergone, drawn at random.

In the order in which they happen to a picture: the scene and its light, the lens, the sensor, the processing. Light is
changed where it is linear (a camera's curve is taken as the power 1 / 2.2), the rest on coded values. What kornia has
is kornia's, with parameters drawn here: its own augmentations draw from torch's generator and by the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.image import resize, rgb_of_bgr
from slamfeat.train.blur import blur, disk_kernel, line_kernel
from slamfeat.train.light_fields import shadows, smooth_field, spots, vignetting
from slamfeat.train.pairs import Pixels

CURVE = 2.2
_NIGHT_NOISE, _READ_NOISE = 4.0, 0.004
"""Noise of night in grey levels at white, before the camera brightens it; the sensor's floor as a share of white."""


@dataclass
class Effect:
    """How often a change happens, and how much of it.

    Attributes:
        probability: that an image has it, 0..1.
        low, high: the amount is drawn evenly between them; 0 always means no change. The unit is the effect's.

    Raises:
        ConfigError: a probability or range that is none.
    """

    probability: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"an effect's probability lies between 0 and 1, not {self.probability}")
        if not 0 <= self.low <= self.high < math.inf:
            raise ConfigError(f"an effect's amounts need 0 <= low <= high, got {self.low} and {self.high}")


@dataclass
class PhotometricConfig:
    """What may happen to an image; "either way" means that the sign is drawn too.

    Attributes:
        strength: every amount is multiplied by it; 0 changes nothing.
        clean: share of the images that stay as they are.
        light: lights and shades without edges, up to so many stops either way.
        spot: one or two lamps, stops at their centre.
        shadow: one or two polygons with sharp or soft edges, share of the light that is lost in them.
        fog: opacity of grey where it is thickest, at most 1.
        motion: length of the camera's straight way while the shutter is open, pixels.
        defocus: radius of the disk that a point becomes, pixels.
        vignetting: share of the light that the corners lose, at most 1.
        exposure: stops either way.
        white_balance: stops of each channel, either way.
        night: stops less light, with more noise, of which the camera's gain takes back a part.
        noise: of photons and electronics, standard deviation in grey levels at white (about the same below).
        gamma: octaves of the exponent, either way.
        contrast, saturation: share more or less.
        grey: share of the colour that is lost, at most 1.
        clipping: share of the range of values that is lost, dark and bright ends together.
        resolution: how many times smaller the image was stored, less 1.
        jpeg: 100 less the quality.

    Raises:
        ConfigError: a share that is none, or a negative strength.
    """

    strength: float = 1.0
    clean: float = 0.1
    light: Effect = field(default_factory=lambda: Effect(0.3, 0.3, 1.5))
    spot: Effect = field(default_factory=lambda: Effect(0.15, 0.5, 3.0))
    shadow: Effect = field(default_factory=lambda: Effect(0.2, 0.3, 0.85))
    fog: Effect = field(default_factory=lambda: Effect(0.08, 0.1, 0.7))
    motion: Effect = field(default_factory=lambda: Effect(0.2, 2.0, 15.0))
    defocus: Effect = field(default_factory=lambda: Effect(0.15, 0.7, 3.5))
    vignetting: Effect = field(default_factory=lambda: Effect(0.2, 0.1, 0.7))
    exposure: Effect = field(default_factory=lambda: Effect(0.5, 0.0, 1.5))
    white_balance: Effect = field(default_factory=lambda: Effect(0.3, 0.0, 0.5))
    night: Effect = field(default_factory=lambda: Effect(0.1, 1.5, 5.0))
    noise: Effect = field(default_factory=lambda: Effect(0.4, 1.0, 12.0))
    gamma: Effect = field(default_factory=lambda: Effect(0.3, 0.0, 0.7))
    contrast: Effect = field(default_factory=lambda: Effect(0.3, 0.0, 0.5))
    saturation: Effect = field(default_factory=lambda: Effect(0.3, 0.0, 0.8))
    grey: Effect = field(default_factory=lambda: Effect(0.2, 1.0, 1.0))
    clipping: Effect = field(default_factory=lambda: Effect(0.1, 0.05, 0.4))
    resolution: Effect = field(default_factory=lambda: Effect(0.15, 0.2, 2.0))
    jpeg: Effect = field(default_factory=lambda: Effect(0.4, 5.0, 75.0))

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ConfigError(f"strength must be at least 0, got {self.strength}")
        if not 0 <= self.clean <= 1:
            raise ConfigError(f"clean is a share between 0 and 1, not {self.clean}")


@dataclass(frozen=True)
class _Draw:
    """What was drawn for one image: an amount an effect, 0 where it does not happen."""

    amounts: dict[str, float]
    rng: np.random.Generator

    def __getitem__(self, name: str) -> float:
        return self.amounts[name]

    def either(self, name: str) -> float:
        """The amount with a random sign."""
        return self[name] * float(self.rng.choice((-1.0, 1.0)))


class Photometric:
    """Random changes after a `PhotometricConfig`; no pixel moves, blur is symmetric."""

    def __init__(self, config: PhotometricConfig | None = None) -> None:
        """Use `config`, or the defaults."""
        self.config = config or PhotometricConfig()

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """A changed copy (H, W, 3) uint8 of an image (H, W, 3) uint8; nothing random but `rng` decides."""
        from kornia.enhance import adjust_gamma

        draw = self._draw(rng)
        if not any(draw.amounts.values()):
            return image.copy()
        coded = torch.from_numpy(image).permute(2, 0, 1)[None].float().contiguous() / 255
        light = _lens(_scene(adjust_gamma(coded, CURVE), draw), draw)
        processed = _process(adjust_gamma(_sensor(light, draw), 1 / CURVE), draw)
        pixels = (processed[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
        return _store(np.ascontiguousarray(pixels.numpy()), draw)

    def _draw(self, rng: np.random.Generator) -> _Draw:
        clean = rng.random() < self.config.clean
        amounts = {}
        for entry in fields(self.config):
            effect = getattr(self.config, entry.name)
            if isinstance(effect, Effect):
                # Both are drawn for every effect, so that one setting does not reshuffle all the others.
                happens, amount = rng.random() < effect.probability, rng.uniform(effect.low, effect.high)
                amounts[entry.name] = amount * self.config.strength if happens and not clean else 0.0
        return _Draw(amounts, rng)


def _scene(light: Tensor, draw: _Draw) -> Tensor:
    size, rng = (light.shape[-1], light.shape[-2]), draw.rng
    if draw["light"]:
        light = light * torch.exp2(draw["light"] * smooth_field(size, rng))
    if draw["spot"]:
        light = light * torch.exp2(draw["spot"] * spots(size, rng))
    if draw["shadow"]:
        light = light * (1 - min(draw["shadow"], 1.0) * shadows(size, rng))
    if draw["fog"]:
        opacity = min(draw["fog"], 1.0) * (0.75 + 0.25 * smooth_field(size, rng))
        light = torch.lerp(light, torch.tensor(rng.uniform(0.2, 0.8), dtype=light.dtype), opacity)
    return light


def _lens(light: Tensor, draw: _Draw) -> Tensor:
    if draw["motion"]:
        light = blur(light, line_kernel(draw["motion"], draw.rng.uniform(0, np.pi)))
    if draw["defocus"]:
        light = blur(light, disk_kernel(draw["defocus"]))
    if draw["vignetting"]:
        light = light * (1 - min(draw["vignetting"], 1.0) * vignetting((light.shape[-1], light.shape[-2])))
    return light


def _sensor(light: Tensor, draw: _Draw) -> Tensor:
    balance = draw["white_balance"] * draw.rng.uniform(-1, 1, 3)
    stops = torch.from_numpy(balance + draw.either("exposure") - draw["night"]).to(light.dtype)
    light = light * torch.exp2(stops).view(1, 3, 1, 1)
    noise = draw["noise"] + _NIGHT_NOISE * min(draw["night"], 1.0)
    if noise:
        # Photons: the variance grows with the light, which the curve makes about even again. CURVE at white is how
        # much a step of coded values is in linear light.
        grain = torch.from_numpy(draw.rng.standard_normal(light.shape, dtype=np.float32))
        light = light + grain * (light.clamp(min=0) + _READ_NOISE).sqrt() * (CURVE * noise / 255)
    return (light * 2 ** (draw["night"] * draw.rng.uniform(0, 0.6))).clamp(0, 1)


def _process(coded: Tensor, draw: _Draw) -> Tensor:
    from kornia.enhance import (
        adjust_contrast_with_mean_subtraction,
        adjust_gamma,
        adjust_saturation_with_gray_subtraction,
    )

    if draw["gamma"]:
        coded = adjust_gamma(coded, 2 ** draw.either("gamma"))
    if draw["contrast"]:
        coded = adjust_contrast_with_mean_subtraction(coded, max(1 + draw.either("contrast"), 0.05))
    if draw["saturation"] or draw["grey"]:
        colour = max(1 + draw.either("saturation"), 0.0) * (1 - min(draw["grey"], 1.0))
        coded = adjust_saturation_with_gray_subtraction(coded, colour)
    if draw["clipping"]:
        lost = min(draw["clipping"], 0.9)
        coded = ((coded - lost * draw.rng.random()) / (1 - lost)).clamp(0, 1)
    if draw["resolution"]:
        width, height = coded.shape[-1], coded.shape[-2]
        small = (max(round(width / (1 + draw["resolution"])), 1), max(round(height / (1 + draw["resolution"])), 1))
        coded = resize(resize(coded, small)[0], (width, height))[0]
    return coded


def _store(image: Pixels, draw: _Draw) -> Pixels:
    import cv2

    if not draw["jpeg"]:
        return image
    # OpenCV's codec: kornia's takes seven times as long (12 ms against 1.9 at 640x480, one core).
    quality = max(round(100 - draw["jpeg"]), 5)
    _, stored = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))
    return rgb_of_bgr(decoded)
