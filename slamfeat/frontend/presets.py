"""Named settings: how much accuracy to give up for time. `make results` measures each on test data."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.pretrained import backbone_name, imitated_block
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig

HEADS_BACKBONE = "dinov2-vits14"
HEADS_BLOCK = 5
"""Whose tokens, and which block's, the shipped heads know."""


def _detector() -> SelectorConfig:
    """Keypoints where the fine branch was published to have them: the strongest maxima, wherever they are."""
    return SelectorConfig(saliency="fine", aligned=False, nms_radius=2, coverage=0, threshold=0.0, floor=1e-5)


def _refined() -> RefineConfig:
    """By Lucas-Kanade; what that loses is aligned match by match, or else stays where the matcher put it."""
    return RefineConfig(align=True, min_correlation=0.7, keep=True)


def _accurate() -> FrontendConfig:
    """The full heads: ALIKED's keypoints and features, a LightGlue of nine layers, refined."""
    return FrontendConfig(
        heads="full", selector=_detector(), matcher=MatcherConfig(method="attention"), refine=_refined()
    )


def _balanced() -> FrontendConfig:
    """The light heads: XFeat's features and half of LighterGlue's layers, in bf16 where that is faster, refined."""
    matcher = MatcherConfig(method="attention", layers=3, bf16=True)
    return FrontendConfig(heads="light", matcher=matcher, refine=_refined())


def _fast() -> FrontendConfig:
    """Nothing trained, a smaller image for fewer blocks, and one pass of refinement at half the size."""
    return FrontendConfig(
        cell=56, depth=0.34, local_weight=1.0,
        refine=RefineConfig(window=9, levels=1, shrink=2, passes=1, fill=False),
    )  # fmt: skip


def _untrained() -> FrontendConfig:
    """Tokens gate, gradients decide: for any backbone."""
    return FrontendConfig()


PRESETS: dict[str, Callable[[], FrontendConfig]] = {
    "accurate": _accurate, "balanced": _balanced, "fast": _fast, "untrained": _untrained,
}  # fmt: skip


def default_preset(weights: str | Path) -> str:
    """The preset where none is named: "balanced", or "untrained" with a backbone that no shipped heads know.

    Args:
        weights: as in `Frontend.from_pretrained`.
    """
    known = backbone_name(weights) == HEADS_BACKBONE or imitated_block(weights) == (HEADS_BACKBONE, HEADS_BLOCK)
    return "balanced" if known else "untrained"


def find_preset(name: str) -> FrontendConfig:
    """The settings of a name: "accurate", "balanced", "fast" or "untrained".

    Raises:
        ConfigError: unknown, with the closest name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(PRESETS)}"
        raise ConfigError(f"unknown preset '{name}'; {hint}")
    return PRESETS[name]()
