"""XFeat (Potje et al., CVPR 2024) as kornia's copy of the official code, with the official weights.

xfeat: mutual nearest neighbours of any similarity, the default of the official `match_xfeat` (min_cossim=-1).
xfeat+lighterglue: the official small LightGlue, with the official settings (6 layers of width 96 with one head, no
early stopping, point pruning 0.95, matches above 0.1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from slamfeat.bench.peer_models import build_lightglue, build_strictly, match_lightglue, origin
from slamfeat.bench.peer_tools import EVERY, Detected, Mask, PeerFrontend, Settings, match_each
from slamfeat.frontend import FeatureFrontend
from slamfeat.peer_weights import load
from slamfeat.types import Features, Matches

THRESHOLD = 0.05
LIGHTERGLUE: dict[str, Any] = {
    "input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1,
    "depth_confidence": -1, "width_confidence": 0.95, "filter_threshold": 0.1,
}  # fmt: skip


def xfeat(num_keypoints: int) -> FeatureFrontend:
    """XFeat with mutual nearest neighbours.

    Raises:
        WeightsError: weights missing or damaged.
    """
    return PeerFrontend("xfeat", num_keypoints, _detector(), _match_mutual, {**_settings(), "matching": "mutual"})


def xfeat_lighterglue(num_keypoints: int) -> FeatureFrontend:
    """XFeat with LighterGlue.

    Raises:
        WeightsError: weights missing or damaged.
    """
    # The file holds XFeat too, with batch statistics that drifted in training; the official code leaves it out as well.
    model = build_lightglue("xfeat-lighterglue", leftovers=r"extractor\..*", **LIGHTERGLUE)
    settings = {**_settings(), **LIGHTERGLUE, "matcher_weights": origin("xfeat-lighterglue")}
    match = functools.partial(match_lightglue, model)
    return PeerFrontend("xfeat+lighterglue", num_keypoints, _detector(), match, settings)


FRONTENDS: dict[str, Callable[[int], FeatureFrontend]] = {"xfeat": xfeat, "xfeat+lighterglue": xfeat_lighterglue}


def _settings() -> Settings:
    return {"detection_threshold": THRESHOLD, "weights": origin("xfeat")}


def _detector() -> Callable[[Tensor, int, Mask], Detected]:
    from kornia.feature import XFeat

    state = {f"net.{key}": value for key, value in load("xfeat").items()}
    return functools.partial(_detect, build_strictly(lambda: XFeat(detection_threshold=THRESHOLD), "xfeat", state))


def _detect(model: Any, image: Tensor, count: int, mask: Mask) -> Detected:
    found = model.detectAndCompute(image, top_k=count if mask is None else EVERY)[0]
    keypoints = found["keypoints"] + _half_pixel(image.shape[-1], image.shape[-2])
    return Detected(keypoints, found["scores"], found["descriptors"])


def _half_pixel(width: int, height: int) -> Tensor:
    """What XFeat's keypoints are off by: it resizes to multiples of 32 and reports pixel i there at i * s.

    That pixel's centre is at (i + 0.5) * s - 0.5 = i * s + (s - 1) / 2.
    """
    scale = torch.tensor([side / max(32, side // 32 * 32) for side in (width, height)])
    return (scale - 1) / 2


def _match_mutual(features0: Features, features1: Features) -> Matches:
    return match_each(features0, features1, _mutual)


def _mutual(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    similarity = image0["descriptors"][0] @ image1["descriptors"][0].T
    best, nearest = similarity.max(1)
    first = (similarity.argmax(0)[nearest] == torch.arange(len(nearest))).nonzero()[:, 0]
    return first, nearest[first], best[first].clamp(0, 1)
