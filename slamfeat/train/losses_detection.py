"""The detector's loss: a keypoint's logit is to be the log odds that the other image has the keypoint too.

Repeatability as in R2D2 (Revaud et al., NeurIPS 2019) and before, but asked of keypoints, not of every pixel: both
images are detected in, keypoints are warped by the pair's map, and each visible one is found again or not
(`labels.repeatability_labels`). Cross entropy of that raises the logits of cells that hold what is found again and
lowers the others. Where keypoints lie is not differentiated; only cells that were picked are taught, so picking should
be generous, or partly random, in training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class DetectionLoss(NamedTuple):
    """What a detector is told.

    Attributes:
        loss: scalar, to be minimised.
        repeatability: share of keypoints, of those visible in the other image, that are found again; scalar, no
            gradient.
    """

    loss: Tensor
    repeatability: Tensor


def repeatability_loss(logits: Tensor, found: Tensor) -> DetectionLoss:
    """Binary cross entropy of saliency logits against repeatability.

    Args:
        logits: (...) saliency of the cells that keypoints were picked from, of either image or both joined.
        found: (...) labels of `repeatability_labels`: 1 found again, 0 not, negative to leave out.

    Returns:
        The mean over labelled keypoints; 0, with zero gradients, where there are none.
    """
    assert logits.shape == found.shape, "labels do not fit"
    labelled = found >= 0
    count = labelled.sum().clamp_min(1)
    each = F.binary_cross_entropy_with_logits(logits, (found > 0).to(logits.dtype), reduction="none")
    return DetectionLoss(torch.where(labelled, each, 0.0).sum() / count, (found > 0).sum() / count)


def offset_distance(
    keypoints0: Tensor, keypoints1: Tensor, offset0: Tensor, offset1: Tensor, landed0: Tensor, affine0: Tensor,
    index0: Tensor,
) -> Tensor:  # fmt: skip
    """How far apart the keypoints of true matches are once both are moved by their offsets.

    Equivariance: the offsets are right where the first keypoint, moved, lands on the second one, moved. To first order
    in the offset, which is a pixel at most.

    Args:
        keypoints0, keypoints1: (B, M, 2) and (B, N, 2).
        offset0, offset1: their offsets.
        landed0: (B, M, 2) where the first image's keypoints are in the second.
        affine0: (B, M, 2, 2) how their surroundings moved.
        index0: (B, M) partners, negative for none.

    Returns:
        Distances (P,) of the P matches; pixels of the second image. Smooth: about 0.01 px is added at 0.
    """
    pair, first = torch.nonzero(index0 >= 0, as_tuple=True)
    second = index0[pair, first]
    carried = landed0[pair, first] + (affine0[pair, first] @ offset0[pair, first][..., None])[..., 0]
    apart = keypoints1[pair, second] + offset1[pair, second] - carried
    return (apart.square().sum(1) + 1e-4).sqrt()
