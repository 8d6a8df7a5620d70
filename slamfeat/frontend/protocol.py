"""What odometry and benchmarks ask of a frontend, so that slamfeat and its peers run through the same code."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slamfeat.image import ImageLike
from slamfeat.types import Features, Matches


class FeatureFrontend(Protocol):
    """Anything that extracts features from an image and matches two sets of them.

    The odometry may match in one thread while it extracts in another (`vo.pipelined`), but makes neither call twice at
    once.
    """

    @property
    def name(self) -> str:
        """Short name for tables."""

    def extract(
        self, image: ImageLike, num_keypoints: int | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Features:
        """Features of one image (or a batch); see `slamfeat.types.Features`."""

    def match(self, features0: Features, features1: Features) -> Matches:
        """Correspondences between two sets of features; see `slamfeat.types.Matches`."""
