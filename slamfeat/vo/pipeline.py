"""One configuration for everything that runs a frontend, and the builder that unpacks it."""

from __future__ import annotations

from dataclasses import dataclass, field

from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.vo.config import OdometryConfig


@dataclass
class PipelineConfig:
    """What a recipe may hold.

    Attributes:
        weights: "default", a backbone's name, or a weights file.
        device: torch device.
        dtype: of the backbone: "auto", "float32" or "bfloat16".
        frontend: see `FrontendConfig`.
        vo: see `OdometryConfig`.
    """

    weights: str = "default"
    device: str = "cpu"
    dtype: str = "auto"
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    vo: OdometryConfig = field(default_factory=OdometryConfig)


def build_frontend(config: PipelineConfig) -> Frontend:
    """The frontend a configuration describes; errors as in `Frontend.from_pretrained`."""
    return Frontend.from_pretrained(config.weights, config=config.frontend, device=config.device, dtype=config.dtype)
