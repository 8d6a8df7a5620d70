"""How strong a degradation is in pixels, counts and decibels of what it did."""

from __future__ import annotations

import numpy as np

from slamfeat.bench.degrade.base import Image
from slamfeat.bench.degrade.motion import blur_lengths
from slamfeat.bench.degrade.occlusion import covered
from slamfeat.bench.degrade.sequence import DegradedSequence
from slamfeat.errors import InputError


def mean_blur_px(sequence: DegradedSequence, index: int) -> float:
    """Mean way in pixels that the scene makes over frame `index` while the shutter is open; 0 where it stays sharp.

    Raises:
        InputError: another degradation than motion_blur; ImageError: the frame cannot be used.
    """
    _check(sequence, "motion_blur")
    return blur_lengths(sequence.shot(index))


def covered_share(sequence: DegradedSequence, index: int) -> float:
    """Share of frame `index`, 0 to 1, that is covered by blocks.

    Raises:
        InputError: another degradation than occlusion; ImageError: the frame cannot be used.
    """
    _check(sequence, "occlusion")
    return float(covered(sequence.shot(index)).mean())


def mean_gradient(image: Image) -> float:
    """Mean length of the luma's gradient, grey levels / px, by central differences; image (H, W, 3) uint8 RGB.

    The mean rather than the energy: outlines make most of the energy, and low_texture leaves (even sharpens) those.
    """
    down, right = np.gradient(image.astype(np.float64) @ (0.299, 0.587, 0.114))
    return float(np.hypot(down, right).mean())


def psnr(image: Image, other: Image) -> float:
    """Peak signal-to-noise ratio in dB between two images of one size; infinite for equal ones."""
    error = float(((image.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _check(sequence: DegradedSequence, name: str) -> None:
    if sequence.degradation.name != name:
        raise InputError(f"{sequence.path}: is degraded by {sequence.degradation.name}; only {name} is measured so")
