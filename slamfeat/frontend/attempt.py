"""What one way of refining made of the matches of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attempt:
    """What became of M matches.

    Attributes:
        found: (M, 2) pixels of the second image.
        correlation: (M,) of the two patches, -1..1.
        kept: (M,).
    """

    found: NDArray[np.float32]
    correlation: NDArray[np.float32]
    kept: NDArray[np.bool_]

    def with_part(self, chosen: NDArray[np.bool_], part: Attempt) -> Attempt:
        """The same with the chosen (M,) points' outcome replaced."""
        found, correlation, kept = self.found.copy(), self.correlation.copy(), self.kept.copy()
        found[chosen], correlation[chosen], kept[chosen] = part.found, part.correlation, part.kept
        return Attempt(found, correlation, kept)
