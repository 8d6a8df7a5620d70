"""What the matcher learns from: the frozen parts of the frontend run once over every pair, kept in a `PairCache`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import Frontend
from slamfeat.frontend.learned import tokens_at_keypoints
from slamfeat.train.cache import Fields
from slamfeat.train.labels import assignment_labels
from slamfeat.train.pairs import Pixels, TrainingPair

Arrays = dict[str, NDArray[Any]]
NEAR_PX, FAR_PX = 3.0, 5.0
_PROBE_PX = 224


class MatcherPreparer:
    """Keypoints, fine descriptors, tokens and labels of pairs; their images may have any sizes."""

    def __init__(self, frontend: Frontend) -> None:
        """Use its keypoints (`num_keypoints` are the slots), its heads' descriptors, and its tokens."""
        self.frontend = frontend
        probe = frontend.extract(np.zeros((_PROBE_PX, _PROBE_PX, 3), np.uint8))
        self.dim, self.token_dim = probe.descriptors.shape[2], tokens_at_keypoints(probe).shape[2]

    @property
    def fields(self) -> Fields:
        """Of a `PairCache`; the suffix is the image's number in the pair."""
        slots = self.frontend.config.num_keypoints
        view = {
            "keypoints": ((slots, 2), "float32"),
            "mask": ((slots,), "bool"),
            "descriptors": ((slots, self.dim), "float16"),
            "tokens": ((slots, self.token_dim), "float16"),
            "index": ((slots,), "int16"),
            "size": ((2,), "int32"),
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
        return {
            "keypoints": features.keypoints[0].cpu().numpy(),
            "mask": features.mask[0].cpu().numpy(),
            "descriptors": features.descriptors[0].half().cpu().numpy(),
            "tokens": tokens_at_keypoints(features)[0].half().cpu().numpy(),
            "size": np.array([image.shape[1], image.shape[0]], np.int32),
        }
