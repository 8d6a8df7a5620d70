"""Which of a backbone's blocks a frontend looks at, and how much of the image a patch covers."""

from __future__ import annotations

from slamfeat.backbones import Backbone
from slamfeat.backbones.registry import BACKBONES
from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.selector import part_side


def layers_of(backbone: Backbone, config: FrontendConfig) -> list[int]:
    """The blocks whose tokens a frontend uses.

    Raises:
        ConfigError: one that the backbone does not have.
    """
    layers = config.layers or [default_layer(backbone, config.depth)]
    for layer in layers:
        if not -backbone.depth <= layer < backbone.depth:
            raise ConfigError(
                f"layers: {backbone.name} has blocks 0..{backbone.depth - 1}, not {layer}{_instead(backbone)}"
            )
    return layers


def _instead(backbone: Backbone) -> str:
    if backbone.imitates is None:
        return ""
    teacher, block = backbone.imitates
    return f"; left out, layers are what block {block} of {teacher} says, which this one imitates"


def cell_of(backbone: Backbone, config: FrontendConfig) -> int:
    """Pixels of the image that one patch covers.

    Raises:
        ConfigError: it cannot be split into `selector.splits` equal parts.
    """
    cell = config.cell or 2 * backbone.patch_size
    part_side(cell, config.selector.splits)
    return cell


def default_layer(backbone: Backbone, share: float = FrontendConfig.depth) -> int:
    """Index of the last block in a share of the published depth, or the last one that a shortened backbone has.

    Of one that imitates another's tokens it is the last: these are what its heads know.
    """
    if backbone.imitates is not None:
        return backbone.depth - 1
    known = BACKBONES.get(backbone.name)
    depth = known.architecture.depth if known else backbone.depth
    return min(max(1, int(depth * share)), backbone.depth) - 1
