"""The probes that look at a backbone while it is trained, on images that it does not learn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.errors import ConfigError, ImageError
from slamfeat.pretrain.probes.classes import leave_one_out_accuracy, linear_in_folds
from slamfeat.pretrain.probes.correspondence import correspondence_accuracy
from slamfeat.pretrain.probes.features import Describe, by_backbone, squares
from slamfeat.pretrain.probes.groups import open_groups
from slamfeat.pretrain.probes.spread import effective_rank, mean_cosine, nearest_entropy
from slamfeat.pretrain.sources import Joined

LEAST_FOR_LINEAR, MOST_CLASSES = 20, 100
"""Images below which no linear layer is fitted while training, and classes above which it would take too long."""
LEAST_FOR_RANK = 8
"""Images below which nothing is said of the directions that they differ along."""
log = logging.getLogger("slamfeat")


@dataclass
class ProbeConfig:
    """How a backbone is judged.

    Attributes:
        images: held-out images that are looked at, at most: evenly spaced among all of them, since neighbours in a
            folder are often alike.
        size: side that they are brought to; pixels.
        batch: images at a time.
        warp: corners of the warped images move by up to this share of the side.
        light: gain and gamma of the warped images lie within 1 / (1 + light) and 1 + light.
        groups: file with classes, see `Groups`; "imagenet_groups" is one; or "folders", a class each. Images that have
            one are classified by their neighbours' and by a linear layer that learnt on four fifths of them (the
            backbone may learn from these images: it is told no class). Empty for not at all; where the images show
            less than two of them, the log says so and none is classified.
        classed: images that are classified, at most: evenly spaced among those that have a class, some of each class.
        collapsed: mean cosine between images above which the log warns.
        least_rank: directions that class tokens differ along, below which it warns as well.
    """

    images: int = 64
    size: int = 224
    batch: int = 16
    warp: float = 0.2
    light: float = 0.3
    groups: str = ""
    classed: int = 2048
    collapsed: float = 0.95
    least_rank: float = 1.5

    def __post_init__(self) -> None:
        if min(self.images, self.size, self.batch) < 1 or not 0 <= self.warp < 0.5 or self.light < 0:
            raise ConfigError("probes: images, size, batch >= 1, 0 <= warp < 0.5 and light >= 0 are needed")
        if self.classed < 2:
            raise ConfigError(f"probes: classed of at least 2 is needed, not {self.classed}")


class Classed(NamedTuple):
    """Images that have a class and can be read.

    Attributes:
        vectors: (N, C); labels: (N,) classes from 0; names: N.
    """

    vectors: Tensor
    labels: Tensor
    names: list[str]


class Probes:
    """Figures of a backbone: `score` is the share of patches found again under warps."""

    def __init__(self, config: ProbeConfig, images: Joined, numbers: Sequence[int]) -> None:
        """Look at some of the images; they are read when first asked for.

        Args:
            config: see the class.
            images: all of them.
            numbers: of those held out, rising.

        Raises:
            ConfigError: fewer than two, or no such groups.
        """
        if len(numbers) < 2:
            raise ConfigError(f"{len(numbers)} images are held out; raise data.held_out, two are needed to judge by")
        self._config, self._source, self._numbers = config, images, list(numbers)
        self._images: dict[int, list[Tensor]] = {}  # by their side
        self._classed = _classed(config, images.names) if config.groups else []

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Judge a backbone."""
        assert isinstance(network, Backbone)  # for the type checker
        return self.judge(by_backbone(network), network.patch_size)

    def look(
        self, backbones: Mapping[str, Backbone], path: str | Path, count: int = 6, imitated: int | None = None
    ) -> None:
        """Write a picture of what backbones see in `count` images: their patches' main directions as colours.

        Args:
            backbones: by the name that is shown.
            path: picture to write.
            count: of images.
            imitated: block of the first backbone that all others imitate; colours are then the same for all.

        Raises:
            OutputError: it cannot be written.
        """
        from slamfeat.viz.tokens import plot_tokens

        shown: list[Tensor] = []
        seen: dict[str, list[Tensor]] = {}
        for name, backbone in backbones.items():
            held_out = self.images_at(backbone.patch_size)
            images = [held_out[place] for place in _spaced(len(held_out), count)]
            shown = shown or images
            block = -1 if imitated is None or seen else imitated
            seen[name] = list(_patches(backbone, torch.stack(images), block))
        plot_tokens(shown, seen, path, alike=imitated is not None)

    def judge(self, describe: Describe, patch: int) -> dict[str, float]:
        """Judge any description of images; see `features`."""
        images, config = self.images_at(patch), self._config
        whole = torch.cat([describe(part).whole.cpu() for part in torch.split(torch.stack(images), config.batch)])
        alike = mean_cosine(whole)
        if alike > config.collapsed:
            log.warning("collapse: all images look alike to the backbone (mean cosine %.3f)", alike)
        elif len(whole) >= LEAST_FOR_RANK and effective_rank(whole - whole.mean(0)) < config.least_rank:
            log.warning("collapse: images differ along one direction only to the backbone")
        found = correspondence_accuracy(describe, images, patch, strength=config.warp, light=config.light)
        figures = {"score": found, "rank": effective_rank(whole), "cosine": alike, "entropy": nearest_entropy(whole)}
        return figures | self._classes(describe, patch)

    def _classes(self, describe: Describe, patch: int) -> dict[str, float]:
        """Shares of the images with a class whose neighbours say it, and whose class a linear layer says."""
        if not self._classed:
            return {}
        found = self.classed(describe, patch)
        figures = {"knn": leave_one_out_accuracy(found.vectors, found.labels)}
        if len(found.labels) >= LEAST_FOR_LINEAR and len(set(found.labels.tolist())) <= MOST_CLASSES:
            figures["linear"] = linear_in_folds(found.vectors, found.labels)
        return figures

    def classed(self, describe: Describe, patch: int) -> Classed:
        """The images that have a class as a description says them; damaged ones are passed over.

        Raises:
            ConfigError: there are none.
            ImageError: fewer than two can be read.
        """
        if not self._classed:
            raise ConfigError(f"probes.groups={self._config.groups}: the images show less than two of its classes")
        vectors, labels, names = list[Tensor](), list[int](), list[str]()
        for first in range(0, len(self._classed), self._config.batch):
            part = self._classed[first : first + self._config.batch]
            read = [(self._source.read_or_none(number), number, group) for number, group in part]
            there = [image for image, _, _ in read if image is not None]
            vectors += [describe(images).whole.cpu() for images in squares(there, self._side(patch), len(there) or 1)]
            labels += [group for image, _, group in read if image is not None]
            names += [self._source.names[number] for image, number, _ in read if image is not None]
        if len(labels) < 2:
            raise ImageError(f"probes.groups: of {len(self._classed)} images with a class {len(labels)} can be read")
        return Classed(torch.cat(vectors), torch.tensor(labels), names)

    def _side(self, patch: int) -> int:
        return max(1, self._config.size // patch) * patch

    def images_at(self, patch: int) -> list[Tensor]:
        """The images that can be read, (3, S, S) RGB in [0, 1] each, with a side that is a multiple of the patch.

        Raises:
            ImageError: none can be.
        """
        side = self._side(patch)
        if side not in self._images:
            shown = [self._numbers[place] for place in _spaced(len(self._numbers), self._config.images)]
            read = [image for number in shown if (image := self._source.read_or_none(number)) is not None]
            if not read:
                why = self._source.skipped[self._source.names[shown[0]]]
                raise ImageError(f"none of {len(shown)} images to judge by can be read; the first: {why}")
            self._images[side] = [image for batch in squares(read, side, self._config.batch) for image in batch]
        return self._images[side]


@torch.no_grad()
def _patches(backbone: Backbone, images: Tensor, block: int) -> Tensor:
    """(B, C, h, w) tokens of a block, as what it imitates where it does."""
    normalized = backbone.normalize(images.to(backbone.device, backbone.dtype))
    return backbone.intermediate(normalized, [block])[0].float().cpu()


def _classed(config: ProbeConfig, names: Sequence[str]) -> list[tuple[int, int]]:
    """Numbers of the images that are classified, by their names, and their classes; none where there are not two.

    Raises:
        ConfigError: no such groups.
    """
    known = open_groups(config.groups, names)
    groups = ((number, known.of(name)) for number, name in enumerate(names))
    classed = [(number, group) for number, group in groups if group is not None]
    if len({group for _, group in classed}) < 2:
        said = "no image has one of its classes" if not classed else "the images that have a class are all of one"
        log.warning("probes.groups=%s: %s, so that none is classified by its neighbours", config.groups, said)
        return []
    return _evenly(classed, config.classed)


def _evenly(classed: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most so many, evenly spaced; the first of each class is among them if that many are allowed."""
    if len(classed) <= most:
        return classed
    firsts = sorted({group: at for at, (_, group) in reversed(list(enumerate(classed)))}.values())[:most]
    rest = sorted(set(range(len(classed))) - set(firsts))
    chosen = [rest[place] for place in _spaced(len(rest), most - len(firsts))]
    return [classed[at] for at in sorted([*firsts, *chosen])]


def _spaced(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly spaced from the first."""
    return [place * count // most for place in range(most)] if most < count else list(range(count))
