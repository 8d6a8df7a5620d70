"""Tiny backbones are registered under names of their own; the place of shared data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_backbones import TINY, make_entry

from slamfeat.backbones.registry import BACKBONES


@pytest.fixture(autouse=True)
def tiny_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TINY:
        monkeypatch.setitem(BACKBONES, name, make_entry(name))


@pytest.fixture
def shared() -> Path:
    folder = Path(os.environ.get("SLAMFEAT_SHARED") or Path(__file__).parents[3] / "shared")
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"no shared data in {folder}; set SLAMFEAT_SHARED")
    return folder
