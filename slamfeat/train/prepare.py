"""What the matcher learns from: the frozen parts of the frontend run once over every pair, kept in a `PairCache`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import Frontend
from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.fine import FineBranch
from slamfeat.frontend.learned import tokens_at_keypoints
from slamfeat.image import to_batch
from slamfeat.train.cache import Fields, PairCache
from slamfeat.train.labels import assignment_labels
from slamfeat.train.pairs import PairSource, Pixels, TrainingPair

Arrays = dict[str, NDArray[Any]]
NEAR_PX, FAR_PX = 3.0, 5.0


class MatcherPreparer:
    """Keypoints, fine descriptors, tokens and labels of pairs whose images have one size."""

    def __init__(self, frontend: Frontend, fine: FineBranch, size: tuple[int, int]) -> None:
        """Use them.

        Args:
            frontend: finds keypoints (its `num_keypoints` are the slots) and makes the tokens.
            fine: in evaluation mode.
            size: (W, H) of all images.
        """
        self.frontend, self.fine, self.size = frontend, fine, size
        probe = frontend.extract(np.zeros((size[1], size[0], 3), np.uint8))
        self._token_dim = tokens_at_keypoints(probe).shape[2]

    @property
    def fields(self) -> Fields:
        """Of a `PairCache`; the suffix is the image's number in the pair."""
        slots = self.frontend.config.num_keypoints
        view = {
            "keypoints": ((slots, 2), "float32"),
            "mask": ((slots,), "bool"),
            "descriptors": ((slots, self.fine.dim), "float16"),
            "tokens": ((slots, self._token_dim), "float16"),
            "index": ((slots,), "int16"),
        }
        return {f"{name}{image}": field for image in (0, 1) for name, field in view.items()}

    @torch.inference_mode()
    def __call__(self, pair: TrainingPair) -> Arrays:
        """One row."""
        first, second = self._view(pair.image0), self._view(pair.image1)
        labels = assignment_labels(
            first["keypoints"].astype(np.float64), second["keypoints"].astype(np.float64), pair.transfer,
            near=NEAR_PX, far=FAR_PX, mask0=first["mask"], mask1=second["mask"],
        )  # fmt: skip
        first["index"], second["index"] = (np.asarray(x, np.int16) for x in (labels.index0, labels.index1))
        return {f"{name}{image}": value for image, view in enumerate((first, second)) for name, value in view.items()}

    def _view(self, image: Pixels) -> Arrays:
        features = self.frontend.extract(image)
        described = describe_fine(self.fine, to_batch(image), features.keypoints)
        return {
            "keypoints": features.keypoints[0].numpy(),
            "mask": features.mask[0].numpy(),
            "descriptors": described[0].half().numpy(),
            "tokens": tokens_at_keypoints(features)[0].half().numpy(),
        }


def prepare(
    cache: PairCache, source: PairSource, preparer: MatcherPreparer, worker: int, workers: int
) -> Iterator[int]:
    """Fill this worker's share of what a cache lacks; yields each row's number after it is kept."""
    for row in cache.missing():
        if row % workers == worker:
            cache.write(row, preparer(source.pair(row)))
            yield row
