"""The loss of a relative pose, and how slowly it comes in (DINO-VO, arXiv 2507.13145, Sec. III)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from slamfeat.errors import ConfigError


class PoseLoss(NamedTuple):
    """What a pose is told.

    Attributes:
        loss: scalar, mean over the pairs.
        rotation_deg: (B,) angle between the rotations, without gradient.
        direction_deg: (B,) angle between the translations likewise; 0 where the true one is no longer than eps.
    """

    loss: Tensor
    rotation_deg: Tensor
    direction_deg: Tensor


def pose_loss(
    R: Tensor, t: Tensor, R_true: Tensor, t_true: Tensor,
    weight_rotation: float = 180.0, weight_translation: float = 400.0, eps: float = 1e-6,
) -> PoseLoss:  # fmt: skip
    """DINO-VO's loss: weighted distance of the unit translations plus weighted angle between the rotations.

    The paper subtracts rotation vectors; here it is the angle of R^T R_true, the same for rotations about one axis and,
    to first order, for small ones, and without the jump of rotation vectors at half a turn. With the paper's weights a
    degree of rotation costs 3.14, a degree of direction 6.98. Finite derivatives everywhere: 0 at the truth itself and
    at exactly half a turn.

    Args:
        R, t: (B, 3, 3) and (B, 3), predicted; t of any length.
        R_true, t_true: likewise; where t_true is no longer than `eps` it has no direction, and the translation costs 0
            (the paper's formula gives a constant there).
        weight_rotation: per radian.
        weight_translation: per unit of distance on the unit sphere.
        eps: shortest translation that has a direction, in its own unit.
    """
    angle = _angle(R.mT @ R_true)
    unit, unit_true = _unit(t, eps), _unit(t_true, eps)
    moves = torch.linalg.vector_norm(t_true, dim=1) > eps
    distance = torch.where(moves, torch.linalg.vector_norm(unit - unit_true, dim=1), 0.0)
    loss = (weight_rotation * angle + weight_translation * distance).mean()
    # The chord, not the scalar product, whose arc cosine has no digits left for small angles.
    direction = 2 * torch.asin((0.5 * distance.detach()).clamp_max(1.0))
    return PoseLoss(loss, torch.rad2deg(angle.detach()), torch.rad2deg(direction))


@dataclass
class PoseLossSchedule:
    """The share l of the pose in the loss (1 - l) matching + l pose, by training step.

    Attributes:
        start: steps without it, until matches are good enough for a pose to mean something.
        slope: growth a step from there.
        most: where it stays.
    """

    start: int
    slope: float = 1.5e-4
    most: float = 0.9

    def __post_init__(self) -> None:
        if self.start < 0 or not 0 < self.slope < math.inf or not 0 <= self.most <= 1:
            raise ConfigError("pose loss: start >= 0, slope > 0 and most between 0 and 1 are needed")

    def share(self, step: int) -> float:
        """The pose's share at a step, counted from 0."""
        return min(max(step - self.start, 0) * self.slope, self.most)

    def mix(self, matching: Tensor, pose: Tensor, step: int, posed: float = 1.0) -> Tensor:
        """The whole loss at a step; `posed` is the share of the pairs that have a pose."""
        share = self.share(step) * posed
        return (1 - share) * matching + share * pose


def _unit(vector: Tensor, eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    return vector / length.clamp_min(eps)


def _angle(rotation: Tensor) -> Tensor:
    """Angle (B,) of rotations (B, 3, 3), radians, 0..pi.

    From sine and cosine together: the arc cosine of the trace alone has an infinite derivative at 0 and at pi.
    """
    sine = 0.5 * torch.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        1,
    )
    cosine = 0.5 * (rotation.diagonal(dim1=1, dim2=2).sum(1) - 1)
    return torch.atan2(torch.linalg.vector_norm(sine, dim=1), cosine)
