"""One step of the optimizer: gradients of its micro-batches, averaged over the processes, clipped, applied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slamfeat.train.config import LoopConfig
from slamfeat.train.distributed import Ranks
from slamfeat.train.loader import Loaded
from slamfeat.train.meter import Meter
from slamfeat.train.rng import generator_states, restore_generators
from slamfeat.train.schedule import Schedule
from slamfeat.train.sharding import whole
from slamfeat.train.task import Scheduled, StepHook, Task


class NonFiniteStep(Exception):
    """A step was not made: the module and the generators are as they were before it.

    Attributes:
        what: "loss" or "gradient".
        suspects: this process's micro-batches that may have caused it.
    """

    def __init__(self, what: str, suspects: Sequence[Loaded]) -> None:
        super().__init__(what)
        self.what, self.suspects = what, suspects


class Stepper:
    """Moves a task's parameters.

    Attributes:
        optimizer: AdamW (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019).
        lr: rate of the last step.
    """

    def __init__(self, task: Task, config: LoopConfig, ranks: Ranks) -> None:
        """Set up the optimizer; the module is on its device already."""
        self._task, self._config, self._ranks = task, config, ranks
        self._schedule = task.schedule() if isinstance(task, Scheduled) else Schedule.of(config)
        groups = [
            {**group, "lr_scale": group.get("lr_scale", 1.0), "own_weight_decay": group.get("weight_decay")}
            for group in task.parameter_groups()
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
        )
        self._parameters: list[Tensor] = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._clipped = [
            [p for group in self.optimizer.param_groups if group.get("clipped", "") == label for p in group["params"]]
            for label in dict.fromkeys(group.get("clipped", "") for group in self.optimizer.param_groups)
        ]
        self.lr = 0.0

    def step(self, number: int, batches: Iterator[Loaded], meter: Meter) -> None:
        """Make step `number`, counted from 0.

        Raises:
            NonFiniteStep: in all processes alike, if a loss or the gradient is not finite in one of them.
        """
        before = self._random_state()
        meter.begin()
        try:
            used = self._accumulate(batches, meter)
        except NonFiniteStep:
            self._put_back(before)
            raise
        if not self._config.shard:  # what is sharded comes averaged
            self._ranks.average_gradients(self._parameters)
        norm = math.hypot(*(self._clip(together) for together in self._clipped))
        if not math.isfinite(norm):
            self._put_back(before)
            raise NonFiniteStep("gradient", used)
        self.lr = self._schedule.apply(self.optimizer, number)
        self.optimizer.step()
        if isinstance(self._task, StepHook):
            self._task.after_step(number + 1)
        meter.end(norm)

    def _clip(self, together: Sequence[Tensor]) -> float:
        """Clip the gradient of some parameters; returns its norm before."""
        return float(whole(nn.utils.clip_grad_norm_(together, self._config.clip or math.inf)))

    def _accumulate(self, batches: Iterator[Loaded], meter: Meter) -> list[Loaded]:
        """The micro-batches whose gradients were summed.

        Raises:
            NonFiniteStep: in all processes alike, before the backward pass of the micro-batch: sharded parameters are
                gathered in it by all processes or by none.
        """
        self._task.module.zero_grad(set_to_none=True)
        used: list[Loaded] = []
        for _ in range(self._config.accumulate):
            used.append(next(batches))
            loss, parts = self._loss(used[-1].batch)
            broken = not math.isfinite(float(loss.detach()))
            if self._ranks.any(broken)[0]:
                raise NonFiniteStep("loss", used[-1:] if broken else [])
            (loss / self._config.accumulate).backward()  # type: ignore[no-untyped-call]
            meter.add(loss, parts, used[-1].waited)
        return used

    def _loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        device = self._ranks.device
        moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            return self._task.loss(moved)

    def _random_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What computing a loss changes: generators, and buffers such as running means."""
        return generator_states(), {name: value.clone() for name, value in self._task.module.named_buffers()}

    @torch.no_grad()
    def _put_back(self, before: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
        generators, buffers = before
        restore_generators(generators)
        for name, value in self._task.module.named_buffers():
            value.copy_(buffers[name])
