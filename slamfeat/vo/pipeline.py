"""One configuration for everything that runs a frontend, and the builder that unpacks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slamfeat.backbones.load import parse_device
from slamfeat.config import load_config
from slamfeat.engines.make import plan_engine
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.presets import default_preset, find_preset
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.vo.config import OdometryConfig


@dataclass
class PipelineConfig:
    """What a recipe may hold.

    Attributes:
        preset: named settings of the frontend, which everything else changes: "accurate", "balanced", "fast" or
            "untrained"; empty for `default_preset` of the weights.
        weights: "default", a backbone's name, or a weights file.
        device: torch device.
        engine: what computes the backbone: "auto", "torch", "openvino" or "onnx".
        precision: of the backbone: "auto", "fp32", "bf16" or "int8".
        calibration: a folder of images like yours, to quantise with for int8; empty for the shipped ones.
        frontend: see `FrontendConfig`.
        vo: see `OdometryConfig`.
    """

    preset: str = ""
    weights: str = "default"
    device: str = "cpu"
    engine: str = "auto"
    precision: str = "auto"
    calibration: str = ""
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    vo: OdometryConfig = field(default_factory=OdometryConfig)


def load_pipeline(
    recipe: str | Path | None = None, overrides: Sequence[str] = (), weights: str | None = None
) -> PipelineConfig:
    """The preset that recipe or words name, then the recipe's differences, then the words; errors as `load_config`.

    Args:
        recipe, overrides: as in `load_config`.
        weights: in place of theirs.
    """
    given = load_config(PipelineConfig, recipe, overrides)
    name = given.preset or default_preset(weights or given.weights)
    config = load_config(PipelineConfig(name, frontend=find_preset(name)), recipe, overrides)
    return replace(config, preset=name, weights=weights or config.weights)


def settle_engine(config: PipelineConfig) -> PipelineConfig:
    """The configuration with the engine and precision that `build_frontend` would take in place of "auto".

    Nothing is exported, quantised or compiled for it, so that what fails there is not foreseen; errors as in
    `Frontend.from_pretrained`.
    """
    if "auto" not in (config.engine, config.precision):
        return config
    backbone, _ = load_pretrained(config.weights, parse_device(config.device))
    images = Path(config.calibration).expanduser() if config.calibration else None
    choice = plan_engine(backbone, layers_of(backbone, config.frontend), config.engine, config.precision, images)
    return replace(config, engine=choice.engine, precision=choice.precision)


def build_frontend(config: PipelineConfig) -> Frontend:
    """The frontend a configuration describes; errors as in `Frontend.from_pretrained`."""
    return Frontend.from_pretrained(
        config.weights, config=config.frontend, device=config.device, engine=config.engine, precision=config.precision,
        calibration=config.calibration or None,
    )  # fmt: skip
