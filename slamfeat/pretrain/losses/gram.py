"""Gram anchoring: patches stay as alike one another as they were to an earlier teacher (DINOv3, arXiv 2508.10104)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.pretrain.precision import full_precision, unit

Negatives = Literal["keep", "clip", "clip_teacher"]


def gram_loss(patches: Tensor, teacher: Tensor, negatives: Negatives = "keep") -> Tensor:
    """Mean squared difference of the cosines between all patches of an image, mean over images.

    The paper's squared Frobenius norm of the Gram matrices' difference, over their number of entries. The features
    themselves may turn as they like.

    Args:
        patches: (B, P, C) the student's.
        teacher: (B, P, D) the Gram teacher's, of the same places; D may differ. It gets no gradient.
        negatives: "keep" for cosines as they are; "clip" takes negative ones of both as 0; "clip_teacher" the
            teacher's, and the student's only where both are negative, so that a student's alone is still drawn up.

    Raises:
        ConfigError: an unknown name for `negatives`.
    """
    if negatives not in get_args(Negatives):
        raise ConfigError(f"unknown negatives '{negatives}'; use one of {', '.join(get_args(Negatives))}")
    assert patches.shape[:2] == teacher.shape[:2], "patches do not fit"
    with full_precision(patches):
        ours, theirs = _gram(patches), _gram(teacher.detach())
        if negatives == "clip":
            ours = ours.clamp_min(0)
        elif negatives == "clip_teacher":
            ours = ours.masked_fill((ours < 0) & (theirs < 0), 0)
        if negatives != "keep":
            theirs = theirs.clamp_min(0)
        return (ours - theirs).square().mean()


def _gram(patches: Tensor) -> Tensor:
    """Cosines (B, P, P)."""
    directions = unit(patches)
    return directions @ directions.mT
