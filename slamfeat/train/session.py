"""A session of a run: steps with their evaluations, checkpoints and lines of the log, until something ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

from slamfeat.errors import ConfigError, TrainingError, WeightsError
from slamfeat.files import atomic_path
from slamfeat.train.checkpoint import (
    Checkpoint,
    Facts,
    load_part,
    prune_checkpoints,
    save_checkpoint,
    save_part,
    torch_bytes,
)
from slamfeat.train.config import LoopConfig
from slamfeat.train.distributed import Ranks
from slamfeat.train.loader import Loaded
from slamfeat.train.log import TrainingLog
from slamfeat.train.meter import Meter
from slamfeat.train.rng import generator_states, generators_untouched, restore_generators, seed_generators, seed_of
from slamfeat.train.run_folder import RunFolder
from slamfeat.train.schedule import ema_decay
from slamfeat.train.sharding import gathered, joined_part, own_part
from slamfeat.train.stepper import NonFiniteStep, Stepper
from slamfeat.train.task import Task
from slamfeat.train.weights import WeightAverage, Weights, copy_weights, kept_weights


class Session:
    """The state of a run in this process.

    Attributes:
        step: steps made; best_step, best_score: of the best evaluation; stale: evaluations since.
    """

    def __init__(self, task: Task, config: LoopConfig, ranks: Ranks, folder: RunFolder) -> None:
        """Begin at step 0 with the weights of the module, which is on its device."""
        self._task, self._config, self._ranks, self._folder = task, config, ranks, folder
        self._stepper = Stepper(task, config, ranks)
        self._average = WeightAverage(self._weights, ema_decay(config)) if config.ema else None
        self._meter = Meter(config.accumulate * config.batch)
        self.step, self.best_step, self.stale, self._saved = 0, 0, 0, 0
        self.best_score: float | None = None
        self._before, self._started = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all its sessions."""
        return self._before + time.perf_counter() - self._started

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take up a run where it stood: exactly with as many processes as it had, else with new random numbers.

        Raises:
            ConfigError: it had another number of samples, or, where parameters are sharded, of processes.
            WeightsError: it does not fit the task.
        """
        facts, what = checkpoint.facts, f"checkpoint of step {checkpoint.facts.step} in {self._folder.checkpoints}"
        if facts.size != self._task.size:
            raise ConfigError(f"{what}: the run had {facts.size} samples, not {self._task.size}; resume with as many")
        if self._config.shard and facts.world != self._ranks.world:
            raise ConfigError(
                f"{what}: the run's optimizer is shared out among {facts.world} processes, not {self._ranks.world};"
                " resume with as many"
            )
        copy_weights(checkpoint.weights, self._weights(), what)
        if self._average is not None:
            copy_weights(checkpoint.average or {}, self._average.average, what)
        try:
            self._stepper.optimizer.load_state_dict(self._optimizer_of(checkpoint))
        except (KeyError, ValueError, IndexError) as error:
            raise WeightsError(f"{what}: its optimizer does not fit this task ({error})") from error
        if facts.world == self._ranks.world:
            restore_generators(checkpoint.state["generators"][self._ranks.rank])
        else:
            seed_generators(seed_of(self._config.seed, facts.step, self._ranks.rank))
        self.step = self._saved = facts.step
        self.best_step, self.best_score, self.stale = facts.best_step, facts.best_score, facts.stale
        self._before = facts.seconds

    def check_score(self) -> None:
        """Evaluate once where a recipe chooses its figure, so that a wrong name does not cost the steps until then.

        Raises:
            ConfigError: the evaluation has no figure of that name.
        """
        if self._config.evaluate_every and self._config.score != LoopConfig.score:
            self._figures()

    def run(self, batches: Iterator[Loaded], log: TrainingLog | None, stop: Callable[[], bool]) -> str:
        """Train until the end; a checkpoint is left in any case.

        Args:
            batches: micro-batches from the next step on.
            log: None in processes that write nothing.
            stop: asked after each step.

        Returns:
            What ended it: "steps", "patience", "minutes" or "stop".

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        self._set_training()
        while not (reason := self._finished()):
            self._make_step(batches, log)
            if reason := self._interrupted(stop):
                break
        self._save()
        return reason

    def _finished(self) -> str:
        if self.step >= self._config.steps:
            return "steps"
        return "patience" if self._config.patience and self.stale >= self._config.patience else ""

    def _interrupted(self, stop: Callable[[], bool]) -> str:
        minutes = (time.perf_counter() - self._started) / 60
        late, asked = self._ranks.any(bool(self._config.max_minutes) and minutes >= self._config.max_minutes, stop())
        if self._finished():
            return ""
        return "stop" if asked else "minutes" if late else ""

    def _make_step(self, batches: Iterator[Loaded], log: TrainingLog | None) -> None:
        try:
            self._stepper.step(self.step, batches, self._meter)
        except NonFiniteStep as failure:
            self._fail(failure, log)
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        last = self.step == self._config.steps
        if self.step % self._config.log_every == 0 or last:
            self._log(log)
        every = self._config.evaluate_every
        better = bool(every) and (self.step % every == 0 or last) and self._evaluate(log)
        if better or self.step % self._config.save_every == 0:
            self._save()

    def _log(self, log: TrainingLog | None) -> None:
        meter = self._meter
        figures = self._ranks.mean({**meter.figures(), "wait_percent": meter.waited_percent})
        waited = figures.pop("wait_percent")
        if log is not None:
            log.step({
                "step": self.step, "lr": self._stepper.lr, **figures, "grad_norm": meter.norm,
                f"{self._config.unit}_per_s": meter.rate, "wait_percent": waited,
                "elapsed_s": self.seconds, "eta_s": meter.left(self._config.steps - self.step),
            })  # fmt: skip
        meter.clear()

    def _evaluate(self, log: TrainingLog | None) -> bool:
        """Evaluate; whether it is the best so far."""
        started = time.perf_counter()
        figures = self._figures()
        score = figures[self._config.score]
        better = math.isfinite(score) and (self.best_score is None or score > self.best_score)
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best_step, self.best_score = self.step, score
        if log is not None:
            log.evaluation(self.step, figures, time.perf_counter() - started, better)
        return better

    def _figures(self) -> dict[str, float]:
        with generators_untouched(), self._average.in_place() if self._average is not None else nullcontext():
            self._task.module.eval()
            figures = self._ranks.mean(self._task.evaluate())
        self._set_training()
        if self._config.score not in figures:
            known = ", ".join(figures)
            raise ConfigError(f"the evaluation has no figure '{self._config.score}'; set score to one of {known}")
        return figures

    def _save(self) -> None:
        if self._saved == self.step:
            return
        folder, optimizer = self._folder.checkpoints, self._stepper.optimizer.state_dict()
        state: dict[str, Any] = {"generators": self._ranks.gather(generator_states())}
        weights, average = self._weights(), None if self._average is None else self._average.average
        parts: list[tuple[str, str]] = []
        if self._config.shard:
            parts = self._ranks.gather(save_part(folder, self.step, self._ranks.rank, own_part(optimizer)))
            weights = gathered(weights, self._ranks.first)
            average = None if average is None else gathered(average, self._ranks.first)
        else:
            state["optimizer"] = optimizer
        self._saved = self.step
        if not self._ranks.first:
            return
        facts = Facts(
            self.step, self.best_step, self.best_score, self.stale, self.seconds, self._ranks.world, self._task.size
        )
        save_checkpoint(folder, Checkpoint(facts, weights, average, state), dict(parts))
        prune_checkpoints(self._folder.checkpoints, self._config.keep, self.best_step, self._config.keep_every)

    def _optimizer_of(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Its state dict, or this process's part of it."""
        if not self._config.shard:
            return dict(checkpoint.state["optimizer"])
        part = load_part(self._folder.checkpoints, checkpoint.facts.step, self._ranks.rank)
        return joined_part(part, self._stepper.optimizer)

    def _fail(self, failure: NonFiniteStep, log: TrainingLog | None) -> NoReturn:
        """Keep what is needed to look into it, and say so in all processes.

        Raises:
            TrainingError: always.
        """
        path = self._folder.nonfinite / f"step-{self.step + 1:08d}.pt"
        self._save()  # first: what is kept besides may be more than fits
        suspects: list[Sequence[Loaded]] = self._ranks.gather(list(failure.suspects))
        if self._ranks.first:
            loaded = [one for process in suspects for one in process]
            kept: dict[str, Any] = {
                "step": self.step + 1, "what": failure.what, "indices": [one.indices for one in loaded],
                "batches": [{name: value.clone() for name, value in one.batch.items()} for one in loaded],
            }  # fmt: skip
            with atomic_path(path) as temporary:
                temporary.write_bytes(torch_bytes(kept))
        self._ranks.meet()  # torchrun ends all processes as soon as one has failed
        said = (
            f"step {self.step + 1}: the {failure.what} is not finite; its batch is kept in {path} and the state before"
            f" the step in {self._folder.checkpoints}; look at the batch, or begin another run with a lower lr or clip"
        )
        if log is not None:
            log.event(said)
        raise TrainingError(said) from failure

    def _weights(self) -> Weights:
        return kept_weights(self._task.module, self._task.frozen)

    def _set_training(self) -> None:
        self._task.module.train()
        for network in self._task.frozen:
            network.eval()
