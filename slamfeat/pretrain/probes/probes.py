"""The probes that look at a backbone while it is trained, on images that it does not learn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.errors import ConfigError
from slamfeat.pretrain.probes.correspondence import correspondence_accuracy
from slamfeat.pretrain.probes.features import Describe, by_backbone, squares
from slamfeat.pretrain.probes.spread import effective_rank, mean_cosine, nearest_entropy
from slamfeat.pretrain.sources import Joined

log = logging.getLogger("slamfeat")


@dataclass
class ProbeConfig:
    """How a backbone is judged.

    Attributes:
        images: held-out images that are looked at, at most.
        size: side that they are brought to; pixels.
        batch: images at a time.
        warp: corners of the warped images move by up to this share of the side.
        light: gain and gamma of the warped images lie within 1 / (1 + light) and 1 + light.
        collapsed: mean cosine between images above which the log warns.
    """

    images: int = 64
    size: int = 224
    batch: int = 16
    warp: float = 0.2
    light: float = 0.3
    collapsed: float = 0.95

    def __post_init__(self) -> None:
        if min(self.images, self.size, self.batch) < 1 or not 0 <= self.warp < 0.5 or self.light < 0:
            raise ConfigError("probes: images, size, batch >= 1, 0 <= warp < 0.5 and light >= 0 are needed")


class Probes:
    """Figures of a backbone: `score` is the share of patches found again under warps."""

    def __init__(self, config: ProbeConfig, images: Joined, numbers: Sequence[int]) -> None:
        """Look at some of the images; they are read when first asked for.

        Raises:
            ConfigError: fewer than two.
        """
        if len(numbers) < 2:
            raise ConfigError(f"{len(numbers)} images are held out; raise data.held_out, two are needed to judge by")
        self._config, self._source, self._numbers = config, images, list(numbers)[: config.images]
        self._images: list[Tensor] = []

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Judge a backbone."""
        assert isinstance(network, Backbone)  # for the type checker
        return self.judge(by_backbone(network), network.patch_size)

    def judge(self, describe: Describe, patch: int) -> dict[str, float]:
        """Judge any description of images; see `features`."""
        images, config = self._squares(patch), self._config
        whole = torch.cat([describe(part).whole.cpu() for part in torch.split(torch.stack(images), config.batch)])
        alike = mean_cosine(whole)
        if alike > config.collapsed:
            log.warning("collapse: all images look alike to the backbone (mean cosine %.3f)", alike)
        found = correspondence_accuracy(describe, images, patch, strength=config.warp, light=config.light)
        return {
            "score": found, "rank": effective_rank(whole), "cosine": alike, "entropy": nearest_entropy(whole),
        }  # fmt: skip

    def _squares(self, patch: int) -> list[Tensor]:
        if not self._images:
            size = max(1, self._config.size // patch) * patch
            read = [self._source.read_or_next(number) for number in self._numbers]
            self._images = [image for batch in squares(read, size, self._config.batch) for image in batch]
        return self._images
