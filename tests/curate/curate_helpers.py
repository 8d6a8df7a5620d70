"""What the tests of curation share: stores of made-up embeddings, settings, altered photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from slamfeat.curate.config import (
    ClusterConfig,
    CurateConfig,
    DedupConfig,
    EmbedConfig,
    RetrieveConfig,
    SampleConfig,
    SearchConfig,
)
from slamfeat.curate.engine import Engine, LocalEngine
from slamfeat.curate.folder import CurateFolder, stage_settings
from slamfeat.curate.manifest import Entry, read_manifest
from slamfeat.curate.rows import unit
from slamfeat.curate.stages import CurateRun, curate_stores
from slamfeat.curate.store import EmbeddingStore, Shard
from slamfeat.curate.store_writer import StoreWriter
from slamfeat.curate.watch import WatchedEngine
from slamfeat.image import read_image

GROUPS = {
    "embed": EmbedConfig, "search": SearchConfig, "dedup": DedupConfig, "cluster": ClusterConfig,
    "retrieve": RetrieveConfig, "sample": SampleConfig,
}  # fmt: skip


def settings(**words: Any) -> CurateConfig:
    """Small tasks, no thumbnails; words such as dedup_threshold=0.9, or seed=1."""
    given: dict[str, dict[str, Any]] = {"embed": {"shard": 4, "batch": 2}, "dedup": {"correlation": 0.0}}
    plain: dict[str, Any] = {"workers": 1, "memory_mb": 512}
    for word, value in words.items():
        group, _, key = word.partition("_")
        if group in GROUPS:
            given.setdefault(group, {})[key] = value
        else:
            plain[word] = value
    return CurateConfig(**plain, **{group: GROUPS[group](**values) for group, values in given.items()})


def mixture(rows: int, dim: int = 16, kinds: int = 12, spread: float = 0.25, seed: int = 0) -> np.ndarray:
    """(rows, dim) float32 of unit length around `kinds` centres, the first of which have most."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, kinds + 1)
    of = rng.choice(kinds, rows, p=weights / weights.sum())
    return unit(unit(rng.normal(size=(kinds, dim)))[of] + spread * rng.normal(size=(rows, dim)))


def fill(folder: Path, embeddings: np.ndarray, shard: int = 50, sizes: np.ndarray | None = None) -> EmbeddingStore:
    """A store of embeddings without thumbnails; names are 000000.png and so on."""
    sizes = np.full((len(embeddings), 2), 64, np.int32) if sizes is None else sizes
    parts = [slice(start, start + shard) for start in range(0, len(embeddings), shard)]
    shards = (Shard(embeddings[part], sizes[part]) for part in parts)
    return StoreWriter.filled(folder, (f"{row:06d}.png" for row in range(len(embeddings))), shard, shards, {})


def as_held(store: EmbeddingStore) -> np.ndarray:
    """Embeddings as the store gives them back, after fp16."""
    return store.vectors.read(0, store.rows)


def run_stores(
    out: Path, store: EmbeddingStore, config: CurateConfig, engine: Engine | None = None, *,
    evaluation: tuple[EmbeddingStore, ...] = (), queries: tuple[EmbeddingStore, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """The stages after embedding."""
    evaluated, queried = ({str(one.folder): one.listing.digest for one in group} for group in (evaluation, queries))
    watched = WatchedEngine(engine or LocalEngine(config.workers), lambda line: None, lambda: False)
    named = stage_settings(config, evaluated, queried)
    run = CurateRun(CurateFolder(out), config, watched, lambda line: None, named)
    return curate_stores(run, store, evaluation, queries)


def manifest(out: Path) -> dict[str, Entry]:
    """Entries by name."""
    return {entry["name"]: entry for entry in read_manifest(out / "manifest.jsonl")}


def write_image(path: Path, image: np.ndarray) -> Path:
    """RGB to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return path


def copies(image: np.ndarray) -> dict[str, np.ndarray]:
    """What happens to photographs on their way through the world, by name."""
    height, width = image.shape[:2]
    rows, columns = round(0.9 * height), round(0.9 * width)
    top, left = (height - rows) // 2, (width - columns) // 2
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return {
        "exact": image,
        "resized": cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA),
        "jpeg": cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1],
        "cropped": image[top : top + rows, left : left + columns],
        "cornered": image[:rows, :columns],
        "brighter": np.clip(image.astype(np.float32) * 1.3, 0, 255).astype(np.uint8),
        "darker": (image.astype(np.float32) * 0.7).astype(np.uint8),
    }


def photographs(folder: Path, count: int) -> list[np.ndarray]:
    """The first images of a folder."""
    return [read_image(file) for file in sorted(folder.iterdir())[:count]]
