"""The heads that learn together, as one module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.descriptor import JoinedDescriptor
from slamfeat.frontend.heads.fine import FineBranch
from slamfeat.frontend.heads.matcher import AttentionMatcher
from slamfeat.frontend.heads.saliency import Judged, SaliencyHead


class Described(NamedTuple):
    """Keypoints of images as the heads see them.

    Attributes:
        descriptors: (B, K, dim) of unit length.
        judged: by the saliency head; None without one.
    """

    descriptors: Tensor
    judged: Judged | None


class JointHeads(nn.Module):
    """Fine branch, descriptor, saliency and matcher.

    Attributes:
        steps: made in training so far; a buffer, so that a resumed run knows.
    """

    steps: Tensor

    def __init__(
        self, fine: FineBranch, descriptor: JoinedDescriptor, matcher: AttentionMatcher, saliency: SaliencyHead | None
    ) -> None:
        super().__init__()
        self.fine, self.descriptor, self.matcher, self.saliency = fine, descriptor, matcher, saliency
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, image: Tensor, keypoints: Tensor, tokens: Tensor) -> Described:
        """Describe and judge keypoints.

        Args:
            image: (B, H, W) uint8, grey.
            keypoints: (B, K, 2) pixels.
            tokens: (B, K, C) of unit length.
        """
        fine = describe_fine(self.fine, image[:, None].float() / 255, keypoints)
        judged = None if self.saliency is None else self.saliency(fine)
        return Described(self.descriptor(tokens, fine), judged)

    def parts(self) -> dict[str, nn.Module]:
        """The heads by the names that a bundle gives them."""
        parts = {"fine": self.fine, "descriptor": self.descriptor, "matcher": self.matcher, "saliency": self.saliency}
        return {name: part for name, part in parts.items() if part is not None}
