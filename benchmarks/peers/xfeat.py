"""XFeat (Potje et al., CVPR 2024) as kornia's copy of the official code, with the official weights.

xfeat: mutual nearest neighbours of any similarity, the default of the official `match_xfeat` (min_cossim=-1).
xfeat+lighterglue: the official small LightGlue, with the official settings (6 layers of width 96 with one head, no
early stopping, point pruning 0.95, matches above 0.1).
-openvino: the networks computed by OpenVINO, the engine that slamfeat takes; keypoints are chosen in torch. The layers
are slamfeat's own code of LightGlue, which with the official weights is LighterGlue, without point pruning, which a
compiled network has not. -bf16: the networks in bfloat16. Both are for the table of speeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from slamfeat.bench.peer_models import build_lightglue, build_strictly, match_lightglue, origin
from slamfeat.bench.peer_tools import (
    EVERY,
    Detected,
    Mask,
    PeerFrontend,
    Settings,
    match_each,
    matches_from_indices,
)
from slamfeat.engines.base import Precision
from slamfeat.frontend import FeatureFrontend, MatcherConfig
from slamfeat.peer_weights import load
from slamfeat.types import Features, Matches

if TYPE_CHECKING:
    from slamfeat.frontend.heads.matcher import AttentionMatcher

THRESHOLD = 0.05
LIGHTERGLUE: dict[str, Any] = {
    "input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1,
    "depth_confidence": -1, "width_confidence": 0.95, "filter_threshold": 0.1,
}  # fmt: skip


def xfeat(num_keypoints: int, compiled: Precision | None = None) -> FeatureFrontend:
    """XFeat with mutual nearest neighbours.

    Args:
        num_keypoints: slots.
        compiled: compute the network in OpenVINO, in this precision.

    Raises:
        WeightsError: weights missing or damaged.
        MissingDependencyError: openvino is wanted and not installed.
    """
    settings = {**_settings(compiled), "matching": "mutual"}
    return PeerFrontend(f"xfeat{_suffix(compiled)}", num_keypoints, _detector(compiled), _match_mutual, settings)


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


def xfeat_lighterglue_compiled(num_keypoints: int, compiled: Precision) -> FeatureFrontend:
    """XFeat with LighterGlue in OpenVINO, in this precision.

    Raises:
        WeightsError: weights missing or damaged.
        MissingDependencyError: openvino is not installed.
    """
    from slamfeat.frontend.heads.compiled import CompiledMatcher
    from slamfeat.frontend.heads.lightglue_weights import load_lightglue
    from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher

    sizes = AttentionConfig(
        input_dim=LIGHTERGLUE["input_dim"], dim=LIGHTERGLUE["descriptor_dim"], layers=LIGHTERGLUE["n_layers"],
        heads=LIGHTERGLUE["num_heads"], token_dim=0,
    )  # fmt: skip
    matcher = AttentionMatcher(sizes).eval()
    load_lightglue(matcher, load("xfeat-lighterglue"))
    match = functools.partial(_match_compiled, CompiledMatcher(matcher, compiled).eval())
    settings = {**_settings(compiled), **LIGHTERGLUE, "width_confidence": -1}
    settings["matcher_weights"] = origin("xfeat-lighterglue")
    return PeerFrontend(f"xfeat+lighterglue{_suffix(compiled)}", num_keypoints, _detector(compiled), match, settings)


FRONTENDS: dict[str, Callable[[int], FeatureFrontend]] = {
    "xfeat": xfeat,
    "xfeat+lighterglue": xfeat_lighterglue,
    "xfeat-openvino": functools.partial(xfeat, compiled="fp32"),
    "xfeat-openvino-bf16": functools.partial(xfeat, compiled="bf16"),
    "xfeat+lighterglue-openvino": functools.partial(xfeat_lighterglue_compiled, compiled="fp32"),
    "xfeat+lighterglue-openvino-bf16": functools.partial(xfeat_lighterglue_compiled, compiled="bf16"),
}


def _suffix(compiled: Precision | None) -> str:
    if compiled is None:
        return ""
    return "-openvino" if compiled == "fp32" else f"-openvino-{compiled}"


def _settings(compiled: Precision | None = None) -> Settings:
    plain = {"detection_threshold": THRESHOLD, "weights": origin("xfeat")}
    return plain if compiled is None else {**plain, "engine": "openvino", "precision": compiled}


def _detector(compiled: Precision | None = None) -> Callable[[Tensor, int, Mask], Detected]:
    from kornia.feature import XFeat

    state = {f"net.{key}": value for key, value in load("xfeat").items()}
    model = build_strictly(lambda: XFeat(detection_threshold=THRESHOLD), "xfeat", state)
    if compiled is not None:
        model.net = _Compiled(model.net, compiled)
    return functools.partial(_detect, model)


class _Compiled(nn.Module):
    """XFeat's network in OpenVINO."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        from slamfeat.engines.compiled import compile_module

        self._network = compile_module(network, (torch.zeros(1, 3, 64, 96),), "XFeat of kornia", precision)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Descriptors, keypoints' scores and reliability of an image."""
        return self._network(image)


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


def _match_compiled(matcher: AttentionMatcher, features0: Features, features1: Features) -> Matches:
    from slamfeat.frontend.learned import attention_matches

    settings = MatcherConfig(method="attention", min_probability=LIGHTERGLUE["filter_threshold"])
    return matches_from_indices(features0, features1, *attention_matches(features0, features1, matcher, settings))


def _mutual(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    similarity = image0["descriptors"][0] @ image1["descriptors"][0].T
    best, nearest = similarity.max(1)
    first = (similarity.argmax(0)[nearest] == torch.arange(len(nearest))).nonzero()[:, 0]
    return first, nearest[first], best[first].clamp(0, 1)
