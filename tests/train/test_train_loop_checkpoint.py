"""A run goes on exactly where it stood, whatever stopped it; damaged checkpoints are named and passed over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_toys import ToyConfig, ToyTask, loop, same, weights

from slamfeat.config import to_yaml
from slamfeat.errors import ConfigError, InputError, OutputError, WeightsError
from slamfeat.files import atomic_path
from slamfeat.train import checkpoint as files
from slamfeat.train.checkpoint import checkpoint_steps, load_checkpoint, remove_checkpoints
from slamfeat.train.loop import train
from slamfeat.train.run_folder import best_step, run_weights

REPO = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).parent / "training_toys.py"
FULL: dict[str, Any] = {"accumulate": 2, "ema": 0.9, "save_every": 4, "evaluate_every": 6, "warmup": 3}


def run(out: Path, config: ToyConfig, **options: Any) -> ToyTask:
    task = ToyTask(config)
    train(task, config.loop, out, settings=config, **options)
    return task


def newest(out: Path) -> files.Checkpoint:
    return load_checkpoint(out / "checkpoints", checkpoint_steps(out / "checkpoints")[-1])


def alike(first: Path, second: Path) -> bool:
    """Both runs ended with the same weights, averages and moments."""
    one, other = newest(first), newest(second)
    assert one.average is not None and other.average is not None
    moments = [checkpoint.state["optimizer"]["state"] for checkpoint in (one, other)]
    return (
        one.facts.step == other.facts.step
        and same(one.weights, other.weights)
        and same(one.average, other.average)
        and all(same(moments[0][key], moments[1][key]) for key in moments[0])
    )


def steps_of_log(out: Path) -> list[int]:
    read = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["step"] for line in read if "evaluation" not in line]


def test_killed_at_a_random_moment_and_resumed_it_ends_bit_for_bit_alike(tmp_path: Path) -> None:
    """With dropout, running means, averaged weights, accumulation and threads; killed without a chance to react."""
    config = ToyConfig(loop(steps=60, **FULL), seconds=0.004, size=37)
    recipe = tmp_path / "settings.yaml"
    recipe.write_text(to_yaml(config))
    words = [f"loop.{name}={value}" for name, value in (FULL | {"steps": 60, "batch": 4, "lr": 1e-2}).items()]
    words += ["loop.device=cpu", "loop.log_every=1", "seconds=0.004", "size=37"]
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(killed), "", *words],
        env={**os.environ, "PYTHONPATH": str(REPO)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    moment, deadline = int(np.random.default_rng().integers(9, 40)), time.monotonic() + 60
    while not (killed / "log.jsonl").is_file() or len((killed / "log.jsonl").read_text().splitlines()) < moment:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and steps_of_log(killed)[-1] < 60
    resumed = run(killed, config, resume="last")
    whole = run(tmp_path / "whole", config)
    assert same(weights(resumed), weights(whole))
    assert alike(killed, tmp_path / "whole")
    assert steps_of_log(killed) == list(range(1, 61))


@pytest.mark.parametrize("write", range(1, 9))
def test_dying_at_any_write_of_a_checkpoint_loses_only_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """Checkpoints are of steps 2 and 4, of four files each; the process dies before the nth file is in place."""
    config, written = ToyConfig(loop(steps=5, save_every=2, evaluate_every=0, ema=0.9, workers=0)), 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def write_or_die(*arguments: Any) -> Any:
            nonlocal written
            written += 1
            if written == write:
                raise KeyboardInterrupt
            return real(*arguments)

        return write_or_die

    with monkeypatch.context() as patch:
        patch.setattr(files, "atomic_path", dying(atomic_path))
        patch.setattr(files, "write_text", dying(files.write_text))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "dead", config)
    assert checkpoint_steps(tmp_path / "dead" / "checkpoints") == ([] if write <= 4 else [2])
    other = ToyConfig(loop(steps=5, save_every=3, evaluate_every=0, ema=0.9))  # so that nothing is written over
    run(tmp_path / "dead", other, resume="auto")
    run(tmp_path / "whole", other)
    assert alike(tmp_path / "dead", tmp_path / "whole")
    names = [{path.name for path in (tmp_path / run / "checkpoints").iterdir()} for run in ("dead", "whole")]
    assert names[0] == names[1]


@pytest.mark.parametrize("suffix", [".safetensors", ".ema.safetensors", ".pt", ".json"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken_when_asked(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    config = ToyConfig(loop(steps=12, save_every=4, ema=0.9, evaluate_every=0))
    run(tmp_path / "run", config)
    victim = tmp_path / "run" / "checkpoints" / f"step-00000012{suffix}"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        if suffix == ".json":
            return  # then there is no such checkpoint
        victim.unlink()
    else:
        victim.write_bytes(content[:-40] if damage == "truncated" else content)
    before = weights(run(tmp_path / "whole", config))
    if suffix != ".json" or damage == "truncated":  # one bit of the figures may still read
        with pytest.raises(WeightsError, match=rf"step-00000012\{suffix}: damaged.*step 8: resume=auto"):
            run(tmp_path / "run", config, resume="last")
        begun = run(tmp_path / "run", config, resume="auto", stop=lambda: True)
        assert begun.asked[0] == [32, 33, 34, 35]
        resumed = run(tmp_path / "run", config, resume="last")
        assert resumed.asked[0] == [36, 37, 38, 39]
        assert same(weights(resumed), before)
        assert f"step-00000012{suffix}: damaged" in (tmp_path / "run" / "run.log").read_text()


def test_no_usable_checkpoint(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=2, save_every=1))
    run(tmp_path / "run", config)
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"step-00000002\.pt: damaged.*choose another --out, or remove the folder"):
        run(tmp_path / "run", config, resume="auto")


def test_newest_best_and_every_so_many_are_kept(tmp_path: Path) -> None:
    class Scored(ToyTask):
        calls = 0

        def evaluate(self) -> dict[str, float]:
            self.calls += 1
            return {"score": 1.0 if self.calls == 2 else 0.0}

    config = ToyConfig(loop(steps=31, save_every=3, evaluate_every=7, keep=2, keep_every=9))
    train(Scored(config), config.loop, tmp_path, settings=config)
    assert checkpoint_steps(tmp_path / "checkpoints") == [9, 14, 18, 27, 30, 31]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3 * 6


def test_what_was_the_best_for_an_older_checkpoint_stays_with_it(tmp_path: Path) -> None:
    """The newest one is damaged: the run falls back, and to the end no later one beats what was the best then."""

    class Scored(ToyTask):
        scores = iter([1.0, 0.0, 2.0, 0.5, 0.5])

        def evaluate(self) -> dict[str, float]:
            return {"score": next(self.scores)}

    config, checkpoints = ToyConfig(loop(steps=20, save_every=5, evaluate_every=5, keep=2)), tmp_path / "checkpoints"
    task, count = Scored(config), iter(range(100))
    train(task, config.loop, tmp_path, settings=config, stop=lambda: next(count) == 14)
    assert checkpoint_steps(checkpoints) == [5, 10, 15] and best_step(tmp_path) == 15
    (checkpoints / "step-00000015.pt").write_bytes(b"")
    train(task, config.loop, tmp_path, settings=config, resume="auto")
    assert best_step(tmp_path) == 5 and run_weights(tmp_path)


def test_a_run_that_could_not_be_laid_out_can_be_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    config = ToyConfig(loop(steps=2))
    with monkeypatch.context() as patch:
        patch.setattr("slamfeat.train.run_folder.write_text", full)
        with pytest.raises(OutputError, match="No space left"):
            run(tmp_path / "run", config, resume="auto")
    run(tmp_path / "run", config, resume="auto")
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == [2]


def test_a_kill_while_a_run_is_laid_out_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first write of the settings, and where one begins anew before its first checkpoint."""
    config, out = ToyConfig(loop(steps=2)), tmp_path / "run"
    out.mkdir()
    (out / ".config-abc_1234.yaml").write_text("half")
    run(out, config, stop=lambda: True)
    remove_checkpoints(out / "checkpoints", checkpoint_steps(out / "checkpoints"))

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("slamfeat.train.run_folder.write_text", killed)
        run(out, config, resume="auto")
    run(out, config, resume="auto")
    assert checkpoint_steps(out / "checkpoints") == [2] and not list(out.glob(".config-*"))


