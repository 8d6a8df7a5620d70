"""Named settings: how much accuracy to give up for time. benchmarks/results/pareto.md shows where each lies."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.refine import RefineConfig


def _accurate() -> FrontendConfig:
    return FrontendConfig()


def _balanced() -> FrontendConfig:
    """A smaller image for the backbone, a smaller window, and keypoints without a partner are not looked for."""
    return FrontendConfig(cell=56, local_weight=1.0, refine=RefineConfig(window=11, levels=1, fill=False))


def _fast() -> FrontendConfig:
    """Fewer blocks, and one pass of refinement at half the size."""
    return FrontendConfig(
        cell=56, depth=0.34, local_weight=1.0,
        refine=RefineConfig(window=9, levels=1, shrink=2, passes=1, fill=False),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], FrontendConfig]] = {"accurate": _accurate, "balanced": _balanced, "fast": _fast}
DEFAULT_PRESET = "accurate"


def find_preset(name: str) -> FrontendConfig:
    """The settings of a name: "accurate" (the default), "balanced" or "fast".

    Raises:
        ConfigError: unknown, with the closest name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(PRESETS)}"
        raise ConfigError(f"unknown preset '{name}'; {hint}")
    return PRESETS[name]()
