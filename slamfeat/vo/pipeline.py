"""One configuration for everything that runs a frontend, and the builder that unpacks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slamfeat.config import load_config
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.presets import DEFAULT_PRESET, find_preset
from slamfeat.vo.config import OdometryConfig


@dataclass
class PipelineConfig:
    """What a recipe may hold.

    Attributes:
        preset: named settings of the frontend, which everything else changes: "accurate", "balanced" or "fast".
        weights: "default", a backbone's name, or a weights file.
        device: torch device.
        engine: what computes the backbone: "auto", "torch", "openvino" or "onnx".
        precision: of the backbone: "auto", "fp32", "bf16" or "int8".
        calibration: a folder of images like yours, to quantise with for int8; empty for the shipped ones.
        frontend: see `FrontendConfig`.
        vo: see `OdometryConfig`.
    """

    preset: str = DEFAULT_PRESET
    weights: str = "default"
    device: str = "cpu"
    engine: str = "auto"
    precision: str = "auto"
    calibration: str = ""
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    vo: OdometryConfig = field(default_factory=OdometryConfig)


def load_pipeline(recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """The preset that recipe or words name, then the recipe's differences, then the words; errors as `load_config`."""
    name = load_config(PipelineConfig, recipe, overrides).preset
    return load_config(PipelineConfig(name, frontend=find_preset(name)), recipe, overrides)


def build_frontend(config: PipelineConfig) -> Frontend:
    """The frontend a configuration describes; errors as in `Frontend.from_pretrained`."""
    return Frontend.from_pretrained(
        config.weights, config=config.frontend, device=config.device, engine=config.engine, precision=config.precision,
        calibration=config.calibration or None,
    )  # fmt: skip
