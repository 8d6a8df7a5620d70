"""The probes that look at a backbone while it is trained, on images that it does not learn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.errors import ConfigError, ImageError
from slamfeat.pretrain.probes.classes import leave_one_out_accuracy
from slamfeat.pretrain.probes.correspondence import correspondence_accuracy
from slamfeat.pretrain.probes.features import Describe, by_backbone, squares
from slamfeat.pretrain.probes.groups import open_groups
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
        groups: file with classes, see `Groups`; "imagenet_groups" is one. All images that have one are classified by
            their neighbours' (they may be learnt from: nobody tells the backbone their class). Empty for not at all.
        collapsed: mean cosine between images above which the log warns.
    """

    images: int = 64
    size: int = 224
    batch: int = 16
    warp: float = 0.2
    light: float = 0.3
    groups: str = ""
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
        self._images: dict[int, list[Tensor]] = {}  # by their side
        self._classed = _classed(config.groups, images) if config.groups else []

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Judge a backbone."""
        assert isinstance(network, Backbone)  # for the type checker
        return self.judge(by_backbone(network), network.patch_size)

    def look(self, backbones: Mapping[str, Backbone], path: str | Path, count: int = 6) -> None:
        """Write a picture of what backbones see in `count` images: their patches' main directions as colours.

        Raises:
            OutputError: it cannot be written.
        """
        from slamfeat.viz.tokens import plot_tokens

        shown: list[Tensor] = []
        seen: dict[str, list[Tensor]] = {}
        for name, backbone in backbones.items():
            images = self.images_at(backbone.patch_size)[:count]
            shown = shown or images
            seen[name] = list(by_backbone(backbone)(torch.stack(images)).patches.cpu())
        plot_tokens(shown, seen, path)

    def judge(self, describe: Describe, patch: int) -> dict[str, float]:
        """Judge any description of images; see `features`."""
        images, config = self.images_at(patch), self._config
        whole = torch.cat([describe(part).whole.cpu() for part in torch.split(torch.stack(images), config.batch)])
        alike = mean_cosine(whole)
        if alike > config.collapsed:
            log.warning("collapse: all images look alike to the backbone (mean cosine %.3f)", alike)
        found = correspondence_accuracy(describe, images, patch, strength=config.warp, light=config.light)
        figures = {"score": found, "rank": effective_rank(whole), "cosine": alike, "entropy": nearest_entropy(whole)}
        return figures | self._neighbours(describe, patch)

    def _neighbours(self, describe: Describe, patch: int) -> dict[str, float]:
        """Share of the images with a class whose neighbours say it, where there are any."""
        if not self._classed:
            return {}
        return {"knn": leave_one_out_accuracy(self.classed_vectors(describe, patch), torch.tensor(self.classes))}

    @property
    def classes(self) -> list[int]:
        """Of the images that have one."""
        return [group for _, group in self._classed]

    @property
    def classed_names(self) -> list[str]:
        """Of the images that have a class."""
        return [self._source.names[number] for number, _ in self._classed]

    def classed_vectors(self, describe: Describe, patch: int) -> Tensor:
        """(N, C) the images that have a class as a description says them."""
        numbers, batch = [number for number, _ in self._classed], self._config.batch
        whole = []
        for first in range(0, len(numbers), batch):
            read = [self._source.read(number) for number in numbers[first : first + batch]]
            whole += [describe(part).whole.cpu() for part in squares(read, self._side(patch), batch)]
        return torch.cat(whole)

    def _side(self, patch: int) -> int:
        return max(1, self._config.size // patch) * patch

    def images_at(self, patch: int) -> list[Tensor]:
        """The images, (3, S, S) RGB in [0, 1] each, with a side that is a multiple of the patch."""
        side = self._side(patch)
        if side not in self._images:
            read = [self._source.read_or_next(number) for number in self._numbers]
            self._images[side] = [image for batch in squares(read, side, self._config.batch) for image in batch]
        return self._images[side]


def _classed(groups: str, images: Joined) -> list[tuple[int, int]]:
    """Numbers of the images that have a class and can be read, and the class.

    Raises:
        ConfigError: there are not two.
    """
    known = open_groups(groups)
    classed: list[tuple[int, int]] = []
    for number, name in enumerate(images.names):
        group = known.of(name)
        if group is not None and _readable(images, number):
            classed.append((number, group))
    if len({group for _, group in classed}) < 2:
        raise ConfigError(
            f"probes.groups={groups}: images of {len(classed)} names have a class; two classes are needed"
        )
    return classed


def _readable(images: Joined, number: int) -> bool:
    try:
        images.read(number)
    except ImageError as error:
        images.skipped[images.names[number]] = str(error)
        return False
    return True
