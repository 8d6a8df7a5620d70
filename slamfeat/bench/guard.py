"""A frontend whose failures cost a frame and nothing else: they are caught, counted and named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import FeatureFrontend
from slamfeat.image import ImageLike, to_batch
from slamfeat.types import Features, Matches


@dataclass
class Failures:
    """What went wrong, by kind: an exception's name, "nothing" (no result, or no keypoint), "NaN".

    Attributes:
        kinds: how often each happened.
        first: the first message of each kind.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, message: str) -> None:
        """Count one."""
        self.kinds[kind] += 1
        self.first.setdefault(kind, " ".join(message.split())[:200])

    def as_dict(self) -> dict[str, dict[str, int | str]]:
        """Ready for JSON."""
        return {kind: {"count": self.kinds[kind], "first": self.first[kind]} for kind in self.kinds}


def describe_failures(parts: list[dict[str, dict[str, int | str]]]) -> str:
    """Several `Failures.as_dict` in words: "3 frames: 2 ValueError, 1 NaN"; empty when nothing failed."""
    kinds: Counter[str] = Counter()
    for part in parts:
        kinds.update({kind: int(value["count"]) for kind, value in part.items()})
    if not kinds:
        return ""
    total = sum(kinds.values())
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return f"{total} frame{'s' if total > 1 else ''}: {counts}"


class GuardedFrontend:
    """Passes calls on to a frontend; a call that throws, returns nothing or returns NaN gives empty features or no
    matches, and is entered in `failures`. Whoever interrupts the program still does."""

    def __init__(self, frontend: FeatureFrontend, num_keypoints: int) -> None:
        """Guard `frontend`; empty features get `num_keypoints` slots."""
        self.frontend = frontend
        self.failures = Failures()
        self._slots = num_keypoints

    @property
    def name(self) -> str:
        """The frontend's name."""
        return self.frontend.name

    def start_counting(self) -> None:
        """Forget earlier failures."""
        self.failures = Failures()

    def extract(
        self, image: ImageLike, num_keypoints: int | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Features:
        """Features of an image, all slots empty where the frontend failed."""
        try:
            found: object = self.frontend.extract(image, num_keypoints, mask)
        except Exception as error:
            return self._no_features(image, type(error).__name__, str(error))
        if not isinstance(found, Features):
            return self._no_features(image, "nothing", f"extract returned {type(found).__name__}")
        kept = found.mask
        values = (found.keypoints[kept], found.scores[kept], found.descriptors[kept])
        if not all(bool(torch.isfinite(value).all()) for value in values):
            return self._no_features(image, "NaN", "keypoints, scores or descriptors are not finite")
        if not bool(kept.any()):
            self.failures.add("nothing", "no keypoints")
        return found

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches; none where the frontend failed, or where one side has no keypoints (which was counted before)."""
        if not (bool(features0.mask.any()) and bool(features1.mask.any())):
            return no_matches(features0, features1)
        try:
            found: object = self.frontend.match(features0, features1)
        except Exception as error:
            self.failures.add(type(error).__name__, str(error))
            return no_matches(features0, features1)
        if not isinstance(found, Matches):
            self.failures.add("nothing", f"match returned {type(found).__name__}")
            return no_matches(features0, features1)
        kept = found.mask
        if not all(bool(torch.isfinite(v[kept]).all()) for v in (found.points0, found.points1, found.scores)):
            self.failures.add("NaN", "matched points or scores are not finite")
            return no_matches(features0, features1)
        return found

    def _no_features(self, image: ImageLike, kind: str, message: str) -> Features:
        self.failures.add(kind, message)
        height, width = to_batch(image).shape[-2:]
        slots = torch.zeros(1, self._slots)
        empty = torch.zeros(1, self._slots, 2)
        return Features(
            empty, slots, torch.zeros(1, self._slots, 1), slots.bool(), torch.tensor([[width, height]])
        )  # fmt: skip


def no_matches(features0: Features, features1: Features) -> Matches:
    """Matches in which nothing matches."""
    none = torch.zeros_like(features0.mask)
    return Matches(
        features0.keypoints, torch.zeros_like(features0.keypoints), none.float(), none.long() - 1, none,
        int(features1.mask.shape[1]),
    )  # fmt: skip
