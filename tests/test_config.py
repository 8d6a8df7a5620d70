"""Typed configuration from YAML and words."""

from __future__ import annotations

from pathlib import Path

import pytest

from slamfeat.bench.config import BenchConfig
from slamfeat.config import load_config, to_dict, to_yaml
from slamfeat.curate.config import CurateConfig
from slamfeat.errors import ConfigError
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.vo.pipeline import PipelineConfig

REPO = Path(__file__).parent.parent


def test_words_override_recipes_override_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("frontend:\n  num_keypoints: 300\n  layers: [2, 5]\nvo:\n  keyframe_px: 11\n")
    config = load_config(PipelineConfig, recipe, ["frontend.num_keypoints=400", "frontend.matcher.method=mutual"])
    assert config.frontend.num_keypoints == 400
    assert config.frontend.layers == [2, 5]
    assert config.vo.keyframe_px == 11.0
    assert config.frontend.matcher.method == "mutual"
    assert config.frontend.selector == PipelineConfig().frontend.selector


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = load_config(PipelineConfig, None, ["frontend.layers=[1,3]", "precision=fp32", "vo.seed=7"])
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(PipelineConfig, tmp_path / "c.yaml") == config
    assert to_dict(config)["vo"]["seed"] == 7


def test_nothing_after_the_sign_is_empty_text(tmp_path: Path) -> None:
    """As `key=''` arrives from a shell."""
    assert load_config(PretrainRecipe, None, ["probes.groups=folders", "probes.groups="]).probes.groups == ""
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(PretrainRecipe, None, ["probes.grups="])
    with pytest.raises(ConfigError, match=r"loop\.steps="):
        load_config(PretrainRecipe, None, ["loop.steps="])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("frontend.num_keypoint=5", "did you mean 'frontend.num_keypoints'"),
        ("frontned.num_keypoints=5", "did you mean 'frontend'"),
        ("vo.zzz=1", "known: "),
        ("refine.method=none", "did you mean 'frontend.refine'"),
        ("frontend.num_keypoints=many", "many"),
        ("frontend.num_keypoints", "key=value"),
        ("frontend.selector.saliency=laplace", "laplace"),
        ("frontend=3", "under frontend"),
        ("vo.min_inliers=2", "min_inliers"),
    ],
)
def test_mistakes_are_explained(word: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(PipelineConfig, None, [word])
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipe_mistakes_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(PipelineConfig, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("frontend: [unclosed")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(PipelineConfig, tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match=r"list\.yaml"):
        load_config(PipelineConfig, tmp_path / "list.yaml")


@pytest.mark.parametrize("recipe", sorted((REPO / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_load_and_are_short(recipe: Path) -> None:
    schemas: dict[str, type] = {
        "bench": BenchConfig, "train": HeadsRecipe, "frontend": PipelineConfig, "pretrain": PretrainRecipe,
        "distill": DistillRecipe, "curate": CurateConfig,
    }  # fmt: skip
    load_config(schemas[recipe.parent.name], recipe)
    assert sum(not line.startswith("#") for line in recipe.read_text().splitlines()) <= 40
