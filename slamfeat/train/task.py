"""What the loop trains: a module, its batches by number, a loss, and a score on held-out data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from slamfeat.train.schedule import Schedule

Batch = dict[str, Tensor]


class Task(Protocol):
    """Everything about a training that is not the loop. One object a process."""

    @property
    def module(self) -> nn.Module:
        """Holds everything that trains and everything that changes (a teacher, a centre) as parameters or buffers:
        what is in its state dict is in the checkpoints, but for what is in `frozen` as well."""

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """Networks that only feed the module, inside it or not; kept in evaluation mode, never saved."""

    @property
    def size(self) -> int | None:
        """Samples there are: each comes once an epoch, in an order drawn anew. None for any number of samples, which
        are counted up from 0."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer moves. Keys: `params`; optional `lr_scale` (share of the schedule's rate),
        `weight_decay` (instead of the schedule's), `from_step` (before which it stands still), `clipped` (groups that
        say the same are clipped by the norm of their gradients together; all that say nothing are), `name`."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples of these numbers as tensors on the CPU; the same for the same numbers.

        Called in threads, several at once and ahead of the steps: it must draw from generators of its own, never from
        the global ones.
        """

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean loss of a batch (a scalar to differentiate) and figures for the log, each a scalar.

        Args:
            batch: of `batch`, on the module's device.
        """

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data, with the module in evaluation mode (its averaged weights where there are some).

        Every process of a run calls it and the figures are averaged, so that it may look at a share of the data.
        """


@runtime_checkable
class Scheduled(Protocol):
    """A task with curves of its own instead of the loop's."""

    def schedule(self) -> Schedule:
        """Rate and weight decay of every step."""


@runtime_checkable
class StepHook(Protocol):
    """A task with something to do after each step, such as moving a teacher."""

    def after_step(self, step: int) -> None:
        """The optimizer has made `step` steps."""
