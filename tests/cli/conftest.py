"""A tiny random backbone in place of the shipped one, where the tests do not need real features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_helpers import copy_sample

from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.frontend import Frontend
from slamfeat.vo.pipeline import PipelineConfig

TINY = Architecture(embed_dim=48, depth=3, num_heads=3, patch_size=14, registers=0, position="offset", grid=9)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb uses a random backbone with 300 keypoints; pixels' own descriptors still match real images."""

    def build(config: PipelineConfig) -> Frontend:
        config.frontend.num_keypoints = min(config.frontend.num_keypoints, 300)
        return Frontend(random_backbone(TINY).freeze(), config.frontend, "tiny")

    def settle(config: PipelineConfig) -> PipelineConfig:
        config.frontend.num_keypoints = min(config.frontend.num_keypoints, 300)
        return replace(config, engine="torch", precision="fp32")

    # The shipped heads know the tokens of the backbone in whose place the tiny one is.
    monkeypatch.setattr("slamfeat.vo.pipeline.default_preset", lambda weights: "untrained")
    monkeypatch.setattr("slamfeat.vo.pipeline.build_frontend", build)
    monkeypatch.setattr("slamfeat.vo.pipeline.settle_engine", settle)


@pytest.fixture
def sequence(sample: Path, tmp_path: Path) -> Path:
    """Six frames of the sample, free to be damaged."""
    return copy_sample(sample, tmp_path / "rgbd_dataset_freiburg1_six", 6)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs write into the current folder by default."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
