"""Several sources of pairs as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slamfeat.errors import ConfigError
from slamfeat.train.pairs import PairSource, TrainingPair

_STREAM = 7717
"""Sources draw from streams of seed and number themselves: the choice must not be made of their first draw."""


class MixedPairs:
    """A `PairSource` that draws each pair from one of several, by their shares; equal for equal seed and number."""

    def __init__(self, sources: Sequence[tuple[PairSource, float]], seed: int = 0) -> None:
        """Mix sources, each with its share; shares are brought to a sum of one.

        Raises:
            ConfigError: no source, or a share that is not positive.
        """
        if not sources or min(share for _, share in sources) <= 0:
            raise ConfigError("a mix needs at least one source, and shares above 0")
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources], dtype=np.float64)
        self._shares, self._seed = shares / shares.sum(), seed

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index`; its source sees the same number."""
        return self.source(index).pair(index)

    def source(self, index: int) -> PairSource:
        """That of pair number `index`."""
        choice = np.random.default_rng([self._seed, index, _STREAM]).choice(len(self.sources), p=self._shares)
        return self.sources[int(choice)]
