"""Curves of pretraining: the official one, its corners, and how it differs from the heads' curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.errors import ConfigError
from slamfeat.pretrain.schedules import ramp, warmup_cosine
from slamfeat.train.schedule import cosine


@pytest.mark.shared
def test_cosine_is_the_official_one(shared: Path) -> None:
    official = np.load(shared / "fixtures" / "dinov2_cosine_schedule.npy")
    np.testing.assert_allclose(warmup_cosine(1e-3, 1e-6, 100, warmup=10, freeze=5), official, rtol=1e-12, atol=1e-18)


def test_cosine_by_its_corners() -> None:
    curve = warmup_cosine(2.0, 1.0, 13, warmup=3, freeze=2, start=0.5)
    assert curve.shape == (13,) and curve.dtype == np.float64
    np.testing.assert_allclose(curve[:6], [0, 0, 0.5, 1.25, 2, 2])
    assert curve[9] == pytest.approx(1.5)  # half of the eight steps of the cosine
    assert curve[12] == pytest.approx(1.5 + 0.5 * np.cos(7 / 8 * np.pi))
    rising = warmup_cosine(0.994, 1.0, 1000)
    assert rising[0] == 0.994 and (np.diff(rising) > 0).all() and 0.99999 < rising[-1] < 1


def test_it_is_not_the_heads_curve() -> None:
    ours, theirs = warmup_cosine(1.0, 0.1, 20, warmup=5), cosine(1.0, 0.1, 20, warmup=5)
    assert ours[0] == 0 and theirs[0] == pytest.approx(1 / 6)
    assert ours[4] == ours[5] == theirs[5] == 1 and theirs[4] < 1
    assert theirs[-1] == pytest.approx(0.1) and ours[-1] > 0.1


def test_no_room_for_a_cosine() -> None:
    np.testing.assert_allclose(warmup_cosine(1.0, 0.0, 4, warmup=3, freeze=1), [0, 0, 0.5, 1])
    assert warmup_cosine(1.0, 0.0, 0).shape == (0,)
    for numbers in ((4, 3, 2), (-1, 0, 0), (4, -1, 0), (4, 0, -1)):
        with pytest.raises(ConfigError, match="do not fit"):
            warmup_cosine(1.0, 0.0, *numbers)


def test_ramp() -> None:
    curve = ramp(0.04, 0.07, 10, warmup=4)
    np.testing.assert_allclose(curve, [0.04, 0.05, 0.06, *[0.07] * 7])
    np.testing.assert_array_equal(ramp(0.5, 0.996, 3), [0.996] * 3)
    np.testing.assert_allclose(ramp(0.0, 3.0, 2, warmup=4), [0, 1])
    with pytest.raises(ConfigError, match="warm-up of -1"):
        ramp(0, 1, 4, warmup=-1)
