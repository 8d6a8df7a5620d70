"""The matching task: relative poses and homographies from the matches of image pairs, in two passes.

First every frontend's matches are predicted and kept; then they are evaluated with one estimator. Another estimator or
threshold evaluates the same predictions again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.data import reduce
from slamfeat.bench.guard import GuardedFrontend
from slamfeat.bench.jobs import Job
from slamfeat.bench.registry import build_frontend, fingerprint
from slamfeat.bench.store import Arrays, Predictions
from slamfeat.data.open_pairs import PairGroup, open_pairs
from slamfeat.image import read_image
from slamfeat.types import Features

_MOST_FEATURES = 400


@dataclass(frozen=True)
class MatchingJob:
    """All pairs of one word of data through one frontend."""

    out: Path
    frontend: str
    config: BenchConfig
    data: str
    made: dict[str, Any]
    overwrite: bool


def made_by(frontend: str, config: BenchConfig) -> dict[str, Any]:
    """What decides the predictions of matching."""
    return {
        "frontend": frontend, "fingerprint": fingerprint(frontend), "num_keypoints": config.num_keypoints,
        "longest_side": config.matching.longest_side,
    }  # fmt: skip


def groups_of(data: str, config: BenchConfig) -> list[PairGroup]:
    """The pairs of one word of data."""
    groups = open_pairs(data, gaps=tuple(config.matching.gaps), per_gap=config.matching.per_gap or None)
    most = config.matching.most_pairs
    return [_thinned(group, most) if 0 < most < len(group.pairs) else group for group in groups]


def _thinned(group: PairGroup, most: int) -> PairGroup:
    """`most` pairs of a group, evenly spaced."""
    chosen = np.linspace(0, len(group.pairs) - 1, most).round().astype(int)
    pairs: tuple[Any, ...] = tuple(group.pairs[int(i)] for i in chosen)
    return replace(group, pairs=pairs)


def item_name(group: PairGroup) -> str:
    """A group's file: its pairs are part of the name, since other gaps or counts are other predictions."""
    import hashlib

    pairs = "\n".join(f"{pair.image0.name} {pair.image1.name}" for pair in group.pairs)
    return f"{group.data} {group.name} {hashlib.sha256(pairs.encode()).hexdigest()[:8]}"


def matching_jobs(
    config: BenchConfig, out: Path, cost: dict[str, tuple[float, float]], overwrite: bool
) -> tuple[list[Job], list[PairGroup]]:
    """Jobs for what is not predicted yet, and all groups of pairs.

    Args:
        config: see `BenchConfig`.
        out: the benchmark's folder.
        cost: seconds of an extraction (a megapixel) and of a match, by frontend.
        overwrite: throw away predictions that another configuration made.
    """
    jobs, every = [], {data: groups_of(data, config) for data in config.matching.data}
    for frontend in config.frontends:
        made = made_by(frontend, config)
        kept = Predictions(out, "matching", frontend, made, overwrite=overwrite)
        for data, groups in every.items():
            missing = [group for group in groups if not kept.has(item_name(group))]
            if missing:
                job = MatchingJob(out, frontend, config, data, made, False)
                seconds = _expected(missing, cost.get(frontend, (1.0, 0.5)))
                jobs.append(Job(f"matching {frontend} {Path(data).name}", predict, (job,), seconds))
    return jobs, [group for groups in every.values() for group in groups]


def predict(job: MatchingJob) -> None:
    """Match every pair of the data and keep the result, a file a group."""
    kept = Predictions(job.out, "matching", job.frontend, job.made)
    frontend = GuardedFrontend(build_frontend(job.frontend, job.config.num_keypoints), job.config.num_keypoints)
    extractor = _Extractor(frontend, job.config.matching.longest_side)
    for group in groups_of(job.data, job.config):
        if not kept.has(item_name(group)):
            arrays, facts = _predict_group(frontend, extractor, group)
            kept.save(item_name(group), arrays, facts)


def _predict_group(frontend: GuardedFrontend, extractor: _Extractor, group: PairGroup) -> tuple[Arrays, dict[str, Any]]:
    frontend.start_counting()
    extractor.ms.clear()
    points0, points1, counts, match_ms = [], [], [], []
    for pair in group.pairs:
        f0, f1 = extractor(pair.image0), extractor(pair.image1)
        started = time.perf_counter()
        found0, found1, _ = frontend.match(f0, f1).numpy()
        match_ms.append(1e3 * (time.perf_counter() - started))
        points0.append(found0)
        points1.append(found1)
        counts.append(len(found0))
    arrays: Arrays = {
        "points0": np.concatenate(points0).astype(np.float32), "points1": np.concatenate(points1).astype(np.float32),
        "counts": np.array(counts), "match_ms": np.array(match_ms), "extract_ms": np.array(extractor.ms),
    }  # fmt: skip
    return arrays, {"failures": frontend.failures.as_dict(), "pairs": len(group.pairs)}


class _Extractor:
    """Features of files, the latest remembered."""

    def __init__(self, frontend: GuardedFrontend, longest_side: int) -> None:
        self.ms: list[float] = []
        self._frontend = frontend
        self._longest_side = longest_side
        self._kept: OrderedDict[Path, Features] = OrderedDict()

    def __call__(self, path: Path) -> Features:
        if path not in self._kept:
            image = reduce(read_image(path), self._longest_side)
            started = time.perf_counter()
            features = self._frontend.extract(image)
            self.ms.append(1e3 * (time.perf_counter() - started))
            self._kept[path] = features
            if len(self._kept) > _MOST_FEATURES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]


def _expected(groups: Sequence[PairGroup], cost: tuple[float, float]) -> float:
    """Seconds for pairs: every image once, every pair once."""
    images = {path for group in groups for pair in group.pairs for path in (pair.image0, pair.image1)}
    first = groups[0].pairs[0]
    megapixels = 0.36
    if hasattr(first, "camera0"):
        megapixels = first.camera0.width * first.camera0.height / 1e6
    return len(images) * megapixels * cost[0] + sum(len(group.pairs) for group in groups) * cost[1]
