"""The recipes of the package hold what they say, and nothing that is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.registry import find_entry
from slamfeat.config import load_config
from slamfeat.frontend.pretrained import DEFAULT_WEIGHTS
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe_files import find_recipe, recipes_folder

FILES = [*recipes_folder("pretrain").glob("*.yaml"), *recipes_folder("distill").glob("*.yaml")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_can_be_read(path: Path) -> None:
    schema = PretrainRecipe if path.parent.name == "pretrain" else DistillRecipe
    recipe = load_config(schema, path)
    assert recipe.loop.warmup < recipe.loop.steps
    assert len(path.read_text().splitlines()) <= 30 and f"{path.parent.name} {path.stem}" in path.read_text()


@pytest.mark.parametrize("path", sorted(recipes_folder("distill").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_teacher_has_the_blocks_it_is_asked_for(path: Path) -> None:
    """Of the shipped weights there are fewer than of the published ones."""
    recipe = load_config(DistillRecipe, path)
    shipped = recipe.teacher == "default"
    depth = int(read_metadata(DEFAULT_WEIGHTS)["depth"]) if shipped else find_entry(recipe.teacher).architecture.depth
    for pair in recipe.dense.layers if recipe.dense.weight else []:
        assert -depth <= pair[1] < depth
        for student in recipe.students:
            own = student.architecture(recipe.crops.global_size).depth
            assert -own <= pair[0] < own


def test_the_giant_is_the_papers() -> None:
    """Tables 16 and 17 of arXiv 2304.07193, and the released vitg14.yaml."""
    recipe = load_config(PretrainRecipe, find_recipe("vitg14", "pretrain"))
    assert recipe.architecture.embed_dim == 1536 and recipe.architecture.ffn == "swiglu_fused"
    assert recipe.loop.lr == pytest.approx(2e-4 * (3072 / 1024) ** 0.5, rel=5e-3)
    assert (recipe.loop.steps, recipe.loop.warmup, recipe.loop.batch) == (500 * 1250, 80 * 1250, 3072)
    assert (recipe.teacher.momentum, recipe.teacher.warmup, recipe.teacher.targets) == (0.994, 30 * 1250, "sinkhorn")
    assert (recipe.crops.global_size, recipe.crops.local_size, recipe.crops.local_count) == (224, 98, 8)
    assert recipe.architecture.layer_scale == 1e-5 and recipe.objective.koleo == 0.1
    # What it makes loads under the published name: the same tensors.
    published = find_entry("dinov2-vitg14").architecture
    assert (published.embed_dim, published.depth, published.grid) == (1536, 40, recipe.architecture.grid)
