"""The matcher's loss put together by hand, what moves how fast, and what a teacher holds it to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matcher_toys import MODEL, made_up_pairs, matcher_task
from torch import Tensor

from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.matcher import MatcherInput, normalize_positions
from slamfeat.train.cache import PairCache
from slamfeat.train.config import LoopConfig
from slamfeat.train.draw import first_of_batch, judged_layers
from slamfeat.train.loop import train
from slamfeat.train.losses import assignment_divergence, matching_nll, settled_losses
from slamfeat.train.matcher_task import MatcherTask, MatcherTaskConfig
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.run_folder import run_weights
from slamfeat.train.weights import Weights


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> PairCache:
    return made_up_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def knowing(cache: PairCache, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Weights of a matcher that finds most matches."""
    task = matcher_task(cache, settings(warm_scale=1.0, layers=-1))
    train(task, loop(120, lr=1e-2), tmp_path_factory.mktemp("knowing") / "run")
    assert task.evaluate()["recall"] > 0.7
    return dict(task.module.state_dict())


def settings(**values: float) -> MatcherTaskConfig:
    # mypy takes a dict's values for every argument.
    return MatcherTaskConfig(keypoints=12, held_out=4, **values)  # type: ignore[arg-type]


def loop(steps: int, lr: float = 1e-3) -> LoopConfig:
    return LoopConfig(steps=steps, batch=2, lr=lr, weight_decay=0.0, evaluate_every=0, device="cpu", workers=0)


def seen(batch: dict[str, Tensor]) -> list[MatcherInput]:
    """A batch as the matcher is given it."""
    return [
        MatcherInput(
            normalize_positions(batch[f"keypoints{i}"], batch[f"size{i}"]), batch[f"descriptors{i}"],
            batch[f"tokens{i}"], batch[f"mask{i}"],
        )
        for i in (0, 1)
    ]  # fmt: skip


def weights(task: MatcherTask) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in task.module.named_parameters()}


@pytest.mark.parametrize("drawn", [0, 2, -1])
def test_the_loss_is_the_mean_over_judged_layers_and_their_confidences(drawn: int, cache: PairCache) -> None:
    task = matcher_task(cache, settings(layers=drawn))
    batch = task.batch([4, 5, 6])
    loss, parts = task.loss(batch)
    judged = judged_layers(drawn, MODEL.layers, 4)
    with torch.no_grad():
        outputs = list(task.module.layer_outputs(*seen(batch), judged))
        settled = float(settled_losses(task.module, outputs, (batch["mask0"], batch["mask1"])))
    costs = [float(matching_nll(out.scores, batch["index0"], batch["index1"]).loss) for out in outputs]
    assert float(loss.detach()) == pytest.approx(sum(costs) / len(judged) + settled, rel=1e-6)
    assert float(parts["nll"]) == pytest.approx(costs[-1], rel=1e-6)


def test_the_last_layer_is_always_judged_and_each_of_the_others_at_times() -> None:
    drawn = [judged_layers(2, 6, number) for number in range(60)]
    assert all(len(layers) == 3 and layers == sorted(set(layers)) and layers[-1] == 5 for layers in drawn)
    assert {layer for layers in drawn for layer in layers} == set(range(6))
    assert drawn == [judged_layers(2, 6, number) for number in range(60)]
    assert (
        judged_layers(-1, 3, 8) == [0, 1, 2] and judged_layers(0, 3, 8) == [2] and judged_layers(9, 3, 8) == [0, 1, 2]
    )


def test_all_processes_of_a_run_judge_the_same_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert first_of_batch([24, 25, 26, 27, 28, 29]) == 24
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert first_of_batch([24 + 2 * rank, 25 + 2 * rank]) == 24


