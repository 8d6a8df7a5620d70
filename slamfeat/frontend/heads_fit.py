"""Whether trained heads fit a backbone and the settings, and what computes them."""

from __future__ import annotations

import torch

from slamfeat.backbones import Backbone
from slamfeat.cpu import cpu_has_bfloat16
from slamfeat.engines import Engine
from slamfeat.engines.base import Precision
from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.heads.bundle import Heads

DETECTORS = ("xfeat", "aliked")
"""Fine branches that come with a detector."""


def check_heads(heads: Heads | None, backbone: Backbone, layers: list[int], config: FrontendConfig) -> None:
    """Whether heads fit a backbone and what the settings ask of them.

    Raises:
        ConfigError: they do not; says what to change.
    """
    wanted = {
        "matcher": ("frontend.matcher.method=attention", config.matcher.method == "attention"),
        "refiner": ("frontend.refine.method=learned", config.refine.method == "learned"),
        "saliency": ("frontend.selector.saliency=learned", config.selector.saliency == "learned"),
    }
    for part, (setting, is_wanted) in wanted.items():
        if is_wanted and heads is None:
            raise ConfigError(f"{setting}: need trained heads, which have a {part}; set frontend.heads=NAME|FILE")
        if is_wanted and getattr(heads, part) is None:
            raise ConfigError(f"these heads have no {part}, which {setting} needs; choose another, or other heads")
    if config.selector.saliency == "fine" and (heads is None or heads.about.fine not in DETECTORS):
        raise ConfigError(
            f"frontend.selector.saliency=fine: needs heads with the fine branch {' or '.join(DETECTORS)}, which come "
            "with a detector; set frontend.heads=light or frontend.heads=full, or another saliency"
        )
    if heads is not None:
        _check_tokens(heads, backbone, [layer % backbone.depth for layer in layers], wanted["matcher"][1])


def _check_tokens(heads: Heads, backbone: Backbone, used: list[int], with_matcher: bool) -> None:
    """Whether the tokens are those that the heads know, where they look at tokens."""
    about, known = heads.about, list[int]()
    if with_matcher and heads.matcher is not None and heads.matcher.tokens is not None:
        known = [about.layer]
    if about.descriptor is not None:
        known = about.descriptor.layers
    imitated = [(about.backbone, block) for block in known] == [backbone.imitates] and used == [backbone.depth - 1]
    if known and not imitated and (about.backbone != backbone.name or used != known):
        blocks = str(known[0]) if len(known) == 1 else str(known)
        whole = "" if max(known) < backbone.depth else f" (all of it: --weights {about.backbone})"
        raise ConfigError(
            f"these heads were trained on block {blocks} of {about.backbone}, not on {used} of "
            f"{backbone.name}; use that backbone{whole} with frontend.layers={known}, heads of its own, or "
            "preset=untrained without frontend.heads"
        )


def engine_heads(heads: Heads, engine: Engine, device: torch.device, config: FrontendConfig) -> Heads:
    """Heads that are computed by the engine that computes the backbone, as far as the settings use them.

    OpenVINO computes their networks in bf16 where the processor has it and the engine's precision is not fp32; the
    matcher only where that is bf16 or `matcher.bf16` says so, since LighterGlue's attention is so sharp (logits in the
    thousands) that bf16 changes 8 % of its matches. int8 would have to be calibrated for each. Elsewhere they run in
    torch, in float32.

    Raises:
        ConfigError: the matcher has fewer layers than the settings ask for.
    """
    attention, adaptive = config.matcher.method == "attention", config.matcher.exit or config.matcher.prune
    if heads.matcher is not None and attention:
        heads.matcher.depth(config.matcher.layers)
    if engine.name != "openvino" or device.type != "cpu":
        return heads
    from slamfeat.frontend.heads.compiled import compile_heads

    reduced: Precision = "bf16" if engine.precision != "fp32" and cpu_has_bfloat16() else "fp32"
    matcher: Precision | None = reduced if engine.precision == "bf16" or config.matcher.bf16 else "fp32"
    if not attention or adaptive:
        matcher = None
    refiner, detect = config.refine.method == "learned", config.selector.saliency == "fine"
    return compile_heads(heads, reduced, matcher=matcher, refiner=refiner, layers=config.matcher.layers, detect=detect)
