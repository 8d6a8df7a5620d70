"""The loop learns what a loop written by hand learns, and stops, measures and complains as it says."""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from training_toys import GradientToy, ToyConfig, ToyTask, loop, same, weights

from slamfeat.config import load_config
from slamfeat.errors import ConfigError, OutputError, TrainingError
from slamfeat.train.config import LoopConfig
from slamfeat.train.loader import load_batches
from slamfeat.train.loop import train
from slamfeat.train.meter import Meter
from slamfeat.train.run_folder import run_weights
from slamfeat.train.schedule import Schedule
from slamfeat.train.task import Batch


def lines(out: Path, evaluations: bool = False) -> list[dict[str, Any]]:
    """The log's lines of steps, or of evaluations."""
    read = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in read if ("evaluation" in line) == evaluations]


def run(out: Path, config: ToyConfig, **options: Any) -> ToyTask:
    task = ToyTask(config)
    train(task, config.loop, out, settings=config, **options)
    return task


def test_it_learns_what_a_loop_by_hand_learns(tmp_path: Path) -> None:
    """AdamW, warm-up and cosine, clipping and accumulation, written out once more with torch alone."""
    config = ToyConfig(
        loop(steps=30, accumulate=2, warmup=5, weight_decay=0.1, final_weight_decay=0.4, clip=0.5, final_lr=1e-3),
        noisy=False,
    )
    task = run(tmp_path / "run", config)

    own = ToyTask(config)
    adam = torch.optim.AdamW(own.module.parameters(), lr=1.0)
    for step in range(30):
        angle = np.pi * (step - 5) / 24
        rate = 1e-2 * (step + 1) / 6 if step < 5 else 1e-3 + (1e-2 - 1e-3) * (1 + np.cos(angle)) / 2
        decay = 0.4 + (0.1 - 0.4) * (1 + np.cos(np.pi * step / 29)) / 2
        adam.param_groups[0].update(lr=rate, weight_decay=decay)
        loss, _ = own.loss(own.batch(range(8 * step, 8 * step + 8)))
        adam.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(own.module.parameters(), 0.5)
        adam.step()
        line = lines(tmp_path / "run")[step]
        assert line["lr"] == pytest.approx(rate)
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert line["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    for name, value in own.module.state_dict().items():
        torch.testing.assert_close(task.module.state_dict()[name], value, atol=1e-5, rtol=1e-5)


def test_groups_have_rates_and_decays_of_their_own(tmp_path: Path) -> None:
    class Groups(ToyTask):
        def parameter_groups(self) -> list[dict[str, Any]]:
            first, _, last = self.module
            return [
                {"params": list(first.parameters()), "lr_scale": 0.0},
                {"params": list(last.parameters()), "weight_decay": 0.5, "lr_scale": 0.1},
            ]

    config = ToyConfig(loop(steps=1, lr=1e-2, beta1=0.0, beta2=0.0, clip=0.0), noisy=False)
    task = Groups(config)
    before = weights(task)
    loss, _ = task.loss(task.batch(range(4)))
    loss.backward()
    signs = {name: p.grad.sign() for name, p in task.module.named_parameters() if p.grad is not None}
    train(task, config.loop, tmp_path / "run", settings=config)
    after = weights(task)
    assert torch.equal(after["0.weight"], before["0.weight"])
    # Without momenta Adam steps by the rate along the sign, after the decay.
    wanted = before["2.weight"] * (1 - 1e-3 * 0.5) - 1e-3 * signs["2.weight"]
    torch.testing.assert_close(after["2.weight"], wanted, atol=1e-6, rtol=0)


def test_groups_are_clipped_together_or_apart(tmp_path: Path) -> None:
    """Each part by the norm of its own gradient, as if the other were not there."""

    class Apart(ToyTask):
        def parameter_groups(self) -> list[dict[str, Any]]:
            first, _, last = self.module
            return [
                {"params": [first.weight], "clipped": "first"}, {"params": list(last.parameters())},
                {"params": [first.bias], "clipped": "first"},
            ]  # fmt: skip

        def after_step(self, step: int) -> None:
            self.gradients = {name: p.grad.clone() for name, p in self.module.named_parameters() if p.grad is not None}

    config = ToyConfig(loop(steps=1, clip=1e-3), noisy=False)
    own, task = ToyTask(config), Apart(config)
    own.loss(own.batch(range(4)))[0].backward()
    first, last = own.module[0].parameters(), own.module[2].parameters()
    norms = [float(nn.utils.clip_grad_norm_(part, 1e-3)) for part in (first, last)]
    train(task, config.loop, tmp_path / "run", settings=config)
    assert min(norms) > 1e-3 and lines(tmp_path / "run")[0]["grad_norm"] == pytest.approx(math.hypot(*norms), rel=1e-5)
    for name, parameter in own.module.named_parameters():
        torch.testing.assert_close(task.gradients[name], parameter.grad, msg=name)


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", ToyConfig(loop(workers=0)))
    threaded = run(tmp_path / "threads", ToyConfig(loop(workers=3, ahead=7), seconds=0.002))
    assert same(weights(plain), weights(threaded))
    assert sorted(threaded.asked) == plain.asked


def test_evaluating_does_not_change_the_training(tmp_path: Path) -> None:
    never = run(tmp_path / "never", ToyConfig(loop(evaluate_every=0)))
    often = run(tmp_path / "often", ToyConfig(loop(evaluate_every=3, ema=0.9)))
    assert same(weights(never), weights(often))


def test_every_sample_comes_once_an_epoch(tmp_path: Path) -> None:
    """Seven samples in batches of two: fourteen batches are four epochs, each in another order."""
    task = run(tmp_path / "run", ToyConfig(loop(steps=14, batch=2, workers=0), size=7))
    seen = np.array(task.asked).reshape(4, 7)
    assert np.array_equal(np.sort(seen, axis=1), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(epoch) for epoch in seen}) > 1
    other = run(tmp_path / "other", ToyConfig(loop(steps=14, batch=2, workers=0, seed=1), size=7))
    assert other.asked != task.asked


