"""What of a module is trained and kept, and the running average of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError, WeightsError
from slamfeat.train.schedule import Curve
from slamfeat.train.sharding import fill

Weights = dict[str, Tensor]


def check_frozen(frozen: Sequence[nn.Module]) -> None:
    """Refuse networks that ought to be frozen and are not.

    Raises:
        ConfigError: a parameter asks for a gradient.
    """
    for network in frozen:
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                raise ConfigError(
                    f"parameter '{name}' of the frozen {type(network).__name__} asks for a gradient;"
                    " call requires_grad_(False) on the network"
                )


def kept_weights(module: nn.Module, frozen: Sequence[nn.Module]) -> Weights:
    """Parameters and buffers of `module` but those of `frozen`, by name; the tensors themselves, not copies."""
    theirs = {id(tensor) for network in frozen for tensor in network.state_dict(keep_vars=True).values()}
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and id(value) not in theirs}


@torch.no_grad()
def copy_weights(source: Mapping[str, Tensor], target: Weights, what: str) -> None:
    """Write `source` into the tensors of `target`.

    Raises:
        WeightsError: other names or shapes; the message begins with `what`.
    """
    wrong = [name for name in target if name not in source or source[name].shape != target[name].shape]
    wrong += [name for name in source if name not in target]
    if wrong:
        raise WeightsError(f"{what}: does not fit this module in {_some(wrong)}; build the module it was made with")
    for name, value in target.items():
        fill(value, source[name])


class WeightAverage:
    """Exponential moving average of trained parameters; the rest of the weights is taken as it stands.

    Early on the average is over fewer steps, so that the first weights are forgotten: the decay of step t is the
    smaller of `decay`'s and (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, live: Callable[[], Weights], decay: Curve) -> None:
        """Begin with the weights as they are.

        Args:
            live: gives the ones to follow, whose buffers may be other objects.
            decay: (steps,), entry t - 1 of step t.
        """
        self._live, self._decay = live, decay
        self.average: Weights = {name: value.detach().clone() for name, value in live().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(float(self._decay[step - 1]), (1 + step) / (10 + step))
        for name, value in self._live().items():
            if value.requires_grad and value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module has the average as its weights while the block runs."""
        live = self._live()
        own = {name: value.detach().clone() for name, value in live.items()}
        copy_weights(self.average, live, "average")
        try:
            yield
        finally:
            copy_weights(own, live, "weights")


def _some(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")