@pytest.mark.parametrize("how", ["stop", "minutes"])
def test_a_session_ends_cleanly_and_the_next_goes_on(tmp_path: Path, how: str) -> None:
    config = ToyConfig(loop(steps=40, **FULL), seconds=0.005 if how == "minutes" else 0.0)
    hasty = ToyConfig(loop(steps=40, max_minutes=0.1 / 60, **FULL), seconds=config.seconds)
    task, count = ToyTask(config), iter(range(100))
    result = train(
        task, (hasty if how == "minutes" else config).loop, tmp_path / "run",
        settings=hasty if how == "minutes" else config,
        stop=lambda: how == "stop" and next(count) == 10,
    )  # fmt: skip
    assert result.reason == how and 0 < result.step < 40
    assert newest(tmp_path / "run").facts.step == result.step
    run(tmp_path / "run", config, resume="last")
    run(tmp_path / "whole", ToyConfig(loop(steps=40, **FULL), seconds=config.seconds))
    assert alike(tmp_path / "run", tmp_path / "whole")


def test_resuming_with_other_settings_is_refused_unless_they_change_nothing(tmp_path: Path) -> None:
    run(tmp_path, ToyConfig(loop(steps=4)))
    other = ToyConfig(loop(steps=4, lr=0.5, ema=0.1), noisy=False)
    with pytest.raises(ConfigError, match=r"config\.yaml: .*loop\.lr \(0\.01 there, 0\.5 now\), loop\.ema .*, noisy"):
        run(tmp_path, other, resume="auto")
    run(tmp_path, ToyConfig(loop(steps=4, max_minutes=1.0, workers=0, log_every=5, keep=7)), resume="last")
    with pytest.raises(ConfigError, match=r"the run had 50 samples, not None"):
        facts = json.loads((tmp_path / "checkpoints" / "step-00000004.json").read_text())
        (tmp_path / "checkpoints" / "step-00000004.json").write_text(json.dumps(facts | {"size": 50}))
        run(tmp_path, ToyConfig(loop(steps=4)), resume="last")


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=2))
    with pytest.raises(InputError, match="holds no run to resume"):
        run(tmp_path / "none", config, resume="last")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="already holds something"):
        run(tmp_path / "taken", config, resume="auto")
    with pytest.raises(ConfigError, match="unknown resume 'yes'; use last or auto"):
        run(tmp_path / "none", config, resume="yes")
    with pytest.raises(ConfigError, match="choose one of them"):
        run(tmp_path / "none", config, resume="last", overwrite=True)
    with pytest.raises(ConfigError, match="leave out init"):
        run(tmp_path / "none", config, resume="last", init=tmp_path / "taken")
    assert not (tmp_path / "none").exists()
    run(tmp_path / "none", config, resume="auto")
    assert checkpoint_steps(tmp_path / "none" / "checkpoints") == [2]


