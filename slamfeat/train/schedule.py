"""Learning rate and weight decay of every step, computed before the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.optim import Optimizer

from slamfeat.train.config import LoopConfig

Curve = NDArray[np.float64]


def cosine(first: float, last: float, steps: int, warmup: int = 0) -> Curve:
    """(steps,): a straight rise that reaches `first` after `warmup` steps, then half a cosine that ends at `last`.

    Loshchilov & Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    assert 0 <= warmup < steps
    rise = first * np.arange(1, warmup + 1) / (warmup + 1)
    along = np.arange(steps - warmup) / max(steps - warmup - 1, 1)
    return np.concatenate([rise, last + (first - last) * 0.5 * (1 + np.cos(np.pi * along))])


def ema_decay(config: LoopConfig) -> Curve:
    """(steps,) the decay of the weights' average, entry i after step i is made."""
    return cosine(config.ema, config.ema if config.final_ema is None else config.final_ema, config.steps)


@dataclass(frozen=True)
class Schedule:
    """What the optimizer is set to.

    Attributes:
        lr, weight_decay: (steps,), entry i before step i is made.
    """

    lr: Curve
    weight_decay: Curve

    @classmethod
    def of(cls, config: LoopConfig) -> Schedule:
        """The schedule of a run."""
        decay, last = config.weight_decay, config.final_weight_decay
        return cls(
            cosine(config.lr, config.final_lr, config.steps, config.warmup),
            cosine(decay, decay if last is None else last, config.steps),
        )

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set all groups for a step, each by its `lr_scale`, `from_step` and `weight_decay`; returns the rate."""
        for group in optimizer.param_groups:
            moves = step >= group.get("from_step", 0)
            group["lr"] = float(self.lr[step]) * group["lr_scale"] if moves else 0.0
            own = group["own_weight_decay"]
            group["weight_decay"] = float(self.weight_decay[step]) if own is None else own
        return float(self.lr[step])
