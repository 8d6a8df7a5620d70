"""ALIKED and DISK with LightGlue (Lindenberger et al., ICCV 2023), as kornia's copies with the official weights.

ALIKED-N16 (Zhao et al., TIM 2023): the strongest K maxima whatever their score (LightGlue's own top-K mode). Kornia
keeps strict maxima only, the official code also some on their flanks: of 1024 keypoints 43 differ on Oxford's wall.
DISK (Tyszkiewicz et al., NeurIPS 2020): weights trained on depth, the strongest K maxima above 0.
LightGlue: early stopping 0.95, point pruning 0.99, matches above 0.1, all official.
Names with -bf16 run the matcher under autocast to bfloat16, and DISK's network too; they are for the table of speeds.
Keypoints stay exact: DISK's are whole pixels counted in integers, and its scores in bfloat16 only change which they
are (88 to 95 % of 1024 are the same on Oxford's wall, 7-Scenes and KITTI; ties that kornia drops cost 0.3 %).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from slamfeat.bench.peer_models import build_lightglue, build_strictly, match_lightglue, origin
from slamfeat.bench.peer_tools import EVERY, Detected, Mask, PeerFrontend
from slamfeat.frontend import FeatureFrontend

LIGHTGLUE: dict[str, Any] = {
    "input_dim": 128, "depth_confidence": 0.95, "width_confidence": 0.99, "filter_threshold": 0.1,
}  # fmt: skip


def aliked_lightglue(num_keypoints: int, bf16: bool = False) -> FeatureFrontend:
    """ALIKED-N16 with LightGlue.

    Raises:
        WeightsError: weights missing or damaged.
    """
    from kornia.feature import ALIKED

    model = build_strictly(
        lambda: ALIKED("aliked-n16", max_num_keypoints=num_keypoints, detection_threshold=-1),
        "aliked-n16",
        derived=("dkd.hw_grid",),
    )
    return _frontend("aliked", num_keypoints, functools.partial(_detect_aliked, model), "aliked-n16", bf16)


def disk_lightglue(num_keypoints: int, bf16: bool = False) -> FeatureFrontend:
    """DISK with LightGlue.

    Raises:
        WeightsError: weights missing or damaged.
    """
    from kornia.feature import DISK

    model = build_strictly(DISK, "disk-depth")
    return _frontend("disk", num_keypoints, functools.partial(_detect_disk, model, bf16), "disk-depth", bf16)


FRONTENDS: dict[str, Callable[[int], FeatureFrontend]] = {
    "aliked+lightglue": aliked_lightglue,
    "disk+lightglue": disk_lightglue,
    "aliked+lightglue-bf16": functools.partial(aliked_lightglue, bf16=True),
    "disk+lightglue-bf16": functools.partial(disk_lightglue, bf16=True),
}


def _frontend(
    kind: str, count: int, detect: Callable[[Tensor, int, Mask], Detected], weights: str, bf16: bool
) -> FeatureFrontend:
    matcher = f"{kind}-lightglue"
    # DISK's file holds a number a layer that no released code reads.
    leftovers = r"log_assignment\.\d\.r" if kind == "disk" else ""
    model = build_lightglue(matcher, leftovers=leftovers, mp=bf16, **LIGHTGLUE)
    settings = {"weights": origin(weights), "matcher_weights": origin(matcher), **LIGHTGLUE}
    settings["precision"] = "bfloat16 autocast" if bf16 else "float32"
    match = functools.partial(match_lightglue, model)
    return PeerFrontend(f"{kind}+lightglue{'-bf16' if bf16 else ''}", count, detect, match, settings)


def _detect_aliked(model: Any, image: Tensor, count: int, mask: Mask) -> Detected:
    model.dkd.top_k = count if mask is None else EVERY
    found = model(image)[0]
    return Detected(found.keypoints, found.keypoint_scores, found.descriptors)


def _detect_disk(model: Any, bf16: bool, image: Tensor, count: int, mask: Mask) -> Detected:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = model(image, n=count if mask is None else EVERY, pad_if_not_divisible=True)[0]
    return Detected(found.keypoints, found.detection_scores, found.descriptors)
