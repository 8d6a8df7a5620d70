"""Which image a sample number stands for; every image once an epoch, in an order drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError


class ImageOrder:
    """Sample numbers count up for ever, so that an image's crops differ from epoch to epoch."""

    def __init__(self, numbers: Sequence[int], seed: int, batch: int) -> None:
        """An order of these images.

        Raises:
            ConfigError: fewer images than a batch.
        """
        if len(numbers) < batch:
            raise ConfigError(f"{len(numbers)} images do not fill a batch of {batch}; add images or lower loop.batch")
        self._numbers, self._seed = np.asarray(numbers, dtype=np.int64), seed
        self._permutation = lru_cache(maxsize=2)(self._draw)  # a batch may reach over the end of an epoch

    def image(self, sample: int) -> int:
        """The image of a sample number."""
        epoch, place = divmod(sample, len(self._numbers))
        return int(self._numbers[self._permutation(epoch)[place]])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._numbers))
