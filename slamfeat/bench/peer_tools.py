"""What the peers' files share: a frontend made of somebody else's detector and matcher.

A peer's detector sees one image at a time and says what it found, as many points as it likes; `PeerFrontend` does the
rest of the contract: batches, K slots with a mask, the best first, the caller's mask, empty images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slamfeat.errors import ConfigError, InputError
from slamfeat.image import ImageLike, to_batch, to_gray
from slamfeat.types import Features, Matches

Settings = dict[str, str | int | float]
Mask = NDArray[np.uint8] | None

EVERY = 20_000
"""Budget for a detector that cannot look at a mask: everything it finds, of which the best inside are kept."""


class Detected(NamedTuple):
    """What a detector found in one image, in any order.

    Attributes:
        keypoints: (N, 2) pixels of the original image.
        scores: (N,), higher is better.
        descriptors: (N, D).
    """

    keypoints: Tensor
    scores: Tensor
    descriptors: Tensor


class Detect(Protocol):
    """A detector: one image (1, 3, H, W) in [0, 1] (or (1, 1, H, W) uint8), slots wanted, mask (H, W) or None."""

    def __call__(self, image: Tensor, count: int, mask: Mask, /) -> Detected:
        """Find keypoints and describe them."""


class PeerFrontend:
    """A detector and a matcher under slamfeat's contract (`slamfeat.frontend.FeatureFrontend`).

    Attributes:
        name: in tables.
        settings: what was chosen, and where the weights come from.
    """

    def __init__(
        self,
        name: str,
        num_keypoints: int,
        detect: Detect,
        match: Callable[[Features, Features], Matches],
        settings: Settings,
        *,
        gray: bool = False,
    ) -> None:
        """Compose them.

        Args:
            name: in tables.
            num_keypoints: slots K unless `extract` is told otherwise.
            detect: the detector.
            match: the matcher, given features of this frontend.
            settings: see the class; `num_keypoints` is added.
            gray: the detector takes the grey image as uint8, and features keep it.
        """
        self.name = name
        self.settings: Settings = {"num_keypoints": num_keypoints, **settings}
        self._count, self._detect, self._match, self._gray = num_keypoints, detect, match, gray

    @torch.inference_mode()
    def extract(self, image: ImageLike, num_keypoints: int | None = None, mask: Mask = None) -> Features:
        """Features of one image or of a batch; as `slamfeat.Frontend.extract`.

        Raises:
            ImageError: the image cannot be used, see `slamfeat.image.to_batch`.
            InputError: a mask of another size.
            ConfigError: fewer than one keypoint wanted.
        """
        batch = to_batch(image)
        height, width = batch.shape[-2:]
        count = self._count if num_keypoints is None else num_keypoints
        if count < 1:
            raise ConfigError(f"num_keypoints must be at least 1, got {count}")
        if mask is not None and mask.shape != (height, width):
            raise InputError(f"mask is {mask.shape[::-1]} (W, H) but the image is {(width, height)}")
        if self._gray:
            batch = (to_gray(batch) * 255).round().to(torch.uint8)
        found = [self._detect(batch[i : i + 1], count, mask) for i in range(len(batch))]
        return pad_features(found, count, (width, height), mask=mask, gray=batch if self._gray else None)

    @torch.inference_mode()
    def match(self, features0: Features, features1: Features) -> Matches:
        """Correspondences of two sets of this frontend's features.

        Raises:
            InputError: the batch sizes differ.
        """
        if len(features0) != len(features1):
            raise InputError(f"batches of {len(features0)} and {len(features1)} images cannot be matched; pair them")
        return self._match(features0, features1)


def pad_features(
    found: Sequence[Detected], count: int, size: tuple[int, int], *, mask: Mask = None, gray: Tensor | None = None
) -> Features:
    """The best `count` of what was found in each image of a batch, in slots.

    Args:
        found: one for each of B images of one size.
        count: slots K.
        size: (W, H) of the images.
        mask: (H, W), non-zero where keypoints may lie (at the nearest pixel).
        gray: (B, 1, H, W) uint8 for `Features.gray`.

    Returns:
        Features, highest score first, empty slots zero.
    """
    slots = [_slots(one if mask is None else _inside(one, mask), count) for one in found]
    keypoints, scores, descriptors, filled = (torch.stack(values) for values in zip(*slots, strict=True))
    return Features(keypoints, scores, descriptors, filled, torch.tensor([size]).expand(len(found), 2), gray=gray)


def matches_from_indices(
    features0: Features, features1: Features, indices: Tensor, scores: Tensor | None = None
) -> Matches:
    """Matches between keypoints, from the slot of the second image that each slot of the first was given.

    Args:
        indices: (B, K) integers, -1 where unmatched.
        scores: (B, K) in [0, 1]; 1 for every match when None.
    """
    mask = indices >= 0
    points1 = features1.keypoints.gather(1, indices.clamp_min(0)[..., None].expand(-1, -1, 2)) * mask[..., None]
    scores = mask.float() if scores is None else scores * mask
    return Matches(features0.keypoints, points1, scores, indices, mask, int(features1.mask.shape[1]))


def match_each(
    features0: Features,
    features1: Features,
    pair: Callable[[dict[str, Tensor], dict[str, Tensor]], tuple[Tensor, Tensor, Tensor]],
) -> Matches:
    """Match a batch pair by pair, each without its empty slots; a pair with an empty side has no matches.

    Args:
        pair: takes LightGlue's keys of both images, (1, N, ...) each, and returns indices (S,) into the first, (S,)
            into the second, and scores (S,).
    """
    indices = torch.full(features0.mask.shape, -1)
    scores = torch.zeros(features0.mask.shape)
    for b in range(len(features0)):
        slots0, slots1 = (features.mask[b].nonzero()[:, 0] for features in (features0, features1))
        if len(slots0) and len(slots1):
            first, second, confidence = pair(_valid(features0, b, slots0), _valid(features1, b, slots1))
            indices[b, slots0[first]] = slots1[second]
            scores[b, slots0[first]] = confidence.float()
    return matches_from_indices(features0, features1, indices, scores)


def _valid(features: Features, b: int, slots: Tensor) -> dict[str, Tensor]:
    """One image under LightGlue's keys, without its empty slots."""
    return {
        "keypoints": features.keypoints[b, slots][None],
        "descriptors": features.descriptors[b, slots][None],
        "image_size": features.image_size[b][None].float(),
    }


def _inside(found: Detected, mask: NDArray[np.uint8]) -> Detected:
    allowed = torch.from_numpy(np.asarray(mask) > 0)
    x, y = found.keypoints.round().long().unbind(1)
    keep = allowed[y.clamp(0, allowed.shape[0] - 1), x.clamp(0, allowed.shape[1] - 1)]
    return Detected(*(value[keep] for value in found))


def _slots(found: Detected, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    best = found.scores.sort(descending=True, stable=True).indices[:count]
    empty = count - len(best)
    keypoints, scores, descriptors = (value[best].float() for value in found)
    filled = torch.arange(count) < len(best)
    return F.pad(keypoints, (0, 0, 0, empty)), F.pad(scores, (0, empty)), F.pad(descriptors, (0, 0, 0, empty)), filled
