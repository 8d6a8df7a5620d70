"""The benchmark's names of slamfeat's presets."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.bench.registry import build_frontend, fingerprint, is_ours, list_frontends, settings_of
from slamfeat.errors import ConfigError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.presets import PRESETS, default_preset, find_preset
from slamfeat.vo import pipeline

TINY = Architecture(embed_dim=48, depth=3, num_heads=3, patch_size=14, registers=0, position="offset", grid=9)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[pipeline.PipelineConfig]:
    """Configurations that were built, without their engines, which take a while to prepare."""
    configs: list[pipeline.PipelineConfig] = []

    def note(config: pipeline.PipelineConfig) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(name="?")

    monkeypatch.setattr(pipeline, "build_frontend", note)
    return configs


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_built_by_its_name(preset: str, built: list[pipeline.PipelineConfig]) -> None:
    name = f"slamfeat:{preset}"
    assert name in list_frontends() and len(fingerprint(name)) == 16
    assert build_frontend(name, 64).name == name
    assert built[0].frontend == replace(find_preset(preset), num_keypoints=64)


def test_slamfeat_alone_is_the_default_preset(built: list[pipeline.PipelineConfig]) -> None:
    assert build_frontend("slamfeat", 64).name == "slamfeat"
    assert built[0].frontend == replace(find_preset(default_preset("default")), num_keypoints=64)
    with pytest.raises(ConfigError, match="slamfeat:fast"):
        build_frontend("slamfeat:fst", 64)


def test_ours_are_presets_recipes_and_their_files() -> None:
    assert all(is_ours(name) for name in ("slamfeat", "slamfeat:fast", "slamfeat:full_resolution", "runs/mine.yaml"))
    assert not any(is_ours(name) for name in ("orb", "xfeat+lighterglue", "slamfeature", "slamfeat.py", "mine.py:a"))


def test_blocks_are_those_that_are_computed() -> None:
    backbone = random_backbone(TINY).freeze()
    for layers, blocks in (([0], 1), ([-2, 0], 2), ([2], 3)):
        assert settings_of(Frontend(backbone, FrontendConfig(layers=layers)))["blocks"] == blocks
