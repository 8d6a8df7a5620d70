"""A small regression to train, and a program that trains it: python training_toys.py OUT RESUME KEY=VALUE ...

The program saves the gradients of its last step in OUT.grad-RANK.pt.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slamfeat.config import load_config
from slamfeat.train.config import LoopConfig
from slamfeat.train.loop import train
from slamfeat.train.task import Batch

POISON = 1e30
"""A target whose square is not a float32."""


@dataclass
class ToyConfig:
    """Settings of a run of the toy.

    Attributes:
        loop: of the loop.
        noisy: whether the module has dropout and running means, and the loss draws from all global generators.
        poisoned: sample that cannot be learnt from.
        seconds: that a batch takes.
        size: samples; 0 for any number.
        rare: sample that one more parameter is used for; -1 for no such parameter.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    noisy: bool = True
    poisoned: int = -1
    seconds: float = 0.0
    size: int = 0
    rare: int = -1


class ToyTask:
    """Learns y = sin(3 x0) + x1 from numbered samples; remembers the numbers it was asked for."""

    def __init__(self, config: ToyConfig) -> None:
        """Build the module, always with the same weights."""
        self.config = config
        self.size: int | None = config.size or None
        self.frozen: Sequence[nn.Module] = ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            noise = [nn.BatchNorm1d(8), nn.Dropout(0.3)] if config.noisy else []
            self.module: nn.Module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), *noise, nn.Linear(8, 1))
        if config.rare >= 0:
            self.module.register_parameter("rare", nn.Parameter(torch.zeros(1)))
        self.asked: list[list[int]] = []
        self.losses: list[float] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group."""
        return [{"params": list(self.module.parameters()), "name": "all"}]

    def shard_units(self) -> list[nn.Module]:
        """All of it."""
        return [self.module]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Points and values of some samples."""
        time.sleep(self.config.seconds)
        self.asked.append(list(indices))
        x = np.stack([np.random.default_rng([1, index]).uniform(-1, 1, 2) for index in indices])
        y = np.sin(3 * x[:, :1]) + x[:, 1:]
        y[[index == self.config.poisoned for index in indices]] = POISON
        rare = torch.tensor([[index == self.config.rare] for index in indices])
        return {"x": torch.from_numpy(x).float(), "y": torch.from_numpy(y).float(), "rare": rare}

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean squared error."""
        error = self.module(batch["x"]) - batch["y"]
        if bool(batch["rare"].any()):
            error = error + self.module.rare * batch["rare"]
        loss = error.square().mean()
        if self.config.noisy:
            loss = loss * (1 + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002
        self.losses.append(float(loss.detach()))
        return loss, {"bias": error.detach().mean(), "count": float(len(error))}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Minus the error on other samples."""
        torch.rand(3)  # an evaluation may draw: it must not change the training
        batch = ToyTask.batch(self, range(10**6, 10**6 + 64))
        del self.asked[-1]
        return {"score": -float((self.module(batch["x"]) - batch["y"]).square().mean()), "samples": 64.0}


class GradientToy(ToyTask):
    """Keeps the gradients of the last step."""

    gradients: tuple[Tensor, ...] = ()

    def after_step(self, step: int) -> None:
        """The gradients are still there."""
        self.gradients = tuple(p.grad.clone() for p in self.module.parameters() if p.grad is not None)


def loop(**settings: Any) -> LoopConfig:
    """Settings of a short run on the CPU."""
    return LoopConfig(**{"steps": 20, "batch": 4, "lr": 1e-2, "device": "cpu", "log_every": 1, **settings})


def weights(task: ToyTask) -> dict[str, Tensor]:
    """A copy of the module's weights."""
    return {name: value.clone() for name, value in task.module.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def main() -> None:
    """Train the toy as the arguments say."""
    torch.set_num_threads(1)
    out, resume, *words = sys.argv[1:]
    config = load_config(ToyConfig, None, words)
    task = GradientToy(config)
    train(task, config.loop, out, settings=config, resume=resume)
    torch.save(list(task.gradients), Path(f"{out}.grad-{os.environ.get('RANK', '0')}.pt"))


if __name__ == "__main__":
    main()