def test_a_new_run_begins_from_the_best_weights_of_another(tmp_path: Path) -> None:
    first = ToyConfig(loop(steps=9, ema=0.5, evaluate_every=3))
    run(tmp_path / "first", first)
    best, step = run_weights(tmp_path / "first"), best_step(tmp_path / "first")
    second = ToyConfig(loop(steps=1, lr=1e-30, final_lr=0.0, weight_decay=0.0), noisy=True)
    for init in (tmp_path / "first", *(tmp_path / "first" / "checkpoints").glob(f"*{step}.ema.safetensors")):
        begun = run(tmp_path / f"from-{init.name}", second, init=init)
        assert begun.asked[0] == [0, 1, 2, 3]
        assert torch.equal(weights(begun)["0.weight"], best["0.weight"])
    with pytest.raises(WeightsError, match=r"does not fit this module in .*2\.weight"):
        run(tmp_path / "other", ToyConfig(loop(steps=1), noisy=False), init=tmp_path / "first")
    with pytest.raises(WeightsError, match=r"nothing\.safetensors: cannot be read as weights"):
        run(tmp_path / "other", second, init=tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="holds no checkpoints"):
        run(tmp_path / "other", second, init=tmp_path)
    assert not (tmp_path / "other").exists()


def test_buffers_that_are_replaced_by_others_are_kept(tmp_path: Path) -> None:
    """As a running centre often is: `self.centre = 0.9 * self.centre + ...`."""

    class Centred(ToyTask):
        def __init__(self, config: ToyConfig) -> None:
            super().__init__(config)
            self.module.register_buffer("centre", torch.zeros(1))

        def after_step(self, step: int) -> None:
            self.module.centre = self.module.centre + step

    for out, ends in (("cut", [True, False]), ("whole", [False])):
        for number, early in enumerate(ends):
            config = ToyConfig(loop(steps=6, ema=0.5))
            task = Centred(config)
            train(
                task, config.loop, tmp_path / out, settings=config, resume="last" if number else "",
                stop=lambda early=early, task=task: early and int(task.module.centre) == 1 + 2 + 3,
            )  # fmt: skip
        assert float(task.module.centre) == 21 == float(run_weights(tmp_path / out)["centre"])
    assert alike(tmp_path / "cut", tmp_path / "whole")
