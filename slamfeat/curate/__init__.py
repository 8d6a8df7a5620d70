"""Curation of image collections: duplicates out, what is wanted in, and evenly (arXiv 2304.07193, 2405.15613)."""

from slamfeat.curate.config import CurateConfig
from slamfeat.curate.engine import Engine, LocalEngine
from slamfeat.curate.manifest import read_manifest
from slamfeat.curate.run import CurateInputs, curate

__all__ = ["CurateConfig", "CurateInputs", "Engine", "LocalEngine", "curate", "read_manifest"]
