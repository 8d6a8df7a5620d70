"""Block masks: exact counts, all ratios in any run of crops, compact shapes, the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from slamfeat.errors import ConfigError
from slamfeat.pretrain.masking import Mask, MaskConfig, mask_by_number, masked_patches


@st.composite
def configs(draw: st.DrawFn) -> MaskConfig:
    least = draw(st.floats(0, 0.99))
    return MaskConfig(
        share=draw(st.floats(0, 1)),
        least=least,
        most=draw(st.floats(least, 0.99)),
        block=draw(st.integers(1, 12)),
        aspect=draw(st.floats(0.05, 1)),
    )


def draw_masks(count: int, size: tuple[int, int], config: MaskConfig, seed: int, first: int = 0) -> Mask:
    rng = np.random.default_rng(seed)
    return np.stack([mask_by_number(number, size, config, rng) for number in range(first, first + count)])


@settings(max_examples=60, deadline=None)
@given(
    configs(), st.integers(0, 10**9), st.tuples(st.integers(1, 17), st.integers(1, 17)), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_a_mask_has_the_patches_of_its_number(
    config: MaskConfig, number: int, size: tuple[int, int], seed: int
) -> None:  # fmt: skip
    mask = mask_by_number(number, size, config, np.random.default_rng(seed))
    patches = size[0] * size[1]
    assert mask.shape == size and mask.dtype == np.bool_
    assert mask.sum() == masked_patches(number, patches, config) < max(patches, 1)
    if mask.any():
        assert max(math.floor(patches * config.least), 1) <= mask.sum() <= max(math.floor(patches * config.most), 1)


def test_masks_are_by_the_seed() -> None:
    first, again, other = (draw_masks(8, (16, 16), MaskConfig(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**9))
def test_any_batch_has_all_ratios(first: int) -> None:
    """DINOv2's batches have half of the crops masked, at a ladder of ratios from 0.1 to 0.5; so has any run of ours."""
    counts = np.array([masked_patches(number, 10_000, MaskConfig()) for number in range(first, first + 32)])
    masked = np.sort(counts[counts > 0])
    assert abs(len(masked) - 16) <= 2
    assert masked[0] < 1000 + 3 * 250 and masked[-1] > 5000 - 3 * 250
    assert np.diff(masked).max() < 4 * 250


def test_masks_are_what_the_paper_asks_for() -> None:
    """Half of the crops, any place of them, at ratios that are even over 0.1..0.5."""
    masks = draw_masks(1600, (16, 16), MaskConfig(), seed=0)
    ratios = masks.mean((1, 2))
    assert abs(np.count_nonzero(ratios) - 800) <= 1
    np.testing.assert_allclose(np.quantile(ratios[ratios > 0], [0.1, 0.5, 0.9]), [0.14, 0.3, 0.46], atol=0.01)
    everywhere = masks.mean(0)
    assert everywhere.min() > 0
    assert everywhere[4:12, 4:12].mean() > 2 * everywhere[[0, 0, -1, -1], [0, -1, 0, -1]].mean()


def test_masks_are_blocks() -> None:
    """A masked patch's neighbour is masked far more often than it would be by chance."""
    config = MaskConfig(share=1.0, least=0.3, most=0.3)
    masks = draw_masks(200, (14, 14), config, seed=0)
    assert (masks.sum((1, 2)) == 58).all()
    beside = (masks[:, :, 1:] & masks[:, :, :-1]).sum() / masks[:, :, 1:].sum()
    assert beside > 0.7
    pieces = [ndimage.label(mask)[1] for mask in masks]
    assert np.mean(pieces) < 6


def test_a_first_block_has_its_shape() -> None:
    """Where one block fills the count, its sides are within the aspect, and it has the least number of patches."""
    config = MaskConfig(share=1.0, least=12 / 400, most=12 / 400, block=12, aspect=0.3)
    shapes = set()
    for mask in draw_masks(300, (20, 20), config, seed=1):
        rows, columns = np.nonzero(mask)
        shape = (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        assert shape[0] * shape[1] == mask.sum() == 12
        shapes.add(shape)
    assert shapes == {(2, 6), (3, 4), (4, 3), (6, 2)}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 1.5}, "share"), ({"least": 0.6}, "least <= most"), ({"most": 1.0}, "most < 1"),
        ({"block": 0}, "block"), ({"aspect": 0.0}, "aspect"), ({"aspect": 2.0}, "aspect"),
    ],
)  # fmt: skip
def test_what_cannot_be_masked(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MaskConfig(**wrong)  # type: ignore[arg-type]
