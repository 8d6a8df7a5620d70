"""Images to embeddings: a frozen backbone's class token and the mean of its patch tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.backbones import Backbone
from slamfeat.backbones.load import parse_device
from slamfeat.curate.config import EmbedConfig
from slamfeat.curate.listing import Listing
from slamfeat.curate.store import Shard, is_written, write_shard
from slamfeat.curate.thumbnails import thumbnail
from slamfeat.engines.torch_engine import cast
from slamfeat.errors import ConfigError, ImageError
from slamfeat.frontend.pretrained import load_pretrained, weights_digest
from slamfeat.image import read_image


@dataclass(frozen=True)
class _Image:
    """What is kept of an image that was read."""

    place: int
    fitted: NDArray[np.uint8]
    thumb: NDArray[np.uint8]
    size: tuple[int, int]


class Embedder:
    """Fills shards of a store. Calls from several threads are safe; pickled without the backbone, which loads anew."""

    def __init__(self, images: Path, listing: Listing, shard: int, config: EmbedConfig) -> None:
        """Say what to do; nothing is loaded yet.

        Args:
            images: folder that the names are relative to.
            listing: names, in the store's folder.
            shard: names a shard stands for.
            config: see `EmbedConfig`.
        """
        self._images, self._listing, self._shard, self._config = images, listing, shard, config
        self._backbone: Backbone | None = None
        self._lock = threading.Lock()

    @property
    def gpus(self) -> int:
        """GPUs that a worker needs."""
        return int(self._config.device.startswith("cuda"))

    def load(self) -> Backbone:
        """The backbone, loaded once.

        Raises:
            ConfigError: an unknown name or device, or a size that is not whole patches.
            WeightsError: weights missing, damaged or of another architecture.
        """
        with self._lock:
            if self._backbone is None:
                self._backbone = load_embedder(self._config)
        return self._backbone

    def check(self, here: bool) -> int:
        """Load the backbone, so that what is wrong with it is said before any task; errors as `load`.

        Args:
            here: tasks run in this process, which keeps the backbone. Else other machines run them, with their devices,
                which this one need not have.

        Returns:
            Length of an embedding.
        """
        backbone = self.load() if here else loadable(self._config, here)
        return backbone.embed_dim * (2 if self._config.tokens == "both" else 1)

    def __call__(self, number: int) -> list[str]:
        """Write shard `number`, unless it is there; returns what could not be used, and why.

        Raises:
            OutputError: the disk is full.
        """
        folder = self._listing.folder
        if is_written(folder, number):
            return []
        first = number * self._shard
        names = self._listing.names(first, min(first + self._shard, self._listing.count))
        failed: dict[int, str] = {}
        backbone = self.load()
        embeddings, kept = [], []
        for batch in _batches(self._read(names, failed), self._config.batch):
            tokens = embed_images(backbone, np.stack([image.fitted for image in batch]), self._config.tokens)
            for image, embedding in zip(batch, tokens, strict=True):
                if np.isfinite(embedding).all() and np.any(embedding):
                    embeddings.append(embedding.astype(np.float16))
                    kept.append((image.thumb, image.size))  # without the fitted pixels
                else:
                    failed[image.place] = "the backbone gives no finite embedding"
        write_shard(folder, number, _shard(embeddings, kept, failed))
        return [f"{names[place]}: {reason}" for place, reason in sorted(failed.items())]

    def _read(self, names: list[str], failed: dict[int, str]) -> Iterator[_Image]:
        import cv2

        side = (self._config.size, self._config.size)
        for place, name in enumerate(names):
            try:
                image = read_image(self._images / name)
            except ImageError as error:
                failed[place] = " ".join(str(error).removeprefix(f"{self._images / name}: ").split())
                continue
            fitted = np.asarray(cv2.resize(image, side, interpolation=cv2.INTER_AREA), np.uint8)
            yield _Image(place, fitted, thumbnail(image), (image.shape[1], image.shape[0]))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_backbone", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backbone, self._lock = None, threading.Lock()


def load_embedder(config: EmbedConfig) -> Backbone:
    """The backbone that settings ask for; errors as `Embedder.load`."""
    backbone, name = load_pretrained(config.weights, parse_device(config.device))
    if config.size % backbone.patch_size:
        near = max(1, round(config.size / backbone.patch_size)) * backbone.patch_size
        raise ConfigError(f"embed.size={config.size} is not whole patches of {name}; use embed.size={near}")
    return cast(backbone, "bf16" if config.precision == "bf16" else "fp32")


def loadable(config: EmbedConfig, here: bool) -> Backbone:
    """The backbone, on the processor unless tasks run `here`: to see that it can be had; errors as `Embedder.load`."""
    return load_embedder(config if here else replace(config, device="cpu"))


def embed_images(backbone: Backbone, images: NDArray[np.uint8], tokens: str = "both") -> NDArray[np.float32]:
    """Embeddings (B, C), or (B, 2 C) for "both", of RGB images (B, H, W, 3) whose sides are whole patches.

    The class token and the mean of the patch tokens, each of unit length; see `EmbedConfig.tokens`.
    """
    batch = torch.from_numpy(images).to(backbone.device).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = backbone(backbone.normalize(batch))
    parts = {"class": found.cls, "mean": found.patch.mean((2, 3))}
    chosen = [parts[tokens]] if tokens in parts else list(parts.values())
    joined = torch.cat([torch.nn.functional.normalize(part.float(), dim=1) for part in chosen], 1)
    return np.asarray(joined.cpu().numpy())


def made_with(images: Path, config: EmbedConfig) -> dict[str, Any]:
    """What decides the embeddings of a folder; `batch` and `shard` do not.

    Raises:
        ConfigError, WeightsError: see `slamfeat.frontend.pretrained.weights_digest`.
    """
    decisive = {key: value for key, value in asdict(config).items() if key not in ("batch", "shard", "device")}
    return {"images": str(images.resolve()), **decisive, "weights_sha256": weights_digest(config.weights)}


def _batches(images: Iterator[_Image], size: int) -> Iterator[list[_Image]]:
    batch: list[_Image] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _shard(
    embeddings: list[NDArray[Any]],
    kept: list[tuple[NDArray[np.uint8], tuple[int, int]]],
    failed: dict[int, str],
) -> Shard:
    if not embeddings:
        return Shard(np.zeros((0, 0), np.float16), np.zeros((0, 2), np.int32), None, failed)
    sizes = np.array([size for _, size in kept], np.int32)
    return Shard(np.stack(embeddings), sizes, np.stack([thumb for thumb, _ in kept]), failed)
