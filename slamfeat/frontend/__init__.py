"""Keypoints on the patch grid, their descriptors, matches, and refinement to sub-pixel."""

from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig

__all__ = ["FeatureFrontend", "Frontend", "FrontendConfig", "MatcherConfig", "RefineConfig", "SelectorConfig"]
