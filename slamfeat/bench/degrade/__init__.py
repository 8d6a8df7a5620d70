"""Deterministic, measured degradations of image sequences: `degrade(sequence, name, amount, seed)`."""

from slamfeat.bench.degrade.base import Degradation, Shot
from slamfeat.bench.degrade.measure import covered_share, mean_blur_px, mean_gradient, psnr
from slamfeat.bench.degrade.registry import DEGRADATIONS, degrade
from slamfeat.bench.degrade.sequence import DegradedSequence

__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "DegradedSequence",
    "Shot",
    "covered_share",
    "degrade",
    "mean_blur_px",
    "mean_gradient",
    "psnr",
]
