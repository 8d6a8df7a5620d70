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


@dataclass
class MaskConfig:
    """What is masked.

    Attributes:
        share: of the crops of a batch that are masked, 0..1.
        least, most: share of a masked crop's patches; the crops of a batch are spread evenly between the two.
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


def draw_masks(count: int, size: tuple[int, int], config: MaskConfig, rng: np.random.Generator) -> Mask:
    """Masks of a batch of crops, the same for the same generator.

    Args:
        count: B, of crops.
        size: patches down and across, h and w.
        config: what is masked.
        rng: is moved on.

    Returns:
        (B, h, w), True for masked; at least one patch of each masked crop and never all of them. Of crops of one patch
        none is masked.
    """
    wanted = np.zeros(count, dtype=np.int64)
    targets = draw_counts(count, size[0] * size[1], config, rng)
    wanted[rng.permutation(count)[: len(targets)]] = targets
    return np.stack([_draw_mask(int(number), size, config, rng) for number in wanted]) if count else _empty(0, *size)


def draw_counts(count: int, patches: int, config: MaskConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Masked patches of each masked crop among `count` crops of so many patches, fewest first.

    One ratio from each of as many equal steps between the least and the most, so that every batch has the whole range.
    """
    masked = round(count * config.share)
    rungs = np.linspace(config.least, config.most, masked + 1)
    ratios = rng.uniform(rungs[:-1], rungs[1:])
    return np.clip((patches * ratios).astype(np.int64), min(1, patches - 1), patches - 1)


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
