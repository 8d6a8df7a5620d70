"""A frontend that remembers: what it has extracted and matched once is neither computed nor timed again.

The same frames go through several modes, scales and trials; only the robust estimators differ between them.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

from slamfeat.frontend import FeatureFrontend
from slamfeat.image import ImageLike
from slamfeat.types import Features, Matches

_MOST_BYTES = 2 << 30


class Recorder:
    """Wraps a frontend for a run over one sequence.

    Attributes:
        extract_ms, match_ms: milliseconds of every call that was really made.
        keypoints: valid keypoints of every extraction.
    """

    def __init__(self, frontend: FeatureFrontend, most_bytes: int = _MOST_BYTES) -> None:
        """Remember up to `most_bytes` of features; beyond that they are computed again, and timed no second time."""
        self.frontend = frontend
        self.extract_ms: list[float] = []
        self.match_ms: list[float] = []
        self.keypoints: list[int] = []
        self._most_bytes = most_bytes
        self._bytes = 0
        self._features: dict[str, Features] = {}
        self._matches: dict[tuple[str, str], Matches] = {}
        self._seen: set[str] = set()
        self._keys: dict[int, tuple[str, Features]] = {}

    @property
    def name(self) -> str:
        """The frontend's name."""
        return self.frontend.name

    def extract(
        self, image: ImageLike, num_keypoints: int | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Features:
        """Features of an image array, remembered by its pixels; `num_keypoints` and `mask` are the frontend's own."""
        if not isinstance(image, np.ndarray):
            raise TypeError("a recorded frontend takes image arrays")
        key = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
        if key in self._features:
            return self._features[key]
        started = time.perf_counter()
        features = self.frontend.extract(image, num_keypoints, mask)
        if key not in self._seen:
            self._seen.add(key)
            self.extract_ms.append(1e3 * (time.perf_counter() - started))
            self.keypoints.append(int(features.mask.sum()))
        self._keep(key, features)
        return features

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of features that `extract` returned, remembered."""
        pair = self._key(features0), self._key(features1)
        if pair not in self._matches:
            started = time.perf_counter()
            self._matches[pair] = self.frontend.match(features0, features1)
            self.match_ms.append(1e3 * (time.perf_counter() - started))
        return self._matches[pair]

    def _keep(self, key: str, features: Features) -> None:
        # The key belongs to the object as long as somebody holds it; forgotten ones must not pass theirs on.
        self._keys[id(features)] = (key, features)
        size = _bytes(features)
        if self._bytes + size <= self._most_bytes:
            self._bytes += size
            self._features[key] = features
        elif len(self._keys) > len(self._features) + 64:
            self._forget()

    def _forget(self) -> None:
        """Let go of features that are not remembered, but for the latest: a keyframe may still be among them."""
        loose = [number for number, (key, _) in self._keys.items() if key not in self._features]
        for number in loose[:-32]:
            del self._keys[number]

    def _key(self, features: Features) -> str:
        known = self._keys.get(id(features))
        return known[0] if known else f"object {id(features)}"


def _bytes(features: Features) -> int:
    tensors = [features.keypoints, features.scores, features.descriptors, features.mask, features.gray]
    if features.grid is not None:
        tensors.append(features.grid.tokens)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)
