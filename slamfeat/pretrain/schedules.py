"""Curves of pretraining: a value for each step, computed before the first, as DINOv2 defines them.

`slamfeat.train.schedule.cosine` is the heads' curve: its warm-up never stands at 0, and its last step is at the final
value. Here the first step of a warm-up is at its start, its last one at the base, which the cosine's first repeats; and
the final value would come one step after the last.
"""

from __future__ import annotations

import numpy as np

from slamfeat.errors import ConfigError
from slamfeat.train.schedule import Curve, cosine


def warmup_cosine(
    base: float, final: float, steps: int, warmup: int = 0, freeze: int = 0, start: float = 0.0
) -> Curve:  # fmt: skip
    """(steps,): zeros, then a straight line from `start` to `base`, then half a cosine towards `final`.

    Learning rate, weight decay (base below final) and teacher momentum (likewise) are such curves.

    Args:
        base, final: of the cosine.
        steps: in all.
        warmup: of the line.
        freeze: of the zeros.
        start: of the line.

    Raises:
        ConfigError: a negative number of steps, or more before the cosine than in all.
    """
    if min(steps, warmup, freeze) < 0 or warmup + freeze > steps:
        raise ConfigError(f"a warm-up of {warmup} and a freeze of {freeze} steps do not fit into {steps} steps")
    rest = steps - warmup - freeze
    return np.concatenate([np.zeros(freeze), np.linspace(start, base, warmup), cosine(base, final, rest + 1)[:-1]])


def ramp(first: float, last: float, steps: int, warmup: int = 0) -> Curve:
    """(steps,): a straight line that starts at `first` and is at `last` at the end of `warmup` steps, then `last`.

    The teacher's temperature is such a curve, and with no warm-up whatever is constant. A run shorter than the warm-up
    has its beginning only.

    Raises:
        ConfigError: a negative number of steps.
    """
    if min(steps, warmup) < 0:
        raise ConfigError(f"a warm-up of {warmup} steps of {steps} is none; use numbers of at least 0")
    line = np.linspace(first, last, warmup)[:steps]
    return np.concatenate([line, np.full(steps - len(line), last)])
