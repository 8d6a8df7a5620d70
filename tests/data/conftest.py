"""Fixtures of the data tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's shared data folder; the test is skipped where it is absent."""
    root = Path(os.environ.get("SLAMFEAT_SHARED", REPOSITORY.parent / "shared"))
    # The variable may name the folder itself or its data part.
    data = root / "data" if (root / "data").is_dir() else root
    if not (data / "tum").is_dir():
        pytest.skip(f"no shared data at {data}; set SLAMFEAT_SHARED")
    return data


@pytest.fixture(scope="session")
def sample() -> Path:
    """The demo's sample sequence of this repository."""
    return REPOSITORY / "datasets" / "sample" / "rgbd_dataset_freiburg1_rpy_60"
