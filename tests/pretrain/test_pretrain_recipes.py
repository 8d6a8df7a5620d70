"""The recipes of the package hold what they say, and nothing that is unknown."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any

import pytest

from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.registry import find_entry
from slamfeat.config import load_config
from slamfeat.frontend.pretrained import SHIPPED
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
    shipped = SHIPPED.get(recipe.teacher)
    depth = int(read_metadata(shipped)["depth"]) if shipped else find_entry(recipe.teacher).architecture.depth
    for pair in recipe.dense.layers if recipe.dense.weight else []:
        assert -depth <= pair[1] < depth
        for student in recipe.students:
            own = student.architecture(recipe.crops.global_size).depth
            assert -own <= pair[0] < own


EPOCH = 1250
SHORT = {
    "loop.steps": 100 * EPOCH, "loop.warmup": 10 * EPOCH, "loop.weight_decay": 0.04, "loop.final_weight_decay": 0.4,
    "loop.final_lr": 1e-6, "loop.clip": 3.0, "teacher.momentum": 0.992, "teacher.final_momentum": 1.0,
    "teacher.temperature": 0.04, "teacher.final_temperature": 0.07, "teacher.warmup": 30 * EPOCH,
    "rates.last_layer_from": EPOCH, "rates.patch_embed": 0.2, "objective.koleo": 0.1, "masks.share": 0.5,
    "dino_head.prototypes": 65536, "dino_head.bottleneck": 256, "model.layer_scale": 1e-5,
}  # fmt: skip
VALUES: dict[str, dict[str, Any]] = {
    # ssl_default_config.yaml of the released code, at 32 processes of 64 images
    "pretrain/vitl14_short": SHORT | {
        "loop.batch": 32 * 64, "loop.lr": pytest.approx(4e-3 * 2**0.5, rel=1e-3), "model.drop_path": 0.3,
        "rates.layer_decay": 0.9, "objective.separate_heads": False, "teacher.targets": "centring",
        "teacher.centre_momentum": 0.9,
    },
    "pretrain/vits14": SHORT | {
        "loop.batch": 1024, "loop.lr": 4e-3 / 4, "rates.layer_decay": 1.0, "objective.separate_heads": True,
        "teacher.targets": "sinkhorn",
    },
    # arXiv 2304.07193, Sec. 4 and Table 16: the curves of vitg14, in short
    "pretrain/vitg14_518": {
        "crops.global_size": 518, "loop.steps": 10_000, "loop.batch": 3072, "loop.final_lr": 1e-6,
        "loop.warmup": round(10_000 * 80 / 500), "loop.weight_decay": 0.04, "loop.final_weight_decay": 0.2,
        "teacher.momentum": 0.994, "teacher.targets": "sinkhorn", "model.drop_path": 0.4, "model.like": "dinov2-vitg14",
        "teacher.temperature": 0.04, "teacher.final_temperature": 0.07, "teacher.warmup": round(10_000 * 30 / 500),
        "rates.last_layer_from": round(10_000 * 1 / 500),
        "dino_head.prototypes": 131072, "dino_head.bottleneck": 384, "ibot_head.prototypes": 131072,
        "ibot_head.bottleneck": 256,
    },
    # Table 16, and Sec. 5 for what is kept
    "distill/distill_vits14_from_vitg14": {
        "teacher": "dinov2-vitg14", "students.0.like": "dinov2-vits14", "students.0.drop_path": 0.0,
        "students.0.layer_scale": 1e-5, "loop.steps": 500 * EPOCH, "loop.warmup": 80 * EPOCH, "loop.batch": 2048,
        "loop.lr": 1e-3, "loop.weight_decay": 0.04, "loop.final_weight_decay": 0.2, "loop.ema": 0.994,
        "loop.final_ema": 1.0, "loop.clip": 3.0, "rates.patch_embed": 0.2, "rates.layer_decay": 1.0,
        "rates.last_layer_from": EPOCH, "prototypes.dino": 1.0, "prototypes.ibot": 1.0, "prototypes.koleo": 0.1,
        "prototypes.temperature": 0.1, "prototypes.head.hidden": 2048, "prototypes.head.layers": 3,
        "crops.global_size": 224, "crops.local_size": 98, "crops.local_count": 8,
    },
}  # fmt: skip


def value_of(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings[int(part)] if part.isdigit() else getattr(settings, part)
    return settings


@pytest.mark.parametrize("name", VALUES)
def test_recipes_have_the_published_values(name: str) -> None:
    """Of Tables 16 and 17 of arXiv 2304.07193 and the configs released with it, written down by hand."""
    kind, stem = name.split("/")
    recipe = load_config(PretrainRecipe if kind == "pretrain" else DistillRecipe, find_recipe(stem, kind))
    assert {key: value_of(recipe, key) for key in VALUES[name]} == VALUES[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_processes_of_the_command_can_share_a_batch(path: Path) -> None:
    """The command is in the recipe's head; gradients of every process are of images with neighbours."""
    numbers = [int(n) for n in re.findall(r"--(?:nnodes|nproc-per-node) (\d+)", path.read_text())]
    assert bool(numbers) == ("torchrun" in path.read_text())
    load_config(PretrainRecipe if path.parent.name == "pretrain" else DistillRecipe, path).check_shared(prod(numbers))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_says_what_it_takes(path: Path) -> None:
    assert re.search(r"\d GB", "".join(line for line in path.read_text().splitlines() if line.startswith("#")))


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
