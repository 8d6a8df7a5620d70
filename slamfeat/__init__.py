"""slamfeat: the feature frontend for visual SLAM on a frozen vision foundation model.

>>> import slamfeat as sf
>>> frontend = sf.Frontend.from_pretrained("default")
>>> matches = frontend.match(frontend.extract("a.png"), frontend.extract("b.png"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slamfeat import compat
    from slamfeat.backbones import list_backbones, load_backbone
    from slamfeat.data import open_sequence
    from slamfeat.errors import SlamfeatError
    from slamfeat.eval import evaluate
    from slamfeat.frontend import Frontend, FrontendConfig
    from slamfeat.image import fit_to_patch, read_image
    from slamfeat.types import Camera, Features, Frame, Matches, PatchGrid, PixelMap, Trajectory
    from slamfeat.vo import GroundTruthScale, Odometry, OdometryConfig

__version__ = "0.1.0"

# Names are resolved on first use: importing the package must not cost what only some of its users need.
_HOME = {
    "Camera": "types",
    "Features": "types",
    "Frame": "types",
    "Frontend": "frontend",
    "FrontendConfig": "frontend",
    "GroundTruthScale": "vo",
    "Matches": "types",
    "Odometry": "vo",
    "OdometryConfig": "vo",
    "PatchGrid": "types",
    "PixelMap": "types",
    "SlamfeatError": "errors",
    "Trajectory": "types",
    "evaluate": "eval",
    "fit_to_patch": "image",
    "list_backbones": "backbones",
    "load_backbone": "backbones",
    "open_sequence": "data",
    "read_image": "image",
}

__all__ = [
    "Camera",
    "Features",
    "Frame",
    "Frontend",
    "FrontendConfig",
    "GroundTruthScale",
    "Matches",
    "Odometry",
    "OdometryConfig",
    "PatchGrid",
    "PixelMap",
    "SlamfeatError",
    "Trajectory",
    "__version__",
    "compat",
    "evaluate",
    "fit_to_patch",
    "list_backbones",
    "load_backbone",
    "open_sequence",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name == "compat":
        return importlib.import_module("slamfeat.compat")
    if name not in _HOME:
        raise AttributeError(f"module 'slamfeat' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"slamfeat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
