"""Too little light, and light or tone that changes from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slamfeat.bench.degrade.base import Degradation, Image, Shot, one_channel, three_channels
from slamfeat.bench.degrade.light import Light, through_table, to_linear, to_srgb

READ_NOISE = 2.5
"""Standard deviation of the read noise, electrons."""

FULL_EXPOSURE = 4000.0
"""Electrons at white of the undegraded picture, a small pixel's full well."""

MAX_GAIN = 16.0
"""Greatest gain, 24 dB as on common machine-vision cameras: below 250 electrons at white the picture gets dark."""


def electrons(light: Light, white: float, rng: np.random.Generator) -> Light:
    """What a sensor counts: Poisson(light * white) plus normal read noise of `READ_NOISE`; may be negative.

    The affine noise model of EMVA 1288: variance = mean + read noise², in electrons. `light` in 0..1, any shape.
    """
    shot = rng.poisson(light * np.float32(white)).astype(np.float32)
    return shot + np.float32(READ_NOISE) * rng.standard_normal(light.shape, dtype=np.float32)


def gain(white: float) -> float:
    """The auto-gain at `white` electrons: back to full exposure where `MAX_GAIN` allows."""
    return min(FULL_EXPOSURE / white, MAX_GAIN)


def darkness(shot: Shot) -> Image:
    """The picture taken with `amount` electrons at white; a monochrome sensor has one draw for the three channels."""
    counted = electrons(to_linear(one_channel(shot.image)), shot.amount, shot.rng())
    return three_channels(to_srgb(counted * np.float32(gain(shot.amount) / FULL_EXPOSURE)))


def flicker(shot: Shot) -> Image:
    """The picture at an exposure that is off by `exposure_stops`; both eyes alike."""
    factor = np.float32(2.0 ** exposure_stops(shot))
    return through_table(shot.image, to_srgb(to_linear(np.arange(256, dtype=np.uint8)) * factor))


def exposure_stops(shot: Shot) -> float:
    """Stops by which this frame is over (even) or under (odd frames) exposed: amount * U(0.25, 0.75).

    Neighbours differ by half to one and a half times the amount, the amount on average.
    """
    sign = 1.0 if shot.index % 2 == 0 else -1.0
    return float(sign * shot.amount * replace(shot, eye=0).rng().uniform(0.25, 0.75))


def gamma(shot: Shot) -> Image:
    """Pixel values to the power of `amount` in even frames and of 1 / `amount` in odd ones."""
    import torch
    from kornia.enhance import adjust_gamma

    power = float(shot.amount) if shot.index % 2 == 0 else 1 / shot.amount
    values = torch.arange(256, dtype=torch.float64) / 255
    table = (adjust_gamma(values, power) * 255).round().numpy().astype(np.uint8)
    return through_table(shot.image, table)


DARKNESS = Degradation(
    "darkness", (400, 100, 30), "photo-electrons at white",
    "Low light: in linear light, Poisson shot noise and 2.5 e- read noise (the EMVA 1288 model) at the given electrons "
    "at white instead of 4000, gain limited to 24 dB, 8-bit sRGB; own code, numpy and kornia.color.",
    darkness, limits=(1, 1e6),
)  # fmt: skip
FLICKER = Degradation(
    "flicker", (1, 2, 4), "EV between neighbouring frames, mean",
    "Exposure hunting: frames alternate between over- and under-exposed by random parts of the amount, in linear "
    "light with clipping, 8-bit sRGB; own code, kornia.color.",
    flicker, limits=(0, 16),
)  # fmt: skip
GAMMA = Degradation(
    "gamma", (1.5, 2.2, 3), "exponent",
    "Changing tone curve: even frames get the exponent, odd ones its inverse; kornia.enhance.adjust_gamma.",
    gamma, limits=(1, 10),
)  # fmt: skip