def test_overfitting_sees_one_batch(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=150, lr=0.05, overfit=True, accumulate=2, workers=0), noisy=False)
    task = run(tmp_path / "run", config)
    assert task.asked == [[0, 1, 2, 3], [4, 5, 6, 7]] * 150
    assert np.mean(task.losses[-2:]) < 0.03 * np.mean(task.losses[:2])


@pytest.mark.parametrize("final", [None, 0.5])
def test_the_averaged_weights_are_evaluated_and_exported(tmp_path: Path, final: float | None) -> None:
    history: list[dict[str, Tensor]] = []
    evaluated: list[dict[str, Tensor]] = []

    class Watched(ToyTask):
        def after_step(self, step: int) -> None:
            assert step == len(history) + 1
            history.append(weights(self))

        def evaluate(self) -> dict[str, float]:
            evaluated.append(weights(self))
            return super().evaluate()

    config = ToyConfig(loop(steps=12, ema=0.2, final_ema=final, evaluate_every=12))
    task = Watched(config)
    average = weights(task)
    train(task, config.loop, tmp_path / "run", settings=config)
    for step, now in enumerate(history, start=1):
        wanted = 0.2 if final is None else final - (final - 0.2) * (1 + math.cos(math.pi * (step - 1) / 11)) / 2
        decay = min(wanted, (1 + step) / (10 + step))
        for name in ("0.weight", "4.bias"):
            average[name] = decay * average[name] + (1 - decay) * now[name]
    for name in ("0.weight", "4.bias"):
        torch.testing.assert_close(evaluated[0][name], average[name], atol=1e-6, rtol=1e-5)
    assert torch.equal(evaluated[0]["2.running_mean"], history[-1]["2.running_mean"])
    assert same(run_weights(tmp_path / "run"), evaluated[0])
    assert same(weights(task), history[-1])


class Scored(ToyTask):
    """Has the scores it is given."""

    def __init__(self, config: ToyConfig, scores: Sequence[float]) -> None:
        super().__init__(config)
        self.scores, self.at = list(scores), list[dict[str, Tensor]]()

    def evaluate(self) -> dict[str, float]:
        assert not self.module.training
        self.at.append(weights(self))
        return {"auc": self.scores.pop(0), "other": 1.0}


def test_patience_ends_the_run_and_the_best_is_kept(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=100, evaluate_every=2, score="auc", patience=3, save_every=7, keep=1))
    task = Scored(config, [0.0, 0.1, 0.4, float("nan"), 0.2, 0.4, 9.0])  # the first only shows that there is an auc
    result = train(task, config.loop, tmp_path / "run", settings=config)
    assert (result.step, result.reason, result.best_step, result.best_score) == (10, "patience", 4, 0.4)
    assert same(run_weights(tmp_path / "run"), task.at[2])
    assert [line["best"] for line in lines(tmp_path / "run", evaluations=True)] == [True, True, False, False, False]
    again = train(Scored(config, []), config.loop, tmp_path / "run", settings=config, resume="last")
    assert (again.step, again.reason) == (10, "patience")


def test_a_score_that_is_not_there_is_said_before_the_first_step(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=2, evaluate_every=2, score="recall"))
    with pytest.raises(ConfigError, match=r"no figure 'recall'; set score to one of auc, other"):
        train(Scored(config, [1.0]), config.loop, tmp_path / "run", settings=config)
    assert not (tmp_path / "run").exists()


