"""Which samples a step sees: a function of seed, step, micro-batch and process, so that any step can be made anew."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError
from slamfeat.train.config import LoopConfig


class SampleOrder:
    """Sample numbers of every micro-batch of one process.

    The samples of a run form one line, cut into micro-batches, each cut into equal shares for the processes: how many
    processes there are changes nothing about what a step sees.
    """

    def __init__(self, config: LoopConfig, size: int | None, rank: int = 0, world: int = 1) -> None:
        """Lay out the order.

        Args:
            config: batch, accumulate, seed and overfit count.
            size: samples there are, each once an epoch in an order drawn from (seed, epoch); None to count up from 0.
            rank, world: this process, and how many there are.

        Raises:
            ConfigError: a batch that cannot be shared evenly, or no samples.
        """
        check_shared(config, world)
        if size is not None and size < 1:
            raise ConfigError("the training data has no samples; check its folder")
        self._config, self._size = config, size
        self._share = config.batch // world
        self._first = rank * self._share
        self._permutation = lru_cache(maxsize=2)(self._draw)  # a micro-batch may reach over the end of an epoch

    def indices(self, step: int, micro: int) -> list[int]:
        """This process's sample numbers of micro-batch `micro` of step `step`, both from 0."""
        step = 0 if self._config.overfit else step
        start = (step * self._config.accumulate + micro) * self._config.batch + self._first
        return [self._sample(place) for place in range(start, start + self._share)]

    def _sample(self, place: int) -> int:
        if self._size is None:
            return place
        epoch, within = divmod(place, self._size)
        return int(self._permutation(epoch)[within])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        assert self._size is not None
        return np.random.default_rng([self._config.seed, epoch]).permutation(self._size)


def check_shared(config: LoopConfig, world: int, key: str = "loop.batch") -> None:
    """Raise ConfigError unless `world` processes can share a batch; `key` is what the recipe calls it."""
    if config.batch % world:
        raise ConfigError(f"{key}={config.batch} cannot be shared by {world} processes; use a multiple of {world}")
