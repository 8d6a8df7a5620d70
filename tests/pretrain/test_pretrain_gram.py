"""Gram anchoring, and a second phase at another size of crops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pretrain_runs import small_recipe
from safetensors.torch import load_file
from torch.nn import functional as F

from slamfeat.errors import ConfigError, InputError, WeightsError
from slamfeat.pretrain.recipe import GramConfig, PretrainRecipe
from slamfeat.pretrain.run import make_task, open_data, pretrain
from slamfeat.pretrain.task import PretrainTask

GRAM = ("objective.gram=1.0", "gram.from_step=2", "gram.refresh=3", "gram.most=1", "teacher.momentum=0.5")


def made(recipe: PretrainRecipe) -> PretrainTask:
    return make_task(recipe, *open_data(recipe.data))


def by_cubics(grid: torch.Tensor) -> torch.Tensor:
    """(C, n, n) at the centres of 4 x 4 cells by Keys' cubic convolution (1981) with a = -3/4, edges repeated."""

    def weight(x: float) -> float:
        x, a = abs(x), -0.75
        return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    count = grid.shape[-1]
    rows = torch.zeros(4, count)
    for cell in range(4):
        centre = (cell + 0.5) * count / 4 - 0.5
        for place in range(int(centre) - 1, int(centre) + 3):
            rows[cell, min(max(place, 0), count - 1)] += weight(centre - place)
    return rows @ grid @ rows.T


def test_when_the_gram_teacher_is_renewed() -> None:
    config = GramConfig(from_step=10, refresh=5, most=2)
    assert [step for step in range(60) if config.renewed(step)] == [10, 15, 20]
    assert [step for step in range(60) if GramConfig(from_step=4).renewed(step)] == [4]


@pytest.mark.parametrize("scale", [1, 2])
def test_the_gram_loss_is_the_papers(scale: int) -> None:
    task = made(small_recipe(*GRAM, f"gram.scale={scale}", "model.layer_scale=1", "model.drop_path=0"))
    module = task.module.train()
    before, batch = task.batch([4, 5, 6, 7]), task.batch([8, 9, 10, 11])  # of the second and the third step
    assert "large" not in before and "gram" not in task.loss(before)[1]
    assert batch["large"].shape[-1] == 56 * scale
    module.step.fill_(2)
    found = float(task.loss(batch)[1]["gram"])
    with torch.no_grad():
        crops = task._crops(batch)
        said = module.student(crops, batch["masks"], hide=True).patches
        backbone = task.teacher_backbone()  # at first they are the same
        taught = backbone(backbone.normalize(batch["large"].float() / 255)).patch
        taught = torch.stack([by_cubics(grid) for grid in taught]).flatten(2).mT
    grams = [F.normalize(p, dim=-1) @ F.normalize(p, dim=-1).mT for p in (said, taught)]
    assert found == pytest.approx(float((grams[0] - grams[1]).square().mean()), rel=1e-4)


def test_the_gram_teacher_stands_still_between() -> None:
    task = made(small_recipe(*GRAM))
    module = task.module
    for step in range(1, 9):
        with torch.no_grad():
            for parameter in module.student.parameters():
                parameter.add_(1.0)
        before = module.gram.backbone.norm.bias.clone()
        task.after_step(step)
        changed = not torch.equal(before, module.gram.backbone.norm.bias)
        assert changed == (step in (2, 5))
        if changed:
            torch.testing.assert_close(module.gram.backbone.norm.bias, module.teacher.backbone.norm.bias)
    assert all(not p.requires_grad for p in module.gram.parameters())


def test_a_phase_at_another_size_goes_on_from_the_first(tmp_path: Path) -> None:
    words = ("loop.steps=2", "loop.evaluate_every=0", "loop.save_every=1", "model.grid=4")
    pretrain(small_recipe(*words), tmp_path / "first")
    newest = tmp_path / "first" / "run" / "checkpoints" / "step-00000002.json"
    newest.write_text(json.dumps(json.loads(newest.read_text()) | {"best_step": 1}))  # the end counts, not the best
    second = small_recipe(*words, *GRAM, f"start={tmp_path / 'first'}", "crops.global_size=84")
    task = made(second)
    kept = made(small_recipe(*words)).module
    assert kept.begin_with(tmp_path / "first" / "run") == 2
    last = load_file(newest.with_suffix(".safetensors"))
    assert all(torch.equal(last[name], value) for name, value in kept.state_dict().items() if name != "step")
    state = task.module.state_dict()
    for name, value in kept.state_dict().items():
        assert torch.equal(state[name], value), name
    for name, value in task.module.teacher.backbone.state_dict().items():
        assert torch.equal(state[f"gram.backbone.{name}"], value)
    said: list[str] = []
    asked = iter([True])
    result = pretrain(second, tmp_path / "second", say=said.append, stop=lambda: next(asked, False))
    assert result.training.step == 1 and f"beginning with step 2 of {tmp_path / 'first'}" in said
    with pytest.raises(ConfigError, match=r"positions of a grid of 4, not 6 as here; set model\.grid=4"):
        made(small_recipe(f"start={tmp_path / 'first'}", "crops.global_size=84"))
    with pytest.raises(WeightsError, match="does not fit"):
        made(small_recipe("model.grid=4", f"start={tmp_path / 'first'}", "model.depth=3"))
    shutil.rmtree(tmp_path / "first")  # what is begun needs it no more
    result = pretrain(second, tmp_path / "second")
    assert result.training.step == 2 and result.backbone is not None
    with pytest.raises(InputError, match="holds no checkpoints of a pretraining"):
        made(small_recipe(f"start={tmp_path / 'nowhere'}"))
