"""How good jointly trained heads are on held-out pairs, beyond the matcher's likelihood."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slamfeat.frontend.heads.saliency import Judged
from slamfeat.train.joint_pose import JudgedPose
from slamfeat.train.labels import IGNORE
from slamfeat.train.losses import offset_distance

_KEPT = 0.5
_FAILED_DEG = 180.0


def joint_figures(
    pose: JudgedPose, judged: tuple[Judged, Judged] | None, batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Figures of a batch.

    Returns:
        `rotation_deg`, `direction_deg`: (P,) errors of the P pairs that have a pose; 180 where matches were too few.
        `repeatability`, `repeatability_untrained`: share of the better half of the keypoints, by the saliency head and
        by the untrained detector, whose true match is in the better half too. `apart_px`, `apart_untrained_px`: mean
        distance of matched keypoints with and without the offsets. The last four only with a saliency head; a share
        or mean of nothing is left out, as an empty tensor.
    """
    rotation, direction = (torch.full(pose.usable.shape, _FAILED_DEG, device=pose.usable.device) for _ in range(2))
    if pose.loss is not None:
        rotation[pose.usable], direction[pose.usable] = pose.loss.rotation_deg, pose.loss.direction_deg
    figures = {"rotation_deg": rotation[batch["posed"]], "direction_deg": direction[batch["posed"]]}
    return figures if judged is None else {**figures, **_saliency_figures(judged, batch)}


def _saliency_figures(judged: tuple[Judged, Judged], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    offsets = judged[0].offset, judged[1].offset
    still = torch.zeros_like(offsets[0]), torch.zeros_like(offsets[1])
    keypoints = batch["keypoints0"], batch["keypoints1"]
    apart, before = (
        offset_distance(*keypoints, *moves, batch["landed0"], batch["affine0"], batch["index0"])
        for moves in (offsets, still)
    )
    by_head = [one.logit for one in judged]
    by_detector = [-batch[f"slots{image}"].float() for image in (0, 1)]  # slots are sorted, best first
    return {
        "repeatability": _repeated(by_head, batch), "repeatability_untrained": _repeated(by_detector, batch),
        "apart_px": apart, "apart_untrained_px": before,
    }  # fmt: skip


def _repeated(ranks: list[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """For each of the first image's better half that the second shows: 1 if its match is in the better half; (P,)."""
    kept0, kept1 = (_better_half(rank, batch[f"mask{image}"]) for image, rank in enumerate(ranks))
    partner = batch["index0"]
    again = (partner >= 0) & kept1.gather(1, partner.clamp_min(0))
    return again[kept0 & (batch["found0"] != IGNORE)].float()


def _better_half(rank: Tensor, mask: Tensor) -> Tensor:
    """Whether a keypoint (B, K) is among the half of the filled slots with the highest rank."""
    order = rank.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1)
    return mask & (place < _KEPT * mask.sum(1, keepdim=True))