def test_a_part_that_begins_between_two_lines_is_the_mean_of_its_own_steps() -> None:
    meter = Meter(1)
    for parts in ({"dino": 1.0}, {"dino": 2.0, "gram": 4.0}, {"dino": 6.0, "gram": 2.0}):
        meter.begin()
        meter.add(torch.tensor(8.0), parts, 0.0)
        meter.end(0.0)
    assert meter.figures() == {"loss": 8.0, "dino": 3.0, "gram": 3.0}


def test_frozen_networks_must_be_frozen(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=2))
    task = ToyTask(config)
    backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).requires_grad_(False)
    task.frozen = (backbone,)
    backbone[1].weight.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"parameter '1\.weight' of the frozen Sequential asks for a gradient"):
        train(task, config.loop, tmp_path / "run", settings=config)
    assert not (tmp_path / "run").exists()


def test_frozen_parts_of_the_module_stay_in_evaluation_mode_and_out_of_checkpoints(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=2))
    task = ToyTask(config)
    backbone = nn.BatchNorm1d(2).requires_grad_(False)
    task.module = nn.Sequential(backbone, task.module)
    task.frozen = (backbone,)
    train(task, config.loop, tmp_path / "run", settings=config)
    assert torch.equal(backbone.running_mean, torch.zeros(2))
    assert not any(name.startswith("0.") for name in run_weights(tmp_path / "run"))


@pytest.mark.parametrize("micro", [0, 1])
def test_an_infinite_loss_stops_the_run_and_keeps_batch_and_state(tmp_path: Path, micro: int) -> None:
    """The poisoned sample is in step 6 (counted from 1); what is kept repeats the failure, and is from before it."""
    config = ToyConfig(loop(steps=20, accumulate=2), poisoned=5 * 8 + 4 * micro + 1)
    with pytest.raises(TrainingError, match=r"step 6: the loss is not finite.*step-00000006\.pt") as caught:
        run(tmp_path / "run", config)
    kept = torch.load(tmp_path / "run" / "nonfinite" / "step-00000006.pt", weights_only=True)
    assert kept["indices"] == [list(range(40 + 4 * micro, 44 + 4 * micro))]
    assert kept["batches"][0]["y"][1] == np.float32(1e30)
    assert str(caught.value) in (tmp_path / "run" / "run.log").read_text()
    with pytest.raises(TrainingError, match="step 6"):
        run(tmp_path / "run", config, resume="last")
    healthy = ToyConfig(loop(steps=20, accumulate=2))
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace(f"poisoned: {config.poisoned}", "poisoned: -1"))
    resumed = run(tmp_path / "run", healthy, resume="last")
    assert same(weights(resumed), weights(run(tmp_path / "whole", healthy)))


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    class Root(ToyTask):
        def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
            return (super().loss(batch)[0] * 0).sqrt(), {}  # finite, its slope is not

    config = ToyConfig(loop(steps=3, accumulate=2))
    with pytest.raises(TrainingError, match="step 1: the gradient is not finite"):
        train(Root(config), config.loop, tmp_path / "run", settings=config)
    kept = torch.load(tmp_path / "run" / "nonfinite" / "step-00000001.pt", weights_only=True)
    assert kept["indices"] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_bf16_is_for_the_loss_alone(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Watched(ToyTask):
        def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
            seen.append(self.module(batch["x"]).dtype)
            return super().loss(batch)

        def evaluate(self) -> dict[str, float]:
            seen.append(self.module(torch.zeros(1, 2)).dtype)
            return super().evaluate()

    config = ToyConfig(loop(steps=1, precision="bf16", evaluate_every=1), noisy=False)
    task = Watched(config)
    train(task, config.loop, tmp_path / "run", settings=config)
    assert seen == [torch.bfloat16, torch.float32]
    assert {value.dtype for value in weights(task).values()} == {torch.float32}


def test_rates_do_not_count_evaluations_and_waiting_shows(tmp_path: Path) -> None:
    class Slow(ToyTask):
        def evaluate(self) -> dict[str, float]:
            time.sleep(0.8)
            return super().evaluate()

    config = ToyConfig(loop(steps=4, evaluate_every=2, workers=0), seconds=0.03)
    train(Slow(config), config.loop, tmp_path / "run", settings=config)
    for line in lines(tmp_path / "run"):
        assert 4 / 0.4 < line["pairs_per_s"] < 4 / 0.03
        assert 30 < line["wait_percent"] <= 100
        assert (4 - line["step"]) * 0.03 <= line["eta_s"] < (4 - line["step"]) * 0.4 + 1e-9
    assert lines(tmp_path / "run")[-1]["elapsed_s"] > 0.8
    quick = ToyConfig(loop(steps=8, evaluate_every=0, workers=4, ahead=8), seconds=0.05)

    class Thinking(ToyTask):
        def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
            time.sleep(0.03)
            return super().loss(batch)

    train(Thinking(quick), quick.loop, tmp_path / "quick", settings=quick)
    assert np.median([line["wait_percent"] for line in lines(tmp_path / "quick")]) < 40  # 62 one after the other


def test_a_line_stands_for_the_steps_since_the_last(tmp_path: Path) -> None:
    task = run(tmp_path / "run", ToyConfig(loop(steps=7, log_every=3, accumulate=2)))
    wanted = [np.mean(task.losses[0:6]), np.mean(task.losses[6:12]), np.mean(task.losses[12:14])]
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 6, 7]
    assert [line["loss"] for line in lines(tmp_path / "run")] == pytest.approx(wanted, rel=1e-6)
    assert {line["count"] for line in lines(tmp_path / "run")} == {4.0}


