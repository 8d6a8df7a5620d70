"""Settings of the frontend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from slamfeat.errors import ConfigError
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig
from slamfeat.image import FitPolicy
from slamfeat.types import SampleMode


@dataclass
class FrontendConfig:
    """What a frontend does with an image and with two sets of features.

    Attributes:
        num_keypoints: slots K of an image.
        layers: blocks of the backbone whose tokens are used, from 0; negative counts from the end. Several are joined.
            Empty for the block at `depth` of the published ones.
        depth: share of the backbone's published blocks to compute where `layers` is empty. The last ones know what a
            thing is, but less well where it is. Of a backbone that imitates another's block it is always the last one.
        cell: pixels of the image that one patch covers; 0 for twice the backbone's patch size, the patch size for
            an image at full resolution. Larger cells show the backbone a smaller image: fewer tokens, less time.
        fit: how the image is brought to whole cells: "crop", "pad" or "resize".
        sampling: how tokens are read at a keypoint: "bilinear" or "floor" (DINO-VO's lookup).
        center: subtract each image's mean token, which carries no position.
        local: descriptor of the pixels around a keypoint joined with the token: "none" or "sift" (upright RootSIFT).
        local_diameter: of the local descriptor, as OpenCV's keypoint size: its support is six times as wide; pixels.
        local_weight: share of the local descriptor in the similarity, 0..1.
        heads: trained heads: the name of shipped ones or a .safetensors file; empty for none. Their descriptor, fine
            or joined with the token, takes the place of token and local descriptor; `selector.saliency=learned`,
            `matcher.method=attention` and `refine.method=learned` use the rest of them.
        selector, matcher, refine: see their classes.
    """

    num_keypoints: int = 1024
    layers: list[int] = field(default_factory=list)
    depth: float = 0.5
    cell: int = 0
    fit: str = "crop"
    sampling: str = "bilinear"
    center: bool = True
    local: str = "sift"
    local_diameter: float = 6.0
    local_weight: float = 0.85
    heads: str = ""
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    matcher: MatcherConfig = field(default_factory=MatcherConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        if self.num_keypoints < 1:
            raise ConfigError(f"num_keypoints must be at least 1, got {self.num_keypoints}")
        for name, value, known in (
            ("fit", self.fit, get_args(FitPolicy)),
            ("sampling", self.sampling, get_args(SampleMode)),
            ("local", self.local, ("none", "sift")),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; use one of {', '.join(known)}")
        if not 0 < self.depth <= 1:
            raise ConfigError(f"depth is a share of the blocks, above 0 and at most 1, not {self.depth}")
        if self.cell < 0 or not 0 <= self.local_weight <= 1 or self.local_diameter <= 0:
            raise ConfigError("cell must be >= 0, local_weight between 0 and 1, and local_diameter > 0")
