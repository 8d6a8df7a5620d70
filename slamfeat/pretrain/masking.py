"""Which patches the student does not see: blocks, as in BEiT (arXiv 2106.08254, Algorithm 1) and iBOT.

Blocks lie inside the crop, so that its corners are masked more rarely than its middle, as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError

Mask = NDArray[np.bool_]
_ATTEMPTS = 10
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass
class MaskConfig:
    """What is masked.

    Attributes:
        share: of the crops that are masked, 0..1.
        least, most: share of a masked crop's patches; crops are spread evenly between the two.
        block: patches of a block, at least.
        aspect: height over width of a block, from this to its inverse.
    """

    share: float = 0.5
    least: float = 0.1
    most: float = 0.5
    block: int = 4
    aspect: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"masking: share must lie between 0 and 1, got {self.share}")
        if not 0 <= self.least <= self.most < 1:
            raise ConfigError(f"masking: 0 <= least <= most < 1 is needed, got {self.least} and {self.most}")
        if self.block < 1 or not 0 < self.aspect <= 1:
            raise ConfigError("masking: block >= 1 and 0 < aspect <= 1 are needed")


def mask_by_number(number: int, size: tuple[int, int], config: MaskConfig, rng: np.random.Generator) -> Mask:
    """The mask of a crop.

    Whether it is masked at all, and how much, follows from its number: multiples of the golden ratio fill the range
    evenly, so that any run of consecutive crops has its share of all ratios, however a batch is cut up.

    Args:
        number: of the crop, counted up over the whole run.
        size: patches down and across, h and w.
        config: what is masked.
        rng: draws the blocks.

    Returns:
        (h, w), True for masked; at least one patch of a masked crop and never all of them. A crop of one patch is not
        masked.
    """
    return _draw_mask(masked_patches(number, size[0] * size[1], config), size, config, rng)


def masked_patches(number: int, patches: int, config: MaskConfig) -> int:
    """How many patches of a crop are masked; see `mask_by_number`."""
    place = number * _GOLDEN % 1.0
    if place >= config.share or patches < 2:
        return 0
    ratio = config.least + (config.most - config.least) * place / config.share
    return min(max(int(patches * ratio), 1), patches - 1)


def _draw_mask(wanted: int, size: tuple[int, int], config: MaskConfig, rng: np.random.Generator) -> Mask:
    """Blocks while there is room for one, then single patches until the count is right."""
    mask = _empty(*size)
    while (left := wanted - int(mask.sum())) >= config.block:
        block = _draw_block(mask, left, config, rng)
        if block is None:
            break
        mask[block] = True
    free = np.flatnonzero(~mask)
    mask.flat[rng.choice(free, wanted - int(mask.sum()), replace=False)] = True
    return mask


def _draw_block(mask: Mask, left: int, config: MaskConfig, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A block that masks between one and `left` more patches; None where none was found."""
    rows, columns = mask.shape
    for _ in range(_ATTEMPTS):
        area = rng.uniform(config.block, left)
        aspect = config.aspect ** rng.uniform(-1, 1)
        high, across = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (1 <= high <= rows and 1 <= across <= columns and high * across >= config.block):
            continue
        top, first = int(rng.integers(rows - high + 1)), int(rng.integers(columns - across + 1))
        block = slice(top, top + high), slice(first, first + across)
        if 0 < high * across - int(mask[block].sum()) <= left:
            return block
    return None


def _empty(*shape: int) -> Mask:
    return np.zeros(shape, dtype=np.bool_)