def test_the_folder_and_the_console(tmp_path: Path) -> None:
    said = io.StringIO()
    config = ToyConfig(loop(steps=4, evaluate_every=2, save_every=4, log_every=2, unit="images"))
    out = tmp_path / "runs" / "toy"
    run(out, config, command="slamfeat train toy", console=Console(file=said))
    assert {path.name for path in out.iterdir()} == {"config.yaml", "log.jsonl", "run.log", "checkpoints"}
    assert (out / "config.yaml").read_text().startswith("# slamfeat train toy\n")
    assert load_config(ToyConfig, out / "config.yaml") == config
    text = said.getvalue()
    for word in ("step 2:", "loss ", "bias ", "grad_norm ", "images_per_s ", "wait_percent ", " left", "score "):
        assert word in text
    assert "\x1b" not in text
    shown = io.StringIO()
    run(tmp_path / "terminal", config, console=Console(file=shown, force_terminal=True, width=80))
    assert "4/4" in shown.getvalue() and "images_per_s" in shown.getvalue()
    assert "step 4: score" in (out / "run.log").read_text()


def test_a_taken_folder_is_refused_and_overwriting_spares_what_is_not_the_runs(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=3))
    run(tmp_path, config)
    (tmp_path / "notes.txt").write_text("mine")
    before = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(OutputError, match=r"already holds something; choose another --out, or remove it"):
        run(tmp_path, config)
    assert (tmp_path / "log.jsonl").read_text() == before
    shorter = ToyConfig(loop(steps=2))
    run(tmp_path, shorter, overwrite=True)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert load_config(ToyConfig, tmp_path / "config.yaml") == shorter


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup": 20}, "warmup must be at least 0 and below steps=20"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; use one of fp32, bf16"),
        ({"ema": 1.0}, "ema must be"),
        ({"ema": 0.9, "final_ema": 0.8}, "final_ema must lie between"),
        ({"final_ema": 0.8}, "final_ema must lie between"),
        ({"patience": 2, "evaluate_every": 0}, "patience counts evaluations"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"max_minutes": -1.0}, "max_minutes must not be negative"),
        ({"final_weight_decay": -0.1}, "final_weight_decay must not be negative"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loop(**settings)


def test_schedules_have_their_ends() -> None:
    schedule = Schedule.of(LoopConfig(steps=1000, lr=2.0, final_lr=0.5, warmup=100, weight_decay=0.04))
    assert len(schedule.lr) == len(schedule.weight_decay) == 1000
    assert schedule.lr[100] == 2.0 and schedule.lr[-1] == 0.5
    np.testing.assert_allclose(np.diff(schedule.lr[:101]), 2.0 / 101)
    assert np.all(np.diff(schedule.lr[100:]) < 0)
    assert np.all(schedule.weight_decay == 0.04)
    assert np.array_equal(Schedule.of(LoopConfig(steps=1, lr=3.0)).lr, [3.0])


def test_batches_are_made_ahead_but_not_far(tmp_path: Path) -> None:
    started: list[int] = []

    def make(indices: list[int]) -> Batch:
        started.append(indices[0])
        time.sleep(0.002 * (indices[0] % 3))  # threads overtake one another
        return {"n": torch.tensor(indices)}

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("slamfeat-batches")]

    with load_batches(make, ([n] for n in range(100)), workers=3, ahead=4) as batches:
        for number in range(20):
            loaded = next(batches)
            assert loaded.indices == loaded.batch["n"].tolist() == [number]
            assert len(started) <= number + 1 + 4
        deadline = time.monotonic() + 5
        while len(started) < 24 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(started) == 24 and len(threads()) == 3
    assert len(started) == 24 and not threads()


def test_an_error_of_the_data_comes_through(tmp_path: Path) -> None:
    class Broken(GradientToy):
        def batch(self, indices: Sequence[int]) -> Batch:
            if 12 in indices:
                raise OutputError("disk on fire")
            return super().batch(indices)

    config = ToyConfig(loop(steps=9, workers=2))
    task = Broken(config)
    with pytest.raises(OutputError, match="disk on fire"):
        train(task, config.loop, tmp_path / "run", settings=config)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3]
