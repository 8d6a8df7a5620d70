"""Settings of a curation, a dataclass a stage."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from slamfeat.errors import ConfigError

NEUTRAL = frozenset({"workers", "memory_mb"})
"""Settings that may differ when a curation goes on: they do not change its result."""


@dataclass
class EmbedConfig:
    """What describes an image.

    Attributes:
        weights: a backbone's name, or a weights file.
        device: torch device.
        precision: "fp32" or "bf16".
        tokens: "class", "mean" (of the patch tokens), or "both" side by side, each of unit length.
        size: side in pixels that images are squashed to, whole patches; squashed, so that nothing is cut off.
        batch: images at once.
        shard: images a file holds; what a kill can lose, a worker.
    """

    weights: str = "dinov2-vits14-int8"
    device: str = "cpu"
    precision: str = "fp32"
    tokens: str = "both"
    size: int = 224
    batch: int = 16
    shard: int = 512

    def __post_init__(self) -> None:
        _at_least("embed", self, 1, "size", "batch", "shard")
        _one_of("embed.precision", self.precision, "fp32", "bf16")
        _one_of("embed.tokens", self.tokens, "class", "mean", "both")


@dataclass
class SearchConfig:
    """How neighbours are found.

    Attributes:
        exact_up_to: images up to which every pair is compared; beyond, images are sorted into cells.
        cells: their number; 0 for the square root of the number of images.
        probes: cells an image is compared with, its own among them.
        check: images whose neighbours are looked up among all, to say what share the cells find; 0 for none.
    """

    exact_up_to: int = 100_000
    cells: int = 0
    probes: int = 8
    check: int = 1000

    def __post_init__(self) -> None:
        _at_least("search", self, 0, "exact_up_to", "cells", "check")
        _at_least("search", self, 1, "probes")


@dataclass
class DedupConfig:
    """Which images are the same.

    Attributes:
        enabled: drop duplicates.
        threshold: least cosine of two duplicates' embeddings; where thumbnails are looked at, of candidates.
        chain: images that are linked through others are the same (connected components, as in DINOv2's appendix), which
            makes one image of a slow video; else an image is dropped only where one that is kept shows the same.
        neighbours: nearest images that are looked at, at most.
        correlation: least correlation of two duplicates' grey thumbnails after the best shift and zoom; 0 for no look
            at them.
        evaluation: cosine to an evaluation image from which an image is dropped whatever its thumbnail shows: an image
            too few costs little, a leak costs the measurement. Duplicates of evaluation images are dropped in any case.
    """

    enabled: bool = True
    threshold: float = 0.85
    chain: bool = True
    neighbours: int = 64
    correlation: float = 0.87
    evaluation: float = 0.95

    def __post_init__(self) -> None:
        _at_least("dedup", self, 1, "neighbours")
        for name in ("threshold", "evaluation"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"dedup.{name} is a cosine above 0, got {getattr(self, name)}")
        if not 0 <= self.correlation <= 1:
            raise ConfigError(f"dedup.correlation must lie in 0..1, got {self.correlation}")


@dataclass
class ClusterConfig:
    """Hierarchical k-means (arXiv 2405.15613).

    Attributes:
        levels: number of clusters of each level, finest first; empty for a thirtieth of the images, a tenth of that,
            and so on.
        iterations: of every k-means, at most.
        resample: times that the levels above the first are clustered anew from the members closest to each centroid.
        spherical: centroids of unit length.
    """

    levels: list[int] = field(default_factory=list)
    iterations: int = 20
    resample: int = 10
    spherical: bool = True

    def __post_init__(self) -> None:
        _at_least("cluster", self, 1, "iterations")
        _at_least("cluster", self, 0, "resample")
        if any(count < 1 for count in self.levels) or self.levels != sorted(self.levels, reverse=True):
            raise ConfigError(f"cluster.levels are numbers of clusters, finest (most) first, got {self.levels}")


@dataclass
class RetrieveConfig:
    """What is kept for its likeness to query images.

    Attributes:
        method: "sample" (nearest images of each query image) or "cluster" (images of clusters that hold queries).
        neighbours: of a query image; for "sample".
        min_queries: a cluster must hold more query images than this; for "cluster".
        per_cluster: images taken from a cluster, at most; for "cluster".
        cap: images a set of queries brings, at most.
    """

    method: str = "sample"
    neighbours: int = 4
    min_queries: int = 3
    per_cluster: int = 10_000
    cap: int = 1_000_000

    def __post_init__(self) -> None:
        _one_of("retrieve.method", self.method, "sample", "cluster")
        _at_least("retrieve", self, 1, "neighbours", "per_cluster", "cap")
        _at_least("retrieve", self, 0, "min_queries")


@dataclass
class SampleConfig:
    """How many images are kept by balanced sampling.

    Attributes:
        share: of the images without duplicates; 0 samples none, 1 keeps all.
        target: number of images, in place of `share`; 0 for that.
        pick: "random" or "closest" (to the centroid) within a finest cluster.
    """

    share: float = 0.5
    target: int = 0
    pick: str = "random"

    def __post_init__(self) -> None:
        _one_of("sample.pick", self.pick, "random", "closest")
        _at_least("sample", self, 0, "target")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"sample.share must lie in 0..1, got {self.share}")


@dataclass
class CurateConfig:
    """What a recipe of `slamfeat curate` may hold.

    Attributes:
        seed: of everything random.
        workers: tasks at once, a thread each; 0 for as many as there are processors, on this machine no more than
            `memory_mb` has 256 MB for. The result does not depend on it.
        memory_mb: that blocks of embeddings and their products take, over all workers of a machine. Beside it come the
            backbone, and some bytes an image for numbers (docs/curation.md).
    """

    seed: int = 0
    workers: int = 0
    memory_mb: int = 2048
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)

    @property
    def here(self) -> int:
        """Workers of this machine."""
        return self.workers or min(os.cpu_count() or 1, max(1, self.memory_mb // 256))

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("workers", 0), ("memory_mb", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")


def _at_least(group: str, config: object, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"{group}.{name} must be at least {least}, got {getattr(config, name)}")


def _one_of(name: str, value: str, *known: str) -> None:
    if value not in known:
        raise ConfigError(f"unknown {name} '{value}'; use one of {', '.join(known)}")
