"""Block masks: exact counts on the ladder, compact shapes, the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from slamfeat.errors import ConfigError
from slamfeat.pretrain.masking import MaskConfig, draw_counts, draw_masks


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


@settings(max_examples=60, deadline=None)
@given(
    configs(), st.integers(0, 9), st.tuples(st.integers(1, 17), st.integers(1, 17)), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_counts_are_on_the_ladder(config: MaskConfig, count: int, size: tuple[int, int], seed: int) -> None:
    masks = draw_masks(count, size, config, np.random.default_rng(seed))
    assert masks.shape == (count, *size) and masks.dtype == np.bool_
    found = np.sort(masks.sum((1, 2)))
    patches, masked = size[0] * size[1], round(count * config.share)
    assert (found < patches).all()
    if patches == 1:
        return
    assert np.count_nonzero(found) == masked
    rungs = np.linspace(config.least, config.most, masked + 1)
    for number, lower, upper in zip(found[count - masked :], rungs, rungs[1:], strict=False):
        assert max(math.floor(patches * lower), 1) <= number <= max(math.floor(patches * upper), 1)


def test_masks_are_by_the_seed() -> None:
    first, again, other = (draw_masks(8, (16, 16), MaskConfig(), np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_masks_are_what_the_paper_asks_for() -> None:
    """Half of the crops, any of them, at ratios all over 0.1..0.5."""
    masks = np.stack([draw_masks(16, (16, 16), MaskConfig(), np.random.default_rng(s)) for s in range(100)])
    ratios = masks.mean((2, 3))
    assert (np.count_nonzero(ratios, 1) == 8).all()
    assert np.abs(np.count_nonzero(ratios, 0) - 50).max() < 25
    ranked = np.sort(ratios, 1)[:, 8:]
    np.testing.assert_allclose(ranked.mean(0), 0.125 + 0.05 * np.arange(8), atol=0.01)
    everywhere = masks.mean((0, 1))
    assert everywhere.min() > 0
    assert everywhere[4:12, 4:12].mean() > 2 * everywhere[[0, 0, -1, -1], [0, -1, 0, -1]].mean()


def test_masks_are_blocks() -> None:
    """A masked patch's neighbour is masked far more often than it would be by chance."""
    config = MaskConfig(share=1.0, least=0.3, most=0.3)
    masks = draw_masks(200, (14, 14), config, np.random.default_rng(0))
    assert (masks.sum((1, 2)) == 58).all()
    beside = (masks[:, :, 1:] & masks[:, :, :-1]).sum() / masks[:, :, 1:].sum()
    assert beside > 0.7
    pieces = [ndimage.label(mask)[1] for mask in masks]
    assert np.mean(pieces) < 6


def test_a_first_block_has_its_shape() -> None:
    """Where one block fills the count, its sides are within the aspect, and it has the least number of patches."""
    config = MaskConfig(share=1.0, least=12 / 400, most=12 / 400, block=12, aspect=0.3)
    shapes = set()
    for mask in draw_masks(300, (20, 20), config, np.random.default_rng(1)):
        rows, columns = np.nonzero(mask)
        shape = (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        assert shape[0] * shape[1] == mask.sum() == 12
        shapes.add(shape)
    assert shapes == {(2, 6), (3, 4), (4, 3), (6, 2)}


def test_counts_of_a_batch() -> None:
    counts = draw_counts(10, 196, MaskConfig(share=0.4, least=0.5, most=0.5), np.random.default_rng(0))
    np.testing.assert_array_equal(counts, [98] * 4)
    assert draw_counts(1, 196, MaskConfig(), np.random.default_rng(0)).shape == (0,)


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