def test_published_weights_move_at_a_share_of_the_rate(cache: PairCache, tmp_path: Path) -> None:
    """AdamW's first step is as long as the rate, whatever the gradient."""
    task = matcher_task(cache, settings(warm_scale=0.1))
    groups = task.parameter_groups()
    assert {group["name"]: group.get("lr_scale", 1) for group in groups} == {"confidence": 1, "tokens": 1, "warm": 0.1}
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(parameter) for parameter in task.module.parameters())
    before = weights(task)
    train(task, loop(1, lr=1e-2), tmp_path / "run")
    moved = {name: float((value - before[name]).abs().max()) for name, value in weights(task).items()}
    assert moved["tokens.into_layer.0.weight"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["across.0.out.weight"] == pytest.approx(1e-3, rel=1e-3)
    drawn = max(value for name, value in moved.items() if name.startswith("confidence."))
    assert drawn == pytest.approx(1e-2, rel=1e-3)


def test_a_share_of_nothing_freezes_published_weights(cache: PairCache, tmp_path: Path) -> None:
    task = matcher_task(cache, settings(warm_scale=0.0))
    before = weights(task)
    train(task, loop(3), tmp_path / "run")
    moved = {name for name, value in weights(task).items() if not torch.equal(value, before[name])}
    assert "tokens.into_layer.0.weight" in moved
    assert {name.partition(".")[0] for name in moved} == {"tokens", "confidence"}


@torch.no_grad()
def test_a_teacher_costs_how_far_it_is_left_behind(cache: PairCache, knowing: Weights) -> None:
    """Nothing at the start; then its weight times the distance from the matcher as it was."""
    plain, taught = (matcher_task(cache, settings(teacher_weight=weight), knowing) for weight in (0.0, 3.0))
    batch = taught.batch([1, 2])
    (loss, _), (same, parts) = plain.loss(batch), taught.loss(batch)
    assert float(parts["forgotten"]) == 0 and float(same) == float(loss)
    wanted = plain.module(*seen(batch))
    generator = torch.Generator().manual_seed(1)
    noisy = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in knowing.items()}
    for task in (plain, taught):
        task.module.load_state_dict(noisy)
    (loss, _), (more, parts) = plain.loss(batch), taught.loss(batch)
    far = float(assignment_divergence(plain.module(*seen(batch)), wanted, batch["index0"]))
    assert far > 1e-3 and float(parts["forgotten"]) == pytest.approx(far, rel=1e-4)
    assert float(more) == pytest.approx(float(loss) + 3 * far, rel=1e-5)


def test_a_teacher_stays_as_it_was_and_is_not_saved(cache: PairCache, knowing: Weights, tmp_path: Path) -> None:
    """Also in a resumed run, which ends with the weights of one that was not interrupted."""
    config = settings(teacher_weight=5.0, warm_scale=1.0)
    whole, halves = (matcher_task(cache, config, knowing) for _ in range(2))
    teacher = {name: value.clone() for name, value in whole.frozen[0].state_dict().items()}
    train(whole, loop(6, lr=1e-2), tmp_path / "whole")
    assert all(torch.equal(teacher[name], value) for name, value in whole.frozen[0].state_dict().items())
    assert not all(torch.equal(teacher[name], value) for name, value in whole.module.state_dict().items())
    assert run_weights(tmp_path / "whole").keys() == whole.module.state_dict().keys()
    asked = iter([False, False, True])
    train(halves, loop(6, lr=1e-2), tmp_path / "halves", stop=lambda: next(asked))
    halves = matcher_task(cache, config, knowing)
    train(halves, loop(6, lr=1e-2), tmp_path / "halves", resume="last")
    ended = halves.module.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in whole.module.state_dict().items())


def test_a_teacher_without_knowledge_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher_weight"):
        settings(teacher_weight=-1.0)
    words = ['matcher.warm=""', "matcher.task.warm_scale=1", "matcher.task.teacher_weight=1"]
    with pytest.raises(ConfigError, match=r"set matcher\.warm"):
        load_config(HeadsRecipe, None, words)
    assert load_config(HeadsRecipe, None, words[2:]).matcher.task.teacher_weight == 1
