"""The stages that follow embedding, one after the other: what is there is taken up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.curate.cells import Pool, make_pool
from slamfeat.curate.config import CurateConfig
from slamfeat.curate.dedup import Deduplicated, deduplicate, share_found
from slamfeat.curate.folder import CurateFolder
from slamfeat.curate.hierarchy import Hierarchy, cluster
from slamfeat.curate.manifest import Outcome, tally, write_manifest
from slamfeat.curate.page import write_page
from slamfeat.curate.retrieve import Retrieval, retrieve
from slamfeat.curate.sample import sample
from slamfeat.curate.search import block_rows
from slamfeat.curate.store import EmbeddingStore
from slamfeat.curate.watch import WatchedEngine
from slamfeat.errors import ConfigError
from slamfeat.files import write_text
from slamfeat.run_log import duration


@dataclass
class CurateRun:
    """A curation in the making.

    Attributes:
        folder: of the run; config: its settings; engine: carries out its tasks; say: gets remarks.
        settings: of each stage, see `stage_settings`.
        seconds: that each stage took in this session.
    """

    folder: CurateFolder
    config: CurateConfig
    engine: WatchedEngine
    say: Callable[[str], None]
    settings: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the block's time, and say when it is done."""
        self.engine.stage, started = stage, time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started
        self.say(f"{stage}: done in {duration(self.seconds[stage])}")


def curate_stores(
    run: CurateRun, store: EmbeddingStore, evaluation: Sequence[EmbeddingStore] = (),
    queries: Sequence[EmbeddingStore] = (), images: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What follows embedding: stages, manifest, summary and page; errors as `curate`.

    Args:
        run: what to do it with.
        store: of the pool; evaluation, queries: of the sets.
        images: folder to take the page's pictures from; None for a page without.
    """
    config, folder = run.config, run.folder
    _check(run, store, [*evaluation, *queries])
    with run.timed("dedup"):
        place = folder.stage("dedup", run.settings["dedup"])
        pool = make_pool(store.vectors, place / "cells", config.search, config.seed, run.engine)
        dedup = deduplicate(store, pool, evaluation, config, run.engine, place)
        share = _share_found(pool, run, place / "share.json")
    hierarchy = _clustered(run, pool, dedup, bool(queries))
    hits = sampled = None
    if queries:
        with run.timed("retrieve"):
            source = Retrieval(pool, dedup.folder / "kept.npy", hierarchy)
            hits = retrieve(source, queries, config, run.engine, folder.stage("retrieve", run.settings["retrieve"]))
    if hierarchy is not None and _is_sampling(config):
        with run.timed("sample"):
            sampled = sample(hierarchy, config.sample, config.seed, folder.stage("sample", run.settings["sample"]))
    outcome = Outcome(store, evaluation, queries, dedup, hierarchy, hits, None if sampled is None else sampled.rows)
    counts = write_manifest(folder.root / "manifest.jsonl", outcome)
    summary = {
        **tally(counts), "neighbours_found": share, "clusters": hierarchy.levels if hierarchy else [],
        "evenness": sampled.figures["levels"] if sampled else [], "engine": run.engine.name,
        "workers": run.engine.workers, "seconds": run.seconds,
    }  # fmt: skip
    write_text(folder.root / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_page(folder.root / "page.html", outcome, summary, images)
    return summary


def _check(run: CurateRun, store: EmbeddingStore, others: Sequence[EmbeddingStore]) -> None:
    """Say what would fail later before any stage is begun; what can be said before embedding is said there."""
    for other in others:
        if other.vectors.dim != store.vectors.dim:
            raise ConfigError(f"{other.folder}: embeddings of another backbone; embed all sets alike")
    block_rows(run.config.memory_mb, run.engine.together, store.vectors.dim)


def _clustered(run: CurateRun, pool: Pool, dedup: Deduplicated, with_queries: bool) -> Hierarchy | None:
    """The clusters, where a later stage asks for some and there is anything left."""
    asked = _is_sampling(run.config) or (with_queries and run.config.retrieve.method == "cluster")
    if not asked or not np.any(dedup.kept):
        return None
    with run.timed("cluster"):
        place = run.folder.stage("cluster", run.settings["cluster"])
        return cluster(pool, dedup.folder / "kept.npy", run.config.cluster, run.config.seed, run.engine, place)


def _share_found(pool: Pool, run: CurateRun, path: Path) -> float | None:
    """See `share_found`; kept in a file."""
    if not path.is_file():
        write_text(path, json.dumps(share_found(pool, run.config, run.engine)) + "\n")
    found: float | None = json.loads(path.read_text(encoding="utf-8"))
    return found


def _is_sampling(config: CurateConfig) -> bool:
    return bool(config.sample.target or config.sample.share)
