"""From a matcher's scores to a relative pose that can be differentiated by them, as in DINO-VO (arXiv 2507.13145).

The weight of a match is its probability. The paper reads it from the last states by a network of its own, which has
nothing else to learn from than the pose, and in a re-implementation learnt nothing; the probability is taught by the
assignment too, and is what the frontend gives with its matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from slamfeat.frontend.heads.assignment import Scores, mutual_matches
from slamfeat.frontend.heads.eight_point import weighted_pose
from slamfeat.train.losses import PoseLoss, pose_loss

_LEAST_MATCHES = 8


class JudgedPose(NamedTuple):
    """Poses of a batch of B pairs against the truth.

    Attributes:
        usable: (B,) bool, pairs that have a pose and enough matches.
        loss: of the usable ones; None where there are none.
    """

    usable: Tensor
    loss: PoseLoss | None


def judge_pose(
    scores: Scores, points0: Tensor, points1: Tensor, batch: Mapping[str, Tensor], least: float
) -> JudgedPose:
    """The poses that the matches give.

    Args:
        scores: of the pairs.
        points0, points1: (B, M, 2) and (B, N, 2) keypoints; pixels.
        batch: of `JointTask`: `posed`, `K0`, `K1` and `motion0` count.
        least: probability of a match.
    """
    # Poses want all digits of single precision, also where the loss is computed in bfloat16.
    with torch.autocast(points0.device.type, enabled=False):
        single = Scores(*(value.float() for value in scores))
        with torch.no_grad():
            found, _ = mutual_matches(single, least)
            usable = batch["posed"] & ((found >= 0).sum(1) >= _LEAST_MATCHES)
        if not bool(usable.any()):
            return JudgedPose(usable, None)
        partner = found[usable].clamp_min(0)
        likely = Scores(*(value[usable] for value in single)).log_assignment().gather(2, partner[..., None])[..., 0]
        weights = torch.where(found[usable] >= 0, likely.exp(), 0.0)
        matched = points1[usable].float().gather(1, partner[..., None].expand(-1, -1, 2))
        x0, x1 = _on_plane(points0[usable].float(), batch["K0"][usable]), _on_plane(matched, batch["K1"][usable])
        truth = batch["motion0"][usable]
        return JudgedPose(usable, pose_loss(*weighted_pose(x0, x1, weights), truth[..., :3], truth[..., 3]))


def _on_plane(points: Tensor, K: Tensor) -> Tensor:
    """Pixels (B, K, 2) to the plane z = 1 by intrinsics (B, 3, 3) without skew."""
    return (points - K[:, None, :2, 2]) / K.diagonal(dim1=1, dim2=2)[:, None, :2]
